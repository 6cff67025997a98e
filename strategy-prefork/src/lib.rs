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
//!         .run(Prefork::default(), Blocking::new(|mut client: Connection| {
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
//!  clients ─► listener├───────────► worker 1 ├ each waits, and accepts one when it is free
//!          (one queue)└───────────► worker 2 ┘
//! ```
//!
//! The supervisor binds one listener and keeps it; each worker has a duplicate. A worker accepts one
//! connection, serves it, and looks again: who is free takes the oldest. That is one queue with N servers,
//! the best there is for workers that serve one connection at a time. The variants differ in how workers
//! wait, and so in whom the kernel wakes.
//!
//! # When to choose it
//!
//! Blocking workers, uneven work, short connections: the tail is the ideal queue's, nothing waits while a
//! worker is free, and a dead or stopped worker is noticed by nobody but its own client.
//!
//! # Variants
//!
//! | variant | workers wait | runtimes | kernel | in short |
//! |---|---|---|---|---|
//! | [`default`](Prefork::default) | as suits the runtime | all | any as `blocking`, else 4.5 | `blocking`, with threads `exclusive`, for event loops `gated` |
//! | [`blocking`](Prefork::blocking) | in `accept(2)` | blocking | any | four system calls; idle workers in turn |
//! | [`exclusive`](Prefork::exclusive) | in epoll, `EPOLLEXCLUSIVE` | all | 4.5 | five; the first in line while idle |
//! | [`gated`](Prefork::gated) | the same, unless they have 16 more than others | tokio | 4.5 | even for many connections that stay |
//! | [`rotating`](Prefork::rotating) | the same, then at the end of the line | all | 4.5 | even while idle, eight |
//! | [`herd`](Prefork::herd) | in epoll | all | 2.6 | the bad example: all are woken, one gets it |
//!
//! None needs a privilege. Unix sockets are served, too; `blocking` of several addresses, or of several threads, waits
//! as `exclusive`.
//!
//! # What it costs, and its limits
//!
//! * System calls per short connection in the worker: those above (accept4, recv, send, close, and what it
//!   waits with); none in the supervisor. CPU per short connection, as ratio to plain accept loops (8 workers,
//!   16 clients, one core, Linux 6.18): `blocking` 1.02 to 1.05, `exclusive` 1.08, `herd` 1.47.
//! * With 128 workers `exclusive` costs 0.85 times what `blocking` does: it asks the same few, whose caches are
//!   warm.
//! * `exclusive` asks workers in the order in which they began to watch: while they are idle, the first
//!   gets everything (400 of 400 sequential connections among four workers). Harmless for short
//!   connections; connections that stay it heaps on few workers.
//! * Under tokio a thread of its own waits for the listener in each worker, because an epoll that is watched
//!   by another loses `EPOLLEXCLUSIVE`. That is 5.2 context switches per connection (`herd`, without the thread:
//!   7.3, at the same CPU with eight workers); where each worker has a listener or channel of its own, 1.3. So
//!   prefer handoff or reuseport for event loops and short connections.
//! * Every worker holds listeners, so one that is hostile can shut them down for all. Where that matters: handoff.
//! * Nobody chooses the worker: no stickiness, no weights.

mod acceptor;
mod gates;
mod waiter;

use std::io;
use std::time::Duration;

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, RuntimeKind, Setup, Strategy, Unsupported, WorkerId,
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
    /// As suits the runtime.
    Suited,
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

    /// How workers of this runtime wait. Only one listener, on one lane, can be waited for in `accept(2)`.
    fn waiting(&self, runtime: RuntimeKind, listeners: usize) -> Waiting {
        let suited = match (self.waiting, runtime) {
            (Waiting::Suited, RuntimeKind::Tokio) => Waiting::Gated,
            (Waiting::Suited, _) => Waiting::Blocking,
            (asked, _) => asked,
        };
        match suited {
            Waiting::Blocking if listeners != 1 || runtime != RuntimeKind::Blocking => {
                Waiting::Exclusive
            }
            suited => suited,
        }
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
    /// Workers learn the fewest from the supervisor, which looks at once when a gate closes, and refreshes it
    /// every 5 ms while any is closed and connections come and go.
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

impl Default for Prefork {
    /// As suits the runtime, by measurement (8 workers, 16 clients, Linux 6.18):
    /// [`blocking`](Self::blocking) for workers that serve one connection at a time (1.02 to 1.05 times the
    /// CPU of a plain accept loop per short connection, where `exclusive` costs 1.08 times),
    /// [`gated`](Self::gated) for event loops (it costs what `exclusive` costs, and spreads connections that
    /// stay to within 16 of the fewest: even where each worker has hundreds, not where it has ten). Several
    /// addresses, or several threads: [`exclusive`](Self::exclusive).
    fn default() -> Self {
        Self::new(Waiting::Suited)
    }
}

impl Strategy for Prefork {
    fn name(&self) -> &'static str {
        "prefork"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        let listeners = plan.listeners.len() as u64;
        let refuse = |why: &str| Err(Unsupported(why.to_owned()));
        let waiting = self.waiting(plan.runtime, plan.listeners.len());
        match self.waiting {
            Waiting::Blocking if !plan.runtime.is_one_at_a_time() => {
                return refuse(
                    "`blocking` waits in accept(2), where an event loop cannot serve what it has; use the \
                     default, which suits itself to the runtime",
                );
            }
            Waiting::Gated if plan.runtime.is_one_at_a_time() => {
                return refuse(
                    "`gated` compares how many connections workers have, and one that serves one at a \
                     time never has more than that; use the default, which suits itself to the runtime",
                );
            }
            _ => {}
        }
        let waits_in_accept = waiting == Waiting::Blocking;
        // A worker holds each listener twice: as inherited until it is open, and as watched.
        Ok(Needs {
            supervisor_descriptors: listeners,
            // `blocking`: watched, waited on, kept, and what takes its place.
            worker_descriptors: 2 * listeners + if waits_in_accept { 3 } else { 0 },
            blocking_listeners: waits_in_accept,
        })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        self.waiting = self.waiting(setup.plan().runtime, setup.plan().listeners.len());
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
        Ok(match self.waiting(inherited.runtime(), inherited.listeners()) {
            Waiting::Blocking => Box::new(BlockingAcceptor::open(inherited)?),
            waiting => Box::new(PreforkAcceptor::open(inherited, waiting)?),
        })
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
