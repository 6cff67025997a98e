//! The suite that every strategy has to pass, on every runtime.
//!
//! A test binary with `harness = false` whose `main` is
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use forkherd_core::RuntimeKind;
//! use forkherd_core::conformance::{self, Queue, Spread, Subject};
//! # use forkherd_core::Strategy;
//! # fn mine() -> Box<dyn Strategy> { unimplemented!() }
//!
//! fn main() -> ExitCode {
//!     conformance::main(Subject {
//!         make: || mine(),
//!         runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
//!         spread: |_runtime| Spread::Any,
//!         queue: Queue::Shared,
//!     })
//! }
//! ```
//!
//! ```text
//! test process ──starts──► the same binary as a service ──starts──► the same binary as its workers
//!   trials, clients  ◄─────────── a line per notice (stdout), its log (stderr)
//! ```
//!
//! What a service is to be stands in the environment (`FORKHERD_CONFORMANCE`), which its workers inherit; so `main` of
//! the binary looks there first. Trials wait for what services say and for what `/proc` shows, never for
//! time to pass; the service's log may hold no warning that the trial did not expect.
//!
//! Beside libtest's own options (`--list`, a filter, `--test-threads`), the environment may ask for more:
//! `FORKHERD_CONFORMANCE_KILLS` (10), `FORKHERD_CONFORMANCE_QUEUES` (2) and `FORKHERD_CONFORMANCE_ORPHANS`
//! (4) are the rounds of the trials that kill workers under load, kill them with a measured queue, and
//! kill the supervisor; `FORKHERD_CONFORMANCE_CONNECTIONS` are the fewest made during the first of them
//! (20 for each kill).

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Completion, Trial};

use crate::strategy::{RuntimeKind, Strategy};

mod alone;
mod client;
mod herd;
mod journal;
mod load;
mod proc;
mod service;
mod spec;
mod stage;
mod trials;

pub use self::alone::Alone;
use self::stage::Stage;

/// A strategy and what it promises.
#[derive(Clone, Copy)]
pub struct Subject {
    /// A fresh value; called in the supervisor and in every worker.
    pub make: fn() -> Box<dyn Strategy>,
    /// The runtimes it can serve.
    pub runtimes: &'static [RuntimeKind],
    /// How it spreads connections that come one after another over idle workers, on a runtime.
    pub spread: fn(RuntimeKind) -> Spread,
    /// Where connections wait that no worker has taken.
    pub queue: Queue,
}

/// How a strategy spreads connections that come one after another over idle workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// Each worker in turn.
    RoundRobin,
    /// By a hash of the client's address: even, but for chance (χ²).
    Hash,
    /// The kernel asks workers in a fixed order: most go to one, which is a promise to nobody, but known.
    FirstInLine,
    /// No promise, but of those that stay no worker has more than about so many above the one with the fewest.
    Level(u64),
    /// No promise.
    Any,
}

/// Where connections wait that no worker has taken, so that the suite can build up a queue and measure it.
#[derive(Clone, Copy)]
pub enum Queue {
    /// In the accept queue of one listener for all.
    Shared,
    /// In the accept queues of one listener per slot. The supervisor's copies of them have ascending
    /// descriptor numbers in slot order.
    PerSlot,
    /// In a channel to each worker, which holds no more than so many.
    Channel {
        /// The strategy with channels of that length.
        with_credits: fn(u32) -> Box<dyn Strategy>,
    },
    /// As [`Channel`](Self::Channel), but what it holds and what its worker has not finished are no more than so many
    /// together, on event loops too: unless more is asked for, a worker has one connection at a time.
    UnfinishedChannel {
        /// The strategy with so many for each worker.
        with_credits: fn(u32) -> Box<dyn Strategy>,
    },
    /// In one channel to all workers, which holds no more than so many for each slot.
    SharedChannel {
        /// The strategy with a channel of that length.
        with_credits: fn(u32) -> Box<dyn Strategy>,
    },
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "Shared",
            Self::PerSlot => "PerSlot",
            Self::Channel { .. } => "Channel",
            Self::UnfinishedChannel { .. } => "UnfinishedChannel",
            Self::SharedChannel { .. } => "SharedChannel",
        })
    }
}

impl Queue {
    /// Whether each worker has a channel of its own.
    fn is_of_channels(self) -> bool {
        matches!(self, Self::Channel { .. } | Self::UnfinishedChannel { .. })
    }
}

/// The `main` of a conformance test: runs the suite, or, in a process that a trial started, the service
/// it is about. Return its result at once.
#[must_use]
pub fn main(subject: Subject) -> ExitCode {
    if let Some(spec) = std::env::var_os(spec::ENV) {
        return service::run(&subject, &spec.to_string_lossy());
    }
    let mut arguments = Arguments::from_args();
    // More would disturb each other: trials measure who gets what, on machines with two cores, too.
    let threads = arguments.test_threads.unwrap_or(2).min(2);
    arguments.test_threads = Some(threads);

    let skipped = Arc::new(AtomicUsize::new(0));
    let mut all = Vec::new();
    for &runtime in subject.runtimes {
        for trial in trials::all().into_iter().filter(|trial| trial.suits(subject.queue, runtime)) {
            let skipped = Arc::clone(&skipped);
            let name = format!("{runtime}::{}", trial.name);
            all.push(Trial::ignorable_test(name.clone(), move || {
                let outcome = Stage::new(subject, runtime, name).perform(trial.run);
                if let Ok(Completion::Ignored { .. }) = outcome {
                    skipped.fetch_add(1, Ordering::Relaxed);
                }
                outcome
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, all);
    let skipped = skipped.load(Ordering::Relaxed);
    if skipped > 0 {
        // Nobody reads it: then nobody misses it.
        let _ = writeln!(std::io::stderr(), "skipped: {skipped}");
    }
    conclusion.exit_code()
}
