//! Workers share one listener and all accept: the classic, as a [Forkherd](forkherd_core) strategy.
//!
//! ```no_run
//! use std::io::Write;
//! use forkherd_core::{Blocking, Connection, ListenSpec, Service};
//! use forkherd_prefork::Prefork;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Service::new("hello")
//!         .listen("127.0.0.1:8080".parse::<ListenSpec>()?)
//!         .workers(4)
//!         .run(Prefork::exclusive(), Blocking::new(|mut client: Connection| {
//!             client.write_all(b"hello\n")
//!         }))?;
//!     Ok(())
//! }
//! ```
//!
//! # How it works
//!
//! ```text
//!                     ┌───────────► worker 0 ┐
//!  clients ─► listener├───────────► worker 1 ├ each waits in epoll, and accepts one when it is free
//!          (one queue)└───────────► worker 2 ┘
//! ```
//!
//! The supervisor binds one listener and keeps it; each worker has a duplicate and watches it with
//! `EPOLLEXCLUSIVE`, so that the kernel wakes one of those that wait. A worker accepts one connection,
//! serves it, and looks again: who is free takes the oldest. That is one queue with N servers, the best
//! there is for workers that serve one connection at a time.
//!
//! # When to choose it
//!
//! Blocking workers, uneven work, short connections: the tail is the ideal queue's, nothing waits while a
//! worker is free, and a dead or stopped worker is noticed by nobody but its own client.
//!
//! # What it costs, and its limits
//!
//! * Five system calls per short connection in the worker (epoll_wait, accept4, recv, send, close), none
//!   in the supervisor.
//! * The kernel asks workers in the order in which they began to watch: while they are idle, the first
//!   gets everything (400 of 400 sequential connections among four workers, Linux 6.18). Harmless for short
//!   connections; for connections that stay it heaps them on few workers.
//! * Under the tokio runtime the exclusive wake-up is lost, because tokio's own epoll watches ours: every
//!   idle worker wakes for each connection (a herd). It serves correctly, and pays in CPU.
//! * Nobody chooses the worker: no stickiness, no weights.
//! * Linux 4.5 for `EPOLLEXCLUSIVE`; no privilege.

mod acceptor;
mod gates;
mod waiter;

use std::io;
use std::time::Duration;

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, Setup, Strategy, Unsupported, WorkerId,
};

use crate::acceptor::PreforkAcceptor;
pub use crate::acceptor::SLACK;
use crate::gates::Gates;
use crate::waiter::BlockingAcceptor;

/// All workers accept from one shared listener; the kernel wakes one of those that wait, or all.
#[derive(Debug)]
pub struct Prefork {
    waiting: Waiting,
    gates: Gates,
}

/// How workers wait for the listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// The kernel wakes one, in the order in which they came.
    Exclusive,
    /// The same, but who was served goes to the end of the line.
    Rotating,
    /// The kernel wakes one of those whose gate is open.
    Gated,
    /// Workers wait in `accept(2)`: the kernel wakes who has waited longest.
    Blocking,
    /// The kernel wakes all.
    Herd,
}

impl Prefork {
    fn new(waiting: Waiting) -> Self {
        Self { waiting, gates: Gates::default() }
    }

    /// Only one listener can be waited for in `accept(2)`.
    fn waits_in_accept(&self, listeners: usize) -> bool {
        self.waiting == Waiting::Blocking && listeners == 1
    }

    /// Workers wait in `accept(2)` itself: four system calls per connection, and the kernel wakes who has
    /// waited longest, so that idle workers are asked in turn. For the blocking runtime; with several
    /// addresses, of which `accept(2)` takes one, workers wait as [`exclusive`](Self::exclusive) does.
    ///
    /// A worker is called away from its wait by a signal (SIGURG), which the kernel sends it when the
    /// supervisor has something to say: see [`Interruptible`](forkherd_core::Interruptible).
    #[must_use]
    pub fn blocking() -> Self {
        Self::new(Waiting::Blocking)
    }

    /// As [`exclusive`](Self::exclusive), but a worker that has [`SLACK`] connections more than the one
    /// with the fewest leaves the line until others have caught up: for event loops whose connections
    /// stay.
    ///
    /// Workers learn the fewest from the supervisor, which refreshes it at least every 5 ms while any
    /// gate is closed, and looks at once when one closes.
    #[must_use]
    pub fn gated() -> Self {
        Self::new(Waiting::Gated)
    }

    /// Workers wait with `EPOLLEXCLUSIVE` (Linux 4.5): the kernel wakes one of them.
    ///
    /// It asks them in the order in which they began to watch, so an idle herd sends everything to the
    /// first: warm caches for one-at-a-time workers, uneven load for connections that stay.
    #[must_use]
    pub fn exclusive() -> Self {
        Self::new(Waiting::Exclusive)
    }

    /// As [`exclusive`](Self::exclusive), but a worker that took a connection leaves the line and joins it
    /// again at its end, so that idle workers are asked in turn.
    ///
    /// Costs three system calls per connection more: two to change places, and one look for what may have
    /// come meanwhile.
    #[must_use]
    pub fn rotating() -> Self {
        Self::new(Waiting::Rotating)
    }

    /// Every connection wakes every idle worker, and all but one find nothing: the bad example. With
    /// eight idle workers it costs about half as much CPU again per connection, with 128 several times
    /// as much.
    #[must_use]
    pub fn herd() -> Self {
        Self::new(Waiting::Herd)
    }
}

impl Strategy for Prefork {
    fn name(&self) -> &'static str {
        "prefork"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        let listeners = plan.listeners.len() as u64;
        let refuse = |why: &str| Err(Unsupported(why.to_owned()));
        match self.waiting {
            Waiting::Blocking if !plan.runtime.is_one_at_a_time() => {
                return refuse(
                    "`blocking` waits in accept(2), where an event loop cannot serve what it has; use \
                     `exclusive`",
                );
            }
            Waiting::Gated if plan.runtime.is_one_at_a_time() => {
                return refuse(
                    "`gated` compares how many connections workers have, and one that serves one at a \
                     time never has more than that; use `exclusive`",
                );
            }
            _ => {}
        }
        let waits_in_accept = self.waits_in_accept(plan.listeners.len());
        // A worker holds each listener twice: as inherited until it is open, and as watched.
        Ok(Needs {
            supervisor_descriptors: listeners,
            // `blocking`: watched, waited on, kept, and what takes its place.
            worker_descriptors: 2 * listeners + if waits_in_accept { 3 } else { 0 },
            blocking_listeners: waits_in_accept,
        })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        setup.listen()
    }

    fn provision(&mut self, setup: &mut Setup<'_>, worker: WorkerId) -> io::Result<Inherit> {
        if self.waiting == Waiting::Gated
            && let Some(view) = setup.view()
        {
            self.gates.add(worker, view);
        }
        let mut inherit = Inherit::new();
        for (index, listener) in setup.listeners().iter().enumerate() {
            inherit.add(listener_name(index), listener)?;
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        if self.waits_in_accept(inherited.listeners()) {
            return Ok(Box::new(BlockingAcceptor::open(inherited)?));
        }
        Ok(Box::new(PreforkAcceptor::open(inherited, self.waiting)?))
    }

    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        self.gates.listens(worker, true);
        Ok(())
    }

    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        self.gates.listens(worker, !on);
        Ok(())
    }

    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        self.gates.remove(worker);
        Ok(())
    }

    fn release(&mut self, worker: WorkerId) {
        self.gates.remove(worker);
    }

    fn upkeep(&mut self, pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        self.gates.look(pokes)
    }
}

/// What a listener is called among the inherited descriptors.
fn listener_name(index: usize) -> String {
    format!("listener.{index}")
}
