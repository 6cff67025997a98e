//! Who is to answer for a connection that failed while workers were killed?
//!
//! A killed worker takes with it what its board says it had in service, and at most one connection
//! per lane that it had taken and not yet counted. Its sockets are closed between the kill and the
//! reaping. The client sees an end when it next looks: so of each it tells when it saw it, and since when
//! it may have been there. Every failure must find a kill whose time meets its own and that still has room
//! in its account. That is a matching of intervals. A failure that was seen later also begins no earlier, so
//! to take them in that order, and to charge the kill whose time runs out first, is the best there is.
//!
//! What it cannot see: whether the connection that failed *was* the one in service, since a client
//! that got no answer does not know its worker; and, of two kills whose times overlap, which one it
//! was. So a failure can hide behind a neighbour's account, but only while both are open and only
//! where what that neighbour had in service did not fail.

use std::ops::RangeInclusive;

use crate::killer::Kill;

/// How long after the reaping an end may reach the client: 5 ms, in which the kernel had other things to
/// do on every core.
pub const MARGIN_US: u64 = 5_000;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Failures beyond what boards said, each explained by a kill: *taken, uncounted*.
    pub uncounted: u64,
    /// Failures that no kill explains.
    pub unexplained: u64,
    /// The most that one kill has to answer for.
    pub most: u64,
}

/// Settles the failures, each of which came at some time of its span in `ends` (microseconds), among
/// `kills`, each of which may have cost `lanes` more than its board says and answers for what ends until
/// `margin_us` after its reaping.
#[must_use]
pub fn settle(
    kills: &[Kill],
    mut ends: Vec<RangeInclusive<u64>>,
    margin_us: u64,
    lanes: u64,
) -> Settled {
    ends.sort_unstable_by_key(|end| (*end.end(), *end.start()));
    let by_boards = charge(kills, &ends, margin_us, 0);
    let at_most = charge(kills, &ends, margin_us, lanes);
    let failed = ends.len() as u64;
    let explained: u64 = at_most.iter().sum();
    Settled {
        uncounted: explained.saturating_sub(by_boards.iter().sum()),
        unexplained: failed - explained,
        most: at_most.iter().copied().max().unwrap_or_default(),
    }
}

/// How many failures each kill answers for, if it may answer for `extra` more than it had in service.
fn charge(kills: &[Kill], ends: &[RangeInclusive<u64>], margin_us: u64, extra: u64) -> Vec<u64> {
    let mut charged = vec![0; kills.len()];
    for end in ends {
        let open =
            |kill: &Kill| kill.at_us <= *end.end() && *end.start() <= kill.reaped_us + margin_us;
        let free = (0..kills.len())
            .filter(|&k| open(&kills[k]) && charged[k] < kills[k].in_service + extra)
            .min_by_key(|&k| kills[k].reaped_us);
        if let Some(kill) = free {
            charged[kill] += 1;
        }
    }
    charged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends that were seen at once.
    fn at_once(ends: &[u64]) -> Vec<RangeInclusive<u64>> {
        ends.iter().map(|&end| end..=end).collect()
    }

    /// Kills by their time and what was in service; each is reaped 4 µs later.
    fn check(kills: &[(u64, u64)], ends: &[u64], uncounted: u64, unexplained: u64, most: u64) {
        let kill = |&(at_us, in_service)| Kill {
            at_us,
            reaped_us: at_us + 4,
            in_service,
            ..Kill::default()
        };
        let kills: Vec<Kill> = kills.iter().map(kill).collect();
        let settled = settle(&kills, at_once(ends), 6, 1);
        assert_eq!(settled, Settled { uncounted, unexplained, most }, "{kills:?} {ends:?}");
    }

    #[test]
    fn what_was_in_service_explains_its_failures_and_one_more_each() {
        check(&[(100, 1), (200, 1)], &[101, 202], 0, 0, 1);
        check(&[(100, 0), (200, 1)], &[101, 201, 202], 2, 0, 2);
        check(&[(100, 0)], &[], 0, 0, 0);
    }

    #[test]
    fn a_kill_that_cost_too_much_is_seen_though_others_cost_nothing() {
        // In sum there is room for six: each of the others had one in service that was answered.
        check(&[(100, 1), (200, 1), (300, 1)], &[201, 202, 203], 1, 1, 2);
    }

    #[test]
    fn a_failure_without_a_kill_before_it_is_unexplained() {
        check(&[(100, 1)], &[99], 0, 1, 0);
        check(&[(100, 1)], &[111], 0, 1, 0);
        check(&[], &[5], 0, 1, 0);
    }

    #[test]
    fn one_that_died_slowly_answers_longer() {
        let slow = Kill { at_us: 100, reaped_us: 150, in_service: 1, queued: 0 };
        let quick = Kill { at_us: 120, reaped_us: 121, in_service: 0, queued: 0 };
        let settled = settle(&[slow, quick], at_once(&[122, 155]), 6, 1);
        assert_eq!(settled, Settled { uncounted: 1, unexplained: 0, most: 1 });
    }

    #[test]
    fn of_two_close_kills_the_one_whose_time_runs_out_first_answers_first() {
        check(&[(100, 1), (108, 1)], &[109, 118], 0, 0, 1);
        check(&[(100, 1), (105, 0)], &[106, 107, 108], 2, 0, 2);
    }

    #[test]
    fn an_end_that_was_seen_late_came_of_a_kill_before() {
        let kill = Kill { at_us: 100, reaped_us: 104, in_service: 1, queued: 0 };
        for (since, seen, unexplained) in
            [(150, 200, 1), (111, 200, 1), (110, 200, 0), (90, 200, 0), (90, 99, 1)]
        {
            let settled = settle(&[kill], vec![since..=seen], 6, 0);
            assert_eq!(settled.unexplained, unexplained, "{since}..={seen}");
        }
    }

    #[test]
    fn whoever_was_seen_first_takes_the_kill_that_the_next_cannot_have() {
        let kill = |at_us| Kill { at_us, reaped_us: at_us + 4, in_service: 1, queued: 0 };
        let ends = vec![200..=210, 90..=205];
        assert_eq!(settle(&[kill(100), kill(200)], ends, 6, 0).unexplained, 0);
    }
}
