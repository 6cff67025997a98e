//! Whose event loop is late: it does not turn, or has no room, and somebody waits for it. Pure.
//!
//! An event loop is never too busy to accept, but one handler that does not let go keeps it from turning,
//! and at its limit of descriptors it turns and takes nobody. Then what is queued for it waits though its
//! siblings have nothing to do.

use forkherd_core::SlotId;

/// Per slot, what was seen last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    seen: Loop,
    late: bool,
}

/// What a look shows of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Loop {
    /// Connections in its queue.
    pub(crate) queued: u64,
    /// How many its event loop has taken.
    pub(crate) taken: u64,
    /// How often that has turned. `None`: nobody serves it, which is known without us.
    pub(crate) turns: Option<u64>,
    /// It has said that it has no room for another.
    pub(crate) is_full: bool,
}

impl Loop {
    /// Whether somebody who was in its queue at the look `before` may be there still: it took fewer than waited.
    fn stood_since(self, before: Self) -> bool {
        self.queued > 0 && self.taken.saturating_sub(before.taken) < before.queued
    }
}

impl Late {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: vec![Slot::default(); slots] }
    }

    /// Takes a look, by slot; true if others are late now than were before.
    ///
    /// Late is whose queue stood for two looks while its loop did not turn once, or is full, as long as
    /// there is another that keeps up: where all are behind, to send everything to whoever happened to turn
    /// last would be worse. It keeps up if nobody waited for it from one look to the next, however many wait
    /// now, and if it has room. Who is late is so until it turns with room, also when siblings have emptied
    /// its queue meanwhile.
    pub(crate) fn look(&mut self, seen: &[Loop]) -> bool {
        let looks = || self.slots.iter().zip(seen);
        let keeps_up = looks().any(|(slot, now)| {
            now.turns.is_some() && !now.is_full && !slot.late && !now.stood_since(slot.seen)
        });
        let mut changed = false;
        for (slot, &now) in self.slots.iter_mut().zip(seen) {
            let stands = now.turns.is_some() && (now.is_full || now.turns == slot.seen.turns);
            let late = stands && (slot.late || (keeps_up && now.stood_since(slot.seen)));
            changed |= std::mem::replace(&mut slot.late, late) != late;
            slot.seen = now;
        }
        changed
    }

    /// Whose event loops are late.
    pub(crate) fn slots(&self) -> impl Iterator<Item = SlotId> {
        let slots = (0..).map(SlotId).zip(&self.slots);
        slots.filter(|(_, slot)| slot.late).map(|(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many wait, and it has turned, and taken one at each turn, so often.
    fn at(queued: u64, turns: u64) -> Loop {
        Loop { queued, taken: turns, turns: Some(turns), is_full: false }
    }

    /// Each look: per slot how many wait, and how often its loop has turned. Gives who is late after each.
    fn check(looks: &[&[(u64, u64)]], expected: &[&[u32]]) {
        let mut late = Late::new(looks[0].len());
        for (n, (look, expected)) in looks.iter().zip(expected).enumerate() {
            let seen: Vec<_> = look.iter().map(|&(queued, turns)| at(queued, turns)).collect();
            let before: Vec<_> = late.slots().collect();
            let changed = late.look(&seen);
            let now: Vec<_> = late.slots().collect();
            assert_eq!(now.iter().map(|slot| slot.0).collect::<Vec<_>>(), *expected, "look {n}");
            assert_eq!(changed, before != now, "look {n}");
        }
    }

    #[test]
    fn whose_queue_stood_for_two_looks_is_late_until_it_turns() {
        let (idle, waits) = ((0, 7), (1, 3));
        // Emptied by siblings in the fourth look, and it turns before the fifth.
        check(
            &[&[idle, (0, 3)], &[idle, waits], &[idle, waits], &[idle, (0, 3)], &[idle, (0, 4)]],
            &[&[], &[], &[1], &[1], &[]],
        );
    }

    #[test]
    fn a_loop_that_turns_is_not_late_however_many_wait() {
        check(&[&[(0, 0), (9, 1)], &[(0, 0), (9, 2)]], &[&[], &[]]);
    }

    #[test]
    fn a_loop_that_does_not_turn_and_for_which_nobody_waits_is_not_late() {
        check(&[&[(0, 0), (0, 1)], &[(0, 0), (0, 1)]], &[&[], &[]]);
        // One comes just before the second look.
        check(&[&[(0, 0), (0, 1)], &[(0, 0), (1, 1)]], &[&[], &[]]);
    }

    #[test]
    fn where_all_are_behind_nobody_is_late() {
        let behind: &[_] = &[(2, 5), (1, 1), (1, 1)];
        check(&[behind, behind], &[&[], &[]]);
        // The first turns, but its queue stood.
        check(&[behind, &[(2, 6), (1, 1), (1, 1)]], &[&[], &[]]);
        // Its queue did not: it keeps up.
        check(&[behind, &[(0, 6), (1, 1), (1, 1)]], &[&[], &[1, 2]]);
    }

    #[test]
    fn a_loop_that_took_all_who_waited_keeps_up_though_others_wait_now() {
        check(&[&[(2, 5), (1, 1)], &[(9, 7), (1, 1)]], &[&[], &[1]]);
        // As little can be said of one whose count went back, because a worker of its slot is gone.
        check(&[&[(2, 5), (1, 1)], &[(9, 0), (1, 1)]], &[&[], &[]]);
    }

    #[test]
    fn a_loop_that_turns_and_takes_nobody_does_not_keep_up() {
        let mut late = Late::new(2);
        for turns in [5, 9_000] {
            late.look(&[Loop { taken: 3, ..at(1, turns) }, at(1, 1)]);
            assert_eq!(late.slots().next(), None);
        }
    }

    #[test]
    fn the_last_that_keeps_up_is_never_late() {
        let behind: &[_] = &[(1, 5), (1, 1)];
        let first = (0, 5);
        check(&[&[first, (1, 1)], &[first, (1, 1)], behind, behind], &[&[], &[1], &[1], &[1]]);
    }

    #[test]
    fn a_loop_that_is_full_is_late_until_it_has_room_though_it_turns() {
        let mut late = Late::new(2);
        let full = |queued, turns| Loop { taken: 3, is_full: true, ..at(queued, turns) };
        // Emptied by siblings before the third look; it has room before the fifth.
        let looks = [full(1, 3), full(1, 5), full(0, 7), full(1, 9), at(0, 11)];
        for (n, (look, expected)) in looks.into_iter().zip([0, 1, 1, 1, 0]).enumerate() {
            late.look(&[at(0, 7), look]);
            assert_eq!(late.slots().count(), expected, "look {n}");
        }
        // Who takes as many as wait holds nobody up, full as it is.
        for turns in [12, 13, 14] {
            late.look(&[at(0, 7), Loop { is_full: true, ..at(1, turns) }]);
            assert_eq!(late.slots().count(), 0);
        }
    }

    #[test]
    fn a_loop_that_is_full_does_not_keep_up() {
        let mut late = Late::new(2);
        let full = |queued| Loop { is_full: true, ..at(queued, 1) };
        for look in [[full(0), full(1)], [full(0), full(1)], [full(0), at(1, 1)]] {
            assert!(!late.look(&look));
        }
    }

    #[test]
    fn a_slot_that_nobody_serves_is_somebody_elses_affair() {
        let mut late = Late::new(2);
        let nobody = Loop { turns: None, ..at(1, 0) };
        let idle = at(0, 1);
        assert!(!late.look(&[idle, nobody]) && !late.look(&[idle, nobody]));
        // Nor does it keep up.
        let waits = at(1, 1);
        let gone = Loop { turns: None, ..at(0, 0) };
        assert!(!late.look(&[gone, waits]) && !late.look(&[gone, waits]));
    }
}
