//! Ratios to the baseline, taken within a round, with a bootstrap interval.
//!
//! Two servers measured at different times differ by tens of per cent for reasons that are not
//! theirs; two slices of one round share the machine's mood. So ratios are taken within rounds,
//! their median is the figure, and 95 % of the medians of resampled rounds are its interval.

use std::ops::Range;

use rand::Rng;
use rand::rngs::SmallRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::latency::{enough, to_f64};

/// Fewer rounds than this have no interval worth the name.
pub const ROUNDS_MIN: u32 = 5;

/// Samples beyond a percentile must come from so many chunks: one stall can hold up 64 connections
/// at once, and 64 samples of one stall are one observation.
const TAIL_CHUNKS_MIN: usize = 8;

/// Resampled medians behind an interval of paired ratios.
const RESAMPLES: usize = 1_000;

/// Samples touched in all for the interval of a percentile: bounds its time to about a second.
const PERCENTILE_WORK: usize = 10_000_000;

/// A ratio to the baseline: below 1 is less than the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// The figure.
    pub value: f64,
    /// Its 95 % bootstrap interval; absent with fewer than five rounds.
    pub interval: Option<Interval>,
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// 2.5 % lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

/// Differences smaller than this are not believed, however narrow the interval.
///
/// 3 %: two copies of one binary that are up at the same time differ by 1–3 % for as long as they
/// live (where their pages happen to lie), which no number of rounds averages out.
pub const RESOLUTION: f64 = 0.03;

/// What an interval says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wholly below 1 − [`RESOLUTION`].
    Less,
    /// Wholly above 1 + [`RESOLUTION`].
    More,
    /// It reaches 1 ± [`RESOLUTION`]: no difference was seen.
    NoDifference,
    /// Too few rounds to say.
    Unknown,
}

impl Ratio {
    /// What its interval says.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.interval {
            None => Verdict::Unknown,
            Some(Interval { high, .. }) if high < 1.0 - RESOLUTION => Verdict::Less,
            Some(Interval { low, .. }) if low > 1.0 + RESOLUTION => Verdict::More,
            Some(_) => Verdict::NoDifference,
        }
    }
}

/// The median of paired ratios `own[i] / baseline[i]`; `None` without a usable pair.
#[must_use]
pub fn paired(own: &[f64], baseline: &[f64], random: &mut SmallRng) -> Option<Ratio> {
    let ratios: Vec<f64> = own
        .iter()
        .zip(baseline)
        .map(|(own, baseline)| own / baseline)
        .filter(|ratio| ratio.is_finite())
        .collect();
    let value = median(&mut ratios.clone())?;
    let interval = (ratios.len() >= ROUNDS_MIN as usize).then(|| {
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let mut resample: Vec<f64> =
                    ratios.iter().map(|_| ratios[random.random_range(0..ratios.len())]).collect();
                median(&mut resample)
            })
            .collect();
        middle_95(&mut medians)
    });
    Some(Ratio { value, interval })
}

/// The median of paired ratios that come in groups, each with a bias of its own that no number of its
/// ratios averages out: the interval comes from resampling whole groups.
#[must_use]
pub fn grouped(groups: &[Vec<f64>], random: &mut SmallRng) -> Option<Ratio> {
    let groups: Vec<Vec<f64>> = groups
        .iter()
        .map(|group| group.iter().copied().filter(|ratio| ratio.is_finite()).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect();
    let value = median(&mut groups.concat())?;
    let interval = (groups.len() >= ROUNDS_MIN as usize).then(|| {
        let mut resample = || -> Option<f64> {
            let drawn = groups.iter().flat_map(|_| &groups[random.random_range(0..groups.len())]);
            median(&mut drawn.copied().collect::<Vec<_>>())
        };
        let mut medians: Vec<f64> = (0..RESAMPLES).filter_map(|_| resample()).collect();
        middle_95(&mut medians)
    });
    Some(Ratio { value, interval })
}

/// The ratio of two pooled percentiles, whose interval comes from resampling *chunks* (slices of
/// a round, stretches of a trace) jointly: chunk `i` of both was measured under the same
/// conditions. `None` where too few samples lie beyond the percentile.
#[must_use]
pub fn percentile(
    own: &[Vec<u64>],
    baseline: &[Vec<u64>],
    quantile: f64,
    random: &mut SmallRng,
) -> Option<Ratio> {
    let chunks: Vec<Range<usize>> =
        (0..own.len().min(baseline.len())).map(|at| at..at + 1).collect();
    by_stretch(own, baseline, &chunks, quantile, random)
}

/// As [`percentile`], of chunks that come in `blocks`, so many in each, measured on a server of its own: with
/// [`ROUNDS_MIN`] blocks and more, whole blocks are resampled, as what differs from one start to the next is the
/// same for all chunks of one.
#[must_use]
pub fn percentile_of_blocks(
    own: &[Vec<u64>],
    baseline: &[Vec<u64>],
    blocks: &[usize],
    quantile: f64,
    random: &mut SmallRng,
) -> Option<Ratio> {
    if blocks.len() < ROUNDS_MIN as usize {
        return percentile(own, baseline, quantile, random);
    }
    let mut from = 0;
    let stretches: Vec<Range<usize>> = blocks
        .iter()
        .map(|&chunks| {
            from += chunks;
            from - chunks..from
        })
        .collect();
    by_stretch(own, baseline, &stretches, quantile, random)
}

/// `stretches` of chunks are resampled whole.
fn by_stretch(
    own: &[Vec<u64>],
    baseline: &[Vec<u64>],
    stretches: &[Range<usize>],
    quantile: f64,
    random: &mut SmallRng,
) -> Option<Ratio> {
    let chunks = own.len().min(baseline.len());
    let in_order: Vec<usize> = (0..chunks).collect();
    let mut pool = Vec::new();
    let mut of = |of: &[Vec<u64>], chosen: &[usize]| {
        pool.clear();
        pool.extend(chosen.iter().flat_map(|&chunk| &of[chunk]).copied());
        enough(pool.len() as u64, quantile).then(|| select(&mut pool, quantile))
    };
    let (at_own, at_baseline) = (of(own, &in_order)?, of(baseline, &in_order)?);
    let value = at_own / at_baseline;
    if !value.is_finite() || !widespread(own, at_own) || !widespread(baseline, at_baseline) {
        return None;
    }
    let samples: usize = own.iter().chain(baseline).map(Vec::len).sum();
    let resamples = (PERCENTILE_WORK / samples.max(1)).clamp(100, 500);
    let interval = (stretches.len() >= ROUNDS_MIN as usize).then(|| {
        let mut ratios: Vec<f64> = (0..resamples)
            .filter_map(|_| {
                let chosen: Vec<usize> = stretches
                    .iter()
                    .flat_map(|_| stretches[random.random_range(0..stretches.len())].clone())
                    .collect();
                Some(of(own, &chosen)? / of(baseline, &chosen)?)
            })
            .filter(|ratio| ratio.is_finite())
            .collect();
        (!ratios.is_empty()).then(|| middle_95(&mut ratios))
    });
    Some(Ratio { value, interval: interval.flatten() })
}

/// Whether values from `value` on occur in enough chunks.
fn widespread(chunks: &[Vec<u64>], value: f64) -> bool {
    let beyond = |chunk: &&Vec<u64>| chunk.iter().any(|&sample| to_f64(sample) >= value);
    chunks.iter().filter(beyond).count() >= TAIL_CHUNKS_MIN
}

/// The value below which the fraction `quantile` of `samples` (not empty) lies.
pub(super) fn select(samples: &mut [u64], quantile: f64) -> f64 {
    let index = index_of(samples.len(), quantile);
    to_f64(*samples.select_nth_unstable(index).1)
}

/// The median; `None` of nothing.
#[must_use]
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        Some(values[middle])
    } else {
        Some(f64::midpoint(values[middle - 1], values[middle]))
    }
}

/// The interval that leaves 2.5 % of `values` (not empty) on either side.
fn middle_95(values: &mut [f64]) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval {
        low: values[index_of(values.len(), 0.025)],
        high: values[index_of(values.len(), 0.975)],
    }
}

/// The index of `quantile` among `length` (> 0) sorted values: the nearest rank.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a fraction of a small count is a small count"
)]
fn index_of(length: usize, quantile: f64) -> usize {
    let rank = (length as f64 * quantile).ceil() as usize;
    rank.clamp(1, length) - 1
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_shared_mood_cancels_in_paired_ratios() {
        let mut random = SmallRng::seed_from_u64(1);
        let mood: Vec<f64> = (0..40).map(|_| random.random_range(10.0..40.0)).collect();
        let own: Vec<f64> = mood.iter().map(|m| m * random.random_range(1.08..1.12)).collect();
        let ratio = paired(&own, &mood, &mut random).unwrap();
        assert!((ratio.value - 1.1).abs() < 0.01, "{ratio:?}");
        assert_eq!(ratio.verdict(), Verdict::More);
    }

    #[test]
    fn equals_show_no_difference_and_few_rounds_say_nothing() {
        let mut random = SmallRng::seed_from_u64(2);
        let noise = |random: &mut SmallRng| -> Vec<f64> {
            (0..60).map(|_| random.random_range(0.9..1.1)).collect()
        };
        let (own, baseline) = (noise(&mut random), noise(&mut random));
        let ratio = paired(&own, &baseline, &mut random).unwrap();
        assert_eq!(ratio.verdict(), Verdict::NoDifference, "{ratio:?}");
        let ratio = paired(&own[..4], &baseline[..4], &mut random).unwrap();
        assert_eq!(ratio.verdict(), Verdict::Unknown);
        assert_eq!(paired(&[], &[], &mut random), None);
        assert_eq!(paired(&[1.0], &[0.0], &mut random), None);
    }

    /// Ratios around 1 ± 2 % by group: ratios of one group agree better than groups do.
    #[test]
    fn what_a_group_has_in_common_widens_the_interval() {
        let mut random = SmallRng::seed_from_u64(5);
        let groups: Vec<Vec<f64>> = (0..12)
            .map(|group| {
                let bias = if group % 2 == 0 { 0.98 } else { 1.02 };
                (0..20).map(|_| bias * random.random_range(0.999..1.001)).collect()
            })
            .collect();
        let width = |ratio: Option<Ratio>| {
            let Interval { low, high } = ratio.unwrap().interval.unwrap();
            high - low
        };
        let ratio = grouped(&groups, &mut random);
        assert!((ratio.unwrap().value - 1.0).abs() <= 0.021, "{ratio:?}");
        assert!(width(ratio) > 0.02, "{ratio:?}");
        let even = vec![vec![1.1, 1.101, 1.099]; 12];
        let ratio = grouped(&even, &mut random);
        assert!(width(ratio) < 0.003, "{ratio:?}");
        assert_eq!(ratio.unwrap().verdict(), Verdict::More);
        assert_eq!(grouped(&even[..4], &mut random).unwrap().interval, None);
        assert_eq!(grouped(&[vec![f64::NAN], vec![]], &mut random), None);
    }

    #[test]
    fn percentiles_are_compared_with_their_spread() {
        let mut random = SmallRng::seed_from_u64(3);
        let mut draw = |top: u64| -> Vec<Vec<u64>> {
            (0..50).map(|_| (0..100).map(|_| random.random_range(0..top)).collect()).collect()
        };
        let (own, baseline) = (draw(2_000), draw(1_000));
        let ratio = percentile(&own, &baseline, 0.99, &mut random).unwrap();
        assert!((ratio.value - 2.0).abs() < 0.05, "{ratio:?}");
        assert_eq!(ratio.verdict(), Verdict::More);
        assert_eq!(percentile(&own, &baseline, 0.999, &mut random), None);
    }

    /// Latencies of one server are alike, and those of the next are 20 % more or less.
    #[test]
    fn what_a_block_has_in_common_widens_the_interval_of_a_percentile() {
        let mut random = SmallRng::seed_from_u64(6);
        let mut draw = |of: &dyn Fn(u64) -> u64| -> Vec<Vec<u64>> {
            let block = |chunk: u64| chunk / 20;
            (0..160)
                .map(|chunk| (0..100).map(|_| random.random_range(0..of(block(chunk)))).collect())
                .collect()
        };
        let own = draw(&|block| if block % 2 == 0 { 80_000 } else { 120_000 });
        let baseline = draw(&|_| 100_000);
        let width = |blocks: &[usize]| {
            let mut random = SmallRng::seed_from_u64(7);
            let ratio = percentile_of_blocks(&own, &baseline, blocks, 0.5, &mut random).unwrap();
            let Interval { low, high } = ratio.interval.unwrap();
            high - low
        };
        let (alone, together) = (width(&[40; 4]), width(&[20; 8]));
        assert!(together > 2.0 * alone, "{together} against {alone}");
    }

    #[test]
    fn one_stall_is_one_observation() {
        let mut random = SmallRng::seed_from_u64(4);
        let calm = vec![vec![10; 100]; 50];
        let mut stalled = calm.clone();
        stalled[7] = vec![900; 100];
        assert_eq!(percentile(&stalled, &calm, 0.99, &mut random), None);
    }
}
