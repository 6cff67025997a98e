//! The trait: how connections reach workers.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::time::Duration;

use crate::acceptor::{Acceptor, Dispatcher};
use crate::board::View;
use crate::id::{SlotId, WorkerId};
use crate::inherit::{Inherit, Inherited};
use crate::listener::ListenSpec;
use crate::pool::{Listener, Pool, waiting_on};

/// How connections reach workers.
///
/// One value lives in the supervisor. A worker is the same program started again, so it builds the value
/// anew and [`open`](Self::open) runs on *that* one: constructors open nothing, and what `prepare`
/// learnt reaches a worker only as inherited descriptors.
///
/// Each method says where it runs: *Supervisor* or *Worker*.
pub trait Strategy: fmt::Debug {
    /// Short, lower case, as in `prefork`.
    fn name(&self) -> &str;

    /// Supervisor · before anything binds: can this plan be served, and what does it need?
    ///
    /// # Errors
    /// [`Unsupported`] says what does not fit and what would.
    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported>;

    /// Supervisor · once, before the first spawn: takes listeners from the pool.
    ///
    /// # Errors
    /// Whatever the system says; the service does not start.
    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()>;

    /// Supervisor · before each spawn: the descriptors this worker inherits, by name. They are
    /// duplicates, dropped after the spawn.
    ///
    /// # Errors
    /// Whatever the system says; the slot is tried again after a back-off.
    fn provision(&mut self, setup: &mut Setup<'_>, worker: WorkerId) -> io::Result<Inherit>;

    /// Worker · once per lane ([`RuntimeKind::lanes`]): turns what was inherited into a source of connections.
    ///
    /// # Errors
    /// Whatever the system says; the worker ends before it was ready.
    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>>;

    /// Supervisor · the worker reported ready.
    ///
    /// # Errors
    /// Whatever the system says; logged, and the worker is replaced.
    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        let _ = worker;
        Ok(())
    }

    /// Supervisor · reversible: the worker was stopped, hangs, or ends by itself (`on`); or it goes on. Never
    /// `false` for a dead one.
    ///
    /// # Errors
    /// Whatever the system says; logged.
    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        let _ = (worker, on);
        Ok(())
    }

    /// Supervisor · before the worker is told to drain; final.
    ///
    /// # Errors
    /// Whatever the system says; logged. A worker that is already gone is no error.
    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        let _ = worker;
        Ok(())
    }

    /// Supervisor · after the worker was reaped, before [`release`](Self::release): how many connections it
    /// had taken, where the supervisor knows that by itself. A worker's page cannot show what it had
    /// received and not yet counted when it was killed. `None`: what its page says.
    fn taken(&self, worker: WorkerId) -> Option<u64> {
        let _ = worker;
        None
    }

    /// Supervisor · after the worker was reaped, or its spawn failed, or `provision` itself; exactly once per
    /// `provision`.
    fn release(&mut self, worker: WorkerId) {
        let _ = worker;
    }

    /// Supervisor · slots whose own listeners nobody serves now. Compared after every admit, avoid,
    /// retire, release and upkeep; what changed is told to all ready workers, which then cover these slots.
    fn uncovered(&self) -> Vec<SlotId> {
        Vec::new()
    }

    /// Supervisor · from time to time, of a worker that serves one at a time and is idle: how many connections
    /// wait where, as long as it is not avoided, nobody else takes them. It hangs if some do and it does not even run.
    ///
    /// By default those in the queues of its slot's own listeners, which is 0 where there are none.
    fn waiting_for(&self, setup: &Setup<'_>, worker: WorkerId) -> u64 {
        waiting_on(setup.slot_listeners(worker.slot).iter())
    }

    /// Supervisor · its share of the data path, for strategies where the supervisor accepts.
    fn dispatcher(&mut self) -> Option<&mut dyn Dispatcher> {
        None
    }

    /// Supervisor · what has to be looked after from time to time: called before the first spawn, after
    /// every kick, when workers came, left or are avoided, and when the time it returned last is over.
    /// `None`: no time. Workers put into `pokes` look at their boards and sources.
    fn upkeep(&mut self, pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        let _ = pokes;
        None
    }

    /// Supervisor · after `prepare`: what whoever runs the service should know, such as a fallback that
    /// was taken. Each sentence is logged once, and told as a [`Notice`](crate::Notice).
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<S: Strategy + ?Sized> Strategy for Box<S> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        (**self).fits(plan)
    }
    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        (**self).prepare(setup)
    }
    fn provision(&mut self, setup: &mut Setup<'_>, worker: WorkerId) -> io::Result<Inherit> {
        (**self).provision(setup, worker)
    }
    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        (**self).open(inherited)
    }
    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        (**self).admit(worker)
    }
    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        (**self).avoid(worker, on)
    }
    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        (**self).retire(worker)
    }
    fn taken(&self, worker: WorkerId) -> Option<u64> {
        (**self).taken(worker)
    }
    fn release(&mut self, worker: WorkerId) {
        (**self).release(worker);
    }
    fn uncovered(&self) -> Vec<SlotId> {
        (**self).uncovered()
    }
    fn waiting_for(&self, setup: &Setup<'_>, worker: WorkerId) -> u64 {
        (**self).waiting_for(setup, worker)
    }
    fn dispatcher(&mut self) -> Option<&mut dyn Dispatcher> {
        (**self).dispatcher()
    }
    fn upkeep(&mut self, pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        (**self).upkeep(pokes)
    }
    fn remarks(&self) -> Vec<String> {
        (**self).remarks()
    }
}

/// What a service wants to be, as a strategy sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Where to listen.
    pub listeners: Vec<ListenSpec>,
    /// Workers to run at first.
    pub workers: u32,
    /// Slots there are: the most workers that may ever run. At least `workers`.
    pub slots: u32,
    /// How workers serve.
    pub runtime: RuntimeKind,
    /// Workers are another program, which knows its listeners by `LISTEN_FDS` and nothing else.
    pub is_foreign: bool,
    /// Longest a blocking read waits; the pool sets it on every listener.
    pub read_timeout: Option<Duration>,
}

/// How a worker serves its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RuntimeKind {
    /// One connection at a time, with blocking calls.
    Blocking,
    /// One connection at a time on each of so many threads, with blocking calls.
    Threads(NonZeroU32),
    /// Many at a time, on a current-thread tokio runtime.
    Tokio,
}

impl RuntimeKind {
    /// Whether each lane of a worker serves one connection at a time.
    #[must_use]
    pub fn is_one_at_a_time(self) -> bool {
        matches!(self, Self::Blocking | Self::Threads(_))
    }

    /// How many lanes a worker accepts on.
    #[must_use]
    pub fn lanes(self) -> u32 {
        match self {
            Self::Threads(threads) => threads.get(),
            Self::Blocking | Self::Tokio => 1,
        }
    }

    /// Whether connections have to be non-blocking.
    #[must_use]
    pub fn wants_nonblocking(self) -> bool {
        self == Self::Tokio
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocking => f.write_str("blocking"),
            Self::Threads(threads) => write!(f, "threads:{threads}"),
            Self::Tokio => f.write_str("tokio"),
        }
    }
}

impl FromStr for RuntimeKind {
    type Err = String;

    /// `blocking`, `threads:N` or `tokio`, as it is displayed.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "blocking" => Ok(Self::Blocking),
            None if text == "tokio" => Ok(Self::Tokio),
            Some(("threads", number)) => number
                .parse()
                .map(Self::Threads)
                .map_err(|_| format!("`{number}` is no number of threads; for example threads:4")),
            _ => Err("expected blocking, threads:N or tokio".to_owned()),
        }
    }
}

/// What a strategy needs to serve a plan; checked before anything binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Descriptors the supervisor holds for the strategy.
    pub supervisor_descriptors: u64,
    /// Descriptors each worker holds for the strategy before its first connection.
    pub worker_descriptors: u64,
    /// Workers wait in `accept(2)` itself: the listeners are blocking. `O_NONBLOCK` belongs to the open
    /// file, which all share, so it is decided once, here.
    pub blocking_listeners: bool,
}

/// Why a strategy cannot serve a plan: what does not fit, and what would.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// What a strategy works with in the supervisor: the plan, the pool of listeners, the boards.
#[derive(Debug)]
pub struct Setup<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) needs: Needs,
    pub(crate) pool: &'a mut Pool,
    /// The board of the worker being provisioned.
    pub(crate) view: Option<View>,
}

impl Setup<'_> {
    /// The plan, as `fits` saw it.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.plan
    }

    /// Supervisor · in `prepare`: binds one listener for each address of the plan. Non-blocking unless
    /// [`Needs`] say otherwise; owned by the pool for the life of the supervisor.
    ///
    /// # Errors
    /// That of `bind(2)` or `listen(2)`, with the address and what to do about it.
    pub fn listen(&mut self) -> io::Result<()> {
        self.pool.listen(self.plan, self.needs.blocking_listeners)
    }

    /// Supervisor · in `prepare`: binds one listener per slot for each address of the plan, as members
    /// of one `SO_REUSEPORT` group (Linux 3.9), in slot order. Non-blocking, owned by the pool for the
    /// life of the supervisor: nothing is ever closed, so no queue is reset and no index moves.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); a second instance is refused with `EADDRINUSE`.
    pub fn listen_per_slot(&mut self) -> io::Result<()> {
        self.pool.listen_per_slot(self.plan)
    }

    /// The plain listeners, in the order of the plan.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.pool.plain
    }

    /// The listeners of one slot, in the order of the plan.
    #[must_use]
    pub fn slot_listeners(&self, slot: SlotId) -> &[Listener] {
        self.pool.by_slot.get(slot.index()).map_or(&[], Vec::as_slice)
    }

    /// Supervisor · in `provision`: the board of the worker being provisioned.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.view.clone()
    }
}

/// A duplicate of a descriptor for a worker to inherit.
pub(crate) fn duplicate(fd: impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
