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

use std::io;

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, Setup, Strategy, Unsupported, WorkerId,
};

use crate::acceptor::PreforkAcceptor;

/// All workers accept from one shared listener; the kernel wakes one of those that wait, or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefork {
    waiting: Waiting,
}

/// How workers wait for the listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// The kernel wakes one, in the order in which they came.
    Exclusive,
    /// The same, but who was served goes to the end of the line.
    Rotating,
    /// The kernel wakes all.
    Herd,
}

impl Prefork {
    /// Workers wait with `EPOLLEXCLUSIVE` (Linux 4.5): the kernel wakes one of them.
    ///
    /// It asks them in the order in which they began to watch, so an idle herd sends everything to the
    /// first: warm caches for one-at-a-time workers, uneven load for connections that stay.
    #[must_use]
    pub fn exclusive() -> Self {
        Self { waiting: Waiting::Exclusive }
    }

    /// As [`exclusive`](Self::exclusive), but a worker that took a connection leaves the line and joins it
    /// again at its end, so that idle workers are asked in turn.
    ///
    /// Costs three system calls per connection more: two to change places, and one look for what may have
    /// come meanwhile.
    #[must_use]
    pub fn rotating() -> Self {
        Self { waiting: Waiting::Rotating }
    }

    /// Every connection wakes every idle worker, and all but one find nothing: the bad example. With
    /// eight idle workers it costs about half as much CPU again per connection, with 128 several times
    /// as much.
    #[must_use]
    pub fn herd() -> Self {
        Self { waiting: Waiting::Herd }
    }
}

impl Strategy for Prefork {
    fn name(&self) -> &'static str {
        "prefork"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        let listeners = plan.listeners.len() as u64;
        // A worker holds each listener twice: as inherited until it is open, and as watched.
        Ok(Needs { supervisor_descriptors: listeners, worker_descriptors: 2 * listeners })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        setup.listen()
    }

    fn provision(&mut self, setup: &mut Setup<'_>, _worker: WorkerId) -> io::Result<Inherit> {
        let mut inherit = Inherit::new();
        for (index, listener) in setup.listeners().iter().enumerate() {
            inherit.add(listener_name(index), listener)?;
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(PreforkAcceptor::open(inherited, self.waiting)?))
    }
}

/// What a listener is called among the inherited descriptors.
fn listener_name(index: usize) -> String {
    format!("listener.{index}")
}
