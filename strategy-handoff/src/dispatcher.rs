//! The supervisor's side: accepts, picks, sends, and takes back.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use forkherd_core::{AcceptFault, Dispatcher, Interest, Kick, Source, SourceId, View, WorkerId};

use crate::channel::{BATCH, Channel, Parcel, oldest};
use crate::gate::Gate;
use crate::pick::{Candidate, Pick};
use crate::refusal::Refusal;

#[cfg(test)]
mod ownership;

/// Where connections come from, where they can go, and those that are on neither side.
///
/// A worker is given no more than its [`Credit`]. When nobody has any left, what waits waits in the
/// listener's backlog, where it costs nothing; workers are asked to kick whenever they free some
/// (*starving*).
#[derive(Debug)]
pub(crate) struct Routes<B = View> {
    gate: Gate,
    /// In the order of worker ids.
    routes: Vec<Route<B>>,
    /// Could not be sent: the first to go.
    held: VecDeque<Parcel>,
    /// Channels of workers that are gone, with what these had not received.
    left_behind: VecDeque<Channel>,
    /// Somebody is stopped, or full, and may have a queue.
    somebody_gives_back: bool,
    policy: Box<dyn Pick>,
    refusal: Refusal,
    credit: Credit,
    /// When workers are asked to kick.
    kick: Option<Kick>,
    /// Where the last look found room: the next one begins there.
    roomy: usize,
    /// Reused from one wake-up to the next.
    table: Table,
    /// Routes with something to send.
    picked: Vec<usize>,
}

/// How much a worker may have of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Credit {
    /// Connections it has not finished: for workers that serve one at a time.
    Unfinished(u32),
    /// Connections it has not received: for event loops, which serve any number that they have
    /// descriptors for, and stop receiving when they have none.
    Unreceived(u32),
    /// As before, but one connection in each message, and one accepted at each wake-up.
    OneByOne(u32),
}

impl Credit {
    /// What a worker does that gives credit back.
    fn freed_by(self) -> Kick {
        match self {
            Self::Unfinished(_) => Kick::OnCompleted,
            Self::Unreceived(_) | Self::OneByOne(_) => Kick::OnTaken,
        }
    }

    /// Most that may be queued for a worker that is sent several connections in one message. `None`:
    /// none is. One that serves one at a time would keep the rest of a message from its siblings.
    pub(crate) fn batched(self) -> Option<u32> {
        match self {
            Self::Unreceived(most) if most > 1 => Some(most),
            _ => None,
        }
    }
}

/// What a dispatcher reads of a worker, and the one word it writes: its board, or a model of it.
pub(crate) trait Board: std::fmt::Debug {
    fn taken(&self) -> u64;
    fn completed(&self) -> u64;
    fn gate_is_closed(&self) -> bool;
    fn is_full(&self) -> bool;
    fn set_starving(&self, kick: Option<Kick>);
}

impl Board for View {
    fn taken(&self) -> u64 {
        self.taken()
    }
    fn completed(&self) -> u64 {
        self.completed()
    }
    fn gate_is_closed(&self) -> bool {
        self.gate_is_closed()
    }
    fn is_full(&self) -> bool {
        self.is_full()
    }
    fn set_starving(&self, kick: Option<Kick>) {
        self.set_starving(kick);
    }
}

#[derive(Debug)]
struct Route<B> {
    worker: WorkerId,
    channel: Channel,
    view: B,
    assigned: u64,
    /// The channel was full when the worker had received so many.
    full_at: Option<u64>,
    /// The worker is stopped, or full: what it has not received goes to others.
    gives_back: bool,
    /// It may have a message of several connections in its channel.
    has_batches: bool,
    /// Admitted, not stopped, not retired.
    is_open: bool,
    is_retired: bool,
    /// Picked for it, and sent before the dispatcher returns.
    outgoing: Vec<Parcel>,
}

impl<B: Board> Route<B> {
    /// How many connections it may be given. The worker's own counters are clamped to what it was sent, and
    /// believed below that: whoever says it has finished everything has credit again, up to what its channel
    /// holds. It could as well close them all, and say the truth.
    fn room(&self, credit: Credit) -> u32 {
        if !self.is_open || self.view.is_full() {
            return 0;
        }
        let (done, most) = match credit {
            Credit::Unfinished(most) => (self.view.completed(), most),
            Credit::Unreceived(most) | Credit::OneByOne(most) => (self.view.taken(), most),
        };
        let used = self.assigned - done.min(self.assigned);
        if self.full_at.is_some_and(|received| self.view.taken() <= received) {
            return 0;
        }
        most.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Connections it was given and has not finished.
    fn load(&self) -> u64 {
        self.assigned - self.view.completed().min(self.assigned)
    }

    /// Whether the worker says that it has received all that was sent to it.
    fn is_empty(&self) -> bool {
        self.view.taken() >= self.assigned
    }

    /// Whether there is something in its channel, whatever its worker says. A system call.
    fn has_queue(&self) -> bool {
        self.channel.len().is_ok_and(|queued| queued > 0)
    }

    /// Takes back the oldest message of its channel; says how many connections it held.
    ///
    /// # Errors
    /// `EMFILE`: there is no room for it here, and it stays.
    fn take_back(&mut self, gate: &Gate, parcel: impl FnMut(Parcel)) -> io::Result<usize> {
        gate.try_room(oldest(self.channel.receiver()).unwrap_or(0))?;
        let taken = self.channel.take_back(parcel);
        self.assigned = self.assigned.saturating_sub(taken as u64);
        Ok(taken)
    }

    /// Puts what is in its channel there anew, one connection in each message: the worker is full, and may have
    /// room for one where it has none for sixteen. What cannot be sent is in `held`, in its order.
    ///
    /// # Errors
    /// As [`take_back`](Self::take_back), and as [`send`](Self::send).
    fn take_apart(
        &mut self,
        gate: &Gate,
        credit: Credit,
        held: &mut VecDeque<Parcel>,
    ) -> io::Result<()> {
        // The worker may receive meanwhile: then there is less, and it ends with an empty channel.
        let mut left = self.channel.len()?;
        while left > 0 {
            let mut parcels = Vec::new();
            let taken = self.take_back(gate, |parcel| parcels.push(parcel))?;
            if taken == 0 {
                break;
            }
            left = left.saturating_sub(taken as u64);
            self.outgoing.append(&mut parcels);
            self.send(credit, held)?;
        }
        Ok(())
    }

    /// It was picked for this connection.
    fn put(&mut self, parcel: Parcel, index: usize, picked: &mut Vec<usize>) {
        if self.outgoing.is_empty() {
            picked.push(index);
        }
        self.outgoing.push(parcel);
    }

    /// Sends what was picked for it, and says how many.
    ///
    /// # Errors
    /// As [`Channel::send`]. What could not be sent is in `held`, in its order.
    fn send(&mut self, credit: Credit, held: &mut VecDeque<Parcel>) -> io::Result<u32> {
        // A closed gate: its descriptors are short, and a message whose descriptors find no room is lost.
        let is_short = self.view.gate_is_closed() || self.view.is_full();
        let size = if credit.batched().is_some() && !is_short { BATCH } else { 1 };
        let mut sent = 0;
        let mut result = Ok(());
        while sent < self.outgoing.len() {
            let end = self.outgoing.len().min(sent + size);
            if let Err(error) = self.channel.send_all(&self.outgoing[sent..end]) {
                match error.kind() {
                    // Full although it has credit: the socket holds less. Somebody else, or later.
                    io::ErrorKind::WouldBlock => self.full_at = Some(self.view.taken()),
                    // The worker has shut it down by itself: that is its own end, and nobody else's.
                    io::ErrorKind::BrokenPipe => {
                        let (slot, generation) = (self.worker.slot.0, self.worker.generation);
                        tracing::warn!(
                            slot,
                            generation,
                            "its channel is shut down: it gets nothing more"
                        );
                        self.is_open = false;
                        self.is_retired = true;
                    }
                    _ => result = Err(error),
                }
                break;
            }
            self.has_batches |= end - sent > 1;
            sent = end;
        }
        self.assigned += sent as u64;
        for parcel in self.outgoing.drain(sent..).rev() {
            held.push_front(parcel);
        }
        // Our copies are closed here, at once: the client shall see the worker's close.
        self.outgoing.clear();
        // Never more than a batch's worth of messages.
        result.map(|()| u32::try_from(sent).unwrap_or(u32::MAX))
    }
}

/// Who may be picked, while a wake-up lasts.
#[derive(Debug, Default)]
struct Table {
    candidates: Vec<Candidate>,
    /// For each candidate its route, and how many more that may be given.
    seats: Vec<(usize, u32)>,
    room: u32,
    /// Somebody has not received what it was sent.
    is_behind: bool,
}

impl Table {
    /// Looks at every worker's board, once.
    fn fill<B: Board>(&mut self, routes: &[Route<B>], credit: Credit) {
        self.candidates.clear();
        self.seats.clear();
        self.room = 0;
        self.is_behind = false;
        for (index, route) in routes.iter().enumerate() {
            self.is_behind |= !route.is_empty();
            let room = route.room(credit);
            if room > 0 {
                self.candidates.push(Candidate::new(route.worker.slot, route.load()));
                self.seats.push((index, room));
                self.room = self.room.saturating_add(room);
            }
        }
    }

    /// Has the policy choose a route for a connection. There is room.
    fn pick(&mut self, policy: &mut dyn Pick, parcel: &Parcel) -> usize {
        let index = policy.pick(&self.candidates, parcel.note.peer);
        let index = if index < self.seats.len() { index } else { 0 };
        let (route, room) = &mut self.seats[index];
        let route = *route;
        *room -= 1;
        self.room -= 1;
        if *room == 0 {
            self.seats.remove(index);
            self.candidates.remove(index);
        } else {
            self.candidates[index].load += 1;
        }
        route
    }
}

impl<B: Board> Routes<B> {
    /// Nothing to accept from yet.
    pub(crate) fn idle(policy: Box<dyn Pick>) -> Self {
        Self {
            gate: Gate::default(),
            routes: Vec::new(),
            held: VecDeque::new(),
            left_behind: VecDeque::new(),
            somebody_gives_back: false,
            policy,
            refusal: Refusal::default(),
            credit: Credit::Unfinished(1),
            kick: None,
            roomy: 0,
            table: Table::default(),
            picked: Vec::new(),
        }
    }

    /// Takes the listeners it will accept from.
    pub(crate) fn prepare(
        &mut self,
        listeners: &[impl AsFd],
        credit: Credit,
        nonblocking: bool,
    ) -> io::Result<()> {
        self.credit = credit;
        self.gate.prepare(listeners, nonblocking)
    }

    pub(crate) fn set_refusal(&mut self, refusal: Refusal) {
        self.refusal = refusal;
    }

    /// Makes a route, closed until the worker is admitted; returns what the worker receives from.
    pub(crate) fn add(&mut self, worker: WorkerId, view: B) -> io::Result<BorrowedFd<'_>> {
        let channel = Channel::new()?;
        view.set_starving(self.kick);
        let route = Route {
            worker,
            channel,
            view,
            assigned: 0,
            full_at: None,
            gives_back: false,
            has_batches: false,
            is_open: false,
            is_retired: false,
            outgoing: Vec::new(),
        };
        let index = self.routes.partition_point(|other| other.worker < worker);
        self.routes.insert(index, route);
        Ok(self.routes[index].channel.receiver())
    }

    fn route(&mut self, worker: WorkerId) -> Option<&mut Route<B>> {
        let index = self.routes.binary_search_by_key(&worker, |route| route.worker).ok()?;
        self.routes.get_mut(index)
    }

    pub(crate) fn open(&mut self, worker: WorkerId, on: bool) {
        if let Some(route) = self.route(worker) {
            route.is_open = on && !route.is_retired;
        }
    }

    /// The worker gets nothing more, and end-of-file after what it was sent.
    pub(crate) fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        let Some(route) = self.route(worker) else { return Ok(()) };
        route.is_open = false;
        route.is_retired = true;
        route.channel.close()
    }

    /// From now on, what a stopped worker has not received goes to others; or, if it goes on, no more.
    pub(crate) fn give_back(&mut self, worker: WorkerId, on: bool) {
        self.somebody_gives_back |= on;
        if let Some(route) = self.route(worker) {
            route.gives_back = on;
        }
    }

    /// Looks who is full: nobody else receives from its channel, so what waits there goes to others.
    ///
    /// Comes after a kick, since whoever gets full, or has room again, kicks. Returns when to look again.
    pub(crate) fn look(&mut self) -> Option<Duration> {
        let mut again = None;
        for route in &mut self.routes {
            let is_full = route.view.is_full();
            if is_full
                && !route.is_retired
                && std::mem::take(&mut route.has_batches)
                && let Err(error) = route.take_apart(&self.gate, self.credit, &mut self.held)
            {
                let (slot, generation) = (route.worker.slot.0, route.worker.generation);
                tracing::warn!(slot, generation, %error, "cannot send its queue anew");
                route.has_batches = true;
                again = Some(AcceptFault::PAUSE);
            }
            // Whoever is stopped gives back anyway.
            if is_full || route.is_open {
                route.gives_back = is_full && route.has_queue();
            }
        }
        self.somebody_gives_back = self.routes.iter().any(|route| route.gives_back);
        again
    }

    /// How many connections the worker has received: what it was sent, less what is still in its channel.
    /// Exact once it is gone, whatever its page says: then nobody else receives there.
    pub(crate) fn received(&self, worker: WorkerId) -> Option<u64> {
        let index = self.routes.binary_search_by_key(&worker, |route| route.worker).ok()?;
        let route = &self.routes[index];
        Some(route.assigned.saturating_sub(route.channel.len().ok()?))
    }

    /// How many connections wait in the worker's channel.
    pub(crate) fn waiting_for(&self, worker: WorkerId) -> u64 {
        let index = self.routes.binary_search_by_key(&worker, |route| route.worker);
        let route = index.ok().and_then(|index| self.routes.get(index));
        route.and_then(|route| route.channel.len().ok()).unwrap_or(0)
    }

    /// The worker is gone: what it has not received goes to others.
    pub(crate) fn remove(&mut self, worker: WorkerId) {
        let Ok(index) = self.routes.binary_search_by_key(&worker, |route| route.worker) else {
            return;
        };
        let route = self.routes.remove(index);
        let generation = worker.generation;
        // An empty channel would keep its descriptors until somebody has room, which without them may be never.
        if route.channel.len().is_ok_and(|queued| queued == 0) {
            return;
        }
        tracing::debug!(slot = worker.slot.0, generation, "taking its queue back");
        self.left_behind.push_back(route.channel);
    }

    /// Whether something waits that was accepted already.
    fn has_waiting(&self) -> bool {
        !self.held.is_empty() || !self.left_behind.is_empty() || self.somebody_gives_back
    }

    /// The next that waits. Taken from its channel only now: there it costs no descriptor, and a queue as
    /// long as one likes cannot use up those that a worker's successor is started with.
    fn next_waiting(&mut self) -> io::Result<Option<Parcel>> {
        loop {
            if let Some(parcel) = self.held.pop_front() {
                return Ok(Some(parcel));
            }
            if !self.has_waiting() {
                return Ok(None);
            }
            if let Some(channel) = self.left_behind.front() {
                self.gate.try_room(oldest(channel.receiver()).unwrap_or(0))?;
                let (held, refusal) = (&mut self.held, &self.refusal);
                let taken = channel.take_back(|mut parcel| {
                    parcel.note.deaths = parcel.note.deaths.saturating_add(1);
                    if refusal.is_due(&parcel) {
                        refusal.refuse(parcel);
                    } else {
                        held.push_back(parcel);
                    }
                });
                if taken == 0 {
                    self.left_behind.pop_front();
                }
            } else if let Some(route) = self.routes.iter_mut().find(|route| route.gives_back) {
                let held = &mut self.held;
                let taken = route.take_back(&self.gate, |parcel| held.push_back(parcel))?;
                route.gives_back = taken > 0;
                // Whoever goes on has received no more than when it was full, and has room all the same.
                route.full_at = route.full_at.filter(|_| taken == 0);
            } else {
                self.somebody_gives_back = false;
            }
        }
    }

    /// Whether anybody has room. Seldom looks at more than one board, unless nobody has.
    fn has_room(&mut self) -> bool {
        let credit = self.credit;
        let has_room = |route: &Route<B>| route.room(credit) > 0;
        if self.routes.get(self.roomy).is_some_and(has_room) {
            return true;
        }
        match self.routes.iter().position(has_room) {
            Some(index) => {
                self.roomy = index;
                true
            }
            None => false,
        }
    }

    /// Asks all workers to kick then, if they were not asked to already; true if that is new.
    fn ask_for(&mut self, kick: Option<Kick>) -> bool {
        let is_new = self.kick != kick;
        if is_new {
            self.kick = kick;
            for route in &self.routes {
                route.view.set_starving(kick);
            }
        }
        is_new
    }

    /// Picks a worker for everything that can go now.
    fn collect(&mut self, ready: &[SourceId], budget: u32) -> io::Result<()> {
        let mut left = budget.min(u32::try_from(BATCH).unwrap_or(u32::MAX));
        while left > 0
            && self.table.room > 0
            && let Some(parcel) = self.next_waiting()?
        {
            let route = self.table.pick(&mut *self.policy, &parcel);
            self.routes[route].put(parcel, route, &mut self.picked);
            left -= 1;
        }
        if self.has_waiting() {
            return Ok(());
        }
        let Self { gate, table, policy, routes, picked, .. } = self;
        let most = if matches!(self.credit, Credit::OneByOne(_)) { left.min(1) } else { left };
        let (most, behind) = (most.min(table.room), table.is_behind);
        gate.accept(
            ready,
            most,
            || behind,
            |parcel| {
                let route = table.pick(&mut **policy, &parcel);
                routes[route].put(parcel, route, picked);
            },
        )?;
        Ok(())
    }

    /// Sends what was picked. Everybody's, whatever becomes of one.
    fn send(&mut self) -> io::Result<u32> {
        let mut total = 0;
        let mut result = Ok(());
        for route in self.picked.drain(..) {
            match self.routes[route].send(self.credit, &mut self.held) {
                Ok(sent) => total += sent,
                Err(error) => result = Err(error),
            }
        }
        result.map(|()| total)
    }
}

impl<B: Board> Dispatcher for Routes<B> {
    fn sources(&self) -> &[Source] {
        self.gate.listeners()
    }

    fn arm(&mut self, interest: &mut Interest) {
        let all_given = self.gate.is_done() && !self.has_waiting();
        let room = self.has_room();
        let starves = self.gate.starves(room);
        let asked = self.ask_for(if all_given {
            // Now it is about what was given and not received yet.
            Some(Kick::OnTaken)
        } else {
            starves.then_some(self.credit.freed_by())
        });
        // Looked at after the workers were asked: whoever was done before that did not kick.
        let room = room || (asked && self.has_room());
        self.gate.arm(room, interest);
        if (room && self.has_waiting()) || self.is_done() {
            interest.now();
        }
    }

    fn dispatch(&mut self, ready: &[SourceId], budget: u32) -> io::Result<u32> {
        self.table.fill(&self.routes, self.credit);
        let collected = self.collect(ready, budget);
        let sent = self.send();
        collected.and(sent)
    }

    fn close(&mut self) {
        self.gate.close();
    }

    fn is_done(&self) -> bool {
        // Also what is in the channels: were a worker to die after all are retired, nobody would be left
        // to take its queue.
        self.gate.is_done() && !self.has_waiting() && !self.routes.iter().any(Route::has_queue)
    }
}
