//! One listener per slot in one `SO_REUSEPORT` group: the kernel steers. A [Forkherd](forkherd_core)
//! strategy.
//!
//! ```no_run
//! use std::io::Write;
//! use forkherd_core::{Blocking, Connection, ListenSpec, Service};
//! use forkherd_reuseport::Reuseport;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Service::new("hello")
//!         .listen("127.0.0.1:8080".parse::<ListenSpec>()?)
//!         .workers(4)
//!         .run(Reuseport::hash(), Blocking::new(|mut client: Connection| {
//!             client.write_all(b"hello\n")
//!         }))?;
//!     Ok(())
//! }
//! ```
//!
//! # How it works
//!
//! ```text
//!             ┌─ listener of slot 0 ─► worker 0 ┄┄┐
//!  clients ─┬─┼─ listener of slot 1 ─► worker 1 ┄┄┤ a slot without a worker is *covered*:
//!    (hash) └─┴─ listener of slot 2    (dead)  ◄┄┄┘ its siblings watch its listener too
//! ```
//!
//! The supervisor binds one listener per slot, in slot order, and keeps them all for life; the kernel
//! chooses one for each connection by a hash of both addresses and ports. A worker watches its own slot's
//! listener. When a slot has no worker that serves (dead, stopped, not ready yet, leaving), the supervisor
//! tells all others to watch that listener too, until there is one again. So what is queued there is
//! neither reset nor left waiting.
//!
//! # When to choose it
//!
//! Many cores and very many short connections, where one listener's lock is the bottleneck; event loops
//! whose connections stay and should be spread evenly without anybody's effort.
//!
//! # What it costs, and its limits
//!
//! * Five system calls per short connection in the worker, none in the supervisor, and no shared queue.
//! * The hash does not look at load: a connection may wait behind a long request while other workers are
//!   free. With one-at-a-time workers and uneven work the tail is several times that of a shared queue.
//! * Every worker holds every slot's listeners, so that it can cover any: workers × addresses descriptors.
//! * A second instance on the same port is refused, which `SO_REUSEPORT` alone would not do; another
//!   program of the same user that sets the option itself can still join the group while we run.
//! * Linux 3.9 for `SO_REUSEPORT`; no privilege.

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
