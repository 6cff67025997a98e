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
mod counts;
mod cover;
mod steering;
mod sys;

use std::io;

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, Setup, SlotId, Strategy, Unsupported, WorkerId,
};

use crate::acceptor::ReuseportAcceptor;
use crate::cover::Seats;
use crate::steering::{Steered, Steering};

/// Each slot has a listener of its own; the kernel chooses among them.
#[derive(Debug)]
pub struct Reuseport {
    seats: Seats,
    steered: Steered,
    watch: Watch,
}

/// Which listeners a worker watches beside its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// None, whatever happens.
    Own,
    /// Those of slots that nobody serves now.
    Uncovered,
    /// All of them, always.
    All,
}

impl Reuseport {
    /// The kernel's hash, plus *cover*: a slot whose worker is dead, stopped or not ready yet is served
    /// by its siblings.
    #[must_use]
    pub fn hash() -> Self {
        Self::new(Steering::Hash, Watch::Uncovered)
    }

    /// The kernel's hash and nothing else: the bad example. What is hashed to a worker that is stopped or
    /// restarting waits for it.
    #[must_use]
    pub fn hash_bare() -> Self {
        Self::new(Steering::Hash, Watch::Own)
    }

    /// A slot drawn at random for each connection, by classic BPF (Linux 4.5, no privilege); with cover.
    /// Unlike the hash it does not depend on what addresses and ports clients have.
    #[must_use]
    pub fn random() -> Self {
        Self::new(Steering::Random, Watch::Uncovered)
    }

    /// The slot with the number of the processor that handled the handshake, by classic BPF (Linux 4.5, no
    /// privilege); with cover.
    ///
    /// For network cards with a queue per processor and workers pinned to them. On loopback the processor
    /// is the client's, so few slots get anything.
    #[must_use]
    pub fn cpu() -> Self {
        Self::new(Steering::Cpu, Watch::Uncovered)
    }

    /// A hash over the slots that serve *now*, by classic BPF (Linux 4.5, no privilege): a dead, stopped
    /// or leaving worker gets nothing new, and what it has queued is covered.
    ///
    /// The program is replaced whenever a worker comes or goes, which moves clients between slots.
    #[must_use]
    pub fn steered() -> Self {
        Self::new(Steering::Serving, Watch::Uncovered)
    }

    /// The kernel's hash, and every worker also watches its siblings' listeners: whoever is free takes
    /// what waits, so no connection waits while a worker is free. No privilege. Refused for event loops,
    /// which are never too busy to accept.
    ///
    /// Each worker's epoll holds the listeners of all slots: choose it for up to a few dozen workers.
    #[must_use]
    pub fn steal() -> Self {
        Self::new(Steering::Hash, Watch::All)
    }

    fn new(steering: Steering, watch: Watch) -> Self {
        Self { seats: Seats::default(), steered: Steered::new(steering), watch }
    }

    fn steer(&mut self) -> io::Result<()> {
        self.steered.to(self.seats.serving())
    }
}

impl Default for Reuseport {
    /// [`hash`](Self::hash).
    fn default() -> Self {
        Self::hash()
    }
}

impl Strategy for Reuseport {
    fn name(&self) -> &'static str {
        "reuseport"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        if self.watch == Watch::All && !plan.runtime.is_one_at_a_time() {
            return Err(Unsupported(format!(
                "`steal` serves workers that take one connection at a time: on the {} runtime, where a \
                 worker is never too busy to accept, whoever wakes first would take everybody's; use \
                 `hash`",
                plan.runtime
            )));
        }
        // Every worker holds every slot's listeners, so that it can cover any of them; twice, as inherited
        // until it is open, and as watched. The supervisor holds one of each group for its steering.
        let addresses = plan.listeners.len() as u64;
        let listeners = addresses * u64::from(plan.slots);
        Ok(Needs {
            supervisor_descriptors: listeners + addresses,
            worker_descriptors: 2 * listeners,
            ..Needs::default()
        })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        let slots = setup.plan().slots;
        self.seats = Seats::new(slots);
        setup.listen_per_slot()?;
        self.steered.prepare(slots, setup.slot_listeners(SlotId(0)))
    }

    fn provision(&mut self, setup: &mut Setup<'_>, _worker: WorkerId) -> io::Result<Inherit> {
        let mut inherit = Inherit::new();
        for slot in (0..setup.plan().slots).map(SlotId) {
            for (index, listener) in setup.slot_listeners(slot).iter().enumerate() {
                inherit.add(listener_name(slot, index), listener)?;
            }
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(ReuseportAcceptor::open(inherited, self.watch)?))
    }

    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        self.seats.admit(worker);
        self.steer()
    }

    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        self.seats.avoid(worker, on);
        self.steer()
    }

    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        self.seats.remove(worker);
        self.steer()
    }

    fn release(&mut self, worker: WorkerId) {
        self.seats.remove(worker);
        if let Err(error) = self.steer() {
            // The program of before goes on, and the slot is covered: nothing is lost by it.
            tracing::warn!(slot = worker.slot.0, %error, "cannot steer away from a slot");
        }
    }

    fn uncovered(&self) -> Vec<SlotId> {
        match self.watch {
            Watch::Uncovered => self.seats.uncovered(),
            // Nobody would look, or everybody looks anyway.
            Watch::Own | Watch::All => Vec::new(),
        }
    }
}

/// What a slot's listener is called among the inherited descriptors.
fn listener_name(slot: SlotId, index: usize) -> String {
    format!("listener.{slot}.{index}")
}
