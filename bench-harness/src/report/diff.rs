//! Two saved results beside each other: what changed by more than the noise.
//!
//! Times of two runs are not compared: the machine's mood lies between them. Ratios to the
//! yardstick are, each taken within a round of its own run.

pub mod comparable;
pub mod figures;
pub mod print;

use serde::Serialize;

use super::{Report, Scenario};
use crate::measure::ratio::{Interval, RESOLUTION, Ratio};

/// The name and version of this structure as JSON.
pub const SCHEMA: &str = "forkherd-bench-diff/1";

/// What became of the figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The earlier run.
    pub old: Run,
    /// The later one.
    pub new: Run,
    /// The contestant that ratios are taken to, in both.
    pub against: String,
    /// The scenarios that both have.
    pub scenarios: Vec<Part>,
    /// What only one of them has: scenarios, and contestants of scenarios.
    pub unmatched: Vec<String>,
}

/// Which run it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// When it began, UTC.
    pub date: String,
    /// The version of the program.
    pub version: String,
    /// The command line.
    pub command: String,
    /// Its seed.
    pub seed: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// A scenario in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Its name, and the runtime.
    pub name: String,
    /// Whether it failed in one of them: then its figures are shown, and nothing is said of them.
    pub failed: bool,
    /// One for each figure that a contestant has in both runs.
    pub changes: Vec<Change>,
}

/// A figure in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What it says.
    pub figure: String,
    /// Whose it is.
    pub contestant: String,
    /// In the earlier run.
    pub old: Ratio,
    /// In the later one.
    pub new: Ratio,
    /// The later one over the earlier; absent where that was 0.
    pub change: Option<f64>,
    /// Whether that is more than the noise.
    pub seen: Seen,
}

/// What two figures with their intervals say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The later one is more.
    More,
    /// The later one is less.
    Less,
    /// The intervals overlap, or the figures differ by less than we resolve.
    NoDifference,
    /// One of them has no interval that knows how one start of a server differs from the next, or the scenario
    /// failed.
    Unknown,
}

impl Seen {
    /// Two 95 % intervals that do not overlap differ; that is stricter than 95 %.
    fn of(old: Ratio, new: Ratio) -> Self {
        let (Some(before), Some(after)) = (old.interval, new.interval) else {
            return Self::Unknown;
        };
        let is_small = (new.value / old.value - 1.0).abs() <= RESOLUTION;
        if is_small || overlap(before, after) {
            Self::NoDifference
        } else if new.value > old.value {
            Self::More
        } else {
            Self::Less
        }
    }
}

fn overlap(one: Interval, other: Interval) -> bool {
    one.low <= other.high && other.low <= one.high
}

impl Diff {
    /// Compares `new` with `old`.
    ///
    /// # Errors
    /// Figures of the two say nothing about each other; why, in one sentence.
    pub fn of(old: &Report, new: &Report) -> anyhow::Result<Self> {
        comparable::check(old, new)?;
        let mut unmatched = Vec::new();
        let mut scenarios = Vec::new();
        for scenario in &old.scenarios {
            match new.scenarios.iter().find(|other| title(other) == title(scenario)) {
                Some(other) => scenarios.push(part(scenario, other, &old.against, &mut unmatched)),
                None => unmatched.push(format!("{} is in OLD only", title(scenario))),
            }
        }
        for scenario in &new.scenarios {
            if !old.scenarios.iter().any(|other| title(other) == title(scenario)) {
                unmatched.push(format!("{} is in NEW only", title(scenario)));
            }
        }
        Ok(Self {
            schema: SCHEMA,
            old: Run::of(old),
            new: Run::of(new),
            against: old.against.clone(),
            scenarios,
            unmatched,
        })
    }

    /// Changes by more than the noise.
    pub fn beyond_noise(&self) -> impl Iterator<Item = (&Part, &Change)> {
        let differs = |change: &&Change| matches!(change.seen, Seen::More | Seen::Less);
        self.scenarios
            .iter()
            .flat_map(move |part| part.changes.iter().filter(differs).map(move |one| (part, one)))
    }
}

impl Run {
    fn of(report: &Report) -> Self {
        Self {
            date: report.date.clone(),
            version: report.version.clone(),
            command: report.command.clone(),
            seed: report.seed,
            failed: report.failures().next().is_some(),
        }
    }
}

/// What a scenario is called: its name and the runtime.
fn title(scenario: &Scenario) -> String {
    format!("{} ({})", scenario.name, scenario.runtime.word())
}

/// The figures that both have, figure by figure.
fn part(old: &Scenario, new: &Scenario, against: &str, unmatched: &mut Vec<String>) -> Part {
    let against = old.against.as_deref().unwrap_or(against);
    let failed = !old.failures.is_empty() || !new.failures.is_empty();
    let (before, after) = (figures::of(old, against), figures::of(new, against));
    let changes = before.iter().filter_map(|old| {
        let new = after.iter().find(|new| new.is_same_as(old))?;
        let change = new.value.value / old.value.value;
        Some(Change {
            figure: old.name.clone(),
            contestant: old.contestant.clone(),
            old: old.value,
            new: new.value,
            change: change.is_finite().then_some(change),
            seen: if failed { Seen::Unknown } else { Seen::of(old.value, new.value) },
        })
    });
    for (here, there, which) in [(old, new, "OLD"), (new, old, "NEW")] {
        let others: Vec<&str> = took_part(there).collect();
        for contestant in took_part(here).filter(|one| !others.contains(one)) {
            unmatched.push(format!("{}: {contestant} is in {which} only", title(here)));
        }
    }
    Part { name: title(old), failed, changes: changes.collect() }
}

/// Who was measured.
fn took_part(scenario: &Scenario) -> impl Iterator<Item = &str> {
    let rows = scenario.rows.iter().filter(|row| row.skipped.is_none());
    rows.map(|row| &*row.contestant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(value: f64, low: f64, high: f64) -> Ratio {
        Ratio { value, interval: Some(Interval { low, high }) }
    }

    #[test]
    fn a_change_is_seen_where_intervals_do_not_overlap() {
        let old = ratio(1.1, 1.05, 1.15);
        assert_eq!(Seen::of(old, ratio(1.3, 1.2, 1.4)), Seen::More);
        assert_eq!(Seen::of(old, ratio(0.9, 0.8, 1.0)), Seen::Less);
        assert_eq!(Seen::of(old, ratio(1.2, 1.14, 1.3)), Seen::NoDifference);
        assert_eq!(Seen::of(old, Ratio { value: 9.0, interval: None }), Seen::Unknown);
    }

    #[test]
    fn a_change_below_what_we_resolve_is_none_however_narrow_the_intervals() {
        let seen = Seen::of(ratio(1.0, 0.999, 1.001), ratio(1.02, 1.019, 1.021));
        assert_eq!(seen, Seen::NoDifference);
    }
}
