//! What the supervisor decides: `(state, event, now) → actions`, without a descriptor, a syscall or a clock.
//!
//! ```text
//!            Spawn            Ready: Admit               Stop, or a successor is ready: Retire
//!   (empty) ───────► booting ─────────────► ready ────────────────────────────────► draining
//!      ▲                │ start_timeout:      │                     drain_timeout: Kill │
//!      │                ▼ Kill                │                                         ▼
//!      │             killed                   │                                      killed
//!      │ at once, or    │ Exited              │ Exited                                  │ Exited
//!      └─ after back-off┴─────────────────────┘                                      (planned)
//! ```
//!
//! A slot holds one worker, and for a while two: while its successor boots and then the old one drains.
//! When the service ends nobody is replaced, but for the last who was to take what is queued.
//!
//! What the loop around this (`supervisor`) has to keep to:
//! * it performs actions in order: what comes of telling about a spawn that failed goes behind what is
//!   still to be done, for that may hold the spawn of a worker the answer is about. If that spawn fails
//!   as well, an action about it finds nobody and is skipped;
//! * it tells what workers said before what clocks say: a `Ready` that waits goes before the `Exited` of
//!   the same worker and before the `Tick` that would kill for want of it;
//! * when `deadline` has passed it sends a `Tick`.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::{Leaving, SlotId, WorkerId};

/// What the decisions depend on, fixed for the life of the supervisor.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many workers there are to be at first.
    pub workers: u32,
    /// How many slots there are; at least `workers`.
    pub slots: u32,
    /// Longest a retired worker may take to drain before it is killed.
    pub drain_timeout: Duration,
    /// Longest a worker may take from its spawn to `Ready` before it is killed.
    pub start_timeout: Duration,
    /// How long a slot stays empty after a worker that made no progress.
    pub backoff: Backoff,
    /// A worker that stayed ready this long made progress, even if nobody connected.
    pub progress_after: Duration,
    /// With this many failures at boot in a row on one slot, a service that never served is given up.
    pub boot_failures_allowed: u32,
}

/// What happened. Events about a worker that is not (or no longer) there are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The worker reported that it can take connections.
    Ready(WorkerId),
    /// The worker ends by itself: it finishes what it serves, and takes nothing more.
    Quits {
        /// Who.
        worker: WorkerId,
        /// It began or finished at least one connection.
        served: bool,
    },
    /// The worker was reaped.
    Exited {
        /// Who.
        worker: WorkerId,
        /// It began or finished at least one connection.
        served: bool,
        /// It ended as one does that was told to leave, and has.
        in_order: bool,
    },
    /// There is no process behind the last `Spawn` of this worker.
    SpawnFailed(WorkerId),
    /// TERM or INT: drain all workers, then end. A second one kills them at once.
    Stop,
    /// HUP: a rolling restart, slot by slot.
    Restart,
    /// There are to be so many workers: at least one, at most as many as slots.
    Scale(u32),
    /// [`State::deadline`] may have passed.
    Tick,
}

/// Why a worker is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KillReason {
    /// It did not drain in the time that it had, or that the whole service had to end.
    DrainTimeout,
    /// It did not become ready in time.
    StartTimeout,
    /// Whoever stopped the service asked a second time.
    StoppedAgain,
}

/// How the service ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was asked to.
    Stopped,
    /// It never served, because this worker's slot could not be filled.
    BootFailed(WorkerId),
}

/// What the loop is to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Start a process. If that fails, the answer is [`Event::SpawnFailed`].
    Spawn(WorkerId),
    /// Tell the strategy that the worker may be given connections.
    Admit(WorkerId),
    /// Tell the strategy to stop that, then the worker to drain. It may never have been admitted.
    Retire(WorkerId),
    /// Send SIGKILL. The worker is gone when its [`Event::Exited`] comes.
    Kill(WorkerId, KillReason),
    /// Said once: every slot has had a ready worker.
    Serving,
    /// For the log: there are to be so many workers from now on, on the slots below.
    Scaled(u32),
    /// For the log: a rolling restart begins.
    RestartStarted,
    /// For the log: every slot has a new worker, and the old ones are gone.
    RestartDone,
    /// For the log: this successor failed before it was ready, so slots from its own on keep what they have.
    RestartAborted(WorkerId),
    /// For the log: a worker died without being asked to; its slot is filled again after this long.
    Respawning {
        /// The seat that is empty now.
        slot: SlotId,
        /// Zero: the `Spawn` follows at once.
        after: Duration,
    },
    /// The service never served, and this worker was one failure at boot too many. The others are retired.
    GiveUp(WorkerId),
    /// No worker is left and none will come: the last action of all.
    Finish(Outcome),
}

/// All that the supervisor knows about its workers when it decides.
#[derive(Debug)]
pub(crate) struct State {
    settings: Settings,
    /// By slot number.
    slots: Vec<Slot>,
    /// Slots below this number are to have a worker.
    wanted: u32,
    phase: Phase,
    /// `Serving` was said.
    has_served: bool,
    /// The rolling restart that is on.
    rolling: Option<Rolling>,
    /// Another rolling restart was asked for; any number of wishes are one restart.
    restart_wanted: bool,
    /// Who answers what is queued when the service ends.
    last: Last,
}

/// The service ends, and whoever was to take what is queued is dead: others are started for that, one after
/// the other.
#[derive(Clone, Copy, Default, Debug)]
struct Last {
    /// One more is needed.
    is_needed: bool,
    /// So many were started.
    started: u32,
    /// So many of them were started since somebody took a connection.
    in_vain: u32,
}

/// How many workers are started, one after the other, for what is queued when the service ends.
///
/// 64: enough for some requests in the queue that kill whoever takes them. There is a bound because more of
/// them may come as long as there is somebody to kill.
const MOST_LAST: u32 = 64;

/// Where the service is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    New,
    Running,
    Stopping {
        outcome: Outcome,
        asked: bool,
        /// Whoever is left then is killed; `None` is never.
        ends_at: Option<Instant>,
    },
    Finished,
}

/// A rolling restart at work: one slot at a time, in order.
#[derive(Clone, Copy, Debug)]
struct Rolling {
    index: usize,
    step: Step,
}

/// What the slot whose turn it is waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// This successor is to become ready.
    Booting(WorkerId),
    /// This predecessor is to exit.
    Leaving(WorkerId),
    /// This one, which leaves since before, is to exit, and then there is room for a successor.
    Vacating(WorkerId),
}

impl State {
    /// A service that was not started.
    pub(crate) fn new(settings: Settings) -> Self {
        let slots = (0..settings.slots).map(|slot| Slot::new(SlotId(slot))).collect();
        Self {
            wanted: settings.workers,
            settings,
            slots,
            phase: Phase::New,
            has_served: false,
            rolling: None,
            restart_wanted: false,
            last: Last::default(),
        }
    }

    /// Fills every slot. Does nothing the second time, or after a `Stop`.
    pub(crate) fn start(&mut self, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        if self.phase == Phase::New {
            self.phase = Phase::Running;
            for slot in &mut self.slots[..self.wanted as usize] {
                slot.spawn(&self.settings, now, &mut out);
            }
            self.say_serving(now, &mut out);
        }
        out
    }

    /// What to do about `event`, which happened at `now`.
    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Ready(worker) => self.ready(worker, now, &mut out),
            Event::Quits { worker, served } => self.quits(worker, served, now, &mut out),
            Event::Exited { worker, served, in_order } => {
                self.exited(worker, served, in_order, now, &mut out);
            }
            Event::SpawnFailed(worker) => self.exited(worker, false, false, now, &mut out),
            Event::Stop => self.stop(now, &mut out),
            Event::Restart => self.restart(now, &mut out),
            Event::Scale(workers) => self.scale(workers, now, &mut out),
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// When the next `Tick` does something, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ends_at = match self.phase {
            Phase::Stopping { ends_at, .. } if self.workers().any(|w| !w.is_killed()) => ends_at,
            _ => None,
        };
        self.slots.iter().filter_map(Slot::deadline).chain(ends_at).min()
    }

    /// How many slots are to have a worker.
    pub(crate) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// The service ends: a worker is started only if nobody is left to take what is queued.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. } | Phase::Finished)
    }

    fn ready(&mut self, worker: WorkerId, now: Instant, out: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(worker.slot.index()) else { return };
        let Some(at) = slot.workers.iter().position(|w| w.id == worker) else { return };
        let (older, rest) = slot.workers.split_at_mut(at);
        let Some(current) = rest.first_mut() else { return };
        // One that was retired or killed while its message was on the way.
        if !matches!(current.phase, WorkerPhase::Booting { .. }) {
            return;
        }
        current.phase = WorkerPhase::Ready { since: now };
        out.push(Action::Admit(worker));
        if let Phase::Stopping { ends_at, .. } = self.phase {
            // Started for what was queued when the service ended: it takes that, and goes.
            current.retire(Leaving::ServiceEnds, ends_at, out);
            return;
        }
        for old in &mut *older {
            old.retire(Leaving::OthersStay, now.checked_add(self.settings.drain_timeout), out);
        }
        let leaving = older.first().map(|old| old.id);
        slot.was_ready = true;

        self.say_serving(now, out);
        self.successor_ready(worker, leaving, now, out);
    }

    /// It is dead to all but those it serves, so its slot is filled now. For those it has the time of one that
    /// was told to leave.
    fn quits(&mut self, worker: WorkerId, served: bool, now: Instant, out: &mut Vec<Action>) {
        let deadline = now.checked_add(self.settings.drain_timeout);
        let Some(slot) = self.slots.get_mut(worker.slot.index()) else { return };
        let Some(quitter) = slot.workers.iter_mut().find(|w| w.id == worker) else { return };
        let before = *quitter;
        match &mut quitter.phase {
            // Only while the service ends is it missed.
            WorkerPhase::Draining { leaving, .. } if *leaving == Leaving::ServiceEnds => {
                *leaving = Leaving::OthersStay;
                self.last.is_needed = true;
                self.start_last(now, out);
            }
            WorkerPhase::Booting { .. } | WorkerPhase::Ready { .. } => {
                quitter.retire(Leaving::OthersStay, deadline, out);
                if self.phase == Phase::Running {
                    self.died(before, served, now, out);
                } else {
                    self.last.is_needed = true;
                    self.start_last(now, out);
                }
            }
            WorkerPhase::Draining { .. } | WorkerPhase::Killed { .. } => {}
        }
    }

    fn exited(
        &mut self,
        worker: WorkerId,
        served: bool,
        in_order: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get_mut(worker.slot.index()) else { return };
        let Some(at) = slot.workers.iter().position(|w| w.id == worker) else { return };
        let gone = slot.workers.remove(at);
        if self.phase != Phase::Running {
            if served {
                self.last.in_vain = 0;
            }
            self.last.is_needed |= gone.takes_queue() && !in_order;
            self.start_last(now, out);
            self.finish_if_empty(out);
        } else if gone.leaves_as_planned() {
            self.predecessor_gone(worker, now, out);
            self.fill(worker.slot, now, out);
        } else {
            self.died(gone, served, now, out);
        }
    }

    fn stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Finished => {}
            Phase::Stopping { asked: true, .. } => {
                self.last.is_needed = false;
                for worker in self.slots.iter_mut().flat_map(|slot| &mut slot.workers) {
                    worker.kill(KillReason::StoppedAgain, out);
                }
            }
            // Giving up already drains all workers, and this is the first time somebody asks for it.
            Phase::Stopping { asked, .. } => *asked = true,
            Phase::New | Phase::Running => {
                self.begin_to_end(Outcome::Stopped, true, now, out);
                // Who was told to leave before leaves to others what is queued, and who was killed is none.
                self.last.is_needed = true;
                self.start_last(now, out);
                self.finish_if_empty(out);
            }
        }
    }

    /// Changes how many slots are to have a worker. What leaves drains, what is new starts at once.
    fn scale(&mut self, workers: u32, now: Instant, out: &mut Vec<Action>) {
        let workers = workers.clamp(1, self.settings.slots.max(1));
        if self.phase != Phase::Running || workers == self.wanted {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, workers);
        out.push(Action::Scaled(workers));
        for slot in self.slots.iter_mut().skip(workers as usize) {
            slot.respawn_at = None;
            for worker in &mut slot.workers {
                let deadline = now.checked_add(self.settings.drain_timeout);
                worker.retire(Leaving::OthersStay, deadline, out);
            }
        }
        for slot in before..workers {
            self.fill(SlotId(slot), now, out);
        }
        if self.rolling.is_some_and(|rolling| rolling.index >= workers as usize) {
            self.rolling = None;
            out.push(Action::RestartDone);
        }
        self.say_serving(now, out);
        self.restart_if_wanted(now, out);
    }

    /// Starts a worker on a slot that is to have one and has none but such as leave. Never a third
    /// process on one seat: then its turn comes when one of them is gone.
    fn fill(&mut self, slot: SlotId, now: Instant, out: &mut Vec<Action>) {
        if slot.0 >= self.wanted || self.phase != Phase::Running {
            return;
        }
        let Some(slot) = self.slots.get_mut(slot.index()) else { return };
        let is_carried = slot.workers.iter().any(|worker| !worker.leaves_as_planned());
        if !is_carried && slot.workers.len() < 2 && slot.respawn_at.is_none() {
            slot.spawn(&self.settings, now, out);
        }
    }

    fn restart(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.restart_wanted = true;
        self.restart_if_wanted(now, out);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Phase::Stopping { ends_at: Some(at), .. } = self.phase
            && at <= now
        {
            for worker in self.slots.iter_mut().flat_map(|slot| &mut slot.workers) {
                worker.kill(KillReason::DrainTimeout, out);
            }
        }
        for slot in &mut self.slots {
            for worker in &mut slot.workers {
                if worker.deadline().is_some_and(|deadline| deadline <= now) {
                    worker.kill(worker.overdue(), out);
                }
            }
            if slot.respawn_at.is_some_and(|at| at <= now) {
                slot.respawn(&self.settings, now, out);
            }
        }
    }

    /// Somebody died, or is about to, who was not asked to leave.
    fn died(&mut self, gone: Worker, served: bool, now: Instant, out: &mut Vec<Action>) {
        let aborts = self.is_awaited(Step::Booting(gone.id));
        if aborts {
            out.push(Action::RestartAborted(gone.id));
            self.rolling = None;
        }
        self.refill(&gone, aborts, served, now, out);
        if aborts {
            self.restart_if_wanted(now, out);
        }
    }

    /// Sees to it that the slot `gone` sat on gets a worker, if it has no other.
    fn refill(
        &mut self,
        gone: &Worker,
        was_successor: bool,
        served: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.get_mut(gone.id.slot.index()) else { return };
        let is_carried = slot.workers.iter().any(|other| !other.leaves_as_planned());
        if is_carried && was_successor {
            return;
        }
        slot.count_exit(gone, served, &self.settings, now);
        if is_carried {
            return;
        }
        if !self.has_served && slot.boot_failures >= self.settings.boot_failures_allowed.max(1) {
            out.push(Action::GiveUp(gone.id));
            self.begin_to_end(Outcome::BootFailed(gone.id), false, now, out);
            self.finish_if_empty(out);
            return;
        }
        let after = self.settings.backoff.delay(slot.failures);
        out.push(Action::Respawning { slot: slot.id, after });
        if after.is_zero() {
            slot.respawn(&self.settings, now, out);
        } else {
            slot.respawn_at = now.checked_add(after);
        }
    }

    fn say_serving(&mut self, now: Instant, out: &mut Vec<Action>) {
        let wanted = &self.slots[..self.wanted as usize];
        if !self.has_served && wanted.iter().all(|slot| slot.was_ready) {
            self.has_served = true;
            out.push(Action::Serving);
            self.restart_if_wanted(now, out);
        }
    }

    /// Begins the rolling restart that was asked for, unless it has to wait for `Serving` or for the one
    /// that is on.
    fn restart_if_wanted(&mut self, now: Instant, out: &mut Vec<Action>) {
        let is_free = self.phase == Phase::Running && self.has_served && self.rolling.is_none();
        if is_free && self.restart_wanted {
            self.restart_wanted = false;
            out.push(Action::RestartStarted);
            self.replace_slot(0, now, out);
        }
    }

    /// The rolling restart reaches slot `index`, or is through. A slot in back-off is simply filled now.
    fn replace_slot(&mut self, index: usize, now: Instant, out: &mut Vec<Action>) {
        let wanted = &mut self.slots[..self.wanted as usize];
        if let Some(slot) = wanted.get_mut(index) {
            if let [oldest, youngest] = &slot.workers[..] {
                // The youngest, if it quit before it was ready: then the oldest stayed.
                let leaves = [oldest, youngest].into_iter().find(|w| w.leaves_as_planned());
                let step = Step::Vacating(leaves.unwrap_or(oldest).id);
                self.rolling = Some(Rolling { index, step });
                return;
            }
            let successor = slot.spawn(&self.settings, now, out);
            self.rolling = Some(Rolling { index, step: Step::Booting(successor) });
        } else {
            self.rolling = None;
            out.push(Action::RestartDone);
            self.restart_if_wanted(now, out);
        }
    }

    /// If the rolling restart waited for `successor`: on with its predecessor, or without one the next slot.
    fn successor_ready(
        &mut self,
        successor: WorkerId,
        leaving: Option<WorkerId>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(rolling) = &mut self.rolling else { return };
        if rolling.step != Step::Booting(successor) {
            return;
        }
        if let Some(predecessor) = leaving {
            rolling.step = Step::Leaving(predecessor);
        } else {
            let next = rolling.index + 1;
            self.replace_slot(next, now, out);
        }
    }

    /// If the rolling restart waited for `predecessor` to leave: on with the next slot.
    fn predecessor_gone(&mut self, predecessor: WorkerId, now: Instant, out: &mut Vec<Action>) {
        let Some(rolling) = self.rolling else { return };
        if rolling.step == Step::Leaving(predecessor) {
            self.replace_slot(rolling.index + 1, now, out);
        } else if rolling.step == Step::Vacating(predecessor) {
            self.replace_slot(rolling.index, now, out);
        }
    }

    fn is_awaited(&self, step: Step) -> bool {
        self.rolling.is_some_and(|rolling| rolling.step == step)
    }

    /// For whichever reason: nobody comes, all go. All of the ending has one deadline.
    fn begin_to_end(&mut self, outcome: Outcome, asked: bool, now: Instant, out: &mut Vec<Action>) {
        let ends_at = now.checked_add(self.settings.drain_timeout);
        self.phase = Phase::Stopping { outcome, asked, ends_at };
        self.rolling = None;
        self.restart_wanted = false;
        for slot in &mut self.slots {
            slot.respawn_at = None;
            for worker in &mut slot.workers {
                worker.retire(Leaving::ServiceEnds, ends_at, out);
            }
        }
    }

    /// If what is queued has nobody to answer it: one more is started for that, at once, because nobody else
    /// will be.
    fn start_last(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Phase::Stopping { ends_at, .. } = self.phase else { return };
        let is_over = ends_at.is_some_and(|at| at <= now)
            || self.last.started >= MOST_LAST
            || self.last.in_vain >= self.settings.boot_failures_allowed.max(1);
        if !self.has_served || is_over || self.workers().any(Worker::takes_queue) {
            self.last.is_needed = false;
        }
        if !self.last.is_needed {
            return;
        }
        // Without room on any seat the next exit makes some: all who are there leave, or were killed.
        let wanted = &mut self.slots[..self.wanted as usize];
        if let Some(slot) = wanted.iter_mut().find(|slot| slot.workers.len() < 2) {
            slot.spawn(&self.settings, now, out);
            self.last = Last {
                is_needed: false,
                started: self.last.started + 1,
                in_vain: self.last.in_vain + 1,
            };
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().flat_map(|slot| &slot.workers)
    }

    fn finish_if_empty(&mut self, out: &mut Vec<Action>) {
        if let Phase::Stopping { outcome, .. } = self.phase
            && self.slots.iter().all(|slot| slot.workers.is_empty())
        {
            self.phase = Phase::Finished;
            out.push(Action::Finish(outcome));
        }
    }
}

/// A seat, who sits on it, and how it went so far.
#[derive(Debug)]
struct Slot {
    id: SlotId,
    /// Of the next worker. Wraps: after 2^32 workers the first has long been reaped.
    next_generation: u32,
    /// The living, oldest first: none, one, or an old one and its successor.
    workers: Vec<Worker>,
    /// When an empty seat is filled again.
    respawn_at: Option<Instant>,
    /// Exits without progress since the last one with it.
    failures: u32,
    /// Exits before `Ready` in a row.
    boot_failures: u32,
    /// Somebody was ready here once.
    was_ready: bool,
}

impl Slot {
    fn new(id: SlotId) -> Self {
        Self {
            id,
            next_generation: 0,
            workers: Vec::with_capacity(2),
            respawn_at: None,
            failures: 0,
            boot_failures: 0,
            was_ready: false,
        }
    }

    /// The next generation, now, whether or not it was due.
    fn spawn(&mut self, settings: &Settings, now: Instant, out: &mut Vec<Action>) -> WorkerId {
        let id = WorkerId { slot: self.id, generation: self.next_generation };
        self.next_generation = self.next_generation.wrapping_add(1);
        self.respawn_at = None;
        let deadline = now.checked_add(settings.start_timeout);
        self.workers.push(Worker { id, phase: WorkerPhase::Booting { deadline } });
        out.push(Action::Spawn(id));
        id
    }

    /// As [`spawn`](Self::spawn), if there is room; else the next exit makes some, and the slot is filled then.
    fn respawn(&mut self, settings: &Settings, now: Instant, out: &mut Vec<Action>) {
        self.respawn_at = None;
        if self.workers.len() < 2 {
            self.spawn(settings, now, out);
        }
    }

    /// Keeps count after an unplanned exit.
    fn count_exit(&mut self, gone: &Worker, served: bool, settings: &Settings, now: Instant) {
        // Whoever served was ready, even if its exit was seen before its `Ready`.
        let (was_ready, stayed) = match gone.phase {
            WorkerPhase::Ready { since } => {
                (true, now.saturating_duration_since(since) >= settings.progress_after)
            }
            _ => (served, false),
        };
        self.boot_failures = if was_ready { 0 } else { self.boot_failures.saturating_add(1) };
        self.failures = if served || stayed { 0 } else { self.failures.saturating_add(1) };
    }

    fn deadline(&self) -> Option<Instant> {
        self.workers.iter().filter_map(Worker::deadline).chain(self.respawn_at).min()
    }
}

/// A process that was started and not yet reaped.
#[derive(Clone, Copy, Debug)]
struct Worker {
    id: WorkerId,
    phase: WorkerPhase,
}

/// How far a worker is. A deadline of `None` is one beyond what an `Instant` can hold: never.
#[derive(Clone, Copy, Debug)]
enum WorkerPhase {
    Booting {
        deadline: Option<Instant>,
    },
    Ready {
        since: Instant,
    },
    Draining {
        leaving: Leaving,
        deadline: Option<Instant>,
    },
    /// Not reaped yet. There is nothing stronger than SIGKILL, so there is no deadline either.
    Killed {
        /// It was to leave anyway.
        planned: bool,
    },
}

impl Worker {
    /// Asks a worker to leave. One that leaves already keeps its deadline.
    fn retire(&mut self, leaving: Leaving, deadline: Option<Instant>, out: &mut Vec<Action>) {
        match &mut self.phase {
            WorkerPhase::Booting { .. } | WorkerPhase::Ready { .. } => {
                self.phase = WorkerPhase::Draining { leaving, deadline };
                out.push(Action::Retire(self.id));
            }
            WorkerPhase::Draining { .. } => {}
            WorkerPhase::Killed { planned } => *planned = true,
        }
    }

    /// Kills a worker, unless that was done.
    fn kill(&mut self, reason: KillReason, out: &mut Vec<Action>) {
        if !self.is_killed() {
            self.phase = WorkerPhase::Killed { planned: self.leaves_as_planned() };
            out.push(Action::Kill(self.id, reason));
        }
    }

    /// What it is killed for if its deadline passes.
    fn overdue(&self) -> KillReason {
        if self.leaves_as_planned() { KillReason::DrainTimeout } else { KillReason::StartTimeout }
    }

    fn leaves_as_planned(&self) -> bool {
        matches!(self.phase, WorkerPhase::Draining { .. } | WorkerPhase::Killed { planned: true })
    }

    fn is_killed(&self) -> bool {
        matches!(self.phase, WorkerPhase::Killed { .. })
    }

    /// While the service ends: it takes what is queued before it goes. Who boots or is ready then was started
    /// for that.
    fn takes_queue(&self) -> bool {
        match self.phase {
            WorkerPhase::Booting { .. } | WorkerPhase::Ready { .. } => true,
            WorkerPhase::Draining { leaving, .. } => leaving == Leaving::ServiceEnds,
            WorkerPhase::Killed { .. } => false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            WorkerPhase::Booting { deadline } | WorkerPhase::Draining { deadline, .. } => deadline,
            WorkerPhase::Ready { .. } | WorkerPhase::Killed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::ControlFlow;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings(workers: u32) -> Settings {
        Settings {
            workers,
            slots: workers,
            drain_timeout: 30 * SECOND,
            start_timeout: 20 * SECOND,
            backoff: Backoff::default(),
            progress_after: 10 * SECOND,
            boot_failures_allowed: 3,
        }
    }

    fn exited(worker: WorkerId, served: bool, in_order: bool) -> Event {
        Event::Exited { worker, served, in_order }
    }

    fn written(action: Action) -> String {
        match action {
            Action::Spawn(worker) => format!("spawn {worker}"),
            Action::Admit(worker) => format!("admit {worker}"),
            Action::Retire(worker) => format!("retire {worker}"),
            Action::Kill(worker, KillReason::DrainTimeout) => format!("kill {worker} undrained"),
            Action::Kill(worker, KillReason::StartTimeout) => format!("kill {worker} unready"),
            Action::Kill(worker, KillReason::StoppedAgain) => format!("kill {worker} stopped"),
            Action::Serving => "serving".to_owned(),
            Action::Scaled(workers) => format!("scaled {workers}"),
            Action::RestartStarted => "restart".to_owned(),
            Action::RestartDone => "done".to_owned(),
            Action::RestartAborted(worker) => format!("aborted {worker}"),
            Action::Respawning { slot, after } => format!("respawn {slot} in {after:?}"),
            Action::GiveUp(worker) => format!("give_up {worker}"),
            Action::Finish(Outcome::Stopped) => "stopped".to_owned(),
            Action::Finish(Outcome::BootFailed(worker)) => format!("boot_failed {worker}"),
        }
    }

    /// One worker unless the script begins with `workers N`; as many slots, unless with `workers N of M`.
    ///
    /// `start`, `stop`, `restart`, `scale N`; `ready W`, `exit W`, `served W` (exit after serving), `died W` and `crashed W`
    /// (the same two, but not in order), `quits W` (after serving) and `fails W`, `unspawned W`, where W is `slot.generation`, or a slot for the youngest there;
    /// `wait 10ms` or `wait 5s`, then a tick.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let mut steps = script.split(';').map(str::trim).peekable();
        let (workers, slots) =
            steps.next_if(|step| step.starts_with("workers ")).map_or((1, 1), |step| {
                let counts = step.trim_start_matches("workers ");
                let (workers, slots) = counts.split_once(" of ").unwrap_or((counts, counts));
                (workers.parse().expect(step), slots.parse().expect(step))
            });
        let mut state = State::new(Settings { slots, ..settings(workers) });
        let mut now = Instant::now();
        let mut youngest = BTreeMap::new();
        let mut seen = Vec::new();
        for step in steps {
            let (verb, object) = step.split_once(' ').unwrap_or((step, ""));
            let worker = || match object.split_once('.') {
                Some((slot, generation)) => WorkerId {
                    slot: SlotId(slot.parse().expect(step)),
                    generation: generation.parse().expect(step),
                },
                None => youngest[&SlotId(object.parse().expect(step))],
            };
            let actions = match verb {
                "start" => state.start(now),
                "ready" => state.on(Event::Ready(worker()), now),
                "exit" => state.on(exited(worker(), false, true), now),
                "served" => state.on(exited(worker(), true, true), now),
                "quits" => state.on(Event::Quits { worker: worker(), served: true }, now),
                "fails" => state.on(Event::Quits { worker: worker(), served: false }, now),
                "died" => state.on(exited(worker(), false, false), now),
                "crashed" => state.on(exited(worker(), true, false), now),
                "unspawned" => state.on(Event::SpawnFailed(worker()), now),
                "stop" => state.on(Event::Stop, now),
                "restart" => state.on(Event::Restart, now),
                "scale" => state.on(Event::Scale(object.parse().expect(step)), now),
                "wait" => {
                    now += match object.strip_suffix("ms") {
                        Some(number) => Duration::from_millis(number.parse().expect(step)),
                        None => SECOND * object.trim_end_matches('s').parse().expect(step),
                    };
                    state.on(Event::Tick, now)
                }
                _ => panic!("no such step: {step}"),
            };
            for action in actions {
                if let Action::Spawn(worker) = action {
                    youngest.insert(worker.slot, worker);
                }
                seen.push(written(action));
            }
        }
        assert_eq!(seen.join("; "), expected, "\nfor: {script}");
    }

    // Boot.

    #[test]
    fn it_serves_when_every_slot_is_ready() {
        check(
            "workers 2; start; ready 1; ready 0",
            "spawn 0.0; spawn 1.0; admit 1.0; admit 0.0; serving",
        );
    }

    #[test]
    fn serving_is_said_once() {
        check(
            "start; ready 0; served 0; ready 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 0ns; spawn 0.1; admit 0.1",
        );
    }

    #[test]
    fn a_slot_that_was_ready_counts_even_if_it_is_empty_again() {
        check(
            "workers 2; start; ready 0; exit 0; ready 1",
            "spawn 0.0; spawn 1.0; admit 0.0; respawn 0 in 10ms; admit 1.0; serving",
        );
    }

    #[test]
    fn nobody_to_start_is_served_at_once() {
        check("workers 0; start; restart; stop", "serving; restart; done; stopped");
    }

    #[test]
    fn a_second_start_does_nothing() {
        check("start; start; ready 0; start", "spawn 0.0; admit 0.0; serving");
    }

    #[test]
    fn a_worker_that_reports_ready_twice_is_admitted_once() {
        check("start; ready 0; ready 0", "spawn 0.0; admit 0.0; serving");
    }

    #[test]
    fn a_worker_that_is_not_ready_in_time_is_killed_and_counts_as_a_failure_when_it_is_reaped() {
        check(
            "start; wait 19s; wait 1s; wait 60s; exit 0",
            "spawn 0.0; kill 0.0 unready; respawn 0 in 10ms",
        );
    }

    #[test]
    fn ready_comes_too_late_for_one_that_was_killed() {
        check("start; wait 20s; ready 0", "spawn 0.0; kill 0.0 unready");
    }

    #[test]
    fn a_service_whose_worker_dies_at_boot_three_times_in_a_row_is_given_up() {
        check(
            "start; exit 0; wait 10ms; exit 0; wait 20ms; exit 0; wait 60s",
            "spawn 0.0; respawn 0 in 10ms; spawn 0.1; respawn 0 in 20ms; spawn 0.2; give_up 0.2; boot_failed 0.2",
        );
    }

    #[test]
    fn every_kind_of_failure_at_boot_counts() {
        check(
            "start; unspawned 0; wait 10ms; wait 20s; exit 0; wait 20ms; exit 0",
            "spawn 0.0; respawn 0 in 10ms; spawn 0.1; kill 0.1 unready; respawn 0 in 20ms; spawn 0.2; \
             give_up 0.2; boot_failed 0.2",
        );
    }

    #[test]
    fn failures_at_boot_count_per_slot() {
        check(
            "workers 3; start; exit 0; exit 1; exit 2",
            "spawn 0.0; spawn 1.0; spawn 2.0; respawn 0 in 10ms; respawn 1 in 10ms; respawn 2 in 10ms",
        );
    }

    #[test]
    fn a_ready_worker_between_them_makes_failures_at_boot_start_from_one() {
        check(
            "workers 2; start; exit 0; wait 10ms; exit 0; wait 20ms; ready 0; exit 0; wait 40ms; exit 0; wait 80ms",
            "spawn 0.0; spawn 1.0; respawn 0 in 10ms; spawn 0.1; respawn 0 in 20ms; spawn 0.2; admit 0.2; \
             respawn 0 in 40ms; spawn 0.3; respawn 0 in 80ms; spawn 0.4",
        );
    }

    #[test]
    fn giving_up_drains_the_others_first() {
        check(
            "workers 3; start; ready 1; exit 0; wait 10ms; exit 0; wait 20ms; exit 0; exit 1; wait 30s; exit 2",
            "spawn 0.0; spawn 1.0; spawn 2.0; admit 1.0; respawn 0 in 10ms; spawn 0.1; respawn 0 in 20ms; spawn 0.2; \
             give_up 0.2; retire 1.0; retire 2.0; kill 2.0 undrained; boot_failed 0.2",
        );
    }

    #[test]
    fn the_first_stop_while_giving_up_lets_them_drain_and_the_second_kills() {
        check(
            "workers 2; start; exit 0; wait 10ms; exit 0; wait 20ms; exit 0; stop; stop; exit 1",
            "spawn 0.0; spawn 1.0; respawn 0 in 10ms; spawn 0.1; respawn 0 in 20ms; spawn 0.2; \
             give_up 0.2; retire 1.0; kill 1.0 stopped; boot_failed 0.2",
        );
    }

    // Respawns.

    #[test]
    fn a_worker_that_served_is_replaced_at_once() {
        check(
            "start; ready 0; served 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 0ns; spawn 0.1",
        );
    }

    #[test]
    fn a_worker_that_stayed_is_replaced_at_once() {
        check(
            "start; ready 0; wait 10s; exit 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 0ns; spawn 0.1",
        );
    }

    #[test]
    fn a_worker_that_achieved_nothing_is_replaced_after_a_while() {
        check(
            "start; ready 0; wait 9s; exit 0; wait 9ms; wait 1ms",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms; spawn 0.1",
        );
    }

    #[test]
    fn progress_resets_the_back_off() {
        check(
            "start; ready 0; exit 0; wait 10ms; exit 0; wait 20ms; ready 0; served 0; exit 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms; spawn 0.1; respawn 0 in 20ms; spawn 0.2; admit 0.2; \
             respawn 0 in 0ns; spawn 0.3; respawn 0 in 10ms",
        );
    }

    #[test]
    fn ready_alone_does_not_reset_the_back_off() {
        check(
            "start; ready 0; exit 0; wait 10ms; ready 0; exit 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms; spawn 0.1; admit 0.1; respawn 0 in 20ms",
        );
    }

    #[test]
    fn who_quits_is_replaced_before_it_is_gone_and_has_the_time_to_drain() {
        check(
            "start; ready 0; quits 0.0; quits 0.0; ready 0.1; died 0.0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; respawn 0 in 0ns; spawn 0.1; admit 0.1",
        );
        check(
            "start; ready 0; quits 0.0; ready 0.1; wait 30s; died 0.0; served 0.1",
            "spawn 0.0; admit 0.0; serving; retire 0.0; respawn 0 in 0ns; spawn 0.1; admit 0.1; kill 0.0 undrained; \
             respawn 0 in 0ns; spawn 0.2",
        );
    }

    #[test]
    fn who_quits_and_achieved_nothing_is_replaced_after_a_while() {
        check(
            "start; ready 0; fails 0.0; died 0.0; wait 10ms; ready 0.1; fails 0.1; wait 20ms",
            "spawn 0.0; admit 0.0; serving; retire 0.0; respawn 0 in 10ms; spawn 0.1; admit 0.1; retire 0.1; \
             respawn 0 in 20ms; spawn 0.2",
        );
    }

    #[test]
    fn the_third_on_a_seat_waits_until_one_of_two_who_quit_is_gone() {
        check(
            "start; ready 0; quits 0.0; ready 0.1; quits 0.1; died 0.0; ready 0.2; died 0.1",
            "spawn 0.0; admit 0.0; serving; retire 0.0; respawn 0 in 0ns; spawn 0.1; admit 0.1; retire 0.1; \
             respawn 0 in 0ns; spawn 0.2; admit 0.2",
        );
        check(
            "start; ready 0; quits 0.0; ready 0.1; fails 0.1; wait 10ms; died 0.1; ready 0.2",
            "spawn 0.0; admit 0.0; serving; retire 0.0; respawn 0 in 0ns; spawn 0.1; admit 0.1; retire 0.1; \
             respawn 0 in 10ms; spawn 0.2; admit 0.2",
        );
    }

    #[test]
    fn who_quits_when_the_service_ends_takes_nothing_that_is_queued() {
        check(
            "start; ready 0; stop; quits 0.0; ready 0.1; exit 0.1; died 0.0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; admit 0.1; retire 0.1; stopped",
        );
    }

    #[test]
    fn slots_back_off_apart() {
        check(
            "workers 2; start; ready 0; ready 1; exit 0; wait 10ms; exit 0; exit 1",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; respawn 0 in 10ms; spawn 0.1; respawn 0 in 20ms; \
             respawn 1 in 10ms",
        );
    }

    #[test]
    fn a_service_that_served_is_never_given_up() {
        let mut script = "start; ready 0".to_owned();
        let mut expected = "spawn 0.0; admit 0.0; serving".to_owned();
        for round in 1..40 {
            let after = Backoff::default().delay(round);
            script += &format!("; exit 0; wait {}ms", after.as_millis());
            expected += &format!("; respawn 0 in {after:?}; spawn 0.{round}");
        }
        check(&script, &expected);
    }

    #[test]
    fn who_served_was_ready_even_if_nobody_heard_of_it() {
        check(
            "start; served 0; served 0; served 0; exit 0",
            "spawn 0.0; respawn 0 in 0ns; spawn 0.1; respawn 0 in 0ns; spawn 0.2; respawn 0 in 0ns; spawn 0.3; \
             respawn 0 in 10ms",
        );
    }

    #[test]
    fn a_worker_nobody_knows_is_ignored() {
        check(
            "start; ready 7.0; exit 0.5; unspawned 7.7; ready 0; exit 0; exit 0.0; ready 0.0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms",
        );
    }

    // Stop.

    #[test]
    fn stop_drains_the_ready_and_the_booting() {
        check(
            "workers 2; start; ready 0; stop; exit 1; exit 0",
            "spawn 0.0; spawn 1.0; admit 0.0; retire 0.0; retire 1.0; stopped",
        );
    }

    #[test]
    fn ready_comes_too_late_for_one_that_was_retired() {
        check("start; stop; ready 0; exit 0", "spawn 0.0; retire 0.0; stopped");
    }

    #[test]
    fn who_does_not_drain_in_time_is_killed_once() {
        check(
            "start; ready 0; stop; wait 29s; wait 1s; wait 30s; exit 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; kill 0.0 undrained; stopped",
        );
    }

    #[test]
    fn a_second_stop_kills_at_once_and_a_third_does_nothing() {
        check(
            "workers 2; start; ready 0; stop; stop; stop; exit 0; exit 1",
            "spawn 0.0; spawn 1.0; admit 0.0; retire 0.0; retire 1.0; kill 0.0 stopped; kill 1.0 stopped; stopped",
        );
    }

    #[test]
    fn stop_cancels_what_was_to_be_spawned() {
        check(
            "workers 2; start; ready 0; exit 0; stop; wait 1s; exit 1",
            "spawn 0.0; spawn 1.0; admit 0.0; respawn 0 in 10ms; retire 1.0; stopped",
        );
    }

    #[test]
    fn stop_with_nobody_alive_ends_at_once() {
        check("start; exit 0; stop; stop", "spawn 0.0; respawn 0 in 10ms; stopped");
        check("stop; start; restart", "stopped");
    }

    #[test]
    fn stop_does_not_give_more_time_to_one_that_drains_already() {
        check(
            "start; ready 0; restart; ready 0; wait 20s; stop; wait 10s; exit 0.0; wait 20s; exit 0.1",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; retire 0.1; \
             kill 0.0 undrained; kill 0.1 undrained; stopped",
        );
    }

    #[test]
    fn stop_leaves_one_alone_that_was_killed_already() {
        check("start; wait 20s; stop; stop; exit 0", "spawn 0.0; kill 0.0 unready; stopped");
    }

    #[test]
    fn a_spawn_that_fails_while_stopping_is_gone() {
        check("start; stop; unspawned 0", "spawn 0.0; retire 0.0; stopped");
    }

    // Rolling restart.

    #[test]
    fn a_rolling_restart_goes_slot_by_slot_and_waits_for_ready_and_for_exit() {
        check(
            "workers 2; start; ready 0; ready 1; restart; ready 0; wait 29s; exit 0.0; ready 1; exit 1.0",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; \
             restart; spawn 0.1; admit 0.1; retire 0.0; spawn 1.1; admit 1.1; retire 1.0; done",
        );
    }

    #[test]
    fn an_old_worker_that_does_not_drain_holds_a_restart_up_until_it_is_killed() {
        check(
            "start; ready 0; restart; ready 0; wait 30s; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; kill 0.0 undrained; done",
        );
    }

    #[test]
    fn a_successor_that_dies_at_boot_aborts_the_restart_and_the_old_ones_stay() {
        check(
            "workers 2; start; ready 0; ready 1; restart; exit 0.1; wait 60s",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; restart; spawn 0.1; aborted 0.1",
        );
    }

    #[test]
    fn so_does_one_that_cannot_be_spawned_and_one_that_is_not_ready_in_time() {
        check(
            "start; ready 0; restart; unspawned 0.1; restart; wait 20s; exit 0.2",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; aborted 0.1; \
             restart; spawn 0.2; kill 0.2 unready; aborted 0.2",
        );
    }

    #[test]
    fn a_successor_that_quits_before_it_is_ready_makes_room_for_the_next() {
        check(
            "start; ready 0; restart; fails 0.1; restart; died 0.1; ready 0.2; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; retire 0.1; aborted 0.1; \
             restart; spawn 0.2; admit 0.2; retire 0.0; done",
        );
    }

    #[test]
    fn an_aborted_restart_leaves_the_back_off_alone() {
        check(
            "start; ready 0; restart; exit 0.1; restart; exit 0.2; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; aborted 0.1; restart; spawn 0.2; aborted 0.2; \
             respawn 0 in 10ms",
        );
    }

    #[test]
    fn an_abort_in_the_second_slot_keeps_the_new_worker_of_the_first() {
        check(
            "workers 2; start; ready 0; ready 1; restart; ready 0; exit 0.0; exit 1.1; served 0.1",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; \
             spawn 1.1; aborted 1.1; respawn 0 in 0ns; spawn 0.2",
        );
    }

    #[test]
    fn a_slot_in_back_off_is_filled_when_its_turn_comes() {
        check(
            "workers 2; start; ready 0; ready 1; exit 0; restart; wait 10ms; ready 0; ready 1; exit 1.0",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; respawn 0 in 10ms; \
             restart; spawn 0.1; admit 0.1; spawn 1.1; admit 1.1; retire 1.0; done",
        );
    }

    #[test]
    fn an_abort_in_an_empty_slot_goes_on_backing_off() {
        check(
            "start; ready 0; exit 0; restart; exit 0; wait 20ms",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms; restart; spawn 0.1; aborted 0.1; \
             respawn 0 in 20ms; spawn 0.2",
        );
    }

    #[test]
    fn a_successor_takes_the_slot_of_an_old_worker_that_crashes() {
        check(
            "workers 2; start; ready 0; ready 1; restart; exit 0.0; wait 1s; ready 0.1; ready 1.1; exit 1.0",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; \
             restart; spawn 0.1; admit 0.1; spawn 1.1; admit 1.1; retire 1.0; done",
        );
    }

    #[test]
    fn if_both_crash_the_restart_is_aborted_and_the_slot_filled() {
        check(
            "start; ready 0; restart; exit 0.0; exit 0.1; wait 20ms",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; aborted 0.1; respawn 0 in 20ms; spawn 0.2",
        );
    }

    #[test]
    fn a_new_worker_that_crashes_while_the_old_one_drains_is_replaced() {
        check(
            "start; ready 0; restart; ready 0.1; served 0.1; ready 0.2; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; \
             respawn 0 in 0ns; spawn 0.2; admit 0.2; done",
        );
    }

    #[test]
    fn a_crash_in_another_slot_does_not_stop_a_restart() {
        check(
            "workers 2; start; ready 0; ready 1; restart; served 1.0; ready 0; exit 0.0; ready 1.1; ready 1.2; exit 1.1",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; restart; spawn 0.1; respawn 1 in 0ns; spawn 1.1; \
             admit 0.1; retire 0.0; spawn 1.2; admit 1.1; admit 1.2; retire 1.1; done",
        );
    }

    #[test]
    fn a_worker_that_still_boots_is_retired_unready_when_its_successor_is_first() {
        check(
            "start; ready 0; served 0; restart; ready 0.2; ready 0.1; exit 0.1",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 0ns; spawn 0.1; restart; spawn 0.2; admit 0.2; retire 0.1; done",
        );
    }

    #[test]
    fn a_restart_waits_for_an_old_worker_that_was_killed_but_not_reaped() {
        check(
            "start; ready 0; served 0; wait 20s; restart; ready 0.2; exit 0.1",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 0ns; spawn 0.1; kill 0.1 unready; \
             restart; spawn 0.2; admit 0.2; done",
        );
    }

    #[test]
    fn any_number_of_restarts_during_one_is_one_more() {
        check(
            "start; ready 0; restart; restart; restart; ready 0; exit 0.0; ready 0; exit 0.1; wait 60s",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; done; \
             restart; spawn 0.2; admit 0.2; retire 0.1; done",
        );
    }

    #[test]
    fn an_abort_does_not_forget_the_restart_that_was_asked_for_since() {
        check(
            "start; ready 0; restart; restart; exit 0.1; ready 0.2; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; aborted 0.1; \
             restart; spawn 0.2; admit 0.2; retire 0.0; done",
        );
    }

    #[test]
    fn a_restart_before_the_service_serves_waits_for_that() {
        check(
            "start; restart; exit 0; wait 10ms; ready 0; ready 0; exit 0.1",
            "spawn 0.0; respawn 0 in 10ms; spawn 0.1; admit 0.1; serving; \
             restart; spawn 0.2; admit 0.2; retire 0.1; done",
        );
    }

    #[test]
    fn stop_during_a_restart_drains_all_and_the_successor_too() {
        check(
            "start; ready 0; restart; restart; stop; ready 0.1; exit 0.1; restart; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; retire 0.0; retire 0.1; stopped",
        );
    }

    // Growing and shrinking.

    #[test]
    fn growing_starts_workers_on_free_slots_and_shrinking_drains_the_highest() {
        check(
            "workers 1 of 3; start; ready 0; scale 3; ready 2; ready 1; scale 2; exit 2; scale 1; exit 1",
            "spawn 0.0; admit 0.0; serving; scaled 3; spawn 1.0; spawn 2.0; admit 2.0; admit 1.0; \
             scaled 2; retire 2.0; scaled 1; retire 1.0",
        );
    }

    #[test]
    fn no_number_of_workers_beyond_one_and_the_slots_is_taken() {
        check(
            "workers 2 of 3; start; ready 0; ready 1; scale 0; exit 1; scale 9; scale 3",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; scaled 1; retire 1.0; \
             scaled 3; spawn 1.1; spawn 2.0",
        );
    }

    #[test]
    fn a_slot_that_is_taken_back_does_not_wait_for_its_predecessor_unless_there_are_two() {
        check(
            "workers 2; start; ready 0; ready 1; scale 1; scale 2; ready 1; scale 1; scale 2; exit 1.0",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; scaled 1; retire 1.0; \
             scaled 2; spawn 1.1; admit 1.1; scaled 1; retire 1.1; scaled 2; spawn 1.2",
        );
    }

    #[test]
    fn a_slot_in_back_off_is_not_filled_after_it_was_closed() {
        check(
            "workers 2; start; ready 0; ready 1; exit 1; scale 1; wait 60s; scale 2",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; respawn 1 in 10ms; \
             scaled 1; scaled 2; spawn 1.1",
        );
    }

    #[test]
    fn a_restart_ends_where_the_slots_end_now() {
        check(
            "workers 2; start; ready 0; ready 1; restart; ready 0.1; exit 0.0; scale 1; exit 1.0; exit 1.1",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; \
             spawn 1.1; scaled 1; retire 1.0; retire 1.1; done",
        );
    }

    #[test]
    fn a_restart_waits_for_room_on_a_seat() {
        check(
            "workers 2; start; ready 0; ready 1; scale 1; scale 2; ready 1; restart; ready 0.1; exit 0.0; \
             exit 1.0; ready 1.2; exit 1.1",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; scaled 1; retire 1.0; scaled 2; spawn 1.1; \
             admit 1.1; restart; spawn 0.1; admit 0.1; retire 0.0; spawn 1.2; admit 1.2; retire 1.1; done",
        );
    }

    #[test]
    fn a_service_that_ends_while_nobody_is_there_gets_somebody_for_what_is_queued() {
        check(
            "start; ready 0; exit 0; stop; ready 0; exit 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms; spawn 0.1; admit 0.1; retire 0.1; stopped",
        );
        check(
            "start; ready 0; exit 0; stop; exit 0",
            "spawn 0.0; admit 0.0; serving; respawn 0 in 10ms; spawn 0.1; stopped",
        );
    }

    #[test]
    fn who_dies_while_it_drains_gets_a_successor_for_what_is_queued() {
        check(
            "start; ready 0; stop; crashed 0; ready 0; exit 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; admit 0.1; retire 0.1; stopped",
        );
        check(
            "start; ready 0; stop; died 0; ready 0; crashed 0; unspawned 0; exit 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; admit 0.1; retire 0.1; spawn 0.2; spawn 0.3; \
             stopped",
        );
    }

    #[test]
    fn it_gets_none_while_somebody_else_drains() {
        check(
            "workers 2; start; ready 0; ready 1; stop; died 0; exit 1",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; retire 0.0; retire 1.0; stopped",
        );
        check(
            "workers 2; start; ready 0; ready 1; stop; died 0; died 1; ready 0; exit 0",
            "spawn 0.0; spawn 1.0; admit 0.0; admit 1.0; serving; retire 0.0; retire 1.0; \
             spawn 0.1; admit 0.1; retire 0.1; stopped",
        );
    }

    #[test]
    fn who_leaves_to_others_what_is_queued_is_not_counted_on_when_the_service_ends() {
        check(
            "start; ready 0; restart; ready 0.1; died 0.1; stop; ready 0.2; exit 0.2; exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; respawn 0 in 10ms; \
             spawn 0.2; admit 0.2; retire 0.2; stopped",
        );
        check(
            "start; ready 0; restart; ready 0.1; stop; died 0.1; ready 0.2; exit 0.0; exit 0.2",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; retire 0.1; \
             spawn 0.2; admit 0.2; retire 0.2; stopped",
        );
    }

    #[test]
    fn one_for_what_is_queued_waits_for_a_seat() {
        check(
            "start; ready 0; restart; ready 0.1; died 0.1; wait 10ms; wait 20s; stop; exit 0.2; ready 0.3; exit 0.3; \
             exit 0.0",
            "spawn 0.0; admit 0.0; serving; restart; spawn 0.1; admit 0.1; retire 0.0; respawn 0 in 10ms; spawn 0.2; \
             kill 0.2 unready; spawn 0.3; admit 0.3; retire 0.3; stopped",
        );
    }

    #[test]
    fn all_who_come_at_the_end_have_one_deadline() {
        check(
            "start; ready 0; stop; wait 29s; died 0; wait 1s; exit 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; kill 0.1 undrained; stopped",
        );
        check(
            "start; ready 0; stop; wait 29s; died 0; ready 0; wait 1s; died 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; admit 0.1; retire 0.1; kill 0.1 undrained; stopped",
        );
    }

    #[test]
    fn who_was_killed_gets_no_successor_at_the_end() {
        check(
            "start; ready 0; stop; stop; died 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; kill 0.0 stopped; stopped",
        );
        check(
            "start; ready 0; stop; died 0; wait 20s; died 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; kill 0.1 unready; stopped",
        );
    }

    #[test]
    fn nobody_is_started_for_ever_at_the_end() {
        check(
            "start; ready 0; stop; crashed 0; died 0; died 0; died 0",
            "spawn 0.0; admit 0.0; serving; retire 0.0; spawn 0.1; spawn 0.2; spawn 0.3; stopped",
        );
        let mut script = "start; ready 0; stop; crashed 0".to_owned();
        let mut expected = "spawn 0.0; admit 0.0; serving; retire 0.0".to_owned();
        for started in 1..=MOST_LAST {
            script += "; crashed 0";
            expected += &format!("; spawn 0.{started}");
        }
        check(&script, &(expected + "; stopped"));
    }

    // The clock.

    #[test]
    fn a_ready_service_waits_for_no_deadline() {
        let now = Instant::now();
        let mut state = State::new(settings(1));
        assert_eq!(state.deadline(), None);
        state.start(now);
        assert_eq!(state.deadline(), Some(now + 20 * SECOND));
        state.on(Event::Ready(WorkerId { slot: SlotId(0), generation: 0 }), now + SECOND);
        assert_eq!(state.deadline(), None);
        state.on(Event::Stop, now + 2 * SECOND);
        assert!(state.is_stopping());
        assert_eq!(state.deadline(), Some(now + 32 * SECOND));
    }

    #[test]
    fn an_endless_timeout_is_no_deadline() {
        let now = Instant::now();
        let endless = Settings {
            drain_timeout: Duration::MAX,
            start_timeout: Duration::MAX,
            backoff: Backoff { first: Duration::MAX, most: Duration::MAX },
            ..settings(2)
        };
        let mut state = State::new(endless);
        state.start(now);
        state.on(Event::SpawnFailed(WorkerId { slot: SlotId(0), generation: 0 }), now);
        assert_eq!(state.deadline(), None);
        state.on(Event::Stop, now);
        assert_eq!(state.deadline(), None);
    }

    // Any order of events.

    /// What a process of the simulated world went through.
    #[derive(Clone, Copy, Default, Debug)]
    struct Process {
        spawned_after: Duration,
        reported: bool,
        admitted: bool,
        retired_after: Option<Duration>,
        killed: bool,
        /// Started or retired while the service ends.
        takes_queue: bool,
        /// Started while the service ends.
        is_last: bool,
        quits: bool,
    }

    /// Processes that do what they are made to, and checks on all that the state asks for.
    struct World {
        settings: Settings,
        state: State,
        wanted: u32,
        begin: Instant,
        now: Instant,
        living: BTreeMap<WorkerId, Process>,
        known: BTreeSet<WorkerId>,
        stops: u32,
        serving: u32,
        restarts: u32,
        /// Of each restart that ended: it was done (or else aborted).
        ended: Vec<bool>,
        gave_up: bool,
        /// When the service began to end.
        ends_since: Option<Duration>,
        /// What is queued has nobody to take it.
        is_owed: bool,
        last_started: u32,
        in_vain: u32,
        finish: Option<Outcome>,
    }

    impl World {
        fn new(workers: u32) -> Self {
            let now = Instant::now();
            let slots = if workers == 0 { 0 } else { workers + 1 };
            let settings = Settings { slots, ..settings(workers) };
            let mut world = Self {
                settings: settings.clone(),
                wanted: workers,
                state: State::new(settings),
                begin: now,
                now,
                living: BTreeMap::new(),
                known: BTreeSet::new(),
                stops: 0,
                serving: 0,
                restarts: 0,
                ended: Vec::new(),
                gave_up: false,
                ends_since: None,
                is_owed: false,
                last_started: 0,
                in_vain: 0,
                finish: None,
            };
            let actions = world.state.start(now);
            world.perform(actions);
            world
        }

        fn tell(&mut self, event: Event) {
            let was_finished = self.finish.is_some();
            match event {
                Event::Stop => {
                    self.stops += 1;
                    self.ends_since.get_or_insert(self.now - self.begin);
                    self.is_owed = self.stops == 1 && self.serving > 0;
                }
                Event::Exited { worker, served, in_order } => self.gone(worker, served, in_order),
                Event::SpawnFailed(worker) => self.gone(worker, false, false),
                Event::Quits { worker, .. } => {
                    if let Some(process) = self.living.get_mut(&worker) {
                        process.quits = true;
                        let was_to = std::mem::take(&mut process.takes_queue);
                        self.is_owed |= self.stops == 1 && was_to && !process.killed;
                    }
                }
                Event::Ready(worker) => {
                    if let Some(process) = self.living.get_mut(&worker) {
                        process.reported = true;
                    }
                }
                Event::Scale(workers) => {
                    if self.stops == 0 && !self.gave_up {
                        self.wanted = workers.clamp(1, self.settings.slots.max(1));
                    }
                }
                Event::Restart | Event::Tick => {}
            }
            let actions = self.state.on(event, self.now);
            assert!(!was_finished || actions.is_empty(), "after the end: {actions:?}");
            self.perform(actions);
            self.look_who_takes_the_queue();
            if event == Event::Tick {
                let now = self.now;
                assert!(self.state.deadline().is_none_or(|at| at > now), "a busy loop");
            }
            let is_stopping = self.stops > 0 || self.gave_up;
            assert_eq!(self.state.is_stopping(), is_stopping);
            assert_eq!(self.finish.is_some(), is_stopping && self.living.is_empty());
        }

        fn gone(&mut self, worker: WorkerId, served: bool, in_order: bool) {
            let Some(process) = self.living.remove(&worker) else { return };
            if served {
                self.in_vain = 0;
            }
            self.is_owed |= self.stops == 1 && process.takes_queue && !process.killed && !in_order;
        }

        /// The time that the service had to end is over.
        fn is_over(&self) -> bool {
            let since_begin = self.now - self.begin;
            self.ends_since.is_some_and(|at| since_begin - at >= self.settings.drain_timeout)
        }

        fn takes_queue(&self) -> bool {
            self.living.values().any(|process| process.takes_queue && !process.killed)
        }

        /// Whoever dies while the service ends leaves nobody behind who waits in vain.
        fn look_who_takes_the_queue(&mut self) {
            let enough = self.last_started == MOST_LAST
                || self.in_vain == self.settings.boot_failures_allowed;
            if self.serving == 0 || self.takes_queue() || self.is_over() || enough {
                self.is_owed = false;
            }
            if self.is_owed {
                let on = |slot| self.living.keys().filter(|w| w.slot == SlotId(slot)).count();
                let is_full = (0..self.wanted).all(|slot| on(slot) == 2);
                assert!(is_full, "nobody for what is queued: {:?}", self.living);
            }
        }

        fn perform(&mut self, actions: Vec<Action>) {
            let slots = self.settings.slots as usize;
            assert!(actions.len() <= 3 * slots + 5, "{actions:?}");
            let since_begin = self.now - self.begin;
            for action in actions {
                assert_eq!(self.finish, None, "{action:?} after the end");
                match action {
                    Action::Spawn(worker) => {
                        let is_last = self.stops > 0 || self.gave_up;
                        if is_last {
                            let is_due = self.is_owed && !self.takes_queue() && !self.is_over();
                            assert!(is_due && self.serving > 0, "{action:?} while stopping");
                            self.last_started += 1;
                            self.in_vain += 1;
                            assert!(self.last_started <= MOST_LAST);
                            assert!(self.in_vain <= self.settings.boot_failures_allowed);
                        }
                        assert!(worker.slot.0 < self.wanted.max(1), "{action:?} on a closed slot");
                        assert!(self.known.insert(worker), "{worker} twice");
                        let process = Process {
                            spawned_after: since_begin,
                            takes_queue: is_last,
                            is_last,
                            ..Process::default()
                        };
                        self.living.insert(worker, process);
                        let in_slot = self.living.keys().filter(|w| w.slot == worker.slot).count();
                        assert!(in_slot <= 2, "{in_slot} on slot {}", worker.slot);
                    }
                    Action::Admit(worker) => {
                        let process = self.process(worker);
                        assert!(process.reported && !process.admitted, "{action:?} {process:?}");
                        assert!(process.retired_after.is_none() && !process.killed, "{process:?}");
                        process.admitted = true;
                    }
                    Action::Retire(worker) => {
                        let is_ending = self.stops > 0 || self.gave_up;
                        let process = self.process(worker);
                        assert!(process.retired_after.is_none() && !process.killed, "{process:?}");
                        process.retired_after = Some(since_begin);
                        process.takes_queue |= is_ending && !process.quits;
                    }
                    Action::Kill(worker, reason) => {
                        let Settings { drain_timeout, start_timeout, .. } = self.settings;
                        let (stops, is_over) = (self.stops, self.is_over());
                        let process = self.process(worker);
                        assert!(!process.killed, "{worker} killed twice");
                        process.killed = true;
                        match (reason, process.retired_after) {
                            (KillReason::DrainTimeout, _) if process.is_last => assert!(is_over),
                            (KillReason::DrainTimeout, Some(at)) => {
                                assert!(since_begin - at >= drain_timeout);
                            }
                            (KillReason::StartTimeout, None) => {
                                assert!(!process.admitted);
                                assert!(since_begin - process.spawned_after >= start_timeout);
                            }
                            (KillReason::StoppedAgain, _) => assert!(stops >= 2),
                            _ => panic!("{action:?} {process:?}"),
                        }
                    }
                    Action::Serving => self.serving += 1,
                    Action::RestartStarted => {
                        assert_eq!(
                            self.restarts as usize,
                            self.ended.len(),
                            "two restarts at a time"
                        );
                        assert_eq!(self.serving, 1);
                        self.restarts += 1;
                    }
                    Action::RestartDone => self.ended.push(true),
                    Action::RestartAborted(worker) => {
                        assert!(self.living.get(&worker).is_none_or(|process| process.quits));
                        self.ended.push(false);
                    }
                    Action::Scaled(workers) => assert_eq!(workers, self.wanted),
                    Action::Respawning { slot, after } => {
                        assert!(slot.0 < self.wanted);
                        assert!(after <= self.settings.backoff.most);
                    }
                    Action::GiveUp(_) => {
                        assert_eq!(self.serving, 0, "given up after it served");
                        self.gave_up = true;
                        self.ends_since.get_or_insert(since_begin);
                    }
                    Action::Finish(outcome) => {
                        assert!(self.living.is_empty(), "{outcome:?} with {:?}", self.living);
                        assert_eq!(matches!(outcome, Outcome::BootFailed(_)), self.gave_up);
                        self.finish = Some(outcome);
                    }
                }
            }
            assert!(self.serving <= 1 && self.ended.len() <= self.restarts as usize);
        }

        #[track_caller]
        fn process(&mut self, worker: WorkerId) -> &mut Process {
            self.living.get_mut(&worker).expect("an action about nobody")
        }

        fn nth(&self, n: u8) -> Option<(WorkerId, Process)> {
            let at = usize::from(n).checked_rem(self.living.len())?;
            self.living.iter().nth(at).map(|(&worker, &process)| (worker, process))
        }

        fn play(&mut self, chance: Chance) {
            match chance {
                Chance::Ready(n) => {
                    if let Some((worker, _)) = self.nth(n) {
                        self.tell(Event::Ready(worker));
                    }
                }
                Chance::Exit(n, served, in_order) => {
                    if let Some((worker, _)) = self.nth(n) {
                        self.tell(exited(worker, served, in_order));
                    }
                }
                Chance::Quits(n, served) => {
                    if let Some((worker, _)) = self.nth(n) {
                        self.tell(Event::Quits { worker, served });
                    }
                }
                Chance::SpawnFailed(n) => {
                    if let Some((worker, Process { reported: false, killed: false, .. })) =
                        self.nth(n)
                    {
                        self.tell(Event::SpawnFailed(worker));
                    }
                }
                Chance::Stale(slot, generation, kind) => {
                    let worker =
                        WorkerId { slot: SlotId(slot.into()), generation: generation.into() };
                    if !self.living.contains_key(&worker) {
                        let event = match kind % 3 {
                            0 => Event::Ready(worker),
                            1 => exited(worker, true, false),
                            _ => Event::SpawnFailed(worker),
                        };
                        assert_eq!(self.state.on(event, self.now), []);
                    }
                }
                Chance::Restart => self.tell(Event::Restart),
                Chance::Stop => self.tell(Event::Stop),
                Chance::Scale(workers) => {
                    if self.settings.slots > 0 {
                        self.tell(Event::Scale(workers.into()));
                    }
                }
                Chance::ToDeadline => {
                    self.now = self.state.deadline().unwrap_or(self.now).max(self.now);
                    self.tell(Event::Tick);
                }
                Chance::Wait(ms) => {
                    self.now += Duration::from_millis(ms.into());
                    self.tell(Event::Tick);
                }
                Chance::AllReady => {
                    for worker in self.living.keys().copied().collect::<Vec<_>>() {
                        self.tell(Event::Ready(worker));
                    }
                }
            }
        }

        /// One step of a world in which the killed die, the retired leave and the young become ready.
        /// Breaks when it has nothing left to do.
        fn behave(&mut self) -> ControlFlow<()> {
            let leaving = self.living.iter().find(|(_, p)| p.killed || p.retired_after.is_some());
            let booting = self.living.iter().find(|(_, p)| !p.reported);
            if let Some((&worker, _)) = leaving {
                self.tell(exited(worker, false, true));
            } else if let Some((&worker, _)) = booting {
                self.tell(Event::Ready(worker));
            } else if self.state.deadline().is_some() {
                self.play(Chance::ToDeadline);
            } else {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }

    /// What may happen next. Processes are chosen by number among the living.
    #[derive(Clone, Copy, Debug)]
    enum Chance {
        Ready(u8),
        AllReady,
        Exit(u8, bool, bool),
        Quits(u8, bool),
        SpawnFailed(u8),
        Stale(u8, u8, u8),
        Restart,
        Stop,
        Scale(u8),
        ToDeadline,
        Wait(u16),
    }

    fn chance() -> impl Strategy<Value = Chance> {
        prop_oneof![
            8 => any::<u8>().prop_map(Chance::Ready),
            2 => Just(Chance::AllReady),
            6 => any::<(u8, bool, bool)>().prop_map(|(n, served, in_order)| Chance::Exit(n, served, in_order)),
            3 => any::<(u8, bool)>().prop_map(|(n, served)| Chance::Quits(n, served)),
            1 => any::<u8>().prop_map(Chance::SpawnFailed),
            1 => (0..5_u8, 0..20_u8, any::<u8>()).prop_map(|(slot, generation, kind)| Chance::Stale(slot, generation, kind)),
            3 => Just(Chance::Restart),
            3 => (0..7_u8).prop_map(Chance::Scale),
            4 => Just(Chance::ToDeadline),
            3 => any::<u16>().prop_map(Chance::Wait),
        ]
    }

    fn chances() -> impl Strategy<Value = Vec<Chance>> {
        prop::collection::vec(chance(), 0..120)
    }

    proptest! {
        #[test]
        fn no_order_of_events_breaks_a_promise(
            workers in 0..5_u32,
            chances in prop::collection::vec(
                prop_oneof![30 => chance(), 1 => Just(Chance::Stop)],
                0..200,
            ),
        ) {
            let mut world = World::new(workers);
            for chance in chances {
                world.play(chance);
            }
        }

        #[test]
        fn after_a_stop_all_is_over_within_the_drain_timeout_though_nobody_drains(
            workers in 0..5_u32,
            chances in chances(),
        ) {
            let mut world = World::new(workers);
            for chance in chances {
                world.play(chance);
            }
            let asked_at = world.now;
            world.tell(Event::Stop);
            // Whoever was killed before and makes room when it is reaped: one for what is queued comes then.
            for _ in 0..2 {
                let mut ticks = 0;
                while world.state.deadline().is_some() {
                    world.play(Chance::ToDeadline);
                    ticks += 1;
                    prop_assert!(ticks <= 2 * (workers + 1), "too many ticks");
                }
                for (worker, process) in world.living.clone() {
                    prop_assert!(process.killed, "{} was forgotten", worker);
                    world.tell(exited(worker, false, false));
                }
            }
            prop_assert!(world.finish.is_some());
            prop_assert!(world.now <= asked_at + world.settings.drain_timeout);
        }

        #[test]
        fn who_dies_after_a_stop_does_not_make_it_last_longer(
            workers in 0..5_u32,
            chances_before in chances(),
            chances_after in chances(),
        ) {
            let mut world = World::new(workers);
            for chance in chances_before {
                world.play(chance);
            }
            let over_at = world.now + world.settings.drain_timeout;
            world.tell(Event::Stop);
            for chance in chances_after {
                world.play(chance);
                prop_assert!(world.state.deadline().is_none_or(|at| at <= over_at));
            }
            for _ in 0..2 {
                while world.state.deadline().is_some() {
                    world.play(Chance::ToDeadline);
                }
                for (worker, process) in world.living.clone() {
                    prop_assert!(process.killed, "{} was forgotten", worker);
                    world.tell(exited(worker, false, false));
                }
            }
            prop_assert!(world.finish.is_some());
        }

        #[test]
        fn a_restart_replaces_every_worker_once_they_behave(
            workers in 0..5_u32,
            chances in chances(),
        ) {
            let mut world = World::new(workers);
            for chance in chances {
                world.play(chance);
            }
            let old: BTreeSet<WorkerId> = world.living.keys().copied().collect();
            world.tell(Event::Restart);
            let mut steps = 0;
            while world.behave().is_continue() {
                steps += 1;
                prop_assert!(steps < 100, "never at rest");
            }
            // What was killed for not being ready may still be the failure that is one too many.
            prop_assert_eq!(world.gave_up, world.finish.is_some());
            if world.gave_up {
                return Ok(());
            }
            prop_assert_eq!(world.ended.len(), world.restarts as usize);
            prop_assert_eq!(world.ended.last(), Some(&true));
            let slots: Vec<u32> = world.living.keys().map(|worker| worker.slot.0).collect();
            prop_assert_eq!(slots, (0..world.wanted).collect::<Vec<_>>());
            prop_assert!(world.living.values().all(|process| process.admitted));
            prop_assert!(world.living.keys().all(|worker| !old.contains(worker)));
        }
    }
}
