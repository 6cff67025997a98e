//! Percentiles of a block over those of the ideal on the same trace.

use crate::load::protocol::{Arrival, Record};
use crate::measure::latency::{BEYOND_MIN, beyond, percentile, to_f64};
use crate::report::{Caution, Row, Tail};
use crate::scenario::spec::Figure;
use crate::trace::short_us;

/// Adds what a block gave for `figure`; its first `warm` requests are not measured.
pub(super) fn add(
    tails: &mut Vec<Tail>,
    figure: &Figure,
    arrivals: &[Arrival],
    records: &[Record],
    ideal_ns: &[u64],
    warm: usize,
) {
    let short = short_us(arrivals);
    let counts = |arrival: &Arrival| !figure.short_only || arrival.service_us <= short;
    let measured = arrivals.iter().zip(records).zip(ideal_ns).skip(warm);
    let (mut own, mut best): (Vec<u64>, Vec<u64>) = measured
        .filter(|((arrival, _), _)| counts(arrival))
        .map(|((_, record), &ideal)| (record.latency_us * 1_000, ideal))
        .unzip();
    let ratio = percentile(&mut own, figure.quantile)
        .zip(percentile(&mut best, figure.quantile))
        .map(|(own, best)| own / best);
    let index = tails.iter().position(|tail| tail.figure == figure.name);
    let index = index.unwrap_or_else(|| {
        tails.push(Tail::new(&figure.name));
        tails.len() - 1
    });
    tails[index].add(ratio, beyond(own.len() as u64, figure.quantile));
}

/// What makes figures absent.
pub(super) fn caution(rows: &[Row]) -> Option<Caution> {
    let few = |tail: &&Tail| to_f64(tail.beyond) < BEYOND_MIN;
    let few: Vec<&str> = rows.first()?.tails.iter().filter(few).map(|tail| &*tail.figure).collect();
    (!few.is_empty()).then(|| {
        Caution::new(
            format!("Fewer than {BEYOND_MIN} samples lie beyond: {}.", few.join(", ")),
            "Such figures would be anecdotes and are left out.",
            "Ask for longer blocks (--seconds).",
        )
    })
}
