//! Whom the next connection goes to. Pure: what may be picked comes in, an index goes out.

use forkherd_core::SlotId;

/// A worker that has room for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: SlotId,
}

/// Each slot in turn. A slot that is no candidate now is skipped, and does not get its turn later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RoundRobin {
    last: Option<SlotId>,
}

impl RoundRobin {
    /// The first candidate behind the last one picked, going round. `candidates` are in slot order.
    pub(crate) fn pick(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let behind = |last: SlotId| candidates.iter().position(|c| c.slot > last);
        let index = self.last.and_then(behind).unwrap_or(0);
        self.last = Some(candidates.get(index)?.slot);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(slots: impl IntoIterator<Item = u32>) -> Vec<Candidate> {
        slots.into_iter().map(|slot| Candidate { slot: SlotId(slot) }).collect()
    }

    #[test]
    fn nobody_is_picked_of_none() {
        assert_eq!(RoundRobin::default().pick(&[]), None);
    }

    proptest! {
        #[test]
        fn with_room_everywhere_counts_differ_by_at_most_one(slots in 1_u32..40, picks in 1_usize..400) {
            let all = candidates(0..slots);
            let mut counts = vec![0_usize; slots as usize];
            let mut policy = RoundRobin::default();
            for _ in 0..picks {
                counts[policy.pick(&all).unwrap()] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{counts:?}");
        }

        #[test]
        fn the_model_is_the_next_slot_that_has_room(
            rounds in proptest::collection::vec(proptest::collection::btree_set(0_u32..16, 1..16), 1..50),
        ) {
            let mut policy = RoundRobin::default();
            let mut last = None;
            for slots in rounds {
                let all = candidates(slots.iter().copied());
                let picked = all[policy.pick(&all).unwrap()].slot.0;
                // Walk round the table from the seat behind the last one, until somebody has room.
                let start = last.map_or(0, |last| last + 1);
                let expected = (0..16).map(|step| (start + step) % 16).find(|s| slots.contains(s));
                prop_assert_eq!(Some(picked), expected);
                last = Some(picked);
            }
        }
    }
}
