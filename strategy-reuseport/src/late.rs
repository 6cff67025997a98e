//! Whose event loop is late: it does not turn, and somebody waits for it. Pure.
//!
//! An event loop is never too busy to accept, but one handler that does not let go keeps it from turning,
//! and then what is queued for it waits though its siblings have nothing to do.

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
    /// Somebody is in its queue.
    pub(crate) waits: bool,
    /// How often its event loop has turned. `None`: nobody serves it, which is known without us.
    pub(crate) turns: Option<u64>,
}

impl Late {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: vec![Slot::default(); slots] }
    }

    /// Takes a look, by slot; true if others are late now than were before.
    ///
    /// Late is whose queue stood for two looks while its loop did not turn once, as long as there is
    /// another that keeps up: where all are behind, to send everything to whoever happened to turn last
    /// would be worse. It is late until it turns, also when siblings have emptied its queue meanwhile.
    pub(crate) fn look(&mut self, seen: &[Loop]) -> bool {
        let looks = || self.slots.iter().zip(seen);
        let keeps_up = looks().any(|(slot, now)| {
            now.turns.is_some() && !slot.late && !(slot.seen.waits && now.waits)
        });
        let mut changed = false;
        for (slot, &now) in self.slots.iter_mut().zip(seen) {
            let stands = now.turns.is_some() && now.turns == slot.seen.turns;
            let late = stands && (slot.late || (keeps_up && slot.seen.waits && now.waits));
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

    /// Each look: per slot whether somebody waits, and how often its loop has turned. Gives who is late
    /// after each.
    fn check(looks: &[&[(bool, u64)]], expected: &[&[u32]]) {
        let mut late = Late::new(looks[0].len());
        for (n, (look, expected)) in looks.iter().zip(expected).enumerate() {
            let seen: Vec<_> =
                look.iter().map(|&(waits, turns)| Loop { waits, turns: Some(turns) }).collect();
            let before: Vec<_> = late.slots().collect();
            let changed = late.look(&seen);
            let now: Vec<_> = late.slots().collect();
            assert_eq!(now.iter().map(|slot| slot.0).collect::<Vec<_>>(), *expected, "look {n}");
            assert_eq!(changed, before != now, "look {n}");
        }
    }

    #[test]
    fn whose_queue_stood_for_two_looks_is_late_until_it_turns() {
        let (idle, waits) = ((false, 7), (true, 3));
        // Emptied by siblings in the fourth look, and it turns before the fifth.
        check(
            &[
                &[idle, (false, 3)],
                &[idle, waits],
                &[idle, waits],
                &[idle, (false, 3)],
                &[idle, (false, 4)],
            ],
            &[&[], &[], &[1], &[1], &[]],
        );
    }

    #[test]
    fn a_loop_that_turns_is_not_late_however_many_wait() {
        check(&[&[(false, 0), (true, 1)], &[(false, 0), (true, 2)]], &[&[], &[]]);
    }

    #[test]
    fn a_loop_that_does_not_turn_and_for_which_nobody_waits_is_not_late() {
        check(&[&[(false, 0), (false, 1)], &[(false, 0), (false, 1)]], &[&[], &[]]);
        // One comes just before the second look.
        check(&[&[(false, 0), (false, 1)], &[(false, 0), (true, 1)]], &[&[], &[]]);
    }

    #[test]
    fn where_all_are_behind_nobody_is_late() {
        let behind: &[_] = &[(true, 5), (true, 1), (true, 1)];
        check(&[behind, behind], &[&[], &[]]);
        // The first turns, but its queue stood.
        check(&[behind, &[(true, 6), (true, 1), (true, 1)]], &[&[], &[]]);
        // Its queue did not: it keeps up.
        check(&[behind, &[(false, 6), (true, 1), (true, 1)]], &[&[], &[1, 2]]);
    }

    #[test]
    fn the_last_that_keeps_up_is_never_late() {
        let behind: &[_] = &[(true, 5), (true, 1)];
        let first = (false, 5);
        check(
            &[&[first, (true, 1)], &[first, (true, 1)], behind, behind],
            &[&[], &[1], &[1], &[1]],
        );
    }

    #[test]
    fn a_slot_that_nobody_serves_is_somebody_elses_affair() {
        let mut late = Late::new(2);
        let nobody = Loop { waits: true, turns: None };
        let idle = Loop { waits: false, turns: Some(1) };
        assert!(!late.look(&[idle, nobody]) && !late.look(&[idle, nobody]));
        // Nor does it keep up.
        let waits = Loop { waits: true, turns: Some(1) };
        let gone = Loop { waits: false, turns: None };
        assert!(!late.look(&[gone, waits]) && !late.look(&[gone, waits]));
    }
}
