//! Percentiles, and the rule that a percentile needs samples beyond it.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ratio::select;

/// Fewer samples than this beyond a percentile, and it is not printed: it would be an anecdote.
pub const BEYOND_MIN: f64 = 30.0;

/// Longer latencies count as this: ten minutes, far beyond the load process's deadline.
const LONGEST_NS: u64 = 600_000_000_000;

/// Latencies in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        Self(histogram.expect("the bounds and three significant digits are within its limits"))
    }
}

impl Latencies {
    /// Of these samples.
    #[must_use]
    pub fn of(samples_ns: impl IntoIterator<Item = u64>) -> Self {
        let mut latencies = Self::default();
        samples_ns.into_iter().for_each(|sample| latencies.add(sample));
        latencies
    }

    /// One more.
    pub fn add(&mut self, sample_ns: u64) {
        self.0.saturating_record(sample_ns);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which the fraction `quantile` lies.
    #[must_use]
    pub fn at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// What a report says of them.
    #[must_use]
    pub fn summary(&self) -> Latency {
        let at = |quantile: f64| {
            enough(self.len(), quantile).then(|| to_f64(self.at(quantile)) / 1000.0)
        };
        let some = |value_ns: f64| (!self.is_empty()).then_some(value_ns / 1000.0);
        Latency {
            samples: self.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            mean_us: some(self.0.mean()),
            deviation_us: some(self.0.stdev()),
        }
    }
}

/// Latency percentiles in microseconds; `None` where too few samples lie beyond.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// How many latencies there were.
    pub samples: u64,
    /// Half were below.
    pub p50_us: Option<f64>,
    /// One in a hundred was above.
    pub p99_us: Option<f64>,
    /// One in a thousand was above.
    pub p999_us: Option<f64>,
    /// Their mean.
    #[serde(default)]
    pub mean_us: Option<f64>,
    /// Their standard deviation: what a closed loop shows of a tail, its mean being given by the
    /// number of clients.
    #[serde(default)]
    pub deviation_us: Option<f64>,
}

impl Latency {
    /// Of latencies in nanoseconds.
    #[must_use]
    pub fn of(samples_ns: impl IntoIterator<Item = u64>) -> Self {
        Latencies::of(samples_ns).summary()
    }
}

/// How many of `samples` lie beyond `quantile`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "part of a count")]
pub fn beyond(samples: u64, quantile: f64) -> u64 {
    (to_f64(samples) * (1.0 - quantile) + 1e-6) as u64
}

/// The exact value below which the fraction `quantile` of `samples` lies; `None` where too few lie
/// beyond.
#[must_use]
pub fn percentile(samples: &mut [u64], quantile: f64) -> Option<f64> {
    enough(samples.len() as u64, quantile).then(|| select(samples, quantile))
}

/// Whether `samples` leave enough of them beyond `quantile`.
#[must_use]
pub fn enough(samples: u64, quantile: f64) -> bool {
    // The small term forgives 3,000 × (1 − 0.99) = 29.999….
    to_f64(samples) * (1.0 - quantile) + 1e-6 >= BEYOND_MIN
}

/// A count as a float: exact below 2⁵³, which no count of ours reaches.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds stay below 2^53")]
#[must_use]
pub fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_thirty_samples_beyond_it() {
        assert!(enough(60, 0.5) && !enough(59, 0.5));
        assert!(enough(3_000, 0.99) && !enough(2_999, 0.99));
        assert!(enough(30_000, 0.999) && !enough(29_999, 0.999));
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let latency = Latency::of((1..=10_000).map(|us| us * 1000));
        assert!((latency.p50_us.unwrap() / 5_000.0 - 1.0).abs() < 0.002, "{latency:?}");
        assert!((latency.p99_us.unwrap() / 9_900.0 - 1.0).abs() < 0.002, "{latency:?}");
        assert_eq!(latency.p999_us, None);
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_samples() {
        let latency = Latency::of([2, 4, 4, 4, 5, 5, 7, 9].map(|ms| ms * 1_000_000));
        assert!((latency.mean_us.unwrap() / 5_000.0 - 1.0).abs() < 0.002, "{latency:?}");
        assert!((latency.deviation_us.unwrap() / 2_000.0 - 1.0).abs() < 0.002, "{latency:?}");
        assert_eq!(Latency::of([]).mean_us, None);
    }
}
