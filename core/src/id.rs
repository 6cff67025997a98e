//! Who is who: slots, generations and worker identities.

use std::fmt;

/// A stable seat `0..n` that outlives the process on it.
///
/// The slot is what log lines, metrics and the environment of a worker carry: process ids change with
/// every respawn, the slot does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u32);

impl SlotId {
    /// The slot as an index into arrays that have one entry per slot.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One worker process: the slot it sits on and how often that slot was filled before.
///
/// Unique for the life of the supervisor. Written `slot.generation`, for example `3.0` for the first
/// process on slot 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkerId {
    /// The seat.
    pub slot: SlotId,
    /// How often the seat was refilled: 0 for its first process.
    pub generation: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}
