//! The strategy trait, the supervisor and the worker runtimes of **Forkherd**: a network service as N
//! worker *processes* under one supervisor, with the way connections reach them chosen like any other
//! dependency. Linux 5.11 or newer.
//!
//! ```no_run
//! use std::io::Write;
//! use forkherd_core::{Blocking, Connection, Error, ListenSpec, Service, Strategy};
//!
//! # fn strategy() -> Box<dyn Strategy> { unimplemented!("forkherd-prefork, -handoff or -reuseport") }
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Service::new("hello")
//!         .listen("127.0.0.1:8080".parse::<ListenSpec>()?)
//!         .workers(4)
//!         .run(strategy(), Blocking::new(|mut client: Connection| {
//!             let worker = client.worker();
//!             writeln!(client, "hello {} from worker {worker}", client.peer())
//!         }))?;
//!     Ok(())
//! }
//! ```
//!
//! `strategy()` is one of `Prefork::default()`, `Handoff::round_robin()` and `Reuseport::hash()` of the
//! crates `forkherd-prefork`, `forkherd-handoff` and `forkherd-reuseport`, or your own [`Strategy`].
//!
//! # What runs where
//!
//! ```text
//!  you ──► main ──► Service::run ══ supervisor: Strategy (prepare, provision, admit, avoid, retire, release)
//!                                     │  spawns this program again, once per slot
//!                                     ▼
//!          main ──► Service::run ══ worker:     Strategy::open ─► Acceptor ─► runtime ─► your handler
//! ```
//!
//! So `main` runs up to `run` in every process; after it returns, [`Role`] says in which one you are.
//!
//! | phase | who | what a strategy does |
//! |---|---|---|
//! | [`fits`](Strategy::fits) | supervisor | says whether it can serve this plan, before anything binds |
//! | [`prepare`](Strategy::prepare) | supervisor | takes its listeners from the pool, which owns them for life |
//! | [`provision`](Strategy::provision) | supervisor | names the descriptors that a worker inherits |
//! | [`open`](Strategy::open) | worker | makes an [`Acceptor`] of them |
//! | [`admit`](Strategy::admit) | supervisor | the worker is ready: it may get connections |
//! | [`avoid`](Strategy::avoid) | supervisor | it is stopped or hangs, or goes on: reversible |
//! | [`waiting_for`](Strategy::waiting_for) | supervisor | does somebody wait for it, and for nobody else? |
//! | [`retire`](Strategy::retire) | supervisor | it is to leave: final |
//! | [`release`](Strategy::release) | supervisor | it was reaped |
//! | [`dispatcher`](Strategy::dispatcher) | supervisor | accepts and hands on, where that is the strategy |
//!
//! # What you may rely on
//!
//! * A listener belongs to the supervisor: a worker that dies loses what it had taken, never what was
//!   queued. Its slot is refilled; until then its siblings take what would have been its share.
//! * SIGTERM and SIGINT drain and end the service, SIGHUP replaces the workers slot by slot, SIGTTIN and SIGTTOU
//!   add and take one. No worker
//!   outlives its supervisor, however that ends.
//! * Nothing a worker writes can harm the supervisor: they share counters, and the supervisor clamps them.
//!   But a worker that holds listeners (prefork, reuseport) can `shutdown(2)` them for all; under handoff none does.
//!
//! # Limits
//!
//! * Linux only: `EPOLLEXCLUSIVE` (4.5), pidfds (5.3), `F_SEAL_FUTURE_WRITE` (5.1), `close_range` with
//!   close-on-exec (5.11).
//! * TCP, and stream Unix sockets where the strategy can share one listener (prefork, handoff); at most
//!   [`SLOTS_LIMIT`] workers.
//! * A connection that a worker has accepted or received dies with that worker.
//!
//! # Features
//!
//! * `tokio`: the runtime `Tokio`, many connections at a time on an event loop (its page has an example;
//!   no `#[tokio::main]`); without it there are [`Blocking`] and [`Threads`].
//! * `conformance`: the suite that every strategy has to pass, for `harness = false` tests.

mod acceptor;
mod board;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connection;
mod error;
mod handle;
mod id;
mod inherit;
mod listener;
mod listener_set;
mod notice;
mod pool;
mod service;
mod start;
mod strategy;
mod stream;
mod supervisor;
mod sys;
mod unix_path;
mod worker;

pub use acceptor::{
    AcceptFault, Acceptor, Dispatcher, Interest, Load, Source, SourceId, Waiter, Wake,
};
pub use board::{Counts, Kick, Leaving, SLOTS_LIMIT, View};
pub use connection::{Connection, ListenerName, Meter, Peer, Serving, WorkerHandle};
pub use error::Error;
pub use handle::Handle;
pub use id::{SlotId, WorkerId};
pub use inherit::{ENV_WORKER, Inherit, Inherited};
pub use listener::{Address, ListenSpec, ListenSpecError, RefusedText, UNIX_MODE};
pub use listener_set::ListenerSet;
pub use notice::Notice;
pub use pool::{BACKLOG, Listener};
pub use service::{DRAIN_TIMEOUT, HUNG_AFTER, Role, START_TIMEOUT, Service};
pub use start::{Program, Start};
pub use strategy::{Needs, Plan, RuntimeKind, Setup, Strategy, Unsupported};
pub use stream::Stream;
pub use supervisor::ExitStatus;
pub use sys::{Interruptible, are_free, queue_bound, queue_len};
#[cfg(feature = "tokio")]
pub use worker::{AsyncConnection, AsyncStream, Tokio};
pub use worker::{Blocking, Runtime, Threads};
