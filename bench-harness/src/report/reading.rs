//! A reading of the figures in plain words; every sentence is derived from one of them.

use super::text::{per, thousands};
use super::{Hung, Report, Row, SHARED_CORES, Scenario};
use crate::contestant::BASELINE;
use crate::measure::ratio::{Ratio, Verdict};

/// What a contestant's figures say in a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The scenario.
    pub scenario: String,
    /// The contestant.
    pub contestant: String,
    /// What is said, without a full stop.
    pub said: String,
}

/// Sentences about a report, scenario by scenario.
#[must_use]
pub fn sentences(report: &Report) -> Vec<String> {
    let sentence = |one: Reading| format!("{}, {}: {}.", one.scenario, one.contestant, one.said);
    readings(report).into_iter().map(sentence).collect()
}

/// The same in parts. Of a scenario that failed nothing is read.
#[must_use]
pub fn readings(report: &Report) -> Vec<Reading> {
    // As one says it.
    let against = match &*report.against {
        BASELINE => "the baseline",
        other => other,
    };
    let of =
        |scenario: &Scenario| of_scenario(scenario, scenario.against.as_deref().unwrap_or(against));
    report.scenarios.iter().filter(|scenario| scenario.failures.is_empty()).flat_map(of).collect()
}

/// What is said about one scenario.
fn of_scenario(scenario: &Scenario, against: &str) -> Vec<Reading> {
    let mut readings = Vec::new();
    for row in scenario.rows.iter().filter(|row| row.skipped.is_none()) {
        let mut said = Vec::new();
        if let Some(ratio) = row.ratios.cpu_server {
            said.extend(cost(ratio, &scenario.unit, against));
        }
        said.extend(over_ideal(row));
        said.extend(worst_tail(row));
        said.extend(row.hung.iter().map(waited));
        if let Some(sentence) = skew(row) {
            said.push(sentence);
        }
        if let Some(sentence) = killed(row) {
            said.push(sentence);
        }
        if !said.is_empty() {
            readings.push(Reading {
                scenario: scenario.name.clone(),
                contestant: row.contestant.clone(),
                said: said.join("; "),
            });
        }
    }
    readings
}

/// Server CPU against the yardstick; nothing from too few rounds.
fn cost(ratio: Ratio, unit: &str, against: &str) -> Option<String> {
    let percent = (ratio.value - 1.0).abs() * 100.0;
    Some(match ratio.verdict() {
        Verdict::Unknown => return None,
        Verdict::NoDifference => {
            format!("no difference from {against} seen in server CPU per {unit}")
        }
        Verdict::More => format!("{percent:.0} % more server CPU per {unit} than {against}"),
        Verdict::Less => format!("{percent:.0} % less server CPU per {unit} than {against}"),
    })
}

/// The tail over that of its ideal: of work that burns CPU cores that are shared, else a central queue.
fn over_ideal(row: &Row) -> Option<String> {
    let (ideal, what) = match &row.sharing {
        Some(sharing) => (sharing, SHARED_CORES),
        None => (row.ideal.as_ref()?, "an ideal central queue"),
    };
    Some(format!("p99 {:.2} times that of {what}", ideal.p99?))
}

/// The worst of all tails.
fn worst_tail(row: &Row) -> Option<String> {
    let tails = row.tails.iter().filter_map(|tail| Some((tail.worst()?, tail)));
    let (worst, tail) = tails.max_by(|one, other| one.0.total_cmp(&other.0))?;
    let what = if tail.shared { SHARED_CORES } else { "an ideal central queue" };
    Some(format!("at worst {worst:.2} times that of {what} ({})", tail.figure))
}

/// Who waited for a hung worker without need.
fn waited(hung: &Hung) -> String {
    format!(
        "with a worker {}, {} of {} requests were delayed by over 1 s beside the {} it held",
        hung.how,
        thousands(hung.beside()),
        thousands(hung.requests),
        thousands(hung.held)
    )
}

/// A worker with at least twice its share is worth a word.
fn skew(row: &Row) -> Option<String> {
    let over = row.share.max_over_mean.filter(|&over| over >= 2.0)?;
    Some(format!("its busiest worker served {over:.1} times the mean"))
}

/// What the killed workers took with them.
fn killed(row: &Row) -> Option<String> {
    let kills = row.kills.filter(|kills| kills.kills > 0)?;
    let failed = row.connections.failed();
    Some(format!(
        "{} workers killed, {} of {} connections failed ({} per kill), {} beyond what the killed \
         workers had in service",
        kills.kills,
        thousands(failed),
        thousands(row.connections.sum()),
        per(failed, kills.kills),
        kills.beyond + kills.each.map_or(0, |each| each.unexplained),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ratio::Interval;
    use crate::report::{Ideal, Tail};

    #[test]
    fn work_that_burns_cpu_is_read_against_shared_cores() {
        let p99 = |p99| Some(Ideal { p99: Some(p99), ..Ideal::default() });
        let tail = |shared| vec![Tail { over_ideal: vec![2.5], ..Tail::new("short p99", shared) }];
        let waits = Row { ideal: p99(1.5), tails: tail(false), ..Row::default() };
        let burns = Row { sharing: p99(2.0), tails: tail(true), ..waits.clone() };
        let said = |row| (over_ideal(row).unwrap(), worst_tail(row).unwrap());
        assert_eq!(
            said(&waits),
            (
                "p99 1.50 times that of an ideal central queue".to_owned(),
                "at worst 2.50 times that of an ideal central queue (short p99)".to_owned()
            )
        );
        assert_eq!(
            said(&burns),
            (
                "p99 2.00 times that of evenly shared cores".to_owned(),
                "at worst 2.50 times that of evenly shared cores (short p99)".to_owned()
            )
        );
    }

    #[test]
    fn a_scenario_that_failed_is_not_read() {
        let row =
            Row { ideal: Some(Ideal { p99: Some(1.5), ..Ideal::default() }), ..Row::default() };
        let mut report = Report {
            scenarios: vec![Scenario { rows: vec![row], ..Scenario::default() }],
            ..Report::default()
        };
        assert_eq!(readings(&report).len(), 1);
        report.scenarios[0].failures.push("half of its rounds were void".to_owned());
        assert_eq!(readings(&report), []);
    }

    #[test]
    fn only_what_was_seen_is_said() {
        let of = |low, high| {
            let interval = Some(Interval { low, high });
            cost(Ratio { value: 1.1, interval }, "connection", "the baseline").unwrap()
        };
        assert_eq!(of(1.05, 1.15), "10 % more server CPU per connection than the baseline");
        let none = "no difference from the baseline seen in server CPU per connection";
        assert_eq!((of(0.95, 1.25), of(1.01, 1.2)), (none.to_owned(), none.to_owned()));
        assert_eq!(cost(Ratio { value: 1.1, interval: None }, "connection", "it"), None);
        assert_eq!(skew(&Row::default()), None);
        assert_eq!(killed(&Row::default()), None);
    }
}
