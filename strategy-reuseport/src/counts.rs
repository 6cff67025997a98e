//! How loaded each slot is, in memory that the steering program and all workers share.
//!
//! ```text
//! turn               the slot after the one chosen last           the program
//! per slot  waiting  connections chosen for it and not taken      + the program, − whoever takes one
//!           serving  connections its worker has taken             + and − that worker
//! ```
//!
//! A slot's load is both. They are exact but for what the kernel drops between handshake and accept, and
//! for what a worker takes into its death: the supervisor repairs that (`drift`).
//!
//! Every worker can write all of it. What is here decides where a connection goes and who looks where
//! first, and nothing else.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use forkherd_core::SlotId;

use crate::sys::{self, Words};

/// Words of a slot: a cache line, so that slots do not slow each other down. `turn` has one, too.
pub(crate) const LINE: u32 = 8;

/// One of a slot's two counts, and its place in the slot's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    Waiting = 0,
    Serving = 1,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Counts(Words);

impl Counts {
    /// How many slots the arrays have room for: a power of two, so that an index is bounded by a mask.
    pub(crate) fn places(slots: u32) -> u32 {
        slots.next_power_of_two()
    }

    fn words(slots: u32) -> u32 {
        LINE + Self::places(slots) * LINE
    }

    /// The map, for [`map`](Self::map) and for the program.
    pub(crate) fn create(slots: u32) -> io::Result<OwnedFd> {
        sys::create_words("forkherd_counts", Self::words(slots))
    }

    pub(crate) fn map(array: impl AsFd, slots: u32) -> io::Result<Self> {
        Ok(Self(Words::map(array, Self::words(slots) as usize)?))
    }

    /// Below zero, if more ended than were counted.
    pub(crate) fn get(&self, count: Count, slot: SlotId) -> i64 {
        self.word(count, slot).map_or(0, |word| word.load(Ordering::Relaxed).cast_signed())
    }

    pub(crate) fn add(&self, count: Count, slot: SlotId, change: i64) {
        if let Some(word) = self.word(count, slot) {
            word.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Worker · `own` has taken a connection that was chosen for `from`.
    pub(crate) fn take(&self, from: SlotId, own: SlotId) {
        self.add(Count::Waiting, from, -1);
        self.add(Count::Serving, own, 1);
    }

    pub(crate) fn turn(&self) -> &AtomicU64 {
        // The array has a line before those of the slots.
        &self.0[0]
    }

    /// The slot among these where, as far as is counted, somebody has waited longest.
    pub(crate) fn longest_waiting(&self, slots: Range<u32>) -> Option<SlotId> {
        let turn = u32::try_from(self.turn().load(Ordering::Relaxed)).unwrap_or(0);
        longest_waiting(slots, turn, |slot| self.get(Count::Waiting, slot))
    }

    /// Worker · whether `own` would get some of what waits in the covered slots, if it were shared out so that
    /// all who serve, of these first slots, had as many connections.
    pub(crate) fn has_share(&self, own: SlotId, slots: u32, covered: &[SlotId]) -> bool {
        let covered_by_us = |slot: &SlotId| *slot != own;
        let waiting = covered.iter().copied().filter(covered_by_us);
        let waiting = sum(waiting.map(|slot| self.get(Count::Waiting, slot)));
        let load = |slot| sum([Count::Waiting, Count::Serving].map(|count| self.get(count, slot)));
        // If nobody is known to wait there is nothing to share out, and somebody may be there all the same.
        waiting == 0 || {
            let serving =
                (0..slots).map(SlotId).filter(|slot| *slot == own || !covered.contains(slot));
            has_share(load(own), serving.map(load), waiting)
        }
    }

    fn word(&self, count: Count, slot: SlotId) -> Option<&AtomicU64> {
        self.0.get((slot.index() + 1) * LINE as usize + count as usize)
    }
}

/// Whatever was written there.
fn sum(counts: impl IntoIterator<Item = i64>) -> i64 {
    counts.into_iter().fold(0, |sum, count| sum.saturating_add(count.max(0)))
}

/// Whether one with this load is below the mean of all loads, its own among them, with what waits.
fn has_share(own: i64, all: impl Iterator<Item = i64>, waiting: i64) -> bool {
    let (count, total) =
        all.fold((0_i64, waiting), |(count, total), load| (count + 1, total.saturating_add(load)));
    own.saturating_mul(count) < total
}

/// The first in turn of the slots where most wait.
///
/// Connections are placed where the load is least, in turn. So where most wait the first has waited
/// longest, and among equals it is next in turn: to take there is to take first come, first served over
/// all of them.
fn longest_waiting(
    slots: Range<u32>,
    turn: u32,
    waiting: impl Fn(SlotId) -> i64,
) -> Option<SlotId> {
    let turn = if slots.contains(&turn) { turn } else { slots.start };
    let in_turn = (turn..slots.end).chain(slots.start..turn).map(SlotId);
    let mut most = 0;
    let mut found = None;
    for slot in in_turn {
        let waiting = waiting(slot);
        if waiting > most {
            (most, found) = (waiting, Some(slot));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// What workers that serve one at a time do: place where the load is least, take the longest wait.
    #[derive(Debug, Default)]
    struct Model {
        queues: Vec<VecDeque<usize>>,
        busy: Vec<bool>,
        turn: u32,
        arrived: usize,
        taken: Vec<usize>,
    }

    impl Model {
        fn arrive(&mut self) {
            let slots = self.busy.len();
            let load = |slot: usize| self.queues[slot].len() + usize::from(self.busy[slot]);
            let idle = (0..slots).find(|&slot| load(slot) == 0);
            let slot = idle.unwrap_or_else(|| {
                let in_turn = (0..slots).map(|step| (self.turn as usize + step) % slots);
                let slot = in_turn.min_by_key(|&slot| load(slot)).unwrap();
                self.turn = u32::try_from(slot).unwrap() + 1;
                slot
            });
            self.queues[slot].push_back(self.arrived);
            self.arrived += 1;
            if let Some(free) = self.busy.iter().position(|busy| !busy) {
                self.take(free);
            }
        }

        fn finish(&mut self, worker: usize) {
            if std::mem::take(&mut self.busy[worker]) {
                self.take(worker);
            }
        }

        fn take(&mut self, worker: usize) {
            let slots = u32::try_from(self.busy.len()).unwrap();
            let waiting = |slot: SlotId| i64::try_from(self.queues[slot.index()].len()).unwrap();
            if let Some(slot) = longest_waiting(0..slots, self.turn, waiting) {
                self.taken.extend(self.queues[slot.index()].pop_front());
                self.busy[worker] = true;
            }
        }
    }

    proptest! {
        /// Somebody has a share as long as anybody waits, and nobody gets above the mean by it.
        #[test]
        fn who_takes_is_below_the_mean_and_all_is_taken(
            before in prop::collection::vec(0..50_i64, 1..17),
            waiting in 0..200_i64,
            picks in prop::collection::vec(0..17_usize, 200),
        ) {
            let mut loads = before.clone();
            for (left, pick) in (1..=waiting).rev().zip(picks) {
                let share = |&slot: &usize| has_share(loads[slot], loads.iter().copied(), left);
                let sharers: Vec<_> = (0..loads.len()).filter(share).collect();
                prop_assert!(!sharers.is_empty(), "{loads:?}, {left} left");
                loads[sharers[pick % sharers.len()]] += 1;
            }
            let count = i64::try_from(loads.len()).unwrap();
            let mean = (before.iter().sum::<i64>() + waiting + count - 1) / count;
            for (load, before) in loads.into_iter().zip(before) {
                prop_assert!(load == before || load <= mean, "{load} from {before}, mean {mean}");
            }
        }

        #[test]
        fn the_longest_wait_first_is_first_come_first_served(
            slots in 2..17_usize,
            events in prop::collection::vec(prop::option::weighted(0.5, 0..16_usize), 1..400),
        ) {
            let queues = vec![VecDeque::new(); slots];
            let mut model = Model { queues, busy: vec![false; slots], ..Model::default() };
            for event in events {
                match event {
                    None => model.arrive(),
                    Some(worker) => model.finish(worker % slots),
                }
            }
            let in_order: Vec<_> = (0..model.taken.len()).collect();
            prop_assert_eq!(model.taken, in_order);
        }
    }
}
