//! Percentiles of a block over those of the ideal on the same trace.

use crate::load::protocol::{Arrival, Record};
use crate::measure::figures::Ideals;
use crate::measure::latency::{beyond, percentile};
use crate::report::Tail;
use crate::scenario::spec::Figure;
use crate::trace::short_us;

/// Adds what a block gave for `figure`; its first `warm` requests are not measured. Work that burns CPU
/// is set against cores that are shared, other work against a central queue.
pub(super) fn add(
    tails: &mut Vec<Tail>,
    figure: &Figure,
    arrivals: &[Arrival],
    records: &[Record],
    ideals: &Ideals,
    warm: usize,
) {
    let ideal_ns = ideals.sharing_ns.as_ref().unwrap_or(&ideals.queue_ns);
    let short = short_us(arrivals);
    let counts = |arrival: &Arrival| !figure.short_only || arrival.service_us <= short;
    let measured = arrivals.iter().zip(records).zip(ideal_ns).skip(warm);
    let (mut own, mut best): (Vec<u64>, Vec<u64>) = measured
        .filter(|((arrival, _), _)| counts(arrival))
        .map(|((_, record), &ideal)| (record.waited_ns(), ideal))
        .unzip();
    let ratio = percentile(&mut own, figure.quantile)
        .zip(percentile(&mut best, figure.quantile))
        .map(|(own, best)| own / best);
    let index = tails.iter().position(|tail| tail.figure == figure.name);
    let index = index.unwrap_or_else(|| {
        tails.push(Tail::new(&figure.name, ideals.sharing_ns.is_some()));
        tails.len() - 1
    });
    tails[index].add(ratio, beyond(own.len() as u64, figure.quantile));
}
