//! What the harness found out about itself: figures, bounds, verdict, in words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::Runtime;
use crate::measure::ratio::{Interval, RESOLUTION, Ratio};
use crate::void::Voids;

/// The interval of the 99th percentile's ratio of two equal servers lies within 1 ÷ this and this.
///
/// The latency of a closed loop on one core is mostly queueing behind the other clients, and what the
/// machine does beside is in its tail.
pub const P99_MAX: f64 = 1.25;

/// One of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first.
    #[default]
    First,
    /// The second.
    Second,
}

impl Side {
    /// The word in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "the first",
            Self::Second => "the second",
        }
    }
}

/// The whole check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfCheck {
    /// Who was measured against itself.
    pub contestant: String,
    /// What each worker ran.
    pub runtime: Runtime,
    /// Pairs of servers that were started for each trial.
    pub pairs: u32,
    /// Connections in a slice.
    pub slice: u32,
    /// The same twice.
    pub equal: Equal,
    /// One burns more.
    pub burnt: Burnt,
    /// Rounds of both trials.
    pub voids: Voids,
}

/// Two equal servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Equal {
    /// Rounds that count, with all pairs.
    pub rounds: u32,
    /// Server CPU per connection of the first over that of the second.
    pub cpu: Option<Ratio>,
    /// The 99th percentile of latency in a slice, likewise.
    pub p99: Option<Ratio>,
}

/// One of two servers burnt more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Burnt {
    /// Rounds that count, with all pairs.
    pub rounds: u32,
    /// Server CPU per connection without burning, in microseconds.
    pub cpu_us: f64,
    /// What one of them burnt beside, per connection, in nanoseconds.
    pub burnt_ns: u64,
    /// Server CPU per connection of the first over that of the second.
    pub cpu: Option<Ratio>,
    /// Who was found to be dearer, before anyone was told; nobody if no difference was seen.
    pub found: Option<Side>,
    /// Who it was.
    pub truth: Side,
}

impl SelfCheck {
    /// What makes the check a failure.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let within = |ratio: Option<Ratio>, low: f64, high: f64| {
            let interval = ratio.and_then(|ratio| ratio.interval);
            interval.is_some_and(|seen| seen.low >= low && seen.high <= high)
        };
        if !within(self.equal.cpu, 1.0 - RESOLUTION, 1.0 + RESOLUTION) {
            failures.push("two equal servers do not look equal in server CPU".to_owned());
        }
        if !within(self.equal.p99, 1.0 / P99_MAX, P99_MAX) {
            failures.push("two equal servers do not look equal in p99".to_owned());
        }
        match self.burnt.found {
            Some(found) if found == self.burnt.truth => {}
            Some(_) => failures.push("the wrong one of two was found to burn more".to_owned()),
            None => failures.push("that one of two burns more was not seen".to_owned()),
        }
        failures.extend(self.voids.failure());
        failures
    }

    /// The section of a report.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let Self { contestant, pairs, slice, equal, burnt, .. } = self;
        let cpu = "server CPU per connection";
        let (low, high) = (1.0 - RESOLUTION, 1.0 + RESOLUTION);
        let found = match burnt.found {
            None => "no difference was seen".to_owned(),
            Some(side) if side == burnt.truth => format!("{} was found, rightly", side.word()),
            Some(side) => format!("{} was found, wrongly", side.word()),
        };
        vec![
            format!(
                "Closed loop on one core, {} workers, {contestant} against itself: {pairs} pairs of \
                 servers in each trial, slices of {slice} connections in shuffled order; intervals \
                 come from resampling pairs. Of all rounds, {}.",
                self.runtime.word(),
                self.voids.told(),
            ),
            format!(
                "The same twice ({} rounds): {cpu} {}, allowed [{low:.2} {high:.2}]; p99 of a slice {}, allowed \
                 [{:.2} {P99_MAX:.2}].",
                equal.rounds,
                told(equal.cpu),
                told(equal.p99),
                1.0 / P99_MAX,
            ),
            format!(
                "One burns {:.1} % more ({} rounds): {} ns per connection beside {:.1} µs, in one of \
                 two drawn by lot; {cpu} of the first over the second {}: {found}.",
                100.0 * crate::measure::latency::to_f64(burnt.burnt_ns) / (burnt.cpu_us * 1e3),
                burnt.rounds,
                burnt.burnt_ns,
                burnt.cpu_us,
                told(burnt.cpu),
            ),
            if self.failures().is_empty() {
                "This harness can be believed on this machine, now.".to_owned()
            } else {
                "Do not believe small differences on this machine, now.".to_owned()
            },
        ]
    }
}

/// `1.004 [0.991 1.016]`.
fn told(ratio: Option<Ratio>) -> String {
    match ratio {
        Some(Ratio { value, interval: Some(Interval { low, high }) }) => {
            format!("{value:.3} [{low:.3} {high:.3}]")
        }
        Some(Ratio { value, interval: None }) => format!("{value:.3} [?]"),
        None => "not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(low: f64, high: f64) -> Option<Ratio> {
        Some(Ratio { value: f64::midpoint(low, high), interval: Some(Interval { low, high }) })
    }

    fn good() -> SelfCheck {
        SelfCheck {
            contestant: "it".to_owned(),
            pairs: 12,
            slice: 400,
            equal: Equal { rounds: 200, cpu: ratio(0.98, 1.02), p99: ratio(0.9, 1.2) },
            burnt: Burnt {
                rounds: 201,
                cpu_us: 25.0,
                burnt_ns: 2_500,
                cpu: ratio(0.9, 0.92),
                found: Some(Side::Second),
                truth: Side::Second,
            },
            ..SelfCheck::default()
        }
    }

    #[test]
    fn each_thing_that_may_go_wrong_is_a_failure_of_its_own() {
        let check = |check: SelfCheck, expected: &[&str]| {
            assert_eq!(check.failures(), expected);
        };
        check(good(), &[]);
        let equal = |cpu, p99| SelfCheck { equal: Equal { cpu, p99, ..good().equal }, ..good() };
        let unequal = ["two equal servers do not look equal in server CPU"];
        check(equal(ratio(0.96, 1.01), good().equal.p99), &unequal);
        check(equal(ratio(0.98, 1.04), good().equal.p99), &unequal);
        check(equal(None, good().equal.p99), &unequal);
        let unequal = ["two equal servers do not look equal in p99"];
        check(equal(good().equal.cpu, ratio(0.7, 1.0)), &unequal);
        let found = |found| SelfCheck { burnt: Burnt { found, ..good().burnt }, ..good() };
        check(found(Some(Side::First)), &["the wrong one of two was found to burn more"]);
        check(found(None), &["that one of two burns more was not seen"]);
        let voids = Voids { played: 9, void: 3, ..Voids::default() };
        assert_eq!(SelfCheck { voids, ..good() }.failures().len(), 1);
    }

    #[test]
    fn the_section_has_every_figure() {
        let text = good().sentences().join("\n");
        for words in [
            "it against itself: 12 pairs",
            "The same twice (200 rounds): server CPU per connection 1.000 [0.980 1.020], allowed \
             [0.97 1.03]; p99 of a slice 1.050 [0.900 1.200], allowed [0.80 1.25].",
            "One burns 10.0 % more (201 rounds): 2500 ns per connection beside 25.0 µs",
            "0.910 [0.900 0.920]: the second was found, rightly.",
            "can be believed",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
