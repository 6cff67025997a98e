//! The other ideal, for work that burns CPU: processor sharing (M/G/c-PS).
//!
//! Where every request has a worker of its own and the workers outnumber the cores, it is the kernel's
//! scheduler that decides who goes on, a slice each in turn. In the limit all that are there share
//! the cores evenly: short work then never waits behind long work, which no queue that is served
//! first come, first served can offer. The mean does not depend on how work is distributed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::to_u64;
use crate::measure::latency::to_f64;

/// Latencies, in the unit of `arrivals` and in their order, of requests that arrive at `arrivals`
/// (sorted) and share `cores` cores (at least one) evenly, none having more than one.
///
/// All that are there have received the same since any moment at which both were there; so each
/// leaves when what *everybody* has received has grown by its own work, and a heap of those marks is
/// all there is to it.
#[must_use]
pub fn latencies(arrivals: &[(u64, u64)], cores: u32) -> Vec<u64> {
    let cores = f64::from(cores.max(1));
    let mut latencies = vec![0; arrivals.len()];
    // What each that is there waits for, and who it is.
    let mut there: BinaryHeap<Reverse<(Mark, usize)>> = BinaryHeap::new();
    let (mut now, mut received) = (0.0, 0.0);
    for (index, &(at, service)) in arrivals.iter().enumerate() {
        let at = to_f64(at);
        while let Some(&Reverse((Mark(mark), leaver))) = there.peek() {
            let rate = (cores / to_f64(there.len() as u64)).min(1.0);
            let end = now + (mark - received) / rate;
            if end > at {
                received += (at - now) * rate;
                break;
            }
            there.pop();
            (now, received) = (end, mark);
            latencies[leaver] = since(arrivals[leaver].0, end);
        }
        now = at;
        there.push(Reverse((Mark(received + to_f64(service)), index)));
    }
    while let Some(&Reverse((Mark(mark), leaver))) = there.peek() {
        let rate = (cores / to_f64(there.len() as u64)).min(1.0);
        now += (mark - received) / rate;
        received = mark;
        there.pop();
        latencies[leaver] = since(arrivals[leaver].0, now);
    }
    latencies
}

fn since(start: u64, end: f64) -> u64 {
    to_u64(end).saturating_sub(start)
}

/// An amount of work that is ordered: never NaN, being a sum of counts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark(f64);

impl Eq for Mark {}

impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mark {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SERVICE, mean, mean_wait, poisson};
    use super::*;

    #[test]
    fn a_small_case_by_hand() {
        // One core: alone until 4, then half each; the short one ends at 4 + 2 × 3.
        assert_eq!(latencies(&[(0, 10), (4, 3)], 1), [13, 6]);
        // Two cores and three requests: two thirds each.
        assert_eq!(latencies(&[(0, 4), (0, 4), (0, 4)], 2), [6, 6, 6]);
        // Never more than a core.
        assert_eq!(latencies(&[(0, 10)], 4), [10]);
        assert_eq!(latencies(&[(0, 10), (100, 1), (100, 1)], 1), [10, 2, 2]);
        assert_eq!(latencies(&[], 1), Vec::<u64>::new());
    }

    /// Mean latency over mean work.
    fn stay(servers: u32, load: f64, work: impl Fn(f64) -> f64 + Copy) -> f64 {
        mean(servers, load, work, |arrivals| {
            latencies(arrivals, servers).into_iter().map(to_f64).sum::<f64>()
        })
    }

    #[test]
    fn the_mean_agrees_with_the_closed_form_and_does_not_depend_on_the_work() {
        let exponential = poisson;
        // One in ten is ten times the others.
        let bimodal = |part: f64| SERVICE / 1.9 * if part < 0.1 { 10.0 } else { 1.0 };
        for (load, expected) in [(0.5, 2.0), (0.7, 1.0 / 0.3)] {
            for (name, seen) in
                [("exp", stay(1, load, exponential)), ("bimodal", stay(1, load, bimodal))]
            {
                assert!((seen / expected - 1.0).abs() < 0.01, "{name} ρ={load}: {seen}");
            }
        }
        // With exponential work as many are there as in one queue, and so they stay as long.
        let (seen, expected) = (stay(2, 0.7, exponential), 1.0 + mean_wait(2, 0.7));
        assert!((seen / expected - 1.0).abs() < 0.01, "{seen} {expected}");
    }

    #[test]
    fn short_work_is_slowed_as_much_as_long_work() {
        let arrivals = super::super::tests::trace(1, 0.5, 1, false, |part| {
            SERVICE / 1.9 * if part < 0.1 { 10.0 } else { 1.0 }
        });
        let latencies = latencies(&arrivals, 1);
        let slowdown = |long: bool| {
            let of: Vec<f64> = arrivals
                .iter()
                .zip(&latencies)
                .filter(|((_, work), _)| (to_f64(*work) > SERVICE) == long)
                .map(|((_, work), &latency)| to_f64(latency) / to_f64(*work))
                .collect();
            of.iter().sum::<f64>() / to_f64(of.len() as u64)
        };
        let (short, long) = (slowdown(false), slowdown(true));
        assert!((short - 2.0).abs() < 0.08 && (long - 2.0).abs() < 0.08, "{short} {long}");
    }
}
