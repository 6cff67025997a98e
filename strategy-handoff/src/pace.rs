//! How many connections to accept at one wake-up. Pure.

use crate::channel::BATCH;

/// Accepting until there is nothing costs a failing call each time: 1.45 times the whole connection with
/// one client. So more than one is tried only where the last wake-up found more than one, or where the
/// worker has not even received the last one yet; and after tries in vain ever more seldom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace {
    most: u32,
    /// Tries in vain, in a row.
    failures: u32,
    /// Occasions to let pass before the next try.
    skip: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "it is 16")]
const MOST: u32 = BATCH as u32;
/// After the answer *no*, it is not asked so many times: it may mean to look at every board.
const UNASKED: u32 = 3;
/// At most so many occasions are let pass: 2^8.
const RAREST: u32 = 8;

impl Default for Pace {
    fn default() -> Self {
        Self { most: 1, failures: 0, skip: 0 }
    }
}

impl Pace {
    /// How many to accept. `behind`: whether what was accepted before is still under way; asked only
    /// where it matters.
    pub(crate) fn next(&mut self, behind: impl FnOnce() -> bool) -> u32 {
        if self.most > 1 {
            return self.most;
        }
        if self.skip > 0 {
            self.skip -= 1;
        } else if behind() {
            return 2;
        } else {
            self.skip = UNASKED;
        }
        1
    }

    /// So many were there of those that were asked for.
    pub(crate) fn found(&mut self, asked: u32, found: u32) {
        if asked < 2 {
            return;
        }
        if found >= 2 {
            self.failures = 0;
            self.most = if found >= asked { (2 * asked).min(MOST) } else { found };
        } else {
            self.most = 1;
            self.skip = 1 << self.failures;
            self.failures = (self.failures + 1).min(RAREST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of `accept4` per connection, with so many waiting at each wake-up.
    fn calls(wakes: u32, behind: bool, waiting: impl Fn(u32) -> u32) -> (u32, u32) {
        let mut pace = Pace::default();
        let (mut calls, mut accepted) = (0, 0);
        for wake in 0..wakes {
            let asked = pace.next(|| behind);
            let found = waiting(wake).min(asked);
            calls += found + u32::from(found < asked);
            accepted += found;
            pace.found(asked, found);
        }
        (calls, accepted)
    }

    #[test]
    fn one_client_costs_no_call_more() {
        assert_eq!(calls(1000, false, |_| 1), (1000, 1000));
    }

    #[test]
    fn tries_in_vain_become_rare() {
        let (calls, accepted) = calls(10_000, true, |_| 1);
        assert_eq!(accepted, 10_000);
        assert!(calls < 10_060, "{calls}");
    }

    #[test]
    fn a_crowd_is_taken_in_batches() {
        let (calls, accepted) = calls(1000, true, |_| 100);
        assert_eq!(calls, accepted);
        assert!(accepted > 15_900, "{accepted}");
    }

    #[test]
    fn one_failing_call_in_each_batch_at_most() {
        let (calls, accepted) = calls(1000, true, |wake| 2 + wake % 7);
        assert!(calls <= accepted + 1000 && accepted > 3_000, "{calls} for {accepted}");
    }
}
