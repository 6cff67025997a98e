//! How loaded each slot is, in memory that the steering program and all workers share.
//!
//! A slot's load is what waits in its listeners plus what its worker serves. The program adds one when it
//! chooses a slot; whoever ends a connection takes one off its own; who takes a connection from a
//! sibling's listener moves one. Nobody else writes, so counts are exact but for what the kernel drops
//! between handshake and accept, and what a worker takes into its death: the supervisor repairs that.
//!
//! Every worker can write all of it. What is here decides where a connection goes, and nothing else.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use forkherd_core::SlotId;

use crate::sys::{self, Words};

/// Words of a slot: a cache line, so that slots do not slow each other down.
pub(crate) const LINE: u32 = 8;

/// Per slot, its load. See the module.
#[derive(Debug)]
pub(crate) struct Counts(Words);

impl Counts {
    /// How many slots the arrays have room for: a power of two, so that an index is bounded by a mask.
    pub(crate) fn places(slots: u32) -> u32 {
        slots.next_power_of_two()
    }

    /// The map, for [`map`](Self::map) and for the program.
    pub(crate) fn create(slots: u32) -> io::Result<std::os::fd::OwnedFd> {
        sys::create_words("forkherd_counts", Self::places(slots) * LINE)
    }

    pub(crate) fn map(array: impl AsFd, slots: u32) -> io::Result<Self> {
        let words = Self::places(slots) * LINE;
        Ok(Self(Words::map(array, words as usize)?))
    }

    /// Below zero, if more ended than the program has counted.
    pub(crate) fn load(&self, slot: SlotId) -> i64 {
        self.word(slot).map_or(0, |word| word.load(Ordering::Relaxed).cast_signed())
    }

    /// Adds to a slot's load, or takes off.
    pub(crate) fn add(&self, slot: SlotId, change: i64) {
        if let Some(word) = self.word(slot) {
            word.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        }
    }

    fn word(&self, slot: SlotId) -> Option<&std::sync::atomic::AtomicU64> {
        self.0.get(slot.index() * LINE as usize)
    }
}
