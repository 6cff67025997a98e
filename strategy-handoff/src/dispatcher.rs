//! The supervisor's side: accepts, picks, sends, and takes back.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use forkherd_core::{
    Dispatcher, Interest, Kick, Listener, Source, SourceId, View, Wake, WorkerId, queue_len,
};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::channel::{Channel, NOBODY, Note, Parcel};
use crate::pick::{Candidate, Pick};

/// Where connections come from, where they can go, and those that are on neither side.
///
/// A worker is given no more than its [`Credit`]. When nobody has any left, what waits waits in the
/// listener's backlog, where it costs nothing; workers are asked to kick whenever they free some
/// (*starving*), and the listener is not watched until it was once found empty again.
#[derive(Debug)]
pub(crate) struct Routes {
    listeners: Vec<Source>,
    routes: BTreeMap<WorkerId, Route>,
    /// Could not be sent: the first to go.
    held: VecDeque<Parcel>,
    /// Channels of workers that are gone, with what these had not received.
    left_behind: VecDeque<Channel>,
    policy: Box<dyn Pick>,
    credit: Credit,
    flags: SocketFlags,
    /// Nobody had credit when last asked: the listeners are not watched.
    starving: bool,
    /// When workers are asked to kick.
    kick: Option<Kick>,
    /// Room has come back: look at the listeners without being told.
    look: bool,
    /// How many more to accept before the service ends.
    left_to_take: Option<u32>,
    /// Reused from one pick to the next.
    candidates: Vec<Candidate>,
    candidate_workers: Vec<WorkerId>,
}

/// How much a worker may have of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Credit {
    /// Connections it has not finished: for workers that serve one at a time.
    Unfinished(u32),
    /// Connections it has not received: for event loops, which serve any number that they have
    /// descriptors for, and stop receiving when they have none.
    Unreceived(u32),
}

impl Credit {
    /// What a worker does that gives credit back.
    fn freed_by(self) -> Kick {
        match self {
            Self::Unfinished(_) => Kick::OnCompleted,
            Self::Unreceived(_) => Kick::OnTaken,
        }
    }
}

#[derive(Debug)]
struct Route {
    channel: Channel,
    view: View,
    assigned: u64,
    /// The channel was full when the worker had received so many.
    full_at: Option<u64>,
    /// The worker is stopped: what it has not received goes to others.
    gives_back: bool,
    /// Admitted, not stopped, not retired.
    is_open: bool,
    is_retired: bool,
}

impl Route {
    /// The worker's own counters are clamped: it may lie, but to nobody's harm but its own.
    fn load(&self) -> u64 {
        self.assigned - self.view.completed().min(self.assigned)
    }

    fn has_room(&self, credit: Credit) -> bool {
        let (done, most) = match credit {
            Credit::Unfinished(most) => (self.view.completed(), most),
            Credit::Unreceived(most) => (self.view.taken(), most),
        };
        self.is_open
            && self.assigned - done.min(self.assigned) < u64::from(most)
            && self.full_at.is_none_or(|received| self.view.taken() > received)
    }

    /// Whether the worker has received all that was sent to it.
    fn is_empty(&self) -> bool {
        self.view.taken() >= self.assigned
    }
}

impl Routes {
    /// Nothing to accept from yet.
    pub(crate) fn idle(policy: Box<dyn Pick>) -> Self {
        Self {
            listeners: Vec::new(),
            routes: BTreeMap::new(),
            held: VecDeque::new(),
            left_behind: VecDeque::new(),
            policy,
            credit: Credit::Unfinished(1),
            flags: SocketFlags::CLOEXEC,
            starving: false,
            kick: None,
            look: false,
            left_to_take: None,
            candidates: Vec::new(),
            candidate_workers: Vec::new(),
        }
    }

    /// Takes the listeners it will accept from.
    pub(crate) fn prepare(
        &mut self,
        listeners: &[Listener],
        credit: Credit,
        nonblocking: bool,
    ) -> io::Result<()> {
        for listener in listeners {
            let fd = listener.as_fd().try_clone_to_owned()?;
            self.listeners.push(Source { fd, wake: Wake::Private });
        }
        self.credit = credit;
        if nonblocking {
            self.flags |= SocketFlags::NONBLOCK;
        }
        Ok(())
    }

    /// Makes a route, closed until the worker is admitted; returns what the worker receives from.
    pub(crate) fn add(&mut self, worker: WorkerId, view: View) -> io::Result<BorrowedFd<'_>> {
        let channel = Channel::new()?;
        view.set_starving(self.kick);
        let route = Route {
            channel,
            view,
            assigned: 0,
            full_at: None,
            gives_back: false,
            is_open: false,
            is_retired: false,
        };
        let route = self.routes.entry(worker).insert_entry(route).into_mut();
        Ok(route.channel.receiver())
    }

    pub(crate) fn open(&mut self, worker: WorkerId, on: bool) {
        if let Some(route) = self.routes.get_mut(&worker) {
            route.is_open = on && !route.is_retired;
        }
    }

    /// The worker gets nothing more, and end-of-file after what it was sent.
    pub(crate) fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        let Some(route) = self.routes.get_mut(&worker) else { return Ok(()) };
        route.is_open = false;
        route.is_retired = true;
        route.channel.close()
    }

    /// From now on, what a stopped worker has not received goes to others; or, if it goes on, no more.
    pub(crate) fn give_back(&mut self, worker: WorkerId, on: bool) {
        if let Some(route) = self.routes.get_mut(&worker) {
            route.gives_back = on;
        }
    }

    /// The worker is gone: what it has not received goes to others.
    pub(crate) fn remove(&mut self, worker: WorkerId) {
        if let Some(route) = self.routes.remove(&worker) {
            let generation = worker.generation;
            tracing::debug!(slot = worker.slot.0, generation, "taking its queue back");
            self.left_behind.push_back(route.channel);
        }
    }

    /// Whether something waits that was accepted already.
    fn has_waiting(&self) -> bool {
        !self.held.is_empty()
            || !self.left_behind.is_empty()
            || self.routes.values().any(|route| route.gives_back)
    }

    /// The next that waits. Taken from its channel only now: there it costs no descriptor, and a queue as
    /// long as one likes cannot use up those that a worker's successor is started with.
    fn next_waiting(&mut self) -> io::Result<Option<Parcel>> {
        if let Some(parcel) = self.held.pop_front() {
            return Ok(Some(parcel));
        }
        if !self.has_waiting() {
            return Ok(None);
        }
        // A message received without room would lose its connection.
        drop(self.listeners.first().map(|listener| listener.fd.try_clone()).transpose()?);
        while let Some(channel) = self.left_behind.front() {
            if let Some(parcel) = channel.take_back() {
                return Ok(Some(parcel));
            }
            self.left_behind.pop_front();
        }
        for route in self.routes.values_mut().filter(|route| route.gives_back) {
            if let Some(parcel) = route.channel.take_back() {
                route.assigned = route.assigned.saturating_sub(1);
                return Ok(Some(parcel));
            }
            route.gives_back = false;
        }
        Ok(None)
    }

    fn has_room(&self) -> bool {
        self.routes.values().any(|route| route.has_room(self.credit))
    }

    /// Asks all workers to kick then, if they were not asked to already.
    fn ask_for(&mut self, kick: Option<Kick>) {
        if self.kick != kick {
            self.kick = kick;
            for route in self.routes.values() {
                route.view.set_starving(kick);
            }
        }
    }

    /// Gives a connection to whoever is next, or keeps it if nobody can take it.
    fn give(&mut self, parcel: Parcel) -> io::Result<()> {
        self.candidates.clear();
        self.candidate_workers.clear();
        for (worker, route) in &self.routes {
            if route.has_room(self.credit) {
                self.candidates.push(Candidate::new(worker.slot, route.load()));
                self.candidate_workers.push(*worker);
            }
        }
        if self.candidates.is_empty() {
            self.held.push_front(parcel);
            return Ok(());
        }
        let index = self.policy.pick(&self.candidates, parcel.note.peer);
        let worker =
            self.candidate_workers.get(index).copied().unwrap_or(self.candidate_workers[0]);
        let Some(route) = self.routes.get_mut(&worker) else {
            self.held.push_front(parcel);
            return Ok(());
        };
        match route.channel.send(&parcel) {
            // Our copy is closed here, at once: the client shall see the worker's close.
            Ok(()) => {
                route.assigned += 1;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Full although it has credit: the socket holds less. Somebody else, or later.
                route.full_at = Some(route.view.taken());
                self.held.push_front(parcel);
                Ok(())
            }
            Err(error) => {
                self.held.push_front(parcel);
                Err(error)
            }
        }
    }

    /// Accepts one connection and gives it away. `None`: there was none.
    fn accept(&mut self, source: SourceId) -> io::Result<Option<()>> {
        let Some(listener) = self.listeners.get(source) else { return Ok(None) };
        match acceptfrom_with(&listener.fd, self.flags) {
            Ok((socket, peer)) => {
                if let Some(left) = self.left_to_take.as_mut() {
                    *left = left.saturating_sub(1);
                }
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).unwrap_or(NOBODY);
                let listener = u16::try_from(source).unwrap_or(u16::MAX);
                self.give(Parcel { socket, note: Note { peer, listener } })?;
                Ok(Some(()))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn may_accept(&self) -> bool {
        self.left_to_take != Some(0) && !self.has_waiting() && self.has_room()
    }
}

impl Dispatcher for Routes {
    fn sources(&self) -> &[Source] {
        &self.listeners
    }

    fn arm(&mut self, interest: &mut Interest) {
        let all_given = self.left_to_take == Some(0) && !self.has_waiting();
        self.starving |= !self.has_room();
        self.ask_for(if all_given {
            // Now it is about what was given and not received yet.
            Some(Kick::OnTaken)
        } else {
            self.starving.then_some(self.credit.freed_by())
        });
        // Looked at after the workers were asked: whoever was done before that did not kick.
        let room = self.has_room();
        let accepts = self.left_to_take != Some(0);
        if room && (self.starving || self.left_to_take.is_some()) {
            self.look = accepts;
        }
        interest.set_all(room && !self.starving && accepts);
        if self.is_done() || (room && (self.look || self.has_waiting())) {
            interest.now();
        }
    }

    fn dispatch(&mut self, ready: &[SourceId], budget: u32) -> io::Result<u32> {
        let mut done = 0;
        while done < budget
            && self.has_room()
            && let Some(parcel) = self.next_waiting()?
        {
            self.give(parcel)?;
            done += 1;
        }
        if self.look {
            let mut found = true;
            while found && done < budget && self.may_accept() {
                found = false;
                for source in 0..self.listeners.len() {
                    if self.may_accept() && self.accept(source)?.is_some() {
                        found = true;
                        done += 1;
                    }
                }
            }
            if !found {
                // Nothing waits: from here on the listeners tell.
                self.look = false;
                self.starving = false;
                if self.left_to_take.is_some() {
                    self.left_to_take = Some(0);
                }
            }
            return Ok(done);
        }
        for &source in ready {
            if self.may_accept() && self.accept(source)?.is_some() {
                done += 1;
            }
        }
        Ok(done)
    }

    fn close(&mut self) {
        let queued = self.listeners.iter().map(|l| queue_len(&l.fd).unwrap_or(0)).sum();
        self.left_to_take = Some(queued);
    }

    fn is_done(&self) -> bool {
        // Also what is in the channels: were a worker to die after all are retired, nobody would be left
        // to take its queue.
        let nothing_under_way = || self.routes.values().all(Route::is_empty);
        self.left_to_take == Some(0) && !self.has_waiting() && nothing_under_way()
    }
}
