//! How evenly workers were used.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::latency::to_f64;

/// Answered requests by worker, and two figures for how even they are.
///
/// Even is not good in itself: an ideal shared queue is a little uneven, and round robin is
/// perfectly even with a bad tail. It matters for connections that stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// By worker, in order of slot.
    pub per_worker: Vec<u64>,
    /// The busiest worker's share over the mean: 1 is even, the number of workers is one for all.
    pub max_over_mean: Option<f64>,
    /// Jain's index (Σx)²/(kΣx²): 1 is even, 1/k is one for all.
    pub jain: Option<f64>,
}

impl Share {
    /// The share of `workers` workers, those that answered nothing included.
    #[must_use]
    pub fn of(answered: &BTreeMap<u32, u64>, workers: u32) -> Self {
        let slots = answered.keys().last().map_or(0, |last| last + 1).max(workers);
        let per_worker: Vec<u64> =
            (0..slots).map(|slot| answered.get(&slot).copied().unwrap_or_default()).collect();
        let sum = to_f64(per_worker.iter().sum());
        let squares: f64 = per_worker.iter().map(|&count| to_f64(count).powi(2)).sum();
        let max = per_worker.iter().max().map_or(0.0, |&max| to_f64(max));
        let some = sum > 0.0;
        Self {
            max_over_mean: some.then(|| max * f64::from(slots) / sum),
            jain: some.then(|| sum.powi(2) / (f64::from(slots) * squares)),
            per_worker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_and_uneven_shares() {
        let even = Share::of(&BTreeMap::from([(0, 5), (1, 5)]), 2);
        assert_eq!((even.max_over_mean, even.jain), (Some(1.0), Some(1.0)));
        let one = Share::of(&BTreeMap::from([(1, 7)]), 4);
        assert_eq!((one.max_over_mean, one.jain), (Some(4.0), Some(0.25)));
        assert_eq!(one.per_worker, [0, 7, 0, 0]);
        assert_eq!(Share::of(&BTreeMap::new(), 4).jain, None);
    }
}
