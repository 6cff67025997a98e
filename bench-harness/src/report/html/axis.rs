//! Axes: where a value stands on a line, and which values are written beside it.

/// From values to places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Axis {
    /// Equal steps for equal differences.
    Linear {
        /// At 0.
        low: f64,
        /// At 1.
        high: f64,
    },
    /// Equal steps for equal ratios.
    Log {
        /// At 0; positive.
        low: f64,
        /// At 1.
        high: f64,
    },
    /// Percentiles, each nine after the comma as wide as the last: as HdrHistogram's plots.
    Percentile {
        /// At 1; below 100.
        high: f64,
    },
}

impl Axis {
    /// From 0 to a round number that `values` do not exceed.
    #[must_use]
    pub fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let most = values.into_iter().fold(0.0, f64::max);
        let step = step(most / 5.0);
        Self::Linear { low: 0.0, high: if most > 0.0 { (most / step).ceil() * step } else { 1.0 } }
    }

    /// Between round numbers that hold all positive `values`; `None` if there are none.
    #[must_use]
    pub fn log(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (least, most) = span(values.into_iter().filter(|value| *value > 0.0))?;
        let round = |value: f64| 10_f64.powf(value.log10().floor());
        // The next of 1, 2 and 5 below and above.
        let down = |value: f64| {
            let ten = round(value);
            [5.0, 2.0, 1.0].map(|times| times * ten).into_iter().find(|&one| one <= value)
        };
        let up = |value: f64| {
            let ten = round(value);
            [1.0, 2.0, 5.0, 10.0].map(|times| times * ten).into_iter().find(|&one| one >= value)
        };
        let (low, high) = (down(least)?, up(most)?);
        Some(Self::Log { low, high: if high > low { high } else { low * 10.0 } })
    }

    /// For ratios: 1 is on it; by ratios where they are far apart, else by differences.
    #[must_use]
    pub fn ratio(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = span(values.into_iter().chain([0.95, 1.05])).unwrap_or((0.95, 1.05));
        if low > 0.0 && high / low > 3.0 {
            return Self::log([low, high]).unwrap_or(Self::Linear { low, high });
        }
        let step = step((high - low) / 5.0);
        Self::Linear { low: (low / step).floor() * step, high: (high / step).ceil() * step }
    }

    /// Up to the highest of `percentiles`; 100 itself has no place on it.
    #[must_use]
    pub fn percentile(percentiles: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (_, high) = span(percentiles.into_iter().filter(|percentile| *percentile < 100.0))?;
        (high > 0.0).then_some(Self::Percentile { high })
    }

    /// Where `value` stands: 0 is one end, 1 the other; outside is at the nearer end.
    #[must_use]
    pub fn at(self, value: f64) -> f64 {
        let at = match self {
            Self::Linear { low, high } => (value - low) / (high - low),
            Self::Log { low, high } => (value / low).log10() / (high / low).log10(),
            Self::Percentile { high } => nines(value) / nines(high),
        };
        // What cannot be placed at all, as the logarithm of 0, is at the beginning.
        if at.is_nan() { 0.0 } else { at.clamp(0.0, 1.0) }
    }

    /// Values to be written beside it, ascending.
    #[must_use]
    pub fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { low, high } => {
                let step = step((high - low) / 5.0);
                let first = (low / step - 1e-9).ceil();
                let ticks = (0..8_u32).map(|index| (first + f64::from(index)) * step);
                ticks.take_while(|tick| *tick <= high + step * 1e-6).collect()
            }
            Self::Log { low, high } => {
                let decades = (high / low).log10();
                let times: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let every = if decades > 6.0 { 2 } else { 1 };
                let first = 10_f64.powf(low.log10().floor());
                (0..16)
                    .step_by(every)
                    .flat_map(|power| times.iter().map(move |times| times * 10_f64.powi(power)))
                    .map(|times| times * first)
                    .filter(|tick| *tick >= low * 0.999 && *tick <= high * 1.001)
                    .collect()
            }
            Self::Percentile { high } => {
                // 0 and 50 are too close to each other where there is room for many nines.
                let least = if high > 99.0 { 50.0 } else { 0.0 };
                let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
                all.into_iter().filter(|tick| (least..=high).contains(tick)).collect()
            }
        }
    }
}

/// How many nines a percentile has: 1 for 90, 2 for 99; infinitely many for 100.
#[must_use]
pub fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// The least and the most of `values`.
fn span(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let widen = |span: Option<(f64, f64)>, value: f64| match span {
        None => Some((value, value)),
        Some((least, most)) => Some((least.min(value), most.max(value))),
    };
    values.into_iter().filter(|value| value.is_finite()).fold(None, widen)
}

/// The next of 1, 2 and 5 times a power of ten from `least` on.
fn step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let ten = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|times| times * ten);
    steps.into_iter().find(|step| *step >= least).unwrap_or(ten * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_round_and_hold_everything() {
        assert_eq!(Axis::from_zero([3.0, 7.4]), Axis::Linear { low: 0.0, high: 8.0 });
        assert_eq!(Axis::from_zero([]), Axis::Linear { low: 0.0, high: 1.0 });
        assert_eq!(Axis::log([0.0, 3.0, 700.0]), Some(Axis::Log { low: 2.0, high: 1000.0 }));
        assert_eq!(Axis::log([1.0]), Some(Axis::Log { low: 1.0, high: 10.0 }));
        assert_eq!(Axis::log([0.0]), None);
        assert!(matches!(Axis::ratio([0.9, 12.0]), Axis::Log { .. }));
        assert!(matches!(Axis::ratio([0.9, 1.2]), Axis::Linear { .. }));
        assert_eq!(Axis::percentile([100.0, 99.0]), Some(Axis::Percentile { high: 99.0 }));
        assert_eq!(Axis::percentile([]), None);
    }

    #[test]
    fn each_nine_takes_as_much_room_as_the_last() {
        let axis = Axis::Percentile { high: 99.9 };
        for (percentile, at) in [(0.0, 0.0), (90.0, 1.0 / 3.0), (99.0, 2.0 / 3.0), (99.9, 1.0)] {
            assert!((axis.at(percentile) - at).abs() < 1e-9, "{percentile}");
        }
        assert_eq!(axis.at(100.0), 1.0);
        assert_eq!(axis.ticks(), [50.0, 90.0, 99.0, 99.9]);
        assert_eq!(Axis::Percentile { high: 90.0 }.ticks(), [0.0, 50.0, 90.0]);
    }

    #[test]
    fn ticks_are_few_round_and_on_the_axis() {
        assert_eq!(Axis::Log { low: 1.0, high: 10.0 }.ticks(), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(Axis::Log { low: 20.0, high: 1e5 }.ticks(), [100.0, 1e3, 1e4, 1e5]);
        assert_eq!(Axis::Linear { low: 0.0, high: 8.0 }.ticks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        for axis in [Axis::ratio([0.7, 1.3]), Axis::ratio([0.1, 900.0]), Axis::from_zero([0.07])] {
            let ticks = axis.ticks();
            assert!((2..=8).contains(&ticks.len()), "{axis:?} {ticks:?}");
            assert!(
                ticks.is_sorted() && ticks.iter().all(|tick| (0.0..=1.0).contains(&axis.at(*tick)))
            );
        }
    }

    #[test]
    fn what_lies_outside_is_at_the_nearer_end() {
        let axis = Axis::Log { low: 1.0, high: 100.0 };
        assert_eq!((axis.at(0.0), axis.at(10.0), axis.at(1e6)), (0.0, 0.5, 1.0));
    }
}
