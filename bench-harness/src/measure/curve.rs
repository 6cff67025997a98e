//! A latency distribution as a curve: latency by percentile, dense where the tail is.

use super::latency::{Latencies, enough, to_f64};

/// Points of a whole curve: 15 for every nine, up to the 99.99th percentile.
const POINTS: u32 = 60;

/// Points from one nine to the next.
const PER_NINE: f64 = 15.0;

/// Pairs of percentile (0 to 99.99) and microseconds, at equal distances on a percentile axis (of the
/// logarithm of what lies beyond).
///
/// As far as enough samples lie beyond for a percentile to be one ([`enough`]); of too few, nothing.
#[must_use]
pub fn points(latencies: &Latencies) -> Vec<(f64, f64)> {
    let quantiles = (0..=POINTS).map(|point| 1.0 - 10_f64.powf(-f64::from(point) / PER_NINE));
    let told = quantiles.take_while(|&quantile| enough(latencies.len(), quantile));
    told.map(|quantile| {
        let value_us = to_f64(latencies.at(quantile)) / 1e3;
        // Two digits behind the last nine: a reader sees 99.9 and not 99.90000000000001.
        ((quantile * 1e6).round() / 1e4, value_us)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_as_far_as_there_are_samples_and_is_dense_at_the_end() {
        let curve = points(&Latencies::of((1..=30_000).map(|us| us * 1_000)));
        assert_eq!(curve.len(), 46);
        let at = |point: usize| curve[point].0;
        assert_eq!([at(0), at(15), at(30), at(45)], [0.0, 90.0, 99.0, 99.9]);
        assert!(curve.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{curve:?}");
        let (_, p99_us) = curve[30];
        assert!((p99_us / 29_700.0 - 1.0).abs() < 0.002, "{p99_us}");
        assert_eq!(points(&Latencies::of(1..=29)), []);
    }
}
