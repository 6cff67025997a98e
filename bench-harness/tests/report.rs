//! What is made of results, from made-up measurements: the terminal, Markdown, CSV, HTML, JSON and
//! its schema, and the difference of two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use forkherd_bench::cli::Runtime;
use forkherd_bench::load::category::{Category, Tally};
use forkherd_bench::measure::figures::Slowdown;
use forkherd_bench::measure::generator::Generator;
use forkherd_bench::measure::latency::Latency;
use forkherd_bench::measure::ratio::{Interval, Ratio};
use forkherd_bench::measure::share::Share;
use forkherd_bench::report::diff::{Diff, Seen};
use forkherd_bench::report::machine::{Build, Machine};
use forkherd_bench::report::self_check::{Burnt, Equal, SelfCheck, Side};
use forkherd_bench::report::{
    Caution, EachKill, Held, Hung, Ideal, Kills, Moment, Ratios, Report, Row, SCHEMA, Scenario,
    Tail, csv, html, markdown, saved, schema, terminal,
};
use forkherd_bench::void::Voids;

fn tally(served: u64, taken: u64) -> Tally {
    let mut tally = Tally::default();
    (0..served).for_each(|_| tally.count(Category::Served));
    (0..taken).for_each(|_| tally.count(Category::Taken));
    tally
}

fn ratio(value: f64, low: f64, high: f64) -> Option<Ratio> {
    Some(Ratio { value, interval: Some(Interval { low, high }) })
}

fn tail() -> Row {
    let tail = |figure: &str, over_ideal: &[f64], beyond| Tail {
        figure: figure.to_owned(),
        shared: figure.starts_with("spin"),
        over_ideal: over_ideal.to_vec(),
        beyond,
    };
    Row {
        contestant: "reuseport:hash:bare".to_owned(),
        tails: vec![
            tail("exp 0.7 p99", &[1.01, 1.042, 1.02], 250),
            tail("exp 0.9 p99", &[1.03], 250),
            tail("bim 0.7 short p99", &[2.5, 12.25], 310),
            tail("bim 0.7 p99.9", &[], 29),
            tail("spin 0.5 p99", &[1.5], 250),
        ],
        void: 2,
        after_us: Some(71.0),
        lag_p99_us: Some(812.0),
        connections: tally(80_000, 0),
        ..Row::default()
    }
}

fn long_lived() -> Row {
    let held = |how: &str, one, other| Held {
        how: how.to_owned(),
        share: Share::of(&BTreeMap::from([(0, one), (1, other)]), 2),
    };
    Row {
        contestant: "reuseport:hash:bare".to_owned(),
        held: vec![held("one by one", 5_000, 5_000), held("in bursts", 5_100, 4_900)],
        connections: tally(21_000, 0),
        ..Row::default()
    }
}

fn hung() -> Row {
    let hung =
        |how: &str, delayed, held| Hung { how: how.to_owned(), requests: 8_000, delayed, held };
    Row {
        contestant: "reuseport:hash:bare".to_owned(),
        hung: vec![hung("stopped", 1_001, 1), hung("looping", 1, 1)],
        lag_p99_us: Some(812.0),
        connections: tally(16_000, 0),
        ..Row::default()
    }
}

fn moment(at_s: f64, failed: u64, worst_ms: Option<f64>, done: Option<&str>) -> Moment {
    Moment { at_s, due: 100, failed, worst_ms, done: done.map(str::to_owned) }
}

fn report() -> Report {
    let baseline = Row {
        contestant: "baseline".to_owned(),
        throughput: Some(12_000.4),
        latency: Latency {
            samples: 4_000,
            p50_us: Some(800.0),
            p99_us: Some(1_812.0),
            mean_us: Some(850.5),
            deviation_us: Some(240.0),
            ..Latency::default()
        },
        cpu_server_us: Some(33.3),
        cpu_both_us: Some(82.4),
        switches: Some(0.654),
        syscalls: Some(4.004),
        share: Share::of(&BTreeMap::from([(0, 2_000), (1, 2_000)]), 2),
        connections: tally(4_000, 0),
        ..Row::default()
    };
    let skewed = Row {
        contestant: "prefork:exclusive".to_owned(),
        share: Share::of(&BTreeMap::from([(0, 4_000)]), 2),
        ratios: Ratios {
            throughput: ratio(0.99, 0.97, 1.02),
            p50: ratio(0.95, 0.9, 1.01),
            cpu_server: ratio(1.12, 1.08, 1.15),
            cpu_both: Some(Ratio { value: 1.05, interval: None }),
            ..Ratios::default()
        },
        ..baseline.clone()
    };
    let killed = Row {
        contestant: "handoff".to_owned(),
        latency: Latency { samples: 4_000, p50_us: Some(4_321.0), ..Latency::default() },
        after_us: Some(61.5),
        ideal: Some(Ideal { p50: Some(1.04), p99: Some(1.9), p999: None }),
        connections: tally(3_991, 9),
        curve: vec![
            (0.0, 4_010.0),
            (50.0, 4_321.0),
            (90.0, 9_000.0),
            (99.0, 19_000.0),
            (99.99, 40_000.0),
        ],
        short: Some(Latency { samples: 3_000, p99_us: Some(812.0), ..Latency::default() }),
        slowdown: Some(Slowdown { p50: Some(1.5), p99: Some(12.25), p999: None }),
        ideal_short: Some(Ideal { p50: Some(1.01), p99: Some(1.25), p999: None }),
        sharing: Some(Ideal { p50: Some(1.02), p99: Some(1.5), p999: None }),
        sharing_short: Some(Ideal { p50: Some(1.1), p99: Some(7.5), p999: None }),
        sharing_curve: vec![(0.0, 4_000.0), (50.0, 4_200.0), (90.0, 7_000.0), (99.0, 13_000.0)],
        generator: Some(Generator {
            lag_p50_us: 8.0,
            lag_p99_us: 120.0,
            lag_max_us: 4_321.0,
            cores: 0.125,
        }),
        retried: 3,
        pss_kib: Some(1_536.0),
        ideal_curve: vec![
            (0.0, 4_000.0),
            (50.0, 4_155.0),
            (90.0, 8_000.0),
            (99.0, 10_000.0),
            (99.99, 20_000.0),
        ],
        timeline: vec![
            moment(0.0, 0, Some(6.5), None),
            moment(0.1, 9, Some(45.0), Some("a worker killed")),
            moment(0.2, 0, None, None),
            moment(0.3, 0, Some(7.25), Some("a worker killed")),
        ],
        kills: Some(Kills {
            kills: 12,
            in_service: 8,
            beyond: 1,
            each: Some(EachKill {
                unexplained: 0,
                most: 2,
                queued: 30,
                queued_most: 9,
                with_queue: 7,
            }),
        }),
        ..Row::default()
    };
    let skipped = Row {
        contestant: "baseline".to_owned(),
        skipped: Some("it has no supervisor".to_owned()),
        ..Row::default()
    };
    let scenario = |name: &str, rounds, rows, failures| Scenario {
        name: name.to_owned(),
        setting: "What was done, in words.".to_owned(),
        against: None,
        runtime: Runtime::Blocking,
        unit: "connection".to_owned(),
        rounds,
        unfinished: None,
        spread: "busy time".to_owned(),
        seeds: if name == "worker-killed" { vec![123_456] } else { Vec::new() },
        rows,
        notes: vec!["handoff: it took a fallback.".to_owned()],
        cautions: vec![Caution::new(
            "The machine was busy.",
            "Tails hold its noise.",
            "Run again.",
        )],
        failures,
        voids: Voids { played: rounds, ..Voids::default() },
        block_s: if name == "tail" { vec![20.0, 20.0, 25.0] } else { Vec::new() },
    };
    Report {
        schema: SCHEMA.to_owned(),
        version: "0.0.0".to_owned(),
        date: "2000-01-01 00:00:00 UTC".to_owned(),
        command: "forkherd-bench compare".to_owned(),
        machine: Machine {
            kernel: "Linux 6.18 x86_64".to_owned(),
            cpus: 2,
            model: "Made-up CPU".to_owned(),
            somaxconn: "4096".to_owned(),
            virtual_on: Some("Made-up Cloud".to_owned()),
            memory_mib: 3_900,
            sysctls: BTreeMap::from([("net.core.somaxconn".to_owned(), "4096".to_owned())]),
            open_files: Some((1_024, 4_096)),
            ..Machine::default()
        },
        build: Build { commit: "0123456789ab".to_owned(), debug: false },
        load_average: Some(1.5),
        cautions: vec![Caution::new("It was late.", "All are tired.", "Go to bed.")],
        seed: 7,
        against: "baseline".to_owned(),
        workers: 2,
        wall_s: 88.4,
        interrupted: None,
        self_check: Some(SelfCheck {
            contestant: "baseline".to_owned(),
            pairs: 12,
            slice: 400,
            equal: Equal { rounds: 240, cpu: ratio(1.003, 0.99, 1.02), p99: ratio(1.1, 0.9, 1.2) },
            burnt: Burnt {
                rounds: 241,
                cpu_us: 25.6,
                burnt_ns: 2_560,
                cpu: ratio(1.101, 1.08, 1.12),
                found: Some(Side::First),
                truth: Side::First,
            },
            ..SelfCheck::default()
        }),
        scenarios: vec![
            scenario("short-connections", 40, vec![baseline, skewed], vec![]),
            scenario("worker-killed", 1, vec![killed, skipped], vec![]),
            scenario("tail", 3, vec![tail()], vec![]),
            scenario("long-lived", 1, vec![long_lived()], vec!["made up".to_owned()]),
            scenario("worker-hung", 1, vec![hung()], vec![]),
        ],
    }
}

/// Compares with `tests/snapshots/NAME`, or writes it if `UPDATE_SNAPSHOTS` is set: look at the
/// difference before committing it.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, text).unwrap();
    } else {
        assert!(
            std::fs::read_to_string(path).is_ok_and(|shown| shown == text),
            "{name} differs; write it by UPDATE_SNAPSHOTS=1 cargo test -p forkherd-bench --test \
             report, and look at the difference:\n{text}"
        );
    }
}

#[test]
fn the_terminal_shows_every_figure_within_100_columns() {
    let text = terminal::render(&report());
    assert!(text.lines().all(|line| line.chars().count() <= terminal::WIDTH), "{text}");
    check("terminal.txt", &text);
}

#[test]
fn long_labels_and_every_column_at_once_fit_a_terminal_too() {
    let mut report = report();
    report.command =
        "forkherd-bench compare --scenarios tail --strategies prefork:blocking,prefork:exclusive,\
        handoff:pull,handoff:idle,handoff:eager,reuseport:balanced,reuseport:hash:bare"
            .to_owned();
    report.against = "nginx with the configuration of the front door, two workers".to_owned();
    let full = Row {
        contestant: report.against.clone(),
        ideal: Some(Ideal { p50: Some(123.45), p99: Some(123.45), p999: Some(123.45) }),
        ratios: Ratios {
            throughput: ratio(123.45, 123.45, 123.45),
            cpu_server: ratio(123.45, 123.45, 123.45),
            cpu_both: ratio(123.45, 123.45, 123.45),
            ..Ratios::default()
        },
        ..report.scenarios[0].rows[0].clone()
    };
    let bare = Row { contestant: "reuseport:hash:bare".to_owned(), ..full.clone() };
    report.scenarios[0].rows.extend([full, bare]);
    for scenario in &mut report.scenarios {
        for row in scenario.rows.iter_mut().filter(|row| row.contestant == "handoff") {
            row.contestant = "a".repeat(70);
        }
    }
    let text = terminal::render(&report);
    assert!(text.lines().all(|line| line.chars().count() <= terminal::WIDTH), "{text}");
    for words in ["p99.9/ideal", "Jain", "reuseport:hash:bare", "nginx with the configu…"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[test]
fn markdown_shows_the_same() {
    check("markdown.md", &markdown::render(&report()));
}

#[test]
fn csv_has_a_line_for_each_figure() {
    let text = csv::render(&[report()]).unwrap();
    check("figures.csv", &text);
    let twice = csv::render(&[report(), report()]).unwrap();
    assert_eq!(twice.lines().count(), 2 * text.lines().count() - 1);
}

/// A program that reads figures from a failed run has to be able to see that it is one.
#[test]
fn csv_says_by_what_and_how_it_was_measured_and_whether_it_failed() {
    let lines = |report: Report| csv::render(&[report]).unwrap();
    let failed = lines(report());
    for line in [
        "1,,,,build.commit,,0123456789ab,,",
        "1,,,,machine.kernel,,Linux 6.18 x86_64,,",
        "1,,,,seed,,7,,",
        "1,,,,command,,forkherd-bench compare,,",
        "1,,,,failed,,true,,",
        "1,,,,failures,0,long-lived: made up,,",
        "1,long-lived,blocking,,failures,0,made up,,",
        "1,short-connections,blocking,,voids.void,,0,,",
        "1,tail,blocking,,block_s,2,25.0,,",
        "1,,,,self_check.equal.cpu,,1.003,0.99,1.02",
    ] {
        assert!(failed.lines().any(|one| one == line), "{line} is not in\n{failed}");
    }
    let mut only_check = Report { scenarios: Vec::new(), ..report() };
    let good = lines(only_check.clone());
    assert!(good.contains("\n1,,,,failed,,false,,\n") && !good.contains("failures"), "{good}");
    only_check.self_check.as_mut().unwrap().burnt.found = None;
    let bad = lines(only_check);
    assert!(bad.contains("\n1,,,,failed,,true,,\n") && bad.contains("self-check: "), "{bad}");
}

#[test]
fn html_shows_everything_on_one_page() {
    check("page.html", &html::render(&[report()]));
}

/// As in a scenario with workers of its own number.
#[test]
fn a_scenario_with_a_yardstick_of_its_own_names_it_everywhere() {
    let with_own = |mut report: Report| {
        let scenario = &mut report.scenarios[0];
        scenario.against = Some("baseline@2".to_owned());
        scenario.rows[0].contestant = "baseline@2".to_owned();
        report
    };
    let report = with_own(report());
    let page = html::render(std::slice::from_ref(&report));
    assert!(page.contains("Server CPU per connection, ratio to baseline@2<"), "it is not named");
    assert!(!page.contains("per connection, ratio to baseline<"), "another is named");
    let diff = Diff::of(&report, &with_own(later())).unwrap();
    let figures: Vec<&str> = diff.scenarios[0].changes.iter().map(|one| &*one.figure).collect();
    assert!(figures.contains(&"throughput, ratio to baseline@2"), "{figures:?}");
}

#[test]
fn several_results_share_a_page_and_its_colours_and_no_anchor() {
    let page = html::render(&[report(), later()]);
    assert_eq!(tags(&page).filter(|tag| *tag == "article").count(), 2);
    let ids: Vec<&str> =
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let once: BTreeSet<&str> = ids.iter().copied().collect();
    assert!(ids.len() > 10 && once.len() == ids.len(), "{ids:?}");
    for link in page.split(" href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(once.contains(link), "{link} leads nowhere");
    }
}

/// Labels come from command lines, and results from strangers.
#[test]
fn html_runs_nothing_that_a_result_holds() {
    let evil = "<script>alert('x')</script><img src=http://example.org onerror=alert(1)>\"'&";
    let mut report = report();
    for text in [&mut report.command, &mut report.against, &mut report.machine.model] {
        evil.clone_into(text);
    }
    for scenario in &mut report.scenarios {
        let Scenario { name, setting, unit, spread, notes, failures, .. } = scenario;
        for text in [name, setting, unit, spread].into_iter().chain(notes).chain(failures) {
            evil.clone_into(text);
        }
        scenario.cautions.push(Caution::new(evil, evil, evil));
        for row in &mut scenario.rows {
            evil.clone_into(&mut row.contestant);
            row.skipped = row.skipped.take().map(|_| evil.to_owned());
            let names = row.tails.iter_mut().map(|tail| &mut tail.figure);
            let names = names.chain(row.held.iter_mut().map(|held| &mut held.how));
            let names = names.chain(row.hung.iter_mut().map(|hung| &mut hung.how));
            let names = names.chain(row.timeline.iter_mut().filter_map(|one| one.done.as_mut()));
            names.for_each(|text| evil.clone_into(text));
        }
    }
    let page = html::render(&[report]);
    assert!(page.contains("&lt;script&gt;alert"), "it is not shown at all");
    let usual = html::render(&[self::report()]);
    let ours: BTreeSet<&str> = tags(&usual).collect();
    let strange: BTreeSet<&str> = tags(&page).filter(|tag| !ours.contains(tag)).collect();
    assert!(strange.is_empty(), "it became part of the page: {strange:?}");
    // The one quotation mark in it would end an attribute.
    assert!(!page.contains("alert(1)&gt;\"") && page.contains("alert(1)&gt;&quot;"));
    for tag in ["script", "img", "iframe", "object", "embed", "base", "form"] {
        assert!(!ours.contains(tag), "the page has {tag}");
    }
}

/// The name of every tag.
fn tags(page: &str) -> impl Iterator<Item = &str> {
    page.split('<').skip(1).filter_map(|rest| rest.split([' ', '>', '/']).next())
}

#[test]
fn a_report_comes_back_from_its_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    std::fs::write(&file, saved::json(&report()).unwrap()).unwrap();
    assert_eq!(saved::load(&file).unwrap(), report());
    check("result.json", &saved::json(&report()).unwrap());
}

/// The document is made from the types; a field that is in a result and not in it would be one that
/// the types hide.
#[test]
fn the_schema_names_every_field() {
    let schema = schema::json().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let document = std::fs::read_to_string(&path).unwrap();
    assert!(
        document == schema,
        "bench-harness/schema.json is not that of the types; write it by\n\
         UPDATE_SNAPSHOTS=1 cargo test -p forkherd-bench --test report"
    );
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["$id"], SCHEMA);
    let mut described = BTreeMap::new();
    properties(&schema, &mut described);
    let mut used = BTreeMap::new();
    fields(&serde_json::to_value(report()).unwrap(), &mut used);
    assert!(used.len() > 40, "{used:?}");
    for name in used.keys() {
        // Categories of connections and settings of the kernel are keys of a map.
        let is_category = Category::ALL.iter().any(|category| category.word() == name);
        let is_key = is_category || name.starts_with("net.");
        let words = described.get(name).map(String::as_str);
        assert!(is_key || words.is_some_and(|words| !words.is_empty()), "{name}: {words:?}");
    }
}

/// The description of every property in a schema.
fn properties(schema: &serde_json::Value, found: &mut BTreeMap<String, String>) {
    if let Some(properties) = schema.get("properties").and_then(|it| it.as_object()) {
        for (name, property) in properties {
            let description = property.get("description").and_then(|it| it.as_str());
            found.insert(name.clone(), description.unwrap_or_default().to_owned());
        }
    }
    let parts = schema.as_object().into_iter().flatten().map(|(_, part)| part);
    parts.for_each(|part| properties(part, found));
}

/// The name of every field in a result.
fn fields(value: &serde_json::Value, found: &mut BTreeMap<String, ()>) {
    if let Some(object) = value.as_object() {
        found.extend(object.keys().map(|name| (name.clone(), ())));
        object.values().for_each(|value| fields(value, found));
    }
    value.as_array().into_iter().flatten().for_each(|value| fields(value, found));
}

/// A later run: one figure of one contestant is worse, everything else as it was.
fn later() -> Report {
    let mut later = report();
    later.date = "2000-01-02 00:00:00 UTC".to_owned();
    later.seed = 8;
    later.scenarios[0].rows[1].ratios.cpu_server = ratio(1.3, 1.25, 1.36);
    later.scenarios[0].rows[1].ratios.throughput = ratio(0.96, 0.94, 0.99);
    later.scenarios.pop();
    later
}

#[test]
fn a_difference_is_what_exceeds_the_noise() {
    let diff = Diff::of(&report(), &later()).unwrap();
    let seen: Vec<_> =
        diff.beyond_noise().map(|(_, change)| (&*change.contestant, change.seen)).collect();
    assert_eq!(seen, [("prefork:exclusive", Seen::More)]);
    assert_eq!(diff.unmatched, ["worker-hung (blocking) is in OLD only"]);
    let text = diff.terminal();
    assert!(text.lines().all(|line| line.chars().count() <= terminal::WIDTH), "{text}");
    check("diff.txt", &text);
    check("diff.md", &diff.markdown());
    check("diff.json", &diff.json().unwrap());
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let diff = Diff::of(&report(), &report()).unwrap();
    assert_eq!(diff.beyond_noise().count(), 0);
    assert!(diff.terminal().contains("No difference seen in any of"), "{}", diff.terminal());
}

/// Two runs of one trace each: what their intervals come from is one start of each server.
#[test]
fn what_differs_between_starts_is_no_change() {
    let run = |rounds, p99, cpu| {
        let mut report = report();
        let scenario = &mut report.scenarios[2];
        (scenario.rounds, scenario.block_s) = (rounds, vec![20.0]);
        let ratios = &mut scenario.rows[0].ratios;
        (ratios.p50, ratios.p99, ratios.p999) = (p99, p99, p99);
        ratios.cpu_server = cpu;
        report
    };
    let (low, high) = (ratio(1.1, 1.0, 1.2), ratio(1.5, 1.4, 1.6));
    let seen = |old: u32, new: u32| {
        let diff = Diff::of(&run(old, low, low), &run(new, high, high)).unwrap();
        let text = diff.terminal();
        assert_eq!(
            text.contains("percentile, ratio to baseline rose"),
            old.min(new) >= 5,
            "{text}"
        );
        let changes = diff.scenarios[2].changes.iter();
        let ratios = changes.filter(|change| change.figure.ends_with("ratio to baseline"));
        ratios.map(|change| change.seen).collect::<Vec<_>>()
    };
    use Seen::{More, Unknown};
    // Those of CPU are taken from round to round, and have an interval only if there are enough of them.
    assert_eq!(seen(1, 1), [More, Unknown, Unknown, Unknown]);
    assert_eq!((seen(1, 5), seen(5, 4)), (seen(1, 1), seen(1, 1)));
    assert_eq!(seen(5, 5), [More; 4]);
    // Slices have no starts in between.
    let slices = |p99| {
        let mut report = report();
        report.scenarios[0].rows[1].ratios.p99 = p99;
        report
    };
    let diff = Diff::of(&slices(low), &slices(high)).unwrap();
    assert_eq!(diff.beyond_noise().count(), 1);
}

#[test]
fn of_a_scenario_that_failed_nothing_is_said() {
    let failed = |mut report: Report| {
        report.scenarios[0].failures.push("prefork: 3 connections reset".to_owned());
        report
    };
    let title = "short-connections (blocking)";
    for (old, new) in [(failed(report()), later()), (report(), failed(later()))] {
        let diff = Diff::of(&old, &new).unwrap();
        assert_eq!(diff.beyond_noise().count(), 0);
        let text = diff.terminal();
        assert!(text.contains(&format!("{title} failed: its figures say nothing.")), "{text}");
        assert!(!text.contains(" rose "), "{text}");
        // They are shown all the same: what was lost is among them.
        assert!(text.contains(&format!("━━ {title}")), "{text}");
    }
}

#[test]
fn runs_that_say_nothing_about_each_other_are_refused_in_a_sentence() {
    let refused = |change: &dyn Fn(&mut Report)| {
        let mut other = later();
        change(&mut other);
        let error = Diff::of(&report(), &other).unwrap_err().to_string();
        error.strip_prefix("these results cannot be compared: ").unwrap().to_owned()
    };
    let machine = refused(&|other| other.machine.cpus = 64);
    assert_eq!(machine, r#"machine cpus: "2" in OLD, "64" in NEW"#);
    let two = refused(&|other| {
        other.workers = 4;
        other.scenarios[0].setting = "What was done, with care.".to_owned();
    });
    assert_eq!(
        two,
        r#"workers: "2" in OLD, "4" in NEW; the setting of short-connections (blocking): "in words." in OLD, "with care." in NEW"#
    );
    let blocks = refused(&|other| other.scenarios[2].block_s = vec![5.0; 3]);
    assert_eq!(
        blocks,
        r#"the blocks of tail (blocking): "20 s, 20 s, 25 s" in OLD, "5 s, 5 s, 5 s" in NEW"#
    );
    let kept = refused(&|other| other.scenarios[0].voids.kept = true);
    assert_eq!(
        kept,
        r#"void rounds of short-connections (blocking): "left out" in OLD, "kept" in NEW"#
    );
    let setting = refused(&|other| {
        other.machine.sysctls.insert("net.ipv4.tcp_migrate_req".to_owned(), "0".to_owned());
    });
    assert_eq!(setting, r#"machine net.ipv4.tcp_migrate_req: "nothing" in OLD, "0" in NEW"#);
    let build = refused(&|other| other.build.debug = true);
    assert_eq!(build, r#"the build: "release" in OLD, "debug" in NEW"#);
    let yardstick = refused(&|other| other.against = "prefork".to_owned());
    assert!(yardstick.starts_with("the yardstick: "), "{yardstick}");
    let nothing = refused(&|other| other.scenarios.clear());
    assert_eq!(nothing, "they have no scenario in common");
}
