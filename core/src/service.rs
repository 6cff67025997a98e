//! A service: what to listen on, how many workers, and `run`.

use std::fmt;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::board::SLOTS_LIMIT;
use crate::error::Error;
use crate::handle::{Commands, Handle};
use crate::inherit::{self, Legacy};
use crate::listener::ListenSpec;
use crate::notice::Notice;
use crate::start::{Making, Program, Start};
use crate::strategy::{Needs, Plan, RuntimeKind, Strategy, Unsupported};
use crate::supervisor::{self, Job, backoff::Backoff, state::Settings};
use crate::sys;
use crate::worker::{self, Runtime};

/// Longest a worker may take to drain before it is killed.
///
/// 30 s, as gunicorn and systemd's default stop time of 90 s bracket it.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest a worker may take from its start until it is ready.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a worker may have something to do without getting anything done until it counts as hung.
///
/// 30 s, gunicorn's default for the same question: longer than a request should take.
pub const HUNG_AFTER: Duration = Duration::from_secs(30);

/// A network service to be run as worker processes under one supervisor.
///
/// [`run`](Self::run) is reached twice: in the process that you start, which becomes the supervisor, and
/// in each worker, which is the same program started again with the same arguments. So `main` runs up to
/// `run` in all of them: open files and connect to databases *in the handler's set-up*, or accept that
/// each process has its own.
///
/// Call `run` from the main thread and before other threads exist: it blocks SIGTERM, SIGINT, SIGHUP,
/// SIGTTIN, SIGTTOU and SIGCHLD in the calling thread, and workers die with the thread that started them.
pub struct Service {
    name: String,
    listeners: Vec<ListenSpec>,
    workers: u32,
    max_workers: u32,
    drain_timeout: Duration,
    start_timeout: Duration,
    detect_stopped: bool,
    hung_after: Option<Duration>,
    read_timeout: Option<Duration>,
    commands: Option<(Handle, Commands)>,
    start: Start,
    observer: Box<dyn FnMut(&Notice<'_>)>,
}

/// In which process [`Service::run`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one you started: the service has ended, no worker is left.
    Supervisor,
    /// A worker that has drained. Return from `main` soon.
    Worker,
}

impl Service {
    /// A service of this name (for logs and process titles), with one worker per available core and
    /// nothing to listen on yet.
    pub fn new(name: impl Into<String>) -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        Self {
            name: name.into(),
            listeners: Vec::new(),
            workers: cores.min(SLOTS_LIMIT),
            max_workers: 0,
            drain_timeout: DRAIN_TIMEOUT,
            start_timeout: START_TIMEOUT,
            detect_stopped: true,
            hung_after: Some(HUNG_AFTER),
            read_timeout: None,
            commands: None,
            start: Start::default(),
            observer: Box::new(|_| {}),
        }
    }

    /// Adds an address to listen on.
    #[must_use]
    pub fn listen(mut self, spec: impl Into<ListenSpec>) -> Self {
        self.listeners.push(spec.into());
        self
    }

    /// How many worker processes to run.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// The most workers there may ever be; as many as at the start, if not set. What each slot needs (a
    /// listener of its own, under reuseport) is there from the start, so that growing and shrinking
    /// resets nothing.
    #[must_use]
    pub fn max_workers(mut self, workers: u32) -> Self {
        self.max_workers = workers;
        self
    }

    /// Longest a worker may take to finish what it serves when it has to leave; [`DRAIN_TIMEOUT`] if
    /// not set. A time in which the supervisor itself was stopped counts as 2 s at most; so it does for
    /// [`start_timeout`](Self::start_timeout).
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Longest a worker may take from its start until it is ready; [`START_TIMEOUT`] if not set.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Whether a worker that a signal stopped (SIGSTOP) gets nothing until it goes on, and
    /// what waits for it is taken over. On by default; tests of what happens otherwise turn it off.
    #[must_use]
    pub fn detect_stopped(mut self, on: bool) -> Self {
        self.detect_stopped = on;
        self
    }

    /// How long a worker may have something to do without getting anything done until it counts as hung;
    /// [`HUNG_AFTER`] if not set; `None`, or zero, for never.
    ///
    /// A hung worker gets no new connections, and what waits for it is taken over; what it serves it
    /// keeps, and when it goes on it is as before. One that serves one connection at a time hangs when
    /// a call of its handler takes so long, whatever it keeps beyond its calls, or when it is in none, does
    /// not run, and a connection has waited for it alone so long (a debugger holds it, or a freezer); one with an event loop when
    /// that does not turn, whatever it serves.
    #[must_use]
    pub fn hung_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.hung_after = time.into().filter(|time| !time.is_zero());
        self
    }

    /// Longest a blocking read from a connection waits before it fails with `WouldBlock`; not set: for
    /// ever, so that a silent client keeps a one-at-a-time worker. So does one that does not read, in a
    /// write: that has no limit here, but a handler can set one for its connection
    /// ([`Stream::set_write_timeout`](crate::Stream::set_write_timeout)).
    ///
    /// Corresponds to `SO_RCVTIMEO` on the listener, which what it accepts inherits: it costs no call per
    /// connection. What a Unix socket accepts inherits nothing, and is told, at one call.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = Some(timeout);
        self
    }

    /// How workers come to be: this program started again, if not set.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// A handle that scales, restarts and stops the service while it runs, from another thread or from the
    /// observer.
    ///
    /// # Errors
    /// That of `eventfd(2)`.
    pub fn handle(&mut self) -> Result<Handle, Error> {
        let (handle, _) = match &mut self.commands {
            Some(commands) => commands,
            none => none.insert(Commands::new().map_err(|e| Error::system("eventfd", e))?),
        };
        Ok(handle.clone())
    }

    /// Supervisor · calls `observer` for everything that happens. It must not block: the supervisor
    /// waits for it.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Notice<'_>) + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Runs the service: in the process you started as its supervisor, in the others as a worker.
    ///
    /// The supervisor returns when the service was ended by SIGTERM or SIGINT and every worker is gone. A
    /// second one does not wait for what is in service: it kills, and what returns is the same, for the
    /// service has ended as it was asked to.
    /// SIGHUP makes a rolling restart: slot by slot, each old worker leaves when its successor is ready.
    /// SIGTTIN asks for one worker more, SIGTTOU for one less, within 1 and
    /// [`max_workers`](Self::max_workers); wait for [`Notice::Scaled`] between two, because signals do not
    /// queue. Sent to a worker, these have no effect: the supervisor decides who leaves. In a worker
    /// that was started again `main` sees none of them: they are blocked until `run`, which unblocks the
    /// first three.
    ///
    /// # Errors
    /// [`Error`]. Before the first worker is started, everything that can be checked is checked; after an
    /// error no worker is left.
    pub fn run(
        mut self,
        mut strategy: impl Strategy,
        runtime: impl Runtime,
    ) -> Result<Role, Error> {
        let plan = self.plan(runtime.kind(), false);
        let commands = self.commands.take().map(|(_, commands)| commands);
        if let Some(legacy) = inherit::read().map_err(Error::Inherited)? {
            drop(commands);
            worker::run(legacy, &strategy, runtime, &self.name, self.read_timeout)?;
            return Ok(Role::Worker);
        }
        // In a forked worker, which is a copy of this process, the runtime is its own to use up.
        let mut runtime = Some(runtime);
        let (name, read_timeout) = (self.name.clone(), self.read_timeout);
        let mut in_fork = |legacy: Legacy, strategy: &dyn Strategy| match runtime.take() {
            Some(runtime) => worker::run(legacy, strategy, runtime, &name, read_timeout),
            None => Ok(()),
        };
        let making = Making::Own(self.start);
        self.supervise(&plan, &making, &mut strategy, &mut in_fork, commands)?;
        Ok(Role::Supervisor)
    }

    /// Runs the service with another program as its worker, in any language, that takes its listeners by
    /// the `LISTEN_FDS` protocol: from descriptor 3 on, in the order of the service, blocking, named in
    /// `LISTEN_FDNAMES`; `LISTEN_PID` is the worker. Returns as [`run`](Self::run) does.
    ///
    /// It counts as ready once it was started, and is asked to leave by SIGTERM; it has to stop accepting
    /// then, finish, and exit. It knows nothing of boards, so loads and hangs are not seen. One that exits
    /// at once is started again and again, after a back-off. Only from a process with a single thread, and
    /// under prefork: elsewhere it would have to be handed connections, or to cover for others.
    ///
    /// # Errors
    /// As [`run`](Self::run); a strategy whose workers are given connections instead of listeners is
    /// refused, and so is a program that is not there.
    pub fn run_program(
        mut self,
        mut strategy: impl Strategy,
        program: Program,
    ) -> Result<(), Error> {
        if !program.exists() {
            return Err(Error::NoProgram(program.path));
        }
        let plan = self.plan(RuntimeKind::Blocking, true);
        let commands = self.commands.take().map(|(_, commands)| commands);
        let making = Making::Foreign(program);
        self.supervise(&plan, &making, &mut strategy, &mut |_, _| Ok(()), commands)
    }

    /// Whether `strategy` could [`run`](Self::run) this service on such a runtime, before anything is
    /// opened.
    ///
    /// # Errors
    /// The strategy's reason, and what would fit.
    pub fn fits(&self, strategy: &dyn Strategy, runtime: RuntimeKind) -> Result<(), Unsupported> {
        strategy.fits(&self.plan(runtime, false)).map(drop)
    }

    /// Whether `strategy` could [`run_program`](Self::run_program), before anything is opened.
    ///
    /// # Errors
    /// The strategy's reason, and what would fit.
    pub fn fits_program(&self, strategy: &dyn Strategy) -> Result<(), Unsupported> {
        strategy.fits(&self.plan(RuntimeKind::Blocking, true)).map(drop)
    }

    fn plan(&self, runtime: RuntimeKind, is_foreign: bool) -> Plan {
        Plan {
            listeners: self.listeners.clone(),
            workers: self.workers,
            slots: self.max_workers.max(self.workers),
            runtime,
            is_foreign,
            read_timeout: self.read_timeout,
        }
    }

    fn supervise(
        &mut self,
        plan: &Plan,
        making: &Making,
        strategy: &mut dyn Strategy,
        in_fork: &mut dyn FnMut(Legacy, &dyn Strategy) -> Result<(), Error>,
        commands: Option<Commands>,
    ) -> Result<(), Error> {
        self.check(plan)?;
        let threads = sys::threads().map_err(|e| Error::system("counting threads", e))?;
        if *making != Making::Own(Start::Again) && threads > 1 {
            return Err(Error::Threads(threads));
        }
        let needs = strategy.fits(plan).map_err(|reason| Error::Unsupported {
            strategy: strategy.name().to_owned(),
            reason,
        })?;
        check_descriptors(plan, needs)?;
        let settings = Settings {
            workers: plan.workers,
            slots: plan.slots,
            drain_timeout: self.drain_timeout,
            start_timeout: self.start_timeout,
            backoff: Backoff::default(),
            progress_after: Duration::from_secs(10),
            boot_failures_allowed: 3,
        };
        supervisor::run(Job {
            service: &self.name,
            making,
            in_fork,
            plan,
            needs,
            settings,
            detect_stopped: self.detect_stopped,
            hung_after: self.hung_after,
            commands,
            strategy,
            observer: &mut *self.observer,
        })
    }

    fn check(&self, plan: &Plan) -> Result<(), Error> {
        if plan.workers == 0 || plan.slots > SLOTS_LIMIT {
            let asked = if plan.slots > SLOTS_LIMIT { plan.slots } else { plan.workers };
            return Err(Error::Workers { asked, most: SLOTS_LIMIT });
        }
        if self.max_workers > 0 && self.max_workers < self.workers {
            return Err(Error::MaxWorkers { first: self.workers, most: self.max_workers });
        }
        if plan.listeners.is_empty() {
            return Err(Error::NoListener);
        }
        for (index, spec) in plan.listeners.iter().enumerate() {
            if plan.listeners[..index].iter().any(|other| other.name() == spec.name()) {
                return Err(Error::DuplicateListener(spec.name().to_owned()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("listeners", &self.listeners)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// Refuses what could only half start: better one clear error now than a service that lacks workers.
fn check_descriptors(plan: &Plan, needs: Needs) -> Result<(), Error> {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    let workers = u64::from(plan.slots);
    // 0–2, epoll, signalfd, kick; a pidfd and a control channel per worker, one more worker during a
    // rolling restart; while one is started: its descriptors, two pages, its channel, exec's own pipe.
    // And the lock beside each Unix socket.
    let locks = plan.listeners.iter().filter(|spec| spec.address().path().is_some()).count() as u64;
    let supervisor = locks
        + 6
        + 2 * (workers + 1)
        + needs.supervisor_descriptors
        + needs.worker_descriptors
        + 10;
    // 0–2, epoll, control, kick; a reactor's four; the reserve of `Room`; one connection.
    // Each lane beyond the first has its share of the strategy's, an epoll, a relay's two ends, and one
    // connection.
    let lanes = u64::from(plan.runtime.lanes());
    let worker = 6
        + 4
        + needs.worker_descriptors
        + 8
        + 1
        + lanes.saturating_sub(1).saturating_mul(needs.worker_descriptors + 4);
    for (who, needed) in [("the supervisor", supervisor), ("each worker", worker)] {
        if needed > limit {
            return Err(Error::Descriptors { who, needed, limit, workers: plan.slots });
        }
    }
    Ok(())
}
