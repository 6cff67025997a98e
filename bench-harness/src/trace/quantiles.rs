//! Work known by its quantiles, as a summary of a log has it.

use serde::{Deserialize, Serialize};

/// Pairs of percentile (0 to 100) and microseconds; between two of them values are as likely, beyond the
/// outermost they are as those.
///
/// In a scenario file: `work = { quantiles_us = [[0, 100], [50, 800], [99, 9000]] }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantiles(Vec<(f64, f64)>);

impl Quantiles {
    /// Of these pairs.
    #[must_use]
    pub fn new(pairs: Vec<(f64, f64)>) -> Self {
        Self(pairs)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they are quantiles.
    ///
    /// # Errors
    /// What is wanted.
    pub fn check(&self) -> Result<(), String> {
        let rises = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        let in_range = |&(percentile, us): &(f64, f64)| {
            (0.0..=100.0).contains(&percentile) && us.is_finite() && us >= 0.0
        };
        if !self.is_empty() && self.0.windows(2).all(rises) && self.0.iter().all(in_range) {
            return Ok(());
        }
        Err("pairs of percentile (0 to 100) and microseconds, both rising, as [[50, 800], [99, 9000]]"
            .to_owned())
    }

    /// The mean, in microseconds; 0 of none.
    #[must_use]
    pub fn mean_us(&self) -> f64 {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return 0.0 };
        let area =
            |pair: &[(f64, f64)]| (pair[1].0 - pair[0].0) * f64::midpoint(pair[0].1, pair[1].1);
        let ends = first.0 * first.1 + (100.0 - last.0) * last.1;
        (self.0.windows(2).map(area).sum::<f64>() + ends) / 100.0
    }

    /// The value at a percentile, in microseconds; 0 of none.
    #[must_use]
    pub fn at(&self, percentile: f64) -> f64 {
        let after = self.0.iter().position(|&(one, _)| one >= percentile);
        match after {
            None => self.0.last().map_or(0.0, |&(_, us)| us),
            Some(0) => self.0[0].1,
            Some(after) => {
                let ((low, low_us), (high, high_us)) = (self.0[after - 1], self.0[after]);
                low_us + (high_us - low_us) * (percentile - low) / (high - low)
            }
        }
    }

    /// The same, none of them above `us`.
    #[must_use]
    pub fn at_most(&self, us: f64) -> Self {
        Self(self.0.iter().map(|&(percentile, value)| (percentile, value.min(us))).collect())
    }

    /// All values `factor` times as long.
    #[must_use]
    pub fn stretched(&self, factor: f64) -> Self {
        Self(self.0.iter().map(|&(percentile, us)| (percentile, us * factor)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_have_a_mean_and_values_between() {
        let even = Quantiles::new(vec![(0.0, 0.0), (100.0, 100.0)]);
        assert!((even.mean_us() - 50.0).abs() < 1e-9 && (even.at(30.0) - 30.0).abs() < 1e-9);
        // Beyond the outermost ones everything is as they are.
        let steep = Quantiles::new(vec![(50.0, 10.0), (90.0, 10.0), (90.5, 110.0)]);
        assert!((steep.mean_us() - 19.75).abs() < 1e-9, "{}", steep.mean_us());
        assert!((steep.at(1.0) - 10.0).abs() < 1e-9 && (steep.at(99.0) - 110.0).abs() < 1e-9);
        assert!((steep.stretched(2.0).mean_us() - 39.5).abs() < 1e-9);
        assert!((steep.at_most(60.0).at(99.0) - 60.0).abs() < 1e-9);
        assert!(Quantiles::default().mean_us().abs() < 1e-9);
    }

    #[test]
    fn what_falls_is_refused() {
        for wrong in [vec![], vec![(1.0, 9.0), (2.0, 5.0)], vec![(2.0, 1.0), (1.0, 2.0)]] {
            assert!(Quantiles::new(wrong).check().is_err());
        }
        assert!(Quantiles::new(vec![(101.0, 1.0)]).check().is_err());
        assert_eq!(Quantiles::new(vec![(1.0, 1.0), (2.0, 1.0)]).check(), Ok(()));
    }
}
