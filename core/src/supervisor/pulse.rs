//! Whether a worker hangs: it is alive and nothing gets done.
//!
//! A worker that a signal stopped is told by SIGCHLD. One whose handler loops for ever, or sleeps where it
//! should not, shows only in what its page no longer counts; one that a debugger or a freezer holds while it
//! is idle, in that it does not even run. Pure: the loop looks at pages and clocks, this says what they mean.

use std::time::{Duration, Instant};

/// What a worker's page says about its progress. Not what it has completed: a kept connection may end while its
/// worker stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sign {
    /// Calls of its handler; 0 where there is an event loop.
    pub(super) calls: u64,
    /// Lanes that are in one. Not what it has in service: a handler may keep connections beyond its call.
    pub(super) in_handler: u64,
    /// Turns of its event loop's heartbeat; 0 where there is none.
    pub(super) beat: u64,
    /// How long it has run, if it is idle and has no event loop. Whoever is held does not run at all.
    pub(super) run: Option<Duration>,
}

/// When a worker counts as hung.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Without progress for so long.
    pub(super) after: Duration,
    /// It has an event loop, whose heartbeat never pauses. A worker without one may wait for ever: only
    /// one that is busy on all its lanes can hang, or one that does not even run while somebody waits for it.
    pub(super) has_heartbeat: bool,
    pub(super) lanes: u64,
}

impl Rule {
    /// How often to look, and how often a heart beats: four times within the time allowed, at least once
    /// a second.
    pub(super) fn period(after: Duration) -> Duration {
        (after / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}

/// What is known of one ready worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    last: Sign,
    since: Instant,
    pub(super) hung: bool,
}

impl Pulse {
    pub(super) fn new(sign: Sign, now: Instant) -> Self {
        Self { last: sign, since: now, hung: false }
    }

    /// Takes a look; true if `hung` has changed. `is_waited_for` is asked of a worker that is idle.
    pub(super) fn feel(
        &mut self,
        sign: Sign,
        rule: Rule,
        now: Instant,
        is_waited_for: impl FnOnce() -> bool,
    ) -> bool {
        let busy = sign.in_handler >= rule.lanes;
        // Others take what waits for one that hangs: that is no sign of life of its own.
        let has_to_go_on =
            || busy || rule.has_heartbeat || (sign.run.is_some() && (self.hung || is_waited_for()));
        if sign != self.last || !has_to_go_on() {
            self.last = sign;
            self.since = now;
        }
        let hung = now.saturating_duration_since(self.since) >= rule.after;
        std::mem::replace(&mut self.hung, hung) != hung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { after: Duration::from_millis(250), has_heartbeat: false, lanes: 1 };

    /// `signs`: milliseconds since the start, calls, lanes in one, beat. Gives the times of change.
    fn check(rule: Rule, signs: &[(u64, u64, u64, u64)], expected: &[(u64, bool)]) {
        let looks = signs.iter().map(|&(at, calls, in_handler, beat)| {
            (at, Sign { calls, in_handler, beat, run: None }, false)
        });
        check_looks(rule, looks, expected);
    }

    /// `signs`: milliseconds since the start, calls, milliseconds run, and whether somebody waits for it.
    fn check_idle(signs: &[(u64, u64, u64, bool)], expected: &[(u64, bool)]) {
        let looks = signs.iter().map(|&(at, calls, run, is_waited_for)| {
            let run = Some(Duration::from_millis(run));
            (at, Sign { calls, run, ..Sign::default() }, is_waited_for)
        });
        check_looks(RULE, looks, expected);
    }

    fn check_looks(
        rule: Rule,
        looks: impl Iterator<Item = (u64, Sign, bool)>,
        expected: &[(u64, bool)],
    ) {
        let start = Instant::now();
        let mut pulse = Pulse::new(Sign::default(), start);
        let changes: Vec<_> = looks
            .filter_map(|(at, sign, is_waited_for)| {
                let now = start + Duration::from_millis(at);
                pulse.feel(sign, rule, now, || is_waited_for).then_some((at, pulse.hung))
            })
            .collect();
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_worker_that_waits_may_wait_for_ever() {
        check(RULE, &[(60, 0, 0, 0), (10_000, 0, 0, 0), (20_000, 5, 0, 0), (40_000, 5, 0, 0)], &[]);
    }

    #[test]
    fn an_idle_one_that_does_not_run_while_somebody_waits_for_it_hangs_until_it_runs() {
        // Others take what waited, and nobody comes any more: nothing of that is its doing.
        let (waited_for, relieved) = (true, false);
        let signs = [
            (60, 3, 5, waited_for),
            (200, 3, 5, waited_for),
            (310, 3, 5, waited_for),
            (400, 3, 5, relieved),
            (9_000, 3, 5, relieved),
            (9_050, 3, 6, relieved),
        ];
        check_idle(&signs, &[(310, true), (9_050, false)]);
    }

    #[test]
    fn an_idle_one_does_not_hang_for_clients_that_it_serves_and_others_that_come() {
        check_idle(&[(60, 1, 5, true), (400, 2, 9, true), (800, 3, 12, true)], &[]);
        check_idle(
            &[(60, 1, 5, true), (300, 1, 5, true), (305, 1, 5, false), (500, 1, 5, true)],
            &[],
        );
        // Without descriptors it looks from time to time, and can do no more.
        check_idle(&[(60, 1, 5, true), (400, 1, 6, true), (800, 1, 7, true)], &[]);
    }

    #[test]
    fn one_that_is_busy_with_the_same_connection_for_too_long_hangs_until_it_goes_on() {
        let signs =
            [(100, 1, 1, 0), (300, 1, 1, 0), (350, 1, 1, 0), (900, 1, 1, 0), (950, 2, 1, 0)];
        check(RULE, &signs, &[(350, true), (950, false)]);
    }

    #[test]
    fn with_several_lanes_all_have_to_be_busy() {
        let two = Rule { lanes: 2, ..RULE };
        check(two, &[(100, 9, 1, 0), (1_000, 9, 1, 0)], &[]);
        check(two, &[(100, 9, 2, 0), (1_000, 9, 2, 0)], &[(1_000, true)]);
    }

    #[test]
    fn an_event_loop_hangs_when_its_heart_stops_whatever_it_serves() {
        let rule = Rule { has_heartbeat: true, ..RULE };
        check(rule, &[(60, 9, 0, 1), (120, 9, 0, 2), (5_000, 9, 0, 3)], &[]);
        check(rule, &[(60, 0, 0, 1), (400, 0, 0, 1), (500, 0, 0, 2)], &[(400, true), (500, false)]);
    }

    #[test]
    fn a_look_comes_four_times_within_the_time_and_once_a_second() {
        assert_eq!(Rule::period(Duration::from_millis(400)), Duration::from_millis(100));
        assert_eq!(Rule::period(Duration::from_secs(30)), Duration::from_secs(1));
        assert_eq!(Rule::period(Duration::ZERO), Duration::from_millis(1));
    }
}
