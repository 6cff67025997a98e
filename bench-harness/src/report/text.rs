//! Figures as text: as many digits as one needs, and the unit.

use super::Scenario;
use super::grid::NONE;
use crate::measure::latency::to_f64;
use crate::measure::ratio::{Ratio, Verdict};

/// `1.02 [0.99 1.05]`, with ≈ before it when no difference was seen; `[?]` without an interval.
pub(super) fn ratio(ratio: Option<Ratio>) -> String {
    let Some(ratio) = ratio else { return NONE.to_owned() };
    let mark = if ratio.verdict() == Verdict::NoDifference { "≈" } else { "" };
    match ratio.interval {
        Some(interval) => {
            format!("{mark}{:.2} [{:.2} {:.2}]", ratio.value, interval.low, interval.high)
        }
        None => format!("{:.2} [?]", ratio.value),
    }
}

/// Microseconds, in the unit that keeps three digits readable.
pub(super) fn time(us: Option<f64>) -> String {
    match us {
        None => NONE.to_owned(),
        Some(us) if us < 1_000.0 => format!("{us:.0} µs"),
        Some(us) if us < 10_000.0 => format!("{:.2} ms", us / 1_000.0),
        Some(us) if us < 100_000.0 => format!("{:.1} ms", us / 1_000.0),
        Some(us) => format!("{:.0} ms", us / 1_000.0),
    }
}

/// With one digit after the point.
pub(super) fn one(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.1}"))
}

/// With two.
pub(super) fn two(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.2}"))
}

/// With three.
pub(super) fn three(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"))
}

/// A whole number of something.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate per second is positive and small"
)]
pub(super) fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| thousands(value.round() as u64))
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What was done, and the seeds of what was drawn for it.
#[must_use]
pub fn setting(scenario: &Scenario) -> String {
    let mut text = scenario.setting.clone();
    if !scenario.seeds.is_empty() {
        let seeds: Vec<_> = scenario.seeds.iter().map(u64::to_string).collect();
        let s = if seeds.len() == 1 { "" } else { "s" };
        text.push_str(&format!(" Trace seed{s}: {}.", seeds.join(", ")));
    }
    if !scenario.block_s.is_empty() {
        let mut lengths: Vec<_> = scenario.block_s.iter().map(|&s| seconds(s)).collect();
        lengths.dedup();
        text.push_str(&format!(" Blocks of {}.", lengths.join(", ")));
    }
    if scenario.voids.played > 0 {
        text.push_str(&format!(" Of all rounds, {}.", scenario.voids.told()));
    }
    text
}

/// `4 s`, `2.37 s`.
pub(super) fn seconds(s: f64) -> String {
    let digits = format!("{s:.2}");
    format!("{} s", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// `1 round`, `3 rounds`.
#[must_use]
pub fn rounds(count: u32) -> String {
    format!("{count} round{}", if count == 1 { "" } else { "s" })
}

/// A count per kill and the like, for sentences.
#[must_use]
pub fn per(count: u64, of: u64) -> String {
    if of == 0 { NONE.to_owned() } else { format!("{:.2}", to_f64(count) / to_f64(of)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ratio::Interval;

    #[test]
    fn figures_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(time(Some(812.4)), "812 µs");
        assert_eq!(time(Some(4_321.0)), "4.32 ms");
        assert_eq!(time(Some(43_210.0)), "43.2 ms");
        assert_eq!(time(None), "–");
        assert_eq!(whole(Some(12_345.6)), "12,346");
        assert_eq!([20.0, 2.3667, 2.5].map(seconds), ["20 s", "2.37 s", "2.5 s"]);
    }

    #[test]
    fn a_ratio_shows_its_interval_and_whether_it_differs() {
        let of =
            |value, low, high| ratio(Some(Ratio { value, interval: Some(Interval { low, high }) }));
        assert_eq!(of(1.02, 0.99, 1.05), "≈1.02 [0.99 1.05]");
        assert_eq!(of(1.2, 1.1, 1.3), "1.20 [1.10 1.30]");
        assert_eq!(ratio(Some(Ratio { value: 1.2, interval: None })), "1.20 [?]");
        assert_eq!(ratio(None), "–");
    }
}
