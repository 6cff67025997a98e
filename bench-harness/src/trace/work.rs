//! How much work requests bring: all the same, or drawn from a distribution.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use rand::Rng as _;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, Exp, LogNormal};
use serde::{Deserialize, Serialize};

use super::quantiles::Quantiles;
use super::recorded;
use crate::apps::hello::WORK_MAX;

/// How work is distributed.
///
/// In a scenario file: `work = { constant_us = 2000 }`, `{ exponential_us = 4000 }`,
/// `{ bimodal = { short_us = 2700, times = 100, one_in = 200 } }`,
/// `{ lognormal = { mean_us = 4000, cv = 2.0 } }`,
/// `{ pareto = { mean_us = 4000, alpha = 1.5, max_us = 1000000 } }`,
/// `{ quantiles_us = [[0, 100], [50, 800], [99, 9000]] }` or `{ recorded = "trace.csv" }`. Nothing drawn is longer than [`WORK_MAX`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// All the same.
    #[serde(rename = "constant_us")]
    Constant(#[serde(with = "micros")] Duration),
    /// Exponential with this mean: mostly short, some long.
    #[serde(rename = "exponential_us")]
    Exponential(#[serde(with = "micros")] Duration),
    /// One in so many at random is so many times as long as the others.
    Bimodal {
        /// The work of the others.
        #[serde(rename = "short_us", with = "micros")]
        short: Duration,
        /// How many times as long the long ones are.
        times: u32,
        /// One in so many is long.
        one_in: u32,
    },
    /// Its logarithm is normal: what the sizes of most human things are.
    Lognormal {
        /// Its mean.
        #[serde(rename = "mean_us", with = "micros")]
        mean: Duration,
        /// Its standard deviation over its mean.
        cv: f64,
    },
    /// A heavy tail: twice as long is 2^α times as rare, up to a longest.
    Pareto {
        /// Its mean; the shortest follows from it.
        #[serde(rename = "mean_us", with = "micros")]
        mean: Duration,
        /// How fast the tail falls; from 1 to 2 for what computers are asked to do.
        alpha: f64,
        /// The longest.
        #[serde(rename = "max_us", with = "micros")]
        max: Duration,
    },
    /// Between these quantiles.
    #[serde(rename = "quantiles_us")]
    Quantiles(Quantiles),
    /// That of this file ([`recorded`]): each line as likely, unless the arrivals come from the
    /// same file.
    Recorded(PathBuf),
}

impl Work {
    /// A file's path taken from `folder`, if it is relative.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Recorded(path) => Self::Recorded(folder.join(path)),
            drawn => drawn,
        }
    }

    /// The mean.
    ///
    /// # Errors
    /// There is no such work, or the record cannot be read: the sentence says which, and what would do.
    pub fn mean(&self) -> anyhow::Result<Duration> {
        let sampler = self.sampler()?;
        Ok(match self {
            &Self::Bimodal { short, times, one_in } => {
                let parts = u128::from(one_in) - 1 + u128::from(times);
                let mean_ns = short.as_nanos() * parts / u128::from(one_in);
                Duration::from_nanos(u64::try_from(mean_ns)?)
            }
            Self::Recorded(_) => sampler.mean_of_values(),
            Self::Quantiles(quantiles) => Duration::from_secs_f64(cut(quantiles).mean_us() / 1e6),
            Self::Constant(mean)
            | Self::Exponential(mean)
            | Self::Lognormal { mean, .. }
            | Self::Pareto { mean, .. } => *mean,
        })
    }

    /// What draws it.
    ///
    /// # Errors
    /// There is no such work: which figure is wrong, and what it may be. Or the record cannot be
    /// read.
    pub(super) fn sampler(&self) -> anyhow::Result<Sampler> {
        let longest = WORK_MAX.as_secs();
        let positive = |value: Duration, name: &str| {
            ensure!(
                !value.is_zero() && value <= WORK_MAX,
                "{name} of work is between 1 µs and {longest} s, not {value:?}"
            );
            Ok(value.as_secs_f64() * 1e6)
        };
        Ok(match self {
            &Self::Constant(work) => {
                ensure!(work <= WORK_MAX, "constant work is {longest} s at most, not {work:?}");
                Sampler::Constant(micros::of(work))
            }
            &Self::Exponential(mean) => {
                Sampler::Exponential(Exp::new(1.0 / positive(mean, "the mean")?)?)
            }
            &Self::Bimodal { short, times, one_in } => {
                ensure!(one_in > 0, "one in 0 is no part of bimodal work; one in 1 is all");
                positive(short, "the short part")?;
                let long = short.checked_mul(times).filter(|&long| long <= WORK_MAX);
                let long = long.with_context(|| {
                    format!("{times} times {short:?} is more than {longest} s of work")
                })?;
                Sampler::Bimodal { short: micros::of(short), long: micros::of(long), one_in }
            }
            &Self::Lognormal { mean, cv } => {
                let mean = positive(mean, "the mean")?;
                ensure!(
                    cv.is_finite() && cv > 0.0,
                    "lognormal work has a coefficient of variation above 0, not {cv}"
                );
                Sampler::Lognormal(LogNormal::from_mean_cv(mean, cv)?)
            }
            &Self::Pareto { mean, alpha, max } => {
                let (mean, max) = (positive(mean, "the mean")?, positive(max, "the longest")?);
                ensure!(
                    alpha.is_finite() && alpha > 0.0,
                    "the tail of Pareto work falls with an alpha above 0, not {alpha}"
                );
                ensure!(mean < max, "the longest Pareto work is above its mean of {mean} µs");
                Sampler::Pareto { low: lowest(mean, alpha, max), high: max, alpha }
            }
            Self::Quantiles(quantiles) => {
                quantiles.check().map_err(|wanted| anyhow!("quantiles of work are {wanted}"))?;
                Sampler::Quantiles(cut(quantiles))
            }
            Self::Recorded(path) => {
                let rows = recorded::read(path)?;
                Sampler::Recorded(rows.into_iter().map(|row| row.service_us).collect())
            }
        })
    }
}

/// Draws work, in microseconds.
#[derive(Debug)]
pub(super) enum Sampler {
    Constant(u64),
    Exponential(Exp<f64>),
    Bimodal {
        short: u64,
        long: u64,
        one_in: u32,
    },
    Lognormal(LogNormal<f64>),
    Pareto {
        low: f64,
        high: f64,
        alpha: f64,
    },
    Quantiles(Quantiles),
    /// Not empty.
    Recorded(Vec<u64>),
}

impl Sampler {
    /// The work of the next request.
    pub(super) fn draw(&self, random: &mut SmallRng) -> u64 {
        match self {
            Self::Constant(work) => *work,
            Self::Exponential(work) => whole(work.sample(random)),
            &Self::Bimodal { short, long, one_in } => {
                if random.random_range(0..one_in) == 0 {
                    long
                } else {
                    short
                }
            }
            Self::Lognormal(work) => whole(work.sample(random)),
            &Self::Pareto { low, high, alpha } => {
                // The inverse of its distribution function, of what is evenly distributed.
                let part: f64 = random.random();
                let rest = 1.0 - part * (1.0 - (low / high).powf(alpha));
                whole(low * rest.powf(-1.0 / alpha))
            }
            Self::Quantiles(quantiles) => whole(quantiles.at(random.random_range(0.0..100.0))),
            Self::Recorded(values) => values[random.random_range(0..values.len())],
        }
    }

    /// The mean of what was recorded; nothing of what is drawn otherwise.
    fn mean_of_values(&self) -> Duration {
        let values = if let Self::Recorded(values) = self { &values[..] } else { &[] };
        let sum: Duration = values.iter().map(|&value| Duration::from_micros(value)).sum();
        sum / u32::try_from(values.len()).unwrap_or(u32::MAX).max(1)
    }
}

/// What is drawn of these, which is no longer than the longest work.
fn cut(quantiles: &Quantiles) -> Quantiles {
    quantiles.at_most(WORK_MAX.as_secs_f64() * 1e6)
}

/// Whole microseconds, the longest work at most.
fn whole(work_us: f64) -> u64 {
    micros::of(Duration::from_secs_f64((work_us / 1e6).min(WORK_MAX.as_secs_f64())))
}

/// The shortest work of a bounded Pareto distribution with this mean, by halving: the mean grows
/// with it, from nothing to `max`.
fn lowest(mean: f64, alpha: f64, max: f64) -> f64 {
    let (mut low, mut high) = (0.0, max);
    // As many times as a float has digits.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if pareto_mean(middle, alpha, max) < mean { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The mean of a Pareto distribution between `low` and `high`.
fn pareto_mean(low: f64, alpha: f64, high: f64) -> f64 {
    let ratio = low / high;
    if (alpha - 1.0).abs() < 1e-9 {
        return low * -ratio.ln() / (1.0 - ratio);
    }
    let rest = 1.0 - ratio.powf(alpha - 1.0);
    low * alpha / (alpha - 1.0) * rest / (1.0 - ratio.powf(alpha))
}

/// Durations as whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn of(value: Duration) -> u64 {
        u64::try_from(value.as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(of(*value))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::measure::latency::to_f64;

    const MS: Duration = Duration::from_millis(1);

    fn drawn(work: &Work, count: usize) -> Vec<u64> {
        let mut random = SmallRng::seed_from_u64(3);
        let sampler = work.sampler().unwrap();
        (0..count).map(|_| sampler.draw(&mut random)).collect()
    }

    /// Mean and coefficient of variation.
    fn moments(values: &[u64]) -> (f64, f64) {
        let count = to_f64(values.len() as u64);
        let mean = to_f64(values.iter().sum()) / count;
        let squares: f64 = values.iter().map(|&value| (to_f64(value) - mean).powi(2)).sum();
        (mean, (squares / count).sqrt() / mean)
    }

    #[test]
    fn what_is_drawn_has_the_mean_and_the_variation_it_should() {
        let pareto = Work::Pareto { mean: 4 * MS, alpha: 1.5, max: 400 * MS };
        let mild = Work::Pareto { mean: 4 * MS, alpha: 1.0, max: 40 * MS };
        for (work, cv) in [
            (Work::Constant(4 * MS), Some(0.0)),
            (Work::Exponential(4 * MS), Some(1.0)),
            (Work::Lognormal { mean: 4 * MS, cv: 2.0 }, Some(2.0)),
            (Work::Bimodal { short: 2 * MS, times: 11, one_in: 10 }, Some(1.5)),
            (Work::Quantiles(Quantiles::new(vec![(0.0, 0.0), (100.0, 9e3)])), Some(0.577)),
            (pareto, None),
            (mild, None),
        ] {
            let (mean, seen) = moments(&drawn(&work, 400_000));
            let expected = work.mean().unwrap().as_secs_f64() * 1e6;
            assert!((mean / expected - 1.0).abs() < 0.02, "{work:?}: {mean}");
            if let Some(cv) = cv {
                assert!((seen - cv).abs() < 0.06, "{work:?}: {seen}");
            }
        }
    }

    #[test]
    fn the_mean_of_anything_that_may_be_drawn_is_a_time() {
        let rare = Work::Bimodal { short: MS, times: 60_000, one_in: u32::MAX };
        assert_eq!(rare.mean().unwrap(), MS + Duration::from_nanos(13));
        // Cut to what is drawn: half of them take a minute.
        let endless = Work::Quantiles(Quantiles::new(vec![(0.0, 0.0), (50.0, 1e300)]));
        let (mean, _) = moments(&drawn(&endless, 10_000));
        let expected = endless.mean().unwrap().as_secs_f64() * 1e6;
        assert!((mean / expected - 1.0).abs() < 0.05 && expected < 60e6, "{mean} {expected}");
    }

    #[test]
    fn a_pareto_tail_falls_as_fast_as_it_says_and_no_further() {
        let work = Work::Pareto { mean: 4 * MS, alpha: 1.5, max: 4_000 * MS };
        let values = drawn(&work, 400_000);
        assert!(values.iter().all(|&value| value <= 4_000_000));
        let over = |limit| to_f64(values.iter().filter(|&&value| value > limit).count() as u64);
        let fall = over(8_000) / over(16_000);
        assert!((fall / 2_f64.powf(1.5) - 1.0).abs() < 0.05, "{fall}");
    }

    #[test]
    fn bimodal_work_has_its_mean_and_its_share_of_long_ones() {
        let short = Duration::from_micros(2_700);
        let work = Work::Bimodal { short, times: 100, one_in: 200 };
        assert_eq!(work.mean().unwrap(), Duration::from_nanos(4_036_500));
        let values = drawn(&work, 200_000);
        let long = values.iter().filter(|&&value| value == 270_000).count();
        assert!((to_f64(long as u64) / 200_000.0 / 0.005 - 1.0).abs() < 0.1, "{long}");
        assert!(values.iter().all(|value| [2_700, 270_000].contains(value)));
    }

    #[test]
    fn work_that_cannot_be_is_refused_with_what_it_may_be() {
        let check = |work: Work, expected: &str| {
            assert_eq!(work.mean().unwrap_err().to_string(), expected, "{work:?}");
        };
        check(
            Work::Exponential(Duration::ZERO),
            "the mean of work is between 1 µs and 60 s, not 0ns",
        );
        check(
            Work::Bimodal { short: MS, times: 5, one_in: 0 },
            "one in 0 is no part of bimodal work; one in 1 is all",
        );
        check(
            Work::Bimodal { short: MS, times: 100_000, one_in: 2 },
            "100000 times 1ms is more than 60 s of work",
        );
        check(
            Work::Lognormal { mean: MS, cv: -1.0 },
            "lognormal work has a coefficient of variation above 0, not -1",
        );
        check(
            Work::Pareto { mean: MS, alpha: 1.5, max: MS },
            "the longest Pareto work is above its mean of 1000 µs",
        );
        check(
            Work::Recorded("nowhere/trace.csv".into()),
            "cannot read the trace nowhere/trace.csv",
        );
    }

    #[test]
    fn it_is_written_as_in_a_scenario_file() {
        for (text, work) in [
            (r#"{"constant_us":2000}"#, Work::Constant(2 * MS)),
            (r#"{"exponential_us":4000}"#, Work::Exponential(4 * MS)),
            (
                r#"{"bimodal":{"short_us":2000,"times":100,"one_in":200}}"#,
                Work::Bimodal { short: 2 * MS, times: 100, one_in: 200 },
            ),
            (
                r#"{"lognormal":{"mean_us":4000,"cv":2.0}}"#,
                Work::Lognormal { mean: 4 * MS, cv: 2.0 },
            ),
            (
                r#"{"pareto":{"mean_us":4000,"alpha":1.5,"max_us":9000}}"#,
                Work::Pareto { mean: 4 * MS, alpha: 1.5, max: 9 * MS },
            ),
            (
                r#"{"quantiles_us":[[50.0,800.0]]}"#,
                Work::Quantiles(Quantiles::new(vec![(50.0, 800.0)])),
            ),
            (r#"{"recorded":"a.csv"}"#, Work::Recorded("a.csv".into())),
        ] {
            assert_eq!(serde_json::from_str::<Work>(text).unwrap(), work);
            assert_eq!(serde_json::to_string(&work).unwrap(), text);
        }
        let unknown = r#"{"lognormal":{"mean_us":4000,"cv":2.0,"sigma":1}}"#;
        assert!(serde_json::from_str::<Work>(unknown).is_err());
    }
}
