//! One listener per slot in one `SO_REUSEPORT` group: the kernel steers.
mod acceptor;
mod cover;

use std::io;

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, Setup, SlotId, Strategy, Unsupported, WorkerId,
};

use crate::acceptor::ReuseportAcceptor;
use crate::cover::Seats;

/// Each slot has a listener of its own; the kernel chooses among them by a hash of the client's address
/// and port.
#[derive(Clone, Debug, Default)]
pub struct Reuseport {
    seats: Seats,
}

impl Reuseport {
    /// The kernel's hash, plus *cover*: a slot whose worker is dead, stopped or not ready yet is served
    /// by its siblings.
    #[must_use]
    pub fn hash() -> Self {
        Self::default()
    }
}

impl Strategy for Reuseport {
    fn name(&self) -> &'static str {
        "reuseport"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        // Every worker holds every slot's listeners, so that it can cover any of them; twice, as inherited
        // until it is open, and as watched.
        let listeners = plan.listeners.len() as u64 * u64::from(plan.workers);
        Ok(Needs { supervisor_descriptors: listeners, worker_descriptors: 2 * listeners })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        self.seats = Seats::new(setup.plan().workers);
        setup.listen_per_slot()
    }

    fn provision(&mut self, setup: &mut Setup<'_>, _worker: WorkerId) -> io::Result<Inherit> {
        let mut inherit = Inherit::new();
        for slot in (0..setup.plan().workers).map(SlotId) {
            for (index, listener) in setup.slot_listeners(slot).iter().enumerate() {
                inherit.add(listener_name(slot, index), listener)?;
            }
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(ReuseportAcceptor::open(inherited)?))
    }

    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        self.seats.admit(worker);
        Ok(())
    }

    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        self.seats.avoid(worker, on);
        Ok(())
    }

    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        self.seats.remove(worker);
        Ok(())
    }

    fn release(&mut self, worker: WorkerId) {
        self.seats.remove(worker);
    }

    fn uncovered(&self) -> Vec<SlotId> {
        self.seats.uncovered()
    }
}

/// What a slot's listener is called among the inherited descriptors.
fn listener_name(slot: SlotId, index: usize) -> String {
    format!("listener.{slot}.{index}")
}
