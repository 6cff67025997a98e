//! When requests come: at random, evenly, many at once, or as recorded.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, Exp};
use serde::{Deserialize, Serialize};

use super::recorded;

/// More arrivals per second than this are not drawn: five times what one load process can send.
pub const RATE_MAX: f64 = 100_000.0;

/// More arrivals than this are not drawn: about 200 bytes each, by the time they are answered, make 2 GB.
pub const ARRIVALS_MAX: f64 = 1e7;

/// How requests come, whatever their rate.
///
/// In a scenario file: `arrivals = "poisson"`, `"constant"`, `{ bursts = 50 }` or
/// `{ recorded = "trace.csv" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Independently of each other: what many users who do not know each other do.
    #[default]
    Poisson,
    /// One after the other at the same distance.
    Constant,
    /// So many at once, and such bursts at the same distance.
    Bursts(NonZeroU32),
    /// As in this file ([`recorded`]); they have a rate of their own.
    Recorded(PathBuf),
}

impl Arrivals {
    /// A file's path taken from `folder`, if it is relative.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Recorded(path) => Self::Recorded(folder.join(path)),
            drawn => drawn,
        }
    }

    /// The times within `length`, in microseconds from the start and in order; those of a record
    /// may go on beyond.
    ///
    /// # Errors
    /// `per_second` is not positive, more than [`RATE_MAX`], or makes more than [`ARRIVALS_MAX`] in all; or the
    /// record cannot be read.
    pub(super) fn draw(
        &self,
        per_second: f64,
        length: Duration,
        random: &mut SmallRng,
    ) -> anyhow::Result<Vec<u64>> {
        if let Self::Recorded(path) = self {
            return Ok(recorded::read(path)?.into_iter().map(|row| row.at_us).collect());
        }
        ensure!(
            per_second.is_finite() && per_second > 0.0,
            "{per_second} arrivals per second cannot be drawn; give a rate above 0"
        );
        ensure!(
            per_second <= RATE_MAX,
            "more than {RATE_MAX} arrivals per second cannot be sent; give a lower rate or more work each"
        );
        let expected = per_second * length.as_secs_f64();
        ensure!(
            expected <= ARRIVALS_MAX,
            "{expected:.0} arrivals are more than fit into memory, {ARRIVALS_MAX} at most; give a lower rate or \
             a shorter length"
        );
        let at_once = if let Self::Bursts(size) = self { size.get() } else { 1 };
        let mean_gap = f64::from(at_once) / per_second;
        let exponential = Exp::new(1.0 / mean_gap)?;
        let mut gap = || if *self == Self::Poisson { exponential.sample(random) } else { mean_gap };
        let mut times = Vec::new();
        let mut at = gap();
        while at < length.as_secs_f64() {
            let at_us = u64::try_from(Duration::from_secs_f64(at).as_micros())?;
            times.extend((0..at_once).map(|_| at_us));
            at += gap();
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::seq::SliceRandom as _;

    use super::*;
    use crate::measure::latency::to_f64;

    const RATE: f64 = 1_000.0;
    const LENGTH: Duration = Duration::from_secs(20);

    fn draw(arrivals: &Arrivals, seed: u64) -> Vec<u64> {
        arrivals.draw(RATE, LENGTH, &mut SmallRng::seed_from_u64(seed)).unwrap()
    }

    /// Kolmogorov–Smirnov: the largest distance between the gaps' distribution and the exponential
    /// of the given rate, times √n.
    fn distance(times: &[u64]) -> f64 {
        let mut gaps: Vec<f64> =
            times.windows(2).map(|pair| to_f64(pair[1] - pair[0]) / 1e6).collect();
        gaps.sort_by(f64::total_cmp);
        let count = to_f64(gaps.len() as u64);
        let apart = gaps.iter().zip(0_u64..).map(|(gap, index)| {
            let expected = 1.0 - (-gap * RATE).exp();
            let (below, above) = (to_f64(index) / count, to_f64(index + 1) / count);
            (expected - below).abs().max((above - expected).abs())
        });
        apart.fold(0.0, f64::max) * count.sqrt()
    }

    /// Index of dispersion: variance over mean of the counts per 20 ms, as a multiple of its own
    /// standard deviation from 1. Gaps may be exponential one by one and yet know of each other.
    fn dispersion(times: &[u64]) -> f64 {
        let windows = LENGTH.as_millis() / 20;
        let mut counts = vec![0.0; usize::try_from(windows).unwrap()];
        times.iter().for_each(|at| counts[usize::try_from(at / 20_000).unwrap()] += 1.0);
        let number = to_f64(counts.len() as u64);
        let mean = counts.iter().sum::<f64>() / number;
        let squares: f64 = counts.iter().map(|count| (count - mean).powi(2)).sum();
        (squares / mean / (number - 1.0) - 1.0) / (2.0 / (number - 1.0)).sqrt()
    }

    /// Wrong once in a thousand for a true Poisson process, each of the two (Kolmogorov's
    /// distribution, and the normal one).
    fn is_poisson(times: &[u64]) -> bool {
        distance(times) < 1.95 && dispersion(times).abs() < 3.29
    }

    #[test]
    fn poisson_arrivals_pass_a_test_that_others_fail() {
        let passed = (0..50).filter(|&seed| is_poisson(&draw(&Arrivals::Poisson, seed))).count();
        assert!(passed >= 49, "{passed} of 50");

        let bursts = Arrivals::Bursts(NonZeroU32::new(2).unwrap());
        for other in [Arrivals::Constant, bursts] {
            assert!(!is_poisson(&draw(&other, 1)), "{other:?}");
        }
        // The distances of a true one, in another order: many short ones in a row.
        let times = draw(&Arrivals::Poisson, 1);
        let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for run in gaps.chunks_mut(100) {
            run.sort_unstable();
        }
        let placed = |gaps: &[u64]| -> Vec<u64> {
            gaps.iter()
                .scan(times[0], |at, gap| {
                    *at += gap;
                    Some(*at)
                })
                .collect()
        };
        let sorted = placed(&gaps);
        assert!(distance(&sorted) < 1.95 && !is_poisson(&sorted), "{}", dispersion(&sorted));
        gaps.shuffle(&mut SmallRng::seed_from_u64(2));
        assert!(is_poisson(&placed(&gaps)));
        // A distance of two exponential halves: more even than chance.
        let halves: Vec<u64> = times.iter().step_by(2).map(|at| at / 2).collect();
        assert!(!is_poisson(&halves), "{}", distance(&halves));
    }

    #[test]
    fn bursts_come_together_and_keep_the_rate() {
        let times = draw(&Arrivals::Bursts(NonZeroU32::new(50).unwrap()), 1);
        assert!((19_900..=20_000).contains(&times.len()), "{}", times.len());
        assert!(times.chunks(50).all(|burst| burst.iter().all(|at| *at == burst[0])));
        assert_eq!(times[50] - times[0], 50_000);
    }

    #[test]
    fn a_rate_that_is_none_is_refused() {
        let error =
            Arrivals::Constant.draw(0.0, LENGTH, &mut SmallRng::seed_from_u64(1)).unwrap_err();
        let expected = "0 arrivals per second cannot be drawn; give a rate above 0";
        assert_eq!(error.to_string(), expected);
        // Its gaps are nothing beside any time: it would be drawn for ever.
        let error =
            Arrivals::Poisson.draw(1e300, LENGTH, &mut SmallRng::seed_from_u64(1)).unwrap_err();
        assert!(error.to_string().starts_with("more than 100000 arrivals"), "{error}");
    }

    #[test]
    fn they_are_written_as_in_a_scenario_file() {
        let read = |text: &str| serde_json::from_str::<Arrivals>(text).unwrap();
        assert_eq!(read(r#""poisson""#), Arrivals::Poisson);
        assert_eq!(read(r#"{"bursts":50}"#), Arrivals::Bursts(NonZeroU32::new(50).unwrap()));
        let file = read(r#"{"recorded":"a.csv"}"#).within(Path::new("b"));
        assert_eq!(file, Arrivals::Recorded("b/a.csv".into()));
        assert!(serde_json::from_str::<Arrivals>(r#"{"bursts":0}"#).is_err());
    }

    #[test]
    fn more_arrivals_than_fit_into_memory_are_not_drawn() {
        let draw = |seconds| {
            let mut random = SmallRng::seed_from_u64(1);
            Arrivals::Constant.draw(RATE_MAX, Duration::from_secs(seconds), &mut random)
        };
        let error = draw(101).unwrap_err().to_string();
        assert!(
            error.starts_with("10100000 arrivals are more than fit into memory, 10000000"),
            "{error}"
        );
        assert!(draw(1).is_ok());
    }
}
