//! The ideal: one queue, first come first served, k servers that never sleep (M/G/k-FCFS).
//!
//! Simulated on the very arrivals a server got and the work it measured, so that a latency can be
//! divided by what no way of bringing connections to workers could have beaten without preempting.
//!
//! **What is charged beside the work.** A worker that has done its work still writes the answer and
//! closes, and can serve nobody meanwhile. At load 0.9 these 2–3 % alone move the percentiles by a
//! twentieth to a fifth, so an ideal that forgets them judges the machine and not the strategy. They
//! are measured: each one-at-a-time worker tells with an answer how long it took, after the service
//! before, until that connection was closed; the ideal is charged with their mean ([`charge`]).
//!
//! **Whose mean?** The baseline's, in the same round. Charged with its own, a contestant that does more
//! after each service (counts, wakes somebody, looks at a page) would be forgiven exactly that; charged with a
//! constant, the machine's mood of the day would be held against everyone. The bare loop of the
//! baseline is what any worker needs, on this machine and at that time, and nothing more. Where no
//! baseline runs along it is the least that any contestant of the round needed, for the same
//! reason. What comes *before* a service (wake-up, accept, reading the request) is charged to nobody:
//! an idle worker is free to begin, and how fast a strategy makes it begin is what is measured.

pub mod sharing;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What any server spends on a connection beside its work, in microseconds, where nobody measured it:
/// workers on tokio serve many at a time and cannot say.
///
/// 30 µs: between the 24 and 38 µs measured for a bare accept, read, write and close on loopback.
pub const OVERHEAD_US: f64 = 30.0;

/// What the ideal is charged per request beside its work, in microseconds: the baseline's mean if it
/// ran along, else the least of those that took part.
#[must_use]
pub fn charge(baseline: Option<f64>, others: impl IntoIterator<Item = f64>) -> f64 {
    baseline.or_else(|| others.into_iter().min_by(f64::total_cmp)).unwrap_or(OVERHEAD_US)
}

/// Latencies, in the unit of `arrivals`, of requests that arrive at `arrivals` (sorted) and each keep one of
/// `servers` (at least one) busy for its service time.
#[must_use]
pub fn latencies(arrivals: &[(u64, u64)], servers: u32) -> Vec<u64> {
    let mut free: BinaryHeap<Reverse<u64>> = (0..servers.max(1)).map(|_| Reverse(0)).collect();
    arrivals
        .iter()
        .map(|&(at, service)| {
            let earliest = free.pop().map_or(0, |Reverse(at)| at);
            let end = at.max(earliest) + service;
            free.push(Reverse(end));
            end - at
        })
        .collect()
}

/// The nearest whole number of what is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and not below 0"
)]
pub(crate) fn to_u64(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::measure::latency::{percentile, to_f64};

    /// Mean work of the traces below.
    pub(super) const SERVICE: f64 = 1_000_000.0;

    /// Their length.
    const COUNT: u32 = 250_000;

    /// Mean wait of M/M/k in units of the mean service time, by Erlang's C formula.
    pub(super) fn mean_wait(servers: u32, load: f64) -> f64 {
        let offered = f64::from(servers) * load;
        let mut term = 1.0;
        let mut sum = 0.0;
        for number in 0..servers {
            sum += term;
            term *= offered / f64::from(number + 1);
        }
        let waiting = term / (1.0 - load);
        waiting / (sum + waiting) / (f64::from(servers) * (1.0 - load))
    }

    /// Exponential work of what is evenly distributed between 0 and 1.
    pub(super) fn poisson(part: f64) -> f64 {
        -SERVICE * part.ln()
    }

    /// A trace of Poisson arrivals; `mirrored` turns every draw over, so that what was short is long.
    pub(super) fn trace(
        servers: u32,
        load: f64,
        seed: u64,
        mirrored: bool,
        work: impl Fn(f64) -> f64,
    ) -> Vec<(u64, u64)> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut part = || {
            let part: f64 = random.random_range(f64::EPSILON..1.0);
            if mirrored { 1.0 - part } else { part }
        };
        let mut now = 0.0;
        (0..COUNT)
            .map(|_| {
                now += poisson(part()) / (f64::from(servers) * load);
                (to_u64(now), to_u64(work(part())))
            })
            .collect()
    }

    /// The mean of `sum_of`, per request and in units of the mean work. Half of the traces are
    /// mirror images of the others: what chance adds to one it takes from the other.
    pub(super) fn mean(
        servers: u32,
        load: f64,
        work: impl Fn(f64) -> f64 + Copy,
        mut sum_of: impl FnMut(&[(u64, u64)]) -> f64,
    ) -> f64 {
        const SEEDS: u32 = 4;
        let each = (0..SEEDS).flat_map(|seed| [(seed, false), (seed, true)]);
        let sums = each
            .map(|(seed, mirrored)| sum_of(&trace(servers, load, u64::from(seed), mirrored, work)));
        sums.sum::<f64>() / f64::from(COUNT * SEEDS * 2) / SERVICE
    }

    /// Mean and 99th percentile of the waits.
    fn check(servers: u32, load: f64) {
        let mut waits = Vec::new();
        let wait = mean(servers, load, poisson, |arrivals| {
            let latencies = latencies(arrivals, servers);
            let each = latencies.iter().zip(arrivals).map(|(latency, (_, work))| latency - work);
            let before = waits.len();
            waits.extend(each);
            to_f64(waits[before..].iter().sum())
        });
        let expected = mean_wait(servers, load);
        assert!((wait / expected - 1.0).abs() < 0.01, "k={servers} ρ={load}: {wait} {expected}");

        // Whoever waits at all waits exponentially.
        let mean_of_who_waits = 1.0 / (f64::from(servers) * (1.0 - load));
        let who_waits = expected / mean_of_who_waits;
        let expected = mean_of_who_waits * (who_waits / 0.01).ln();
        let p99 = percentile(&mut waits, 0.99).unwrap() / SERVICE;
        assert!((p99 / expected - 1.0).abs() < 0.01, "k={servers} ρ={load}: p99 {p99} {expected}");
    }

    #[test]
    fn erlang_c_agrees_with_tables() {
        assert!((mean_wait(1, 0.5) - 1.0).abs() < 1e-9);
        assert!((mean_wait(2, 0.5) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn long_runs_agree_with_the_closed_form_within_one_per_cent() {
        check(1, 0.5);
        check(4, 0.7);
        check(8, 0.7);
    }

    #[test]
    fn nobody_is_forgiven_his_own_cost() {
        assert_eq!(charge(Some(60.0), [55.0, 90.0]).to_bits(), 60.0_f64.to_bits());
        assert_eq!(charge(None, [75.0, 70.0, 90.0]).to_bits(), 70.0_f64.to_bits());
        assert_eq!(charge(None, []).to_bits(), OVERHEAD_US.to_bits());
    }

    #[test]
    fn a_small_case_by_hand() {
        assert_eq!(latencies(&[(0, 10), (1, 10), (2, 5), (3, 1)], 2), [10, 10, 13, 9]);
    }
}
