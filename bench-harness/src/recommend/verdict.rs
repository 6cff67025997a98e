//! Who wins: the simplest of those that cannot be told from the best.
//!
//! A short comparison cannot rank candidates that differ by less than its noise, and whoever tries
//! names another winner each time. So the best is only the yardstick: everybody whose ratio to it is
//! small, or not large and its interval reaches 1, is as good, and among those the simplest is taken.

use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use crate::measure::latency::percentile;
use crate::measure::ratio::{self, Ratio, median};
use crate::profile::Goal;
use crate::report::Samples;

/// A ratio to the best up to this is no difference, however sure it is: 5 %.
pub const TOLERANCE: f64 = 1.05;

/// A ratio beyond this is a difference, however wide its interval: whoever was a third worse is not taken
/// because little was measured.
const BEYOND_DOUBT: f64 = 1.33;

/// A candidate and what it was measured at.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its label.
    pub label: String,
    /// Its place in the order of simplicity.
    pub rank: u8,
    /// What was measured.
    pub samples: Samples,
}

/// How a candidate stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its label.
    pub label: String,
    /// The figure of the goal: microseconds, or busiest worker over mean.
    pub figure: f64,
    /// Over that of the best; the best has none.
    pub to_best: Option<Ratio>,
    /// Whether it cannot be told from the best.
    pub is_as_good: bool,
}

/// Who wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The label of the one to take.
    pub chosen: String,
    /// The next one.
    pub runner_up: Option<String>,
    /// Whether nobody could be told from the best.
    pub no_difference: bool,
    /// Everybody who was measured, the best first.
    pub standings: Vec<Standing>,
    /// Who was left without a figure.
    pub unknown: Vec<String>,
}

/// What a goal is judged by, and how that is read from samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judge {
    /// The goal.
    pub goal: Goal,
    /// The percentile, where the goal is one.
    pub quantile: f64,
    /// Added to the CPU of every request.
    pub own_cpu_us: f64,
}

impl Judge {
    /// The figure of a candidate: the less the better. None of too few samples.
    #[must_use]
    pub fn figure(&self, samples: &Samples) -> Option<f64> {
        match self.goal {
            Goal::Tail | Goal::Robustness => {
                let mut all: Vec<u64> = samples.chunks.iter().flatten().copied().collect();
                percentile(&mut all, self.quantile).map(|ns| ns / 1e3)
            }
            Goal::Cost | Goal::Spread => median(&mut self.rounds(samples)),
        }
    }

    /// `own` over `other`; none where too little was measured to have one.
    #[must_use]
    pub fn ratio(&self, own: &Samples, other: &Samples, random: &mut SmallRng) -> Option<Ratio> {
        match self.goal {
            Goal::Tail | Goal::Robustness => {
                ratio::percentile(&own.chunks, &other.chunks, self.quantile, random)
            }
            Goal::Cost | Goal::Spread => {
                ratio::paired(&self.rounds(own), &self.rounds(other), random)
            }
        }
    }

    fn rounds(&self, samples: &Samples) -> Vec<f64> {
        match self.goal {
            Goal::Spread => samples.max_over_mean.clone(),
            _ => samples.cpu_server_us.iter().map(|us| us + self.own_cpu_us).collect(),
        }
    }

    /// How everybody stands, the best first; and who has no figure.
    #[must_use]
    pub fn rank(&self, all: &[Measured], random: &mut SmallRng) -> (Vec<Standing>, Vec<String>) {
        let mut unknown = Vec::new();
        let mut known: Vec<(&Measured, f64)> = Vec::new();
        for one in all {
            match self.figure(&one.samples) {
                Some(figure) => known.push((one, figure)),
                None => unknown.push(one.label.clone()),
            }
        }
        known.sort_by(|one, other| one.1.total_cmp(&other.1));
        let Some(&(best, best_figure)) = known.first() else { return (Vec::new(), unknown) };
        let standings = known.iter().map(|&(one, figure)| {
            let is_best = one.label == best.label;
            let to_best =
                if is_best { None } else { self.ratio(&one.samples, &best.samples, random) };
            // Without a ratio nothing was shown, and only much more is worse.
            let is_as_good =
                to_best.map_or(figure <= BEYOND_DOUBT * best_figure, |ratio| is_as_good(&ratio));
            Standing { label: one.label.clone(), figure, to_best, is_as_good }
        });
        (standings.collect(), unknown)
    }

    /// Who wins; nobody if nobody has a figure.
    #[must_use]
    pub fn decide(&self, all: &[Measured], random: &mut SmallRng) -> Option<Verdict> {
        let (standings, unknown) = self.rank(all, random);
        let rank = |label: &str| all.iter().find(|one| one.label == label).map(|one| one.rank);
        let mut good: Vec<&Standing> = standings.iter().filter(|one| one.is_as_good).collect();
        good.sort_by_key(|one| rank(&one.label));
        let chosen = good.first()?.label.clone();
        let rest = standings.iter().find(|one| !one.is_as_good);
        let runner_up = good.get(1).copied().or(rest).map(|one| one.label.clone());
        let no_difference = standings.len() > 1 && good.len() == standings.len();
        Some(Verdict { chosen, runner_up, no_difference, standings, unknown })
    }
}

/// Whether a ratio to the best is no difference.
fn is_as_good(ratio: &Ratio) -> bool {
    is_no_worse(ratio.value, ratio.interval.is_some_and(|interval| interval.low <= 1.0))
}

/// Whether a figure `over_best` times the best is no difference; `reaches` where the interval allows that
/// there is none.
pub(crate) fn is_no_worse(over_best: f64, reaches: bool) -> bool {
    over_best <= TOLERANCE || (reaches && over_best <= BEYOND_DOUBT)
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// Forty rounds around `cost`, up and down together.
    fn costs(label: &str, rank: u8, cost: f64, noise: f64) -> Measured {
        let mut mood = SmallRng::seed_from_u64(1);
        let mut own = SmallRng::seed_from_u64(rank.into());
        let round =
            |_| cost * mood.random_range(1.0..3.0) * own.random_range(1.0 - noise..=1.0 + noise);
        let cpu_server_us = (0..40).map(round).collect();
        Measured {
            label: label.to_owned(),
            rank,
            samples: Samples { cpu_server_us, ..Samples::default() },
        }
    }

    fn decide(own_cpu_us: f64, all: &[Measured]) -> Verdict {
        let judge = Judge { goal: Goal::Cost, quantile: 0.99, own_cpu_us };
        judge.decide(all, &mut SmallRng::seed_from_u64(7)).unwrap()
    }

    #[test]
    fn whoever_is_better_beyond_noise_wins() {
        let verdict = decide(0.0, &[costs("plain", 0, 60.0, 0.02), costs("clever", 9, 40.0, 0.02)]);
        assert_eq!((&*verdict.chosen, verdict.runner_up.as_deref()), ("clever", Some("plain")));
        assert!(!verdict.no_difference);
        let ratio = verdict.standings[1].to_best.unwrap();
        assert!((ratio.value - 1.5).abs() < 0.05, "{ratio:?}");
    }

    #[test]
    fn within_noise_the_simplest_wins() {
        let all = [
            costs("clever", 9, 40.0, 0.1),
            costs("plain", 0, 41.0, 0.1),
            costs("bad", 1, 70.0, 0.1),
        ];
        let verdict = decide(0.0, &all);
        assert_eq!((&*verdict.chosen, verdict.runner_up.as_deref()), ("plain", Some("clever")));
        assert!(!verdict.no_difference);
        let verdict = decide(0.0, &all[..2]);
        assert!(verdict.no_difference, "{verdict:?}");
    }

    #[test]
    fn beside_much_work_a_cost_is_no_difference() {
        let all = [costs("clever", 9, 40.0, 0.02), costs("plain", 0, 60.0, 0.02)];
        assert_eq!(decide(0.0, &all).chosen, "clever");
        let verdict = decide(4_000.0, &all);
        assert_eq!(verdict.chosen, "plain");
        assert!(verdict.no_difference);
    }

    #[test]
    fn little_evidence_excuses_a_little_and_not_everything() {
        let ratio =
            |value, low| Ratio { value, interval: Some(ratio::Interval { low, high: 9.0 }) };
        assert!(is_as_good(&ratio(1.2, 0.9)) && !is_as_good(&ratio(1.2, 1.01)));
        assert!(!is_as_good(&ratio(1.5, 0.5)));
        assert!(is_as_good(&ratio(1.04, 1.03)));
        assert!(!is_as_good(&Ratio { value: 1.2, interval: None }));
    }

    #[test]
    fn tails_are_told_apart_and_whoever_has_no_figure_is_named() {
        let chunks = |label: &str, rank: u8, top: u64| {
            let mut random = SmallRng::seed_from_u64(rank.into());
            let chunk = |_| (0..100).map(|_| random.random_range(0..top)).collect();
            let chunks = (0..60).map(chunk).collect();
            Measured {
                label: label.to_owned(),
                rank,
                samples: Samples { chunks, ..Samples::default() },
            }
        };
        let none = Measured { label: "none".to_owned(), rank: 0, samples: Samples::default() };
        let all = [chunks("queue", 2, 1_000_000), chunks("hash", 1, 3_000_000), none];
        let judge = Judge { goal: Goal::Tail, quantile: 0.99, own_cpu_us: 0.0 };
        let verdict = judge.decide(&all, &mut SmallRng::seed_from_u64(7)).unwrap();
        assert_eq!(verdict.chosen, "queue");
        assert!((verdict.standings[0].figure / 990.0 - 1.0).abs() < 0.02, "{verdict:?}");
        assert_eq!(verdict.unknown, ["none"]);
        assert_eq!(judge.decide(&all[2..], &mut SmallRng::seed_from_u64(7)), None);
    }
}
