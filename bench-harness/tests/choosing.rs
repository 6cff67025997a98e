//! The page *Which crate should I choose?*: every sentence points to a figure, each figure is the one that was
//! saved, and what is claimed of it holds.
//!
//! A pointer is a link, `[FIGURE](results/FILE.json#SCENARIO/CONTESTANT/FIELD)`; FIELD leads into the row,
//! by dots, and may end with a claim: `>2.5` or `<1.2`.

use std::fs;
use std::path::{Path, PathBuf};

use forkherd_bench::report::{advice, saved};
use serde_json::Value;

const PAGE: &str = "CHOOSING.md";

#[test]
fn every_sentence_points_to_a_figure() {
    let mut seen = 0;
    for sentence in sentences(&read(PAGE)) {
        assert!(!pointers(&sentence).is_empty(), "{PAGE}: no figure in: {sentence}");
        seen += 1;
    }
    assert!(seen >= 10, "{seen} sentences");
}

/// With `UPDATE_SNAPSHOTS` set it writes the figures instead of comparing them; claims are checked all
/// the same.
#[test]
fn every_figure_is_the_one_that_was_saved_and_every_claim_holds() {
    let mut page = read(PAGE);
    for pointer in pointers(&page) {
        let value = pointer.value();
        let number = value.get("value").unwrap_or(&value).as_f64().unwrap_or(f64::NAN);
        let holds = match pointer.claim {
            Some(('>', bound)) => number > bound,
            Some((_, bound)) => number < bound,
            None => true,
        };
        assert!(
            holds,
            "{PAGE}: {} is {number} by now, and the sentence claims {:?}: rewrite it",
            pointer.target, pointer.claim
        );
        let shown = shown(&pointer.field, &value);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            let old = format!("[{}]({})", pointer.text, pointer.target);
            page = page.replace(&old, &format!("[{shown}]({})", pointer.target));
        } else {
            assert_eq!(
                pointer.text, shown,
                "{PAGE} quotes {}; write what was saved by\n\
                 UPDATE_SNAPSHOTS=1 cargo test -p forkherd-bench --test choosing",
                pointer.target
            );
        }
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(folder().join(PAGE), page).unwrap();
    }
}

/// The page of a result says whom to take, too: of connections that stay it may say no more than this one, where
/// evenness and CPU decide for different crates.
#[test]
fn the_page_of_the_results_contradicts_nothing() {
    let report = saved::load(&folder().join("results/readme.json")).unwrap();
    let advice = advice::advice(&report);
    let kept = advice.iter().find(|one| one.scenario == "keep-alive").unwrap();
    assert_eq!(kept.head, "No ranking", "{kept:?}");
    for best in ["prefork in server CPU per request", "handoff in busiest worker over mean"] {
        assert!(kept.why.contains(best), "{kept:?}");
    }
    for name in ["short-connections", "uneven-work"] {
        let one = advice.iter().find(|one| one.scenario == name).unwrap();
        assert!(one.head.contains("prefork"), "{one:?}");
    }
}

#[test]
fn sentences_and_pointers_are_found() {
    let page = "# Title\n\nNot yet. Nor this.\n\n## Question?\n\nOne [1.5](results/a.json#s/c/x>1).\nTwo, \
                2.0 of them. Three.\n\n```sh\nno sentence.\n```\n* Four:\n  five.\n";
    let found = sentences(page);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[1], "Two, 2.0 of them.");
    assert_eq!(found[3], "Four: five.");
    let pointer = &pointers(&found[0])[0];
    assert_eq!((&*pointer.field, pointer.claim), ("x", Some(('>', 1.0))));
    let ratio = serde_json::json!({"value": 1.369, "interval": {"low": 1.3, "high": 1.4}});
    assert_eq!(shown("ratios.cpu_server", &ratio), "1.37 [1.30 1.40]");
    assert_eq!(shown("latency.p99_us", &serde_json::json!(19_912.0)), "19.9 ms");
    assert_eq!(shown("cpu_server_us", &serde_json::json!(42.84)), "42.8 µs");
    assert_eq!(shown("kills.kills", &serde_json::json!(55)), "55");
}

/// A link to a saved figure.
#[derive(Debug)]
struct Pointer {
    text: String,
    target: String,
    file: String,
    scenario: String,
    contestant: String,
    field: String,
    claim: Option<(char, f64)>,
}

impl Pointer {
    fn parse(text: &str, target: &str) -> Option<Self> {
        let (file, place) = target.strip_prefix("results/")?.split_once('#')?;
        let mut parts = place.split('/');
        let (scenario, contestant, field) = (parts.next()?, parts.next()?, parts.next()?);
        let (field, claim) = match field.find(['<', '>']) {
            Some(at) => {
                let sign = field[at..].chars().next()?;
                (&field[..at], Some((sign, field[at + 1..].parse().ok()?)))
            }
            None => (field, None),
        };
        Some(Self {
            text: text.to_owned(),
            target: target.to_owned(),
            file: file.to_owned(),
            scenario: scenario.to_owned(),
            contestant: contestant.to_owned(),
            field: field.to_owned(),
            claim,
        })
    }

    /// What was saved there.
    fn value(&self) -> Value {
        let report = saved::load(&folder().join("results").join(&self.file))
            .unwrap_or_else(|error| panic!("{PAGE}: {}: {error:#}", self.target));
        let scenario = report.scenarios.iter().find(|scenario| scenario.name == self.scenario);
        let rows = scenario.map(|scenario| &scenario.rows);
        let row = rows.and_then(|rows| rows.iter().find(|row| row.contestant == self.contestant));
        let row = row.unwrap_or_else(|| panic!("{PAGE}: nobody is at {}", self.target));
        let row = serde_json::to_value(row).unwrap();
        let value = self.field.split('.').try_fold(&row, |value, key| value.get(key));
        let value = value.filter(|value| !value.is_null());
        value.unwrap_or_else(|| panic!("{PAGE}: no figure is at {}", self.target)).clone()
    }
}

/// A figure as the page shows it.
fn shown(field: &str, value: &Value) -> String {
    if let (Some(ratio), Some(interval)) = (value.get("value"), value.get("interval")) {
        let part = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let (low, high) = (part(&interval["low"]), part(&interval["high"]));
        return format!("{:.2} [{low:.2} {high:.2}]", part(ratio));
    }
    let number = value.as_f64().unwrap_or_else(|| panic!("{PAGE}: {field} is no number"));
    if value.is_u64() {
        format!("{value}")
    } else if !field.ends_with("_us") {
        format!("{number:.2}")
    } else if number >= 1_000.0 {
        format!("{:.1} ms", number / 1e3)
    } else {
        format!("{number:.1} µs")
    }
}

/// All pointers of a text. Other links are none.
fn pointers(text: &str) -> Vec<Pointer> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("](") {
        let begins = opening(text, at);
        let target = text[at + 2..].split(')').next().unwrap_or_default();
        found.extend(Pointer::parse(&text[begins..at], target));
    }
    found
}

/// Where the text of the link begins whose `]` is at `end`; a figure may hold an interval in brackets.
fn opening(text: &str, end: usize) -> usize {
    let mut depth = 0;
    for (at, c) in text[..end].char_indices().rev() {
        match c {
            ']' => depth += 1,
            '[' if depth == 0 => return at + 1,
            '[' => depth -= 1,
            _ => {}
        }
    }
    0
}

/// The sentences of all sections; what stands before the first, headings and code are none.
fn sentences(page: &str) -> Vec<String> {
    let sections = page.split_once("\n## ").map_or("", |(_, sections)| sections);
    let prose: String = sections.split("```").step_by(2).collect();
    let mut blocks: Vec<String> = vec![String::new()];
    for (number, line) in prose.lines().enumerate() {
        let is_heading = number == 0 || line.starts_with('#');
        let is_point = line.starts_with("* ");
        if line.is_empty() || is_heading || is_point {
            blocks.push(String::new());
        }
        if !is_heading {
            let last = blocks.last_mut().unwrap();
            last.push_str(line.trim_start_matches("* ").trim_start());
            last.push(' ');
        }
    }
    let mut sentences = Vec::new();
    for block in blocks {
        let mut rest = block.trim();
        while !rest.is_empty() {
            let end = rest.find(". ").map_or(rest.len(), |at| at + 1);
            sentences.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
    }
    sentences
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
