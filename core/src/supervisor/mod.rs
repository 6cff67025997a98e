//! The supervisor: one thread, one epoll, everything that happens to the workers.
//!
//! `state` decides, this loop performs. It watches a signalfd, a pidfd per worker, a control channel per
//! worker, the kick (an eventfd that workers write when the dispatcher starves) and the dispatcher's
//! sources. It never sleeps, never blocks on a worker, and never reads a byte that a client sent.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll::{self, CreateFlags, Event as EpollEvent, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::time::Timespec;

use self::clock::Clock;
pub use self::process::ExitStatus;
use self::process::{Change, Kit, Process, Spawner};
use self::pulse::{Pulse, Rule};
use self::state::{Action, Event, KillReason, Outcome, Settings, State};
use crate::acceptor::{AcceptFault, Interest, SourceId, Streak, Wake};
use crate::board::{Board, Leaving, View};
use crate::error::Error;
use crate::handle::{Command, Commands};
use crate::id::{SlotId, WorkerId};
use crate::inherit::Legacy;
use crate::notice::Notice;
use crate::pool::Pool;
use crate::start::{Making, Start};
use crate::strategy::{Needs, Plan, Setup, Strategy};
use crate::worker::{QUITS, READY};

pub(crate) mod backoff;
mod clock;
mod process;
mod pulse;
pub(crate) mod state;

/// Most connections handed on between two looks at everything else.
const DISPATCH_BUDGET: u32 = 64;
/// Events taken in one wait.
const EVENTS: usize = 64;

/// What the supervisor is to run.
pub(crate) struct Job<'a> {
    pub(crate) service: &'a str,
    pub(crate) making: &'a Making,
    /// What a forked worker does.
    pub(crate) in_fork: &'a mut dyn FnMut(Legacy, &dyn Strategy) -> Result<(), Error>,
    pub(crate) plan: &'a Plan,
    pub(crate) needs: Needs,
    pub(crate) settings: Settings,
    pub(crate) detect_stopped: bool,
    pub(crate) hung_after: Option<Duration>,
    pub(crate) commands: Option<Commands>,
    pub(crate) strategy: &'a mut dyn Strategy,
    pub(crate) observer: &'a mut dyn FnMut(&Notice<'_>),
}

/// Runs the service until it is stopped; every worker is gone when this returns.
pub(crate) fn run(job: Job<'_>) -> Result<(), Error> {
    let mut supervisor = Supervisor::new(job)?;
    let old_mask = supervisor.block_signals()?;
    let old_actions = crate::sys::gather_signals(&our_signals());
    let old_actions = old_actions.map_err(|e| Error::system("sigaction", e))?;
    let result = supervisor.run();
    let scattered = crate::sys::scatter_signals(&old_actions);
    // What came after the end was decided is about a service that is gone; unread, it would end this
    // process as soon as the mask is lifted.
    while let Ok(Some(_)) = supervisor.signals.read_signal() {}
    drop(supervisor);
    old_mask.thread_set_mask().map_err(|e| Error::system("restoring the signal mask", e))?;
    scattered.map_err(|e| Error::system("sigaction", e))?;
    result
}

struct Supervisor<'a> {
    job: Job<'a>,
    state: State,
    /// What its deadlines, and that of the ending, go by.
    clock: Clock,
    pool: Pool,
    spawner: Spawner,
    epoll: OwnedFd,
    signals: SignalFd,
    kick: OwnedFd,
    processes: BTreeMap<WorkerId, Process>,
    /// What all ready workers were last told to cover.
    covered: Vec<SlotId>,
    /// It may have changed since. Looked at once per turn of the loop, however many workers came or went.
    cover_is_stale: bool,
    /// A wake-up may have died.
    poke_is_due: bool,
    interest: Interest,
    joined: Vec<bool>,
    dispatch_paused_until: Option<Instant>,
    /// When the strategy wants to look after things.
    upkeep_at: Option<Instant>,
    /// When to look whether workers hang.
    pulse_at: Option<Instant>,
    streak: Streak,
    /// The service was asked to end while the dispatcher still had something to hand on.
    ending_since: Option<Instant>,
    outcome: Option<Outcome>,
    /// Why a worker could not be started, the last time.
    spawn_error: Option<io::Error>,
}

/// What an epoll event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Signals,
    Kick,
    Commands,
    Exit(WorkerId),
    Control(WorkerId),
    Source(SourceId),
}

impl Token {
    fn pack(self) -> EventData {
        let worker = |kind: u64, id: WorkerId| {
            kind << 56 | u64::from(id.slot.0) << 32 | u64::from(id.generation)
        };
        EventData::new_u64(match self {
            Self::Signals => 0,
            Self::Kick => 1 << 56,
            Self::Exit(id) => worker(2, id),
            Self::Control(id) => worker(3, id),
            Self::Source(id) => 4 << 56 | id as u64,
            Self::Commands => 5 << 56,
        })
    }

    fn unpack(data: u64) -> Option<Self> {
        let low = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        let slot = u32::try_from(data >> 32 & 0x00ff_ffff).ok()?;
        let worker = WorkerId { slot: SlotId(slot), generation: low };
        Some(match data >> 56 {
            0 => Self::Signals,
            1 => Self::Kick,
            2 => Self::Exit(worker),
            3 => Self::Control(worker),
            4 => Self::Source(low as usize),
            5 => Self::Commands,
            _ => return None,
        })
    }
}

impl<'a> Supervisor<'a> {
    fn new(job: Job<'a>) -> Result<Self, Error> {
        let mut pool = Pool::default();
        let mut setup = Setup { plan: job.plan, needs: job.needs, pool: &mut pool, view: None };
        job.strategy.prepare(&mut setup).map_err(Error::Prepare)?;
        for text in job.strategy.remarks() {
            tracing::warn!(strategy = job.strategy.name(), "remark: {text}");
            (job.observer)(&Notice::Remark { text: &text });
        }

        let failed = |e: Errno| Error::system("setting up the supervisor", e);
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        let signals =
            SignalFd::with_flags(&our_signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .map_err(|e| Error::system("signalfd", e))?;
        epoll::add(&epoll, &signals, Token::Signals.pack(), EventFlags::IN).map_err(failed)?;
        epoll::add(&epoll, &kick, Token::Kick.pack(), EventFlags::IN).map_err(failed)?;
        if let Some(commands) = &job.commands {
            epoll::add(&epoll, commands.bell(), Token::Commands.pack(), EventFlags::IN)
                .map_err(failed)?;
        }

        let sources = job.strategy.dispatcher().map_or(0, |d| d.sources().len());
        let heartbeat = job.hung_after.map(Rule::period);
        let spawner = Spawner::new(job.service, &pool.names(), job.plan.slots, heartbeat)?;
        Ok(Self {
            state: State::new(job.settings.clone()),
            clock: Clock::new(Instant::now()),
            job,
            pool,
            spawner,
            epoll,
            signals,
            kick,
            processes: BTreeMap::new(),
            covered: Vec::new(),
            cover_is_stale: false,
            poke_is_due: false,
            interest: Interest::all(sources),
            joined: vec![false; sources],
            dispatch_paused_until: None,
            upkeep_at: None,
            pulse_at: None,
            streak: Streak::default(),
            ending_since: None,
            outcome: None,
            spawn_error: None,
        })
    }

    /// Blocks what the signalfd reads, and returns the mask of before.
    fn block_signals(&self) -> Result<SigSet, Error> {
        our_signals()
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
            .map_err(|e| Error::system("blocking signals", e))
    }

    fn run(&mut self) -> Result<(), Error> {
        let failed = |e: io::Error| Error::system("the supervisor's loop", e);
        self.look_after();
        self.pulse_at =
            self.job.hung_after.and_then(|after| Instant::now().checked_add(Rule::period(after)));
        self.clock.turn(Instant::now(), false);
        let first = self.state.start(self.clock.now());
        self.perform(first);
        while self.outcome.is_none() {
            self.settle();
            let mut now_wanted = self.arm_dispatcher();
            let timeout = if now_wanted { Some(Timespec::default()) } else { self.timeout() };
            let mut buffer = [MaybeUninit::<EpollEvent>::uninit(); EVENTS];
            let tokens: Vec<Token> = match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
                Ok((events, _)) => {
                    events.iter().filter_map(|event| Token::unpack(event.data.u64())).collect()
                }
                Err(Errno::INTR) => Vec::new(),
                Err(error) => return Err(failed(error.into())),
            };
            self.clock.turn(Instant::now(), self.deadline().is_some());
            self.handle(&tokens);
            // A kick says that there may be room again: without this the next wait would only say it once more.
            now_wanted |= tokens.contains(&Token::Kick) && self.arm_dispatcher();
            let ready: Vec<SourceId> = tokens
                .iter()
                .filter_map(|token| match token {
                    Token::Source(id) => Some(*id),
                    _ => None,
                })
                .collect();
            if now_wanted || !ready.is_empty() {
                self.dispatch(&ready);
            }
            if tokens.contains(&Token::Kick)
                || self.upkeep_at.is_some_and(|at| at <= Instant::now())
            {
                self.look_after();
            }
            if self.pulse_at.is_some_and(|at| at <= Instant::now()) {
                self.feel_pulses();
            }
            self.finish_ending();
            // As long as more may have been said than one wait tells, no clock is believed: a `Ready` that
            // waits to be read must not become a start that took too long.
            let now = self.clock.now();
            if tokens.len() < EVENTS
                && self.state.deadline().is_some_and(|deadline| deadline <= now)
            {
                self.decide(Event::Tick);
            }
        }
        let waiting = self.pool.waiting();
        if waiting > 0 {
            // They came after the end began, or a second wish for it cut the first short.
            tracing::warn!(waiting, "connections that no worker is left for are reset");
        }
        match self.outcome {
            Some(Outcome::BootFailed(worker)) => Err(match self.spawn_error.take() {
                Some(source) => Error::Spawn { worker, source },
                None => Error::BootFailed(worker),
            }),
            _ => Ok(()),
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let wake = self.deadline().map(|deadline| self.clock.wake(deadline));
        let next = [wake, self.dispatch_paused_until, self.upkeep_at, self.pulse_at]
            .into_iter()
            .flatten()
            .min()?;
        Timespec::try_from(next.saturating_duration_since(Instant::now())).ok()
    }

    /// By its own clock.
    fn deadline(&self) -> Option<Instant> {
        let drain_timeout = self.job.settings.drain_timeout;
        let ending = self.ending_since.and_then(|since| since.checked_add(drain_timeout));
        self.state.deadline().into_iter().chain(ending).min()
    }

    /// What workers said before what clocks and signals say, and exits last: a worker's last words count.
    fn handle(&mut self, tokens: &[Token]) {
        for &token in tokens {
            if let Token::Control(worker) = token {
                self.hear(worker);
            }
        }
        if tokens.contains(&Token::Kick) {
            // Only a wake-up: the dispatcher looks at the boards by itself. Read away each time, or one
            // worker could fill the counter and silence the kicks of all.
            let _ = rustix::io::read(&self.kick, &mut [0_u8; 8]);
            for process in self.processes.values_mut() {
                self.poke_is_due |= process.has_hoarded();
            }
        }
        if tokens.contains(&Token::Signals) {
            self.take_signals();
        }
        if tokens.contains(&Token::Commands) {
            let commands = self.job.commands.as_ref().map(Commands::take).unwrap_or_default();
            commands.into_iter().for_each(|command| self.obey(command));
        }
        for &token in tokens {
            if let Token::Exit(worker) = token {
                self.reap(worker);
            }
        }
    }

    fn hear(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let mut words = [0_u8; 64];
        let Some(control) = process.control() else { return };
        match recv(control, &mut words[..], RecvFlags::DONTWAIT) {
            Ok((_, length)) if length > 0 => {
                let words = &words[..length];
                // A worker may say what it likes; once ready is ready.
                if words.contains(&READY) && process.becomes_ready() {
                    (self.job.observer)(&Notice::Ready { worker });
                    self.decide(Event::Ready(worker));
                }
                if words.contains(&QUITS)
                    && let Some(process) = self.processes.get_mut(&worker)
                    && !process.quits
                {
                    let avoided = process.is_avoided();
                    process.quits = true;
                    tracing::warn!(
                        slot = worker.slot.0,
                        generation = worker.generation,
                        "worker ends by itself: it finishes what it serves"
                    );
                    let served = process.counts().taken > 0;
                    self.avoid_anew(worker, avoided);
                    self.decide(Event::Quits { worker, served });
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // End-of-file or an error: its death comes by the pidfd; until then it is not listened to.
            _ => {
                let _ = epoll::delete(&self.epoll, control);
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.obey(Command::Stop),
                Ok(Signal::SIGHUP) => self.obey(Command::Restart),
                Ok(Signal::SIGTTIN) => self.obey(Command::Scale(self.state.wanted() + 1)),
                Ok(Signal::SIGTTOU) => {
                    self.obey(Command::Scale(self.state.wanted().saturating_sub(1)));
                }
                Ok(Signal::SIGCHLD) => self.look_for_changes(),
                _ => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop => self.stop(),
            // Once the end has begun nothing is started again.
            Command::Restart | Command::Scale(_) if self.ending_since.is_some() => {}
            Command::Restart => self.decide(Event::Restart),
            Command::Scale(workers) => {
                let most = self.job.plan.slots;
                if !(1..=most).contains(&workers) {
                    tracing::info!(
                        workers,
                        most,
                        "workers have to be at least one and at most max_workers"
                    );
                }
                self.decide(Event::Scale(workers));
            }
        }
    }

    /// Ends the service. What is queued now is handed on first, where that is our part.
    fn stop(&mut self) {
        tracing::info!(service = self.job.service, "stopping");
        match self.job.strategy.dispatcher() {
            Some(dispatcher) if self.ending_since.is_none() && !self.state.is_stopping() => {
                dispatcher.close();
                self.ending_since = Some(self.clock.now());
            }
            _ => {
                if self.ending_since.take().is_some() {
                    // The second wish: the first had not reached the state yet.
                    self.decide(Event::Stop);
                }
                self.decide(Event::Stop);
            }
        }
    }

    /// The strategy's own timer. What is to be covered may have changed by it, and by what came before.
    fn look_after(&mut self) {
        let mut pokes = Vec::new();
        let after = self.job.strategy.upkeep(&mut pokes);
        self.upkeep_at = after.and_then(|after| Instant::now().checked_add(after));
        self.tell_cover();
        for process in pokes.iter().filter_map(|worker| self.processes.get(worker)) {
            process.poke();
        }
    }

    fn finish_ending(&mut self) {
        let Some(since) = self.ending_since else { return };
        let done = self.job.strategy.dispatcher().is_none_or(|dispatcher| dispatcher.is_done());
        let passed = self.clock.now().saturating_duration_since(since);
        if done || passed >= self.job.settings.drain_timeout {
            self.ending_since = None;
            // As of when it was asked for: all of the ending has one deadline.
            let actions = self.state.on(Event::Stop, since);
            self.perform(actions);
        }
    }

    fn look_for_changes(&mut self) {
        let changes: Vec<(WorkerId, Change)> = self
            .processes
            .iter()
            .filter_map(|(&worker, process)| Some((worker, process.stop_or_continue()?)))
            .collect();
        for (worker, change) in changes {
            let stopped = change == Change::Stopped;
            let notice =
                if stopped { Notice::Stopped { worker } } else { Notice::Continued { worker } };
            (self.job.observer)(&notice);
            tracing::info!(
                slot = worker.slot.0,
                generation = worker.generation,
                stopped,
                "worker changed"
            );
            if !self.job.detect_stopped {
                continue;
            }
            let Some(process) = self.processes.get_mut(&worker) else { continue };
            let avoided = process.is_avoided();
            process.stopped = stopped;
            self.avoid_anew(worker, avoided);
        }
    }

    /// Looks whether workers get on. What one wait did not tell may be that they do, so nobody is called
    /// hung for a supervisor that was stopped itself: the first look after a long time only begins anew.
    fn feel_pulses(&mut self) {
        let Some(after) = self.job.hung_after else { return };
        let now = Instant::now();
        let period = Rule::period(after);
        let late = self.pulse_at.is_some_and(|at| now.saturating_duration_since(at) > after);
        self.pulse_at = now.checked_add(period);
        let runtime = self.job.plan.runtime;
        let has_heartbeat = !runtime.is_one_at_a_time();
        let rule = Rule { after, has_heartbeat, lanes: u64::from(runtime.lanes()) };
        let (plan, needs, strategy) = (self.job.plan, self.job.needs, &*self.job.strategy);
        let setup = Setup { plan, needs, pool: &mut self.pool, view: None };
        let mut changed = Vec::new();
        for (&worker, process) in self.processes.iter_mut().filter(|(_, p)| p.ready) {
            let sign = process.sign(rule);
            let avoided = process.is_avoided();
            match &mut process.pulse {
                Some(pulse) if !late || pulse.hung => {
                    // What waits for one that leaves waits for its successor as well.
                    let is_waited_for =
                        || !process.draining && strategy.waiting_for(&setup, worker) > 0;
                    if pulse.feel(sign, rule, now, is_waited_for) {
                        changed.push((worker, pulse.hung, avoided));
                    }
                }
                pulse => *pulse = Some(Pulse::new(sign, now)),
            }
        }
        for (worker, hung, avoided) in changed {
            let (slot, generation) = (worker.slot.0, worker.generation);
            if hung {
                tracing::warn!(
                    slot,
                    generation,
                    ?after,
                    "worker hangs: nothing was done for too long"
                );
                (self.job.observer)(&Notice::Hung { worker });
            } else {
                tracing::info!(slot, generation, "worker goes on");
                (self.job.observer)(&Notice::Recovered { worker });
            }
            self.avoid_anew(worker, avoided);
        }
    }

    /// Tells the strategy if a worker is to be avoided now and was not, or the other way round.
    fn avoid_anew(&mut self, worker: WorkerId, before: bool) {
        let Some(process) = self.processes.get(&worker) else { return };
        let avoided = process.is_avoided();
        if !process.ready || avoided == before {
            return;
        }
        log_failure(worker, "avoid", self.job.strategy.avoid(worker, avoided));
        self.cover_is_stale = true;
        if avoided {
            self.poke_is_due = true;
        }
    }

    fn reap(&mut self, worker: WorkerId) {
        // Its last words may not have come in the same wait; a `Ready` unread would be a failed start.
        self.hear(worker);
        let Some(process) = self.processes.get(&worker) else { return };
        let Some(status) = process.try_wait() else { return };
        let Some(process) = self.processes.remove(&worker) else { return };
        let mut counts = process.counts();
        if let Some(taken) = self.job.strategy.taken(worker) {
            counts.taken = taken;
        }
        let pid = process.pid();
        let in_service = counts.in_service();
        let generation = worker.generation;
        if process.draining && status.is_success() {
            tracing::info!(slot = worker.slot.0, generation, pid, "worker left");
        } else {
            tracing::warn!(slot = worker.slot.0, generation, pid, %status, in_service, "worker died");
        }
        (self.job.observer)(&Notice::Exited { worker, pid, status, counts });
        self.job.strategy.release(worker);
        self.cover_is_stale = true;
        self.poke_is_due = true;
        // Another program is told to leave by a signal that may well end it.
        let is_foreign = matches!(self.job.making, Making::Foreign(_));
        let by_term = status == ExitStatus::Signaled(Signal::SIGTERM as i32);
        let in_order = status.is_success() || (is_foreign && by_term);
        self.decide(Event::Exited { worker, served: counts.taken > 0, in_order });
    }

    fn decide(&mut self, event: Event) {
        let actions = self.state.on(event, self.clock.now());
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Spawn(worker) => {
                    if self.state.is_stopping() {
                        tracing::info!("one more worker, for what is queued");
                    }
                    let event = match self.spawn(worker) {
                        // It will never say so itself.
                        Ok(()) if matches!(self.job.making, Making::Foreign(_)) => {
                            (self.job.observer)(&Notice::Ready { worker });
                            Event::Ready(worker)
                        }
                        Ok(()) => continue,
                        Err(error) => {
                            let (slot, generation) = (worker.slot.0, worker.generation);
                            tracing::error!(slot, generation, %error, "cannot start a worker");
                            self.spawn_error = Some(error);
                            Event::SpawnFailed(worker)
                        }
                    };
                    actions.extend(self.state.on(event, self.clock.now()));
                }
                Action::Admit(worker) => self.admit(worker),
                Action::Retire(worker) => self.retire(worker),
                Action::Kill(worker, reason) => self.kill(worker, reason),
                Action::Serving => {
                    let listeners = self.pool.names();
                    (self.job.observer)(&Notice::Serving { listeners: &listeners });
                }
                Action::Scaled(workers) => {
                    tracing::info!(workers, "scaled");
                    (self.job.observer)(&Notice::Scaled { workers });
                }
                Action::RestartStarted => tracing::info!("rolling restart begins"),
                Action::RestartDone => {
                    tracing::info!("rolling restart done");
                    (self.job.observer)(&Notice::RestartDone);
                }
                Action::RestartAborted(worker) => {
                    tracing::error!(
                        slot = worker.slot.0,
                        "rolling restart aborted: its successor failed"
                    );
                    (self.job.observer)(&Notice::RestartAborted { worker });
                }
                Action::Respawning { slot, after } => {
                    tracing::info!(slot = slot.0, ?after, "respawning");
                }
                Action::GiveUp(worker) => {
                    tracing::error!(
                        slot = worker.slot.0,
                        "gives up: workers fail before they serve"
                    );
                }
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn spawn(&mut self, worker: WorkerId) -> io::Result<()> {
        let pages = Board::create()?;
        match self.start(worker, pages) {
            Ok(process) => {
                let pid = process.pid();
                tracing::info!(
                    slot = worker.slot.0,
                    generation = worker.generation,
                    pid,
                    "worker started"
                );
                (self.job.observer)(&Notice::Started { worker, pid });
                self.processes.insert(worker, process);
                self.spawn_error = None;
                Ok(())
            }
            Err(error) => {
                // Also where it was half provisioned: each attempt would keep its descriptors.
                self.job.strategy.release(worker);
                Err(error)
            }
        }
    }

    fn start(
        &mut self,
        worker: WorkerId,
        (board, own_page, supervisor_page): (Arc<Board>, OwnedFd, OwnedFd),
    ) -> io::Result<Process> {
        board.set_cover(&self.covered);
        let view = Some(View(board.clone()));
        let Job { plan, needs, .. } = self.job;
        let mut setup = Setup { plan, needs, pool: &mut self.pool, view };
        let inherit = self.job.strategy.provision(&mut setup, worker)?;
        let process = match self.job.making {
            Making::Foreign(program) => {
                self.spawner.start_program(program, worker, self.pool.of(worker.slot), board)
            }
            Making::Own(start) => {
                let kit = Kit::new(inherit, &own_page, &supervisor_page, &self.kick)?;
                match start {
                    Start::Again => self.spawner.start_again(worker, kit, board),
                    Start::Fork => {
                        let strategy: &dyn Strategy = self.job.strategy;
                        let in_fork = &mut self.job.in_fork;
                        let names = || self.pool.names();
                        self.spawner
                            .fork(worker, kit, board, names, |legacy| in_fork(legacy, strategy))
                    }
                }
            }
        }?;
        match self.watch(worker, &process) {
            Ok(()) => Ok(process),
            Err(error) => {
                // Unwatched it would never be reaped.
                process.kill();
                process.wait();
                Err(error.into())
            }
        }
    }

    fn watch(&self, worker: WorkerId, process: &Process) -> Result<(), Errno> {
        let flags = EventFlags::IN;
        epoll::add(&self.epoll, process.pidfd(), Token::Exit(worker).pack(), flags)?;
        match process.control() {
            Some(control) => epoll::add(&self.epoll, control, Token::Control(worker).pack(), flags),
            None => Ok(()),
        }
    }

    fn admit(&mut self, worker: WorkerId) {
        if !self.processes.contains_key(&worker) {
            return;
        }
        let generation = worker.generation;
        if let Err(error) = self.job.strategy.admit(worker) {
            tracing::error!(slot = worker.slot.0, generation, %error, "admit: replacing the worker");
            if let Some(process) = self.processes.get(&worker) {
                process.kill();
            }
            return;
        }
        if let Some(process) = self.processes.get_mut(&worker) {
            process.ready = true;
            // It may have changed since the worker was started.
            process.cover(&self.covered);
            if process.is_avoided() {
                // It was stopped before anybody heard that it is ready.
                log_failure(worker, "avoid", self.job.strategy.avoid(worker, true));
                self.poke_is_due = true;
            }
        }
        tracing::info!(slot = worker.slot.0, generation, "worker ready");
        self.cover_is_stale = true;
    }

    fn retire(&mut self, worker: WorkerId) {
        // A spawn that failed after this was decided left nothing to retire.
        if !self.processes.contains_key(&worker) {
            return;
        }
        log_failure(worker, "retire", self.job.strategy.retire(worker));
        let leaving =
            if self.state.is_stopping() { Leaving::ServiceEnds } else { Leaving::OthersStay };
        if let Some(process) = self.processes.get_mut(&worker) {
            process.drain(leaving);
        }
        self.cover_is_stale = true;
    }

    fn kill(&mut self, worker: WorkerId, reason: KillReason) {
        tracing::warn!(
            slot = worker.slot.0,
            generation = worker.generation,
            ?reason,
            "killing a worker"
        );
        if let Some(process) = self.processes.get(&worker) {
            process.kill();
        }
    }

    /// What has to be told to all workers after a turn of the loop.
    fn settle(&mut self) {
        if std::mem::take(&mut self.cover_is_stale) {
            self.look_after();
        }
        if std::mem::take(&mut self.poke_is_due) {
            self.poke_all();
        }
    }

    /// Tells all ready workers which slots to cover, if that has changed.
    fn tell_cover(&mut self) {
        let uncovered = self.job.strategy.uncovered();
        if uncovered == self.covered {
            return;
        }
        self.covered = uncovered;
        for process in self.processes.values().filter(|p| p.ready && !p.draining) {
            process.cover(&self.covered);
        }
    }

    /// A wake-up may have died, or been stopped, with its worker: everybody else looks once.
    fn poke_all(&self) {
        for process in self.processes.values().filter(|p| p.ready && !p.draining && !p.is_avoided())
        {
            process.poke();
        }
    }

    /// Applies the dispatcher's wishes; true if it has work already.
    fn arm_dispatcher(&mut self) -> bool {
        self.try_arm().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot watch the listeners: pausing");
            self.dispatch_paused_until = Some(Instant::now() + AcceptFault::PAUSE);
            false
        })
    }

    fn try_arm(&mut self) -> io::Result<bool> {
        let Some(dispatcher) = self.job.strategy.dispatcher() else { return Ok(false) };
        let paused = match self.dispatch_paused_until {
            Some(until) if until > Instant::now() => true,
            _ => {
                self.dispatch_paused_until = None;
                false
            }
        };
        self.interest.begin();
        dispatcher.arm(&mut self.interest);
        for (id, source) in dispatcher.sources().iter().enumerate() {
            let wanted = self.interest.wants(id) && !paused;
            if wanted == self.joined[id] {
                continue;
            }
            if wanted {
                let exclusive = source.wake == Wake::SharedExclusive;
                let flags =
                    if exclusive { EventFlags::IN | EventFlags::EXCLUSIVE } else { EventFlags::IN };
                epoll::add(&self.epoll, &source.fd, Token::Source(id).pack(), flags)?;
            } else {
                epoll::delete(&self.epoll, &source.fd)?;
            }
            self.joined[id] = wanted;
        }
        Ok(self.interest.wants_now() && !paused)
    }

    fn dispatch(&mut self, ready: &[SourceId]) {
        let Some(dispatcher) = self.job.strategy.dispatcher() else { return };
        let error = match dispatcher.dispatch(ready, DISPATCH_BUDGET) {
            Ok(0) => return,
            Ok(_) => return self.streak.end(),
            Err(error) => error,
        };
        match self.streak.fault(&error) {
            AcceptFault::NotNow => {}
            AcceptFault::ThisConnection => tracing::debug!(%error, "dispatch"),
            AcceptFault::Resources | AcceptFault::Listener => {
                tracing::warn!(%error, "cannot accept: pausing");
                self.dispatch_paused_until = Some(Instant::now() + AcceptFault::PAUSE);
            }
        }
    }
}

impl Drop for Supervisor<'_> {
    /// Only after an error, or in a panic, is anybody left: no worker outlives its supervisor.
    fn drop(&mut self) {
        for process in self.processes.values() {
            process.kill();
        }
        for (&worker, process) in &self.processes {
            process.wait();
            self.job.strategy.release(worker);
        }
    }
}

fn our_signals() -> SigSet {
    [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGCHLD,
    ]
    .into_iter()
    .collect()
}

fn log_failure(worker: WorkerId, step: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(slot = worker.slot.0, generation = worker.generation, step, %error, "strategy failed");
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::backoff::Backoff;
    use super::*;
    use crate::acceptor::Acceptor;
    use crate::inherit::{Inherit, Inherited};
    use crate::strategy::{RuntimeKind, Unsupported};

    /// Notes what it is told.
    #[derive(Debug, Default)]
    struct Notebook(Vec<&'static str>);

    impl Strategy for Notebook {
        fn name(&self) -> &'static str {
            "notebook"
        }
        fn fits(&self, _plan: &Plan) -> Result<Needs, Unsupported> {
            Ok(Needs::default())
        }
        fn prepare(&mut self, _setup: &mut Setup<'_>) -> io::Result<()> {
            Ok(())
        }
        fn provision(&mut self, _: &mut Setup<'_>, _: WorkerId) -> io::Result<Inherit> {
            Ok(Inherit::new())
        }
        fn open(&self, _inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn admit(&mut self, _worker: WorkerId) -> io::Result<()> {
            self.0.push("admit");
            Ok(())
        }
        fn avoid(&mut self, _worker: WorkerId, on: bool) -> io::Result<()> {
            self.0.push(if on { "avoid" } else { "go on" });
            Ok(())
        }
        fn taken(&self, _worker: WorkerId) -> Option<u64> {
            Some(7)
        }
    }

    /// A supervisor of one slot, on which a process sits that says nothing. What it did in the end: its
    /// strategy's notes, and what it told of those who ended.
    fn with_a_worker(
        act: impl FnOnce(&mut Supervisor<'_>, WorkerId),
    ) -> (Vec<&'static str>, Vec<String>) {
        let plan = Plan {
            listeners: Vec::new(),
            workers: 1,
            slots: 1,
            runtime: RuntimeKind::Blocking,
            is_foreign: false,
            read_timeout: None,
        };
        let settings = Settings {
            workers: 1,
            slots: 1,
            drain_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
            progress_after: Duration::from_secs(10),
            boot_failures_allowed: 3,
        };
        let (mut strategy, mut told) = (Notebook::default(), Vec::new());
        let job = Job {
            service: "test",
            making: &Making::Own(Start::Again),
            in_fork: &mut |_, _| Ok(()),
            plan: &plan,
            needs: Needs::default(),
            settings,
            detect_stopped: true,
            hung_after: None,
            commands: None,
            strategy: &mut strategy,
            observer: &mut |notice| {
                if let Notice::Exited { counts, .. } = notice {
                    told.push(format!("{} taken, {} served", counts.taken, counts.in_service()));
                }
            },
        };
        let mut supervisor = Supervisor::new(job).unwrap();
        // It ends when its input does, whatever becomes of this test.
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap();
        let worker = WorkerId { slot: SlotId(0), generation: 0 };
        let (board, _own, _supervisors) = crate::board::Board::create().unwrap();
        let process = Process::watched(child.id(), None, board).unwrap();
        supervisor.processes.insert(worker, process);
        act(&mut supervisor, worker);
        drop(supervisor);
        // The supervisor has reaped it.
        let _ = child.wait();
        (strategy.0, told)
    }

    /// One wait tells 64 events; of more than that a stop may be heard before the *ready* it came after.
    #[test]
    fn one_that_was_stopped_before_its_ready_was_heard_is_avoided_from_the_start() {
        let (notes, _) = with_a_worker(|supervisor, worker| {
            supervisor.processes.get_mut(&worker).unwrap().stopped = true;
            supervisor.admit(worker);
        });
        assert_eq!(notes, ["admit", "avoid"]);
        let (notes, _) = with_a_worker(|supervisor, worker| supervisor.admit(worker));
        assert_eq!(notes, ["admit"]);
    }

    #[test]
    fn what_the_strategy_knows_of_the_dead_is_told_instead_of_their_pages() {
        let (_, told) = with_a_worker(|supervisor, worker| {
            let process = &supervisor.processes[&worker];
            process.kill();
            process.wait();
            supervisor.reap(worker);
        });
        assert_eq!(told, ["7 taken, 7 served"]);
    }

    #[test]
    fn tokens_come_back_as_they_went() {
        let worker = WorkerId { slot: SlotId(255), generation: u32::MAX };
        for token in [
            Token::Signals,
            Token::Kick,
            Token::Commands,
            Token::Exit(worker),
            Token::Control(worker),
            Token::Source(7),
        ] {
            assert_eq!(Token::unpack(token.pack().u64()), Some(token));
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
