//! Who sits where: which slots have a worker that serves their own listeners now.

use forkherd_core::{SlotId, WorkerId};

/// Per slot, the admitted workers and whether each is to be avoided.
///
/// Supervisor. During a rolling restart a slot has two; one that serves is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    slots: Vec<Vec<Seat>>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    worker: WorkerId,
    avoided: bool,
}

impl Seats {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: vec![Vec::new(); slots as usize] }
    }

    pub(crate) fn admit(&mut self, worker: WorkerId) {
        self.remove(worker);
        if let Some(seats) = self.slots.get_mut(worker.slot.index()) {
            seats.push(Seat { worker, avoided: false });
        }
    }

    pub(crate) fn avoid(&mut self, worker: WorkerId, on: bool) {
        for seat in self.slots.iter_mut().flatten().filter(|seat| seat.worker == worker) {
            seat.avoided = on;
        }
    }

    pub(crate) fn remove(&mut self, worker: WorkerId) {
        if let Some(seats) = self.slots.get_mut(worker.slot.index()) {
            seats.retain(|seat| seat.worker != worker);
        }
    }

    /// Slots without a worker that serves.
    pub(crate) fn uncovered(&self) -> Vec<SlotId> {
        self.slots_where(|seats| seats.iter().all(|seat| seat.avoided))
    }

    /// Slots with one.
    pub(crate) fn serving(&self) -> Vec<SlotId> {
        self.slots_where(|seats| seats.iter().any(|seat| !seat.avoided))
    }

    /// The workers that serve a slot.
    pub(crate) fn on(&self, slot: SlotId) -> impl Iterator<Item = WorkerId> {
        let seats = self.slots.get(slot.index()).into_iter().flatten();
        seats.filter(|seat| !seat.avoided).map(|seat| seat.worker)
    }

    fn slots_where(&self, holds: impl Fn(&[Seat]) -> bool) -> Vec<SlotId> {
        let slots = (0..).map(SlotId).zip(&self.slots);
        slots.filter(|(_, seats)| holds(seats)).map(|(slot, _)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(slot: u32, generation: u32) -> WorkerId {
        WorkerId { slot: SlotId(slot), generation }
    }

    #[test]
    fn a_slot_is_covered_while_one_of_its_workers_serves() {
        let mut seats = Seats::new(2);
        assert_eq!(seats.uncovered(), [SlotId(0), SlotId(1)]);
        seats.admit(worker(0, 0));
        assert_eq!(seats.uncovered(), [SlotId(1)]);
        assert_eq!(seats.serving(), [SlotId(0)]);
        seats.admit(worker(1, 0));
        assert!(seats.uncovered().is_empty());

        seats.avoid(worker(0, 0), true);
        assert_eq!(seats.uncovered(), [SlotId(0)]);
        seats.avoid(worker(0, 0), false);
        assert!(seats.uncovered().is_empty());

        // A rolling restart: the successor is there before the old one leaves.
        seats.admit(worker(0, 1));
        seats.remove(worker(0, 0));
        assert!(seats.uncovered().is_empty());
        seats.remove(worker(0, 1));
        assert_eq!(seats.uncovered(), [SlotId(0)]);
        // Released after it was retired: nothing changes.
        seats.remove(worker(0, 1));
        assert_eq!(seats.uncovered(), [SlotId(0)]);
    }
}
