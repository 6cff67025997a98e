//! The clock of the supervisor's deadlines: it hardly goes while the supervisor itself stands still.
//!
//! Whoever was stopped for longer than a deadline (SIGSTOP, a frozen cgroup) finds on waking that it has passed,
//! and has had no time to do what it was for: to hand on what is queued, to hear that a worker is ready. So a
//! turn of the loop counts as [`MOST`] at most; and not as nothing, or a supervisor whose turns are all slow,
//! because its machine is, would never come to a deadline. Pure.

use std::time::{Duration, Instant};

/// As long as a deadline is pending the loop waits no longer than this.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// What a turn counts at most while a deadline is pending: the wait, and as long again for what follows it.
pub(super) const MOST: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    now: Instant,
    /// What the machine's clock said at that time.
    seen: Instant,
}

impl Clock {
    pub(super) fn new(real: Instant) -> Self {
        Self { now: real, seen: real }
    }

    /// When this turn began.
    pub(super) fn now(self) -> Instant {
        self.now
    }

    /// A wait is over: another turn begins.
    pub(super) fn turn(&mut self, real: Instant, deadline_pending: bool) {
        let mut passed = real.saturating_duration_since(self.seen);
        if deadline_pending {
            passed = passed.min(MOST);
        }
        self.now += passed;
        self.seen = real;
    }

    /// When, by the machine's clock, to wake for this deadline.
    pub(super) fn wake(self, deadline: Instant) -> Instant {
        self.seen + deadline.saturating_duration_since(self.now).min(WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stop_leaves_of_a_deadline_what_was_left_before() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let deadline = start + 30 * SECOND;
        clock.turn(start + SECOND, true);
        clock.turn(start + 100 * SECOND, true);
        assert_eq!(deadline - clock.now(), 29 * SECOND - MOST);
        // And from then on it goes as before.
        clock.turn(start + 101 * SECOND, true);
        assert_eq!(deadline - clock.now(), 28 * SECOND - MOST);
    }

    #[test]
    fn whoever_waits_for_nothing_may_wait_long() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        clock.turn(start + 100 * SECOND, false);
        assert_eq!(clock.now(), start + 100 * SECOND);
    }

    #[test]
    fn it_wakes_in_time_for_a_deadline_and_looks_around_before() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        clock.turn(start + 100 * SECOND, true);
        let (real, now) = (start + 100 * SECOND, clock.now());
        assert_eq!(clock.wake(now + SECOND / 2), real + SECOND / 2);
        assert_eq!(clock.wake(now + 30 * SECOND), real + WAIT);
        assert_eq!(clock.wake(now - SECOND), real);
    }

    /// Each turn takes far too long, and still the deadline comes.
    #[test]
    fn slow_turns_come_to_a_deadline() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let turns = (1..).take_while(|&turn| {
            clock.turn(start + 10 * SECOND * turn, true);
            clock.now() < start + 30 * SECOND
        });
        assert_eq!(turns.count(), 14);
    }
}
