//! What is printed, from made-up measurements: the terminal, Markdown, and the way through JSON.

use std::collections::BTreeMap;
use std::path::Path;

use forkherd_bench::cli::Runtime;
use forkherd_bench::load::category::{Category, Tally};
use forkherd_bench::measure::latency::Latency;
use forkherd_bench::measure::ratio::{Interval, Ratio};
use forkherd_bench::measure::share::Share;
use forkherd_bench::report::machine::Machine;
use forkherd_bench::report::{
    Caution, EachKill, Held, Hung, Ideal, Kills, Ratios, Report, Row, SCHEMA, Scenario, Tail,
    markdown, saved, terminal,
};

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

fn report() -> Report {
    let baseline = Row {
        contestant: "baseline".to_owned(),
        throughput: Some(12_000.4),
        latency: Latency {
            samples: 4_000,
            p50_us: Some(800.0),
            p99_us: Some(1_812.0),
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
        runtime: Runtime::Blocking,
        unit: "connection".to_owned(),
        rounds,
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
        },
        seed: 7,
        against: "baseline".to_owned(),
        workers: 2,
        wall_s: 88.4,
        interrupted: None,
        scenarios: vec![
            scenario("short-connections", 40, vec![baseline, skewed], vec![]),
            scenario("worker-killed", 1, vec![killed, skipped], vec!["made up".to_owned()]),
            scenario("tail", 3, vec![tail()], vec![]),
            scenario("long-lived", 1, vec![long_lived()], vec![]),
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
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "{text}");
    }
}

#[test]
fn the_terminal_shows_every_figure_within_100_columns() {
    let text = terminal::render(&report());
    assert!(text.lines().all(|line| line.chars().count() <= terminal::WIDTH), "{text}");
    check("terminal.txt", &text);
}

#[test]
fn markdown_shows_the_same() {
    check("markdown.md", &markdown::render(&report()));
}

#[test]
fn a_report_comes_back_from_its_file_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    saved::save(&report(), &file).unwrap();
    assert_eq!(saved::load(&file).unwrap(), report());
}
