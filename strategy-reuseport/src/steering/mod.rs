//! Who chooses the slot of a connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use forkherd_core::SlotId;

use self::classic::Program;

mod classic;
mod ebpf;

/// How the kernel chooses among the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Steering {
    /// By its own hash.
    Hash,
    /// At random.
    Random,
    /// By the processor that handles the packet.
    Cpu,
    /// By a hash over the slots that serve now.
    Serving,
}

/// The groups that are steered, one per address, and the slots they were last steered to.
#[derive(Debug)]
pub(crate) struct Steered {
    steering: Steering,
    /// One member of each group: a program belongs to the whole group.
    members: Vec<OwnedFd>,
    slots: Option<Vec<SlotId>>,
}

impl Steered {
    pub(crate) fn new(steering: Steering) -> Self {
        Self { steering, members: Vec::new(), slots: None }
    }

    /// Takes one member of each group. With a single slot there is no group and nothing to steer.
    pub(crate) fn prepare(&mut self, slots: u32, members: &[impl AsFd]) -> io::Result<()> {
        if slots < 2 || self.steering == Steering::Hash {
            return Ok(());
        }
        for member in members {
            self.members.push(member.as_fd().try_clone_to_owned()?);
        }
        match self.steering {
            Steering::Random => self.attach(&Program::random(slots)),
            Steering::Cpu => self.attach(&Program::cpu(slots)),
            Steering::Hash | Steering::Serving => Ok(()),
        }
    }

    /// Steers to these slots only, if that is how it is steered and they are others than before.
    pub(crate) fn to(&mut self, slots: Vec<SlotId>) -> io::Result<()> {
        if self.steering != Steering::Serving || self.slots.as_ref() == Some(&slots) {
            return Ok(());
        }
        self.attach(&Program::hash_over(&slots))?;
        self.slots = Some(slots);
        Ok(())
    }

    fn attach(&self, program: &Program) -> io::Result<()> {
        self.members.iter().try_for_each(|member| program.attach(member))
    }
}
