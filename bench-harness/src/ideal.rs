//! The ideal: one queue, first come first served, k servers that never sleep (M/G/k-FCFS).
//!
//! Simulated on the very arrivals a server got and the work it measured, so that a latency can be
//! divided by what no way of bringing connections to workers could have beaten without preempting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What any server spends on a connection beside its work, in microseconds.
///
/// 30 µs: between the 24 and 38 µs measured for a bare accept, read, write and close on loopback.
/// One figure for all contestants, so that a costly one is not forgiven its own cost.
pub const OVERHEAD_US: u64 = 30;

/// Latencies in microseconds of requests that arrive at `arrivals` (sorted) and each keep one of
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;
    use rand_distr::{Distribution as _, Exp};

    use super::*;

    /// Mean wait of M/M/k in units of the mean service time, by Erlang's C formula.
    fn mean_wait(servers: u32, load: f64) -> f64 {
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

    fn check(servers: u32, load: f64) {
        const SERVICE: f64 = 1_000_000.0;
        const COUNT: u32 = 1_000_000;
        let mut random = SmallRng::seed_from_u64(7);
        let gap = Exp::new(f64::from(servers) * load / SERVICE).unwrap();
        let work = Exp::new(1.0 / SERVICE).unwrap();
        let mut now = 0.0;
        let arrivals: Vec<(u64, u64)> = (0..COUNT)
            .map(|_| {
                now += gap.sample(&mut random);
                (whole(now), whole(work.sample(&mut random)))
            })
            .collect();
        let total: u64 = latencies(&arrivals, servers).iter().sum();
        let total_work: u64 = arrivals.iter().map(|(_, work)| work).sum();
        let wait = crate::measure::latency::to_f64(total - total_work) / f64::from(COUNT) / SERVICE;
        let expected = mean_wait(servers, load);
        assert!((wait / expected - 1.0).abs() < 0.02, "k={servers} ρ={load}: {wait} {expected}");
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "test values")]
    fn whole(value: f64) -> u64 {
        value.round() as u64
    }

    #[test]
    fn erlang_c_agrees_with_tables() {
        assert!((mean_wait(1, 0.5) - 1.0).abs() < 1e-9);
        assert!((mean_wait(2, 0.5) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn long_runs_agree_with_the_closed_form() {
        check(1, 0.5);
        check(4, 0.7);
        check(8, 0.7);
    }

    #[test]
    fn a_small_case_by_hand() {
        assert_eq!(latencies(&[(0, 10), (1, 10), (2, 5), (3, 1)], 2), [10, 10, 13, 9]);
    }
}
