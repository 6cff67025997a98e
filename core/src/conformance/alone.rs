//! Both halves of a worker's board without a worker: for tests of what a strategy makes of the counts.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

use crate::board::{Board, OwnBoard, View};
use crate::connection::{Connection, Meter, Peer};
use crate::id::WorkerId;

/// A worker that is no process: what its supervisor sees of it, and what it counts with.
#[derive(Debug)]
pub struct Alone {
    /// The supervisor's side.
    pub view: View,
    /// The worker's side.
    pub meter: Meter,
    kick: OwnedFd,
}

impl Alone {
    /// # Errors
    /// No memory, or no descriptor.
    pub fn new(worker: WorkerId) -> io::Result<Self> {
        let (board, own, supervisor) = Board::create()?;
        let own = OwnBoard::map(&own, &supervisor)?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let meter = Meter::new(own, kick.try_clone()?, worker, Vec::new(), None);
        Ok(Self { view: View(board), meter, kick })
    }

    /// Takes a connection, whose other end is nobody. It is over when it is dropped.
    ///
    /// # Errors
    /// No descriptor.
    pub fn take(&self) -> io::Result<Connection> {
        Ok(self.meter.begin(File::open("/dev/null")?.into(), Peer::Unix, 0))
    }

    /// Whether it has kicked its supervisor since it was asked last.
    #[must_use]
    pub fn has_kicked(&self) -> bool {
        rustix::io::read(&self.kick, &mut [0_u8; 8]).is_ok()
    }
}
