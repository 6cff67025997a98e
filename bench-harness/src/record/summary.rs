//! What a log says about a service: how often requests come, how much at once, how much work they bring.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use anyhow::bail;
use forkherd_core::{RuntimeKind, SLOTS_LIMIT};

use super::line::Entry;
use crate::measure::latency::to_f64;
use crate::profile::{LOAD, Profile, Work};
use crate::trace::Quantiles;

/// A service is planned for its busy times: for the busiest of such stretches, in seconds.
const WINDOW_S: f64 = 60.0;

/// A log shorter than so many stretches is one.
const WINDOWS_MIN: f64 = 10.0;

/// Below this an index of dispersion is chance: of 60 counts it scatters by 0.2 around 1.
const DISPERSION_MIN: f64 = 1.5;

/// The largest burst that is believed; more is a second in which somebody measured.
const BURST_MAX: f64 = 1_000.0;

/// Beyond the steps of five, the percentiles that are kept.
const TAIL: [f64; 6] = [97.0, 98.0, 99.0, 99.5, 99.8, 99.9];

/// What a log says.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests per second over the whole log.
    mean_rate: f64,
    /// In its busiest stretch.
    rate: f64,
    /// Whether stretches were told apart.
    has_windows: bool,
    /// Variance over mean of the requests per bin in that stretch: 1 is Poisson.
    dispersion: f64,
    /// The length of a bin, in seconds.
    bin_s: f64,
    work: Work,
}

impl Summary {
    /// Of at least one request.
    ///
    /// # Errors
    /// Request times that make no work.
    pub fn of(entries: &[Entry]) -> anyhow::Result<Self> {
        let mut at_s: Vec<f64> = entries.iter().map(|entry| entry.at_s).collect();
        at_s.sort_by(f64::total_cmp);
        let first = at_s[0];
        at_s.iter_mut().for_each(|at| *at -= first);
        let is_whole = entries.iter().all(|entry| entry.at_s.fract() == 0.0);
        let bin_s = if is_whole { 1.0 } else { 0.1 };
        // The last second is over, too, or there would be more requests than seconds for them.
        let span_s = (at_s[at_s.len() - 1] + bin_s).max(1.0);
        let count = to_f64(at_s.len() as u64);

        let has_windows = span_s >= WINDOWS_MIN * WINDOW_S;
        let window_s = if has_windows { WINDOW_S } else { span_s };
        // What is left of the last stretch is not a whole one.
        let whole = if has_windows { (span_s / window_s).floor() } else { 1.0 };
        let by_window = counts(&at_s, window_s, whole * window_s);
        let (&busiest, &most) =
            by_window.iter().max_by_key(|&(_, &requests)| requests).unwrap_or((&0, &0));
        let start = to_f64(busiest) * window_s;
        let inside: Vec<f64> =
            at_s.iter().map(|at| at - start).filter(|at| (0.0..window_s).contains(at)).collect();
        let summary = Self {
            mean_rate: count / span_s,
            rate: to_f64(most) / window_s,
            has_windows,
            dispersion: dispersion(&inside, bin_s, (window_s / bin_s).floor()),
            bin_s,
            work: work(quantiles(entries.iter().map(|entry| entry.took_us).collect())),
        };
        if summary.work.mean_us() < 1.0 {
            bail!("the request times are 0, or in another unit: see --unit, and log finer ones");
        }
        Ok(summary)
    }

    /// The profile of a service that gets this on workers that serve one connection at a time, or on
    /// event loops if that would take too many of them.
    #[must_use]
    pub fn profile(&self, name: &str) -> Profile {
        let busy = self.rate * self.work.mean_us() / 1e6;
        let needed = (busy / LOAD).ceil().max(1.0);
        let (runtime, workers) = if needed > f64::from(SLOTS_LIMIT) {
            (RuntimeKind::Tokio, Profile::default().workers)
        } else {
            (RuntimeKind::Blocking, NonZeroU32::new(whole(needed)).unwrap_or(NonZeroU32::MIN))
        };
        Profile {
            about: format!("recorded from {name}"),
            runtime,
            workers,
            rate: Some((self.rate * 100.0).round() / 100.0),
            burst: NonZeroU32::new(self.burst()).unwrap_or(NonZeroU32::MIN),
            work: self.work.clone(),
            ..Profile::default()
        }
    }

    /// Requests that come at once: bursts of b have a variance of b times the mean.
    fn burst(&self) -> u32 {
        if self.dispersion < DISPERSION_MIN {
            1
        } else {
            whole(self.dispersion.clamp(1.0, BURST_MAX).round())
        }
    }

    /// What a reader should know of each figure, and of what a log does not tell.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let rate = if self.has_windows {
            format!(
                "rate: that of the busiest {WINDOW_S} s; over the whole log {:.1} per second.",
                self.mean_rate
            )
        } else {
            "rate: the mean of the whole log, which is too short to tell busy times apart."
                .to_owned()
        };
        vec![
            rate,
            format!(
                "burst: from the variance of requests per {} s over their mean, {:.1} (1 is Poisson).",
                self.bin_s, self.dispersion
            ),
            "work: as logged, which holds what requests waited for slow clients, too: the work is this \
             or less; cpu = 0: a log does not tell."
                .to_owned(),
            format!(
                "workers: the fewest that are busy at most {LOAD} of the time. Put in how many you run; with \
                 one there is nothing to choose."
            ),
            "A log does not tell: goal, runtime, connections (short here), sticky, trust, bpf and \
             restarts. Look at each and change what is not so."
                .to_owned(),
        ]
    }
}

/// How many of `at_s` (below `end_s`) fall into each bin; empty bins are left out.
fn counts(at_s: &[f64], bin_s: f64, end_s: f64) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for &at in at_s.iter().filter(|&&at| at < end_s) {
        *counts.entry(u64::from(whole((at / bin_s).floor()))).or_default() += 1;
    }
    counts
}

/// Variance over mean of the counts in so many `bins`, without the first and the last: a log begins and ends
/// within one.
fn dispersion(at_s: &[f64], bin_s: f64, bins: f64) -> f64 {
    let edge = if bins < 4.0 { 0.0 } else { 1.0 };
    let counts: Vec<u64> = counts(at_s, bin_s, (bins - edge) * bin_s)
        .into_iter()
        .filter_map(|(bin, count)| (to_f64(bin) >= edge).then_some(count))
        .collect();
    let bins = bins - 2.0 * edge;
    let mean = to_f64(counts.iter().sum()) / bins;
    if mean == 0.0 {
        return 1.0;
    }
    let of_full: f64 = counts.iter().map(|&count| (to_f64(count) - mean).powi(2)).sum();
    let empty = (bins - to_f64(counts.len() as u64)).max(0.0);
    (of_full + empty * mean.powi(2)) / bins / mean
}

/// Percentiles in steps of five and some beyond, as far as samples lie beyond them. The last value stands for
/// the slowest: it is chosen so that their mean remains.
fn quantiles(mut took_us: Vec<f64>) -> Vec<(f64, f64)> {
    took_us.sort_by(f64::total_cmp);
    let count = took_us.len();
    let beyond = |percentile: f64| to_f64(count as u64) * (100.0 - percentile) / 100.0;
    let steps = (0..20).map(|step| f64::from(step) * 5.0);
    let points = steps.chain(TAIL).filter(|&percentile| beyond(percentile) >= 3.0);
    let rank = |percentile: f64| count - 1 - (whole(beyond(percentile)) as usize).min(count - 1);
    let mut quantiles: Vec<(f64, f64)> =
        points.map(|percentile| (percentile, took_us[rank(percentile)].round())).collect();
    let (last, at_last) = quantiles.last().copied().unwrap_or((0.0, took_us[0]));
    let slowest = &took_us[rank(last)..];
    let mean = slowest.iter().sum::<f64>() / to_f64(slowest.len() as u64);
    quantiles.push((100.0, (2.0 * mean - at_last).max(at_last).round()));
    quantiles
}

/// Work of these quantiles.
fn work(quantiles: Vec<(f64, f64)>) -> Work {
    let quantiles_us = Quantiles::new(quantiles);
    Work { mean_us: None, quantiles_us, ..Work::default() }
}

/// A small number that is not negative, without its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};
    use rand_distr::{Distribution as _, Exp};

    use super::*;

    /// `bursts` of `size` requests at random times of `seconds`, of exponential work.
    fn log(bursts: u32, size: u32, seconds: f64, mean_us: f64) -> Vec<Entry> {
        let mut random = SmallRng::seed_from_u64(1);
        let work = Exp::new(1.0 / mean_us).unwrap();
        let mut entries = Vec::new();
        for _ in 0..bursts {
            let at_s = random.random_range(0.0..seconds) + 1e9;
            entries.extend((0..size).map(|_| Entry { at_s, took_us: work.sample(&mut random) }));
        }
        entries
    }

    #[test]
    fn a_poisson_log_gives_back_what_it_was_made_of() {
        let profile = Summary::of(&log(20_000, 1, 100.0, 4_000.0)).unwrap().profile("it");
        assert!((profile.rate() / 200.0 - 1.0).abs() < 0.02, "{profile:?}");
        assert!(
            (profile.work.mean_us() / 4_000.0 - 1.0).abs() < 0.02,
            "{}",
            profile.work.mean_us()
        );
        assert_eq!((profile.burst.get(), profile.workers.get()), (1, 2));
        profile.check().unwrap();
    }

    #[test]
    fn bursts_and_busy_times_are_seen() {
        let summary = Summary::of(&log(2_000, 10, 100.0, 4_000.0)).unwrap();
        assert!((8..=12).contains(&summary.burst()), "{}", summary.burst());
        // Half an hour of 20 per second, and one minute of 100 more.
        let mut entries = log(36_000, 1, 1_800.0, 4_000.0);
        entries.extend(log(6_000, 1, 60.0, 4_000.0));
        let summary = Summary::of(&entries).unwrap();
        assert!((summary.rate / 120.0 - 1.0).abs() < 0.05, "{summary:?}");
        assert!((summary.mean_rate / 23.3 - 1.0).abs() < 0.05, "{summary:?}");
        assert_eq!(summary.burst(), 1, "{summary:?}");
        assert!(summary.notes()[0].contains("busiest 60 s"));
    }

    #[test]
    fn a_log_that_begins_and_ends_within_a_second_shows_no_burst_for_that() {
        for (seconds, count) in [(15.3, 3_060), (60.07, 12_014)] {
            let mut entries = log(count, 1, seconds, 4_000.0);
            // It began 0.6 s into the first second.
            entries.iter_mut().for_each(|entry| entry.at_s = (entry.at_s + 0.6).floor());
            let summary = Summary::of(&entries).unwrap();
            assert_eq!(summary.burst(), 1, "{summary:?}");
        }
    }

    #[test]
    fn more_work_than_there_can_be_workers_goes_to_event_loops() {
        let profile = Summary::of(&log(10_000, 1, 10.0, 400_000.0)).unwrap().profile("it");
        assert_eq!(profile.runtime, RuntimeKind::Tokio);
        profile.check().unwrap();
    }

    #[test]
    fn times_without_work_are_refused() {
        let error = Summary::of(&log(200, 1, 10.0, 0.01)).unwrap_err().to_string();
        assert!(error.contains("--unit"), "{error}");
    }

    #[test]
    fn the_slowest_keep_their_mean() {
        let mut took = vec![10.0; 970];
        took.extend(vec![1_000.0; 20]);
        took.extend(vec![100_000.0; 10]);
        let quantiles = quantiles(took);
        assert_eq!(quantiles[0], (0.0, 10.0));
        let (last, at_last) = quantiles[quantiles.len() - 2];
        assert!(last >= 99.0, "{quantiles:?}");
        let end = quantiles[quantiles.len() - 1];
        assert!(end.0 == 100.0 && end.1 >= at_last, "{quantiles:?}");
        assert!((work(quantiles).mean_us() / 1_029.7 - 1.0).abs() < 0.35);
    }
}
