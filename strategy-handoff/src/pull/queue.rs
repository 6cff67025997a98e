//! The supervisor's side: accepts, and puts one connection after the other into the channel.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use forkherd_core::{Dispatcher, Interest, Kick, Source, SourceId, View, WorkerId};

use crate::channel::{BATCH, Channel, Parcel};
use crate::dispatcher::Board;
use crate::gate::Gate;

#[cfg(test)]
mod ownership;

/// The queue all workers share.
///
/// It holds no more than its bound, so that the backlog goes on to push back. How long it is follows from
/// what was sent and what workers say they took; but a worker that dies between receiving and counting
/// makes it seem longer for ever. So when it seems full, the kernel is asked for its true length, and that is
/// believed. It does not tell how many were never counted: what is missing then may be counted in a
/// moment, and whoever takes it off as well lets the queue grow by one each time.
#[derive(Debug)]
pub(crate) struct SharedQueue<B = View> {
    gate: Gate,
    /// Made in `prepare`.
    channel: Option<Channel>,
    bound: u64,
    members: BTreeMap<WorkerId, Member<B>>,
    /// How many members may receive now. While nobody does, nothing is accepted.
    receivers: usize,
    sent: u64,
    /// Taken by workers that are gone.
    gone: u64,
    /// So many may be sent before the length is looked at again.
    room: u64,
    /// Could not be sent: the first to go.
    held: VecDeque<Parcel>,
    /// When workers are asked to kick.
    kick: Option<Kick>,
}

#[derive(Debug)]
struct Member<B> {
    view: B,
    /// Admitted, not stopped, not retired.
    receives: bool,
    is_retired: bool,
}

impl<B> Default for SharedQueue<B> {
    /// Nothing to accept from yet.
    fn default() -> Self {
        Self {
            gate: Gate::default(),
            channel: None,
            bound: 0,
            members: BTreeMap::new(),
            receivers: 0,
            sent: 0,
            gone: 0,
            room: 0,
            held: VecDeque::new(),
            kick: None,
        }
    }
}

impl<B: Board> SharedQueue<B> {
    /// Takes the listeners it will accept from, and makes the channel.
    pub(crate) fn prepare(
        &mut self,
        listeners: &[impl AsFd],
        bound: u64,
        nonblocking: bool,
    ) -> io::Result<()> {
        self.bound = bound.max(1);
        self.channel = Some(Channel::new()?);
        self.gate.prepare(listeners, nonblocking)
    }

    /// A worker that will receive; returns what from.
    pub(crate) fn add(&mut self, worker: WorkerId, view: B) -> io::Result<BorrowedFd<'_>> {
        let channel =
            self.channel.as_ref().ok_or_else(|| io::Error::other("there is no channel yet"))?;
        view.set_starving(self.kick);
        self.members.insert(worker, Member { view, receives: false, is_retired: false });
        Ok(channel.receiver())
    }

    pub(crate) fn receives(&mut self, worker: WorkerId, on: bool) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.receives = on && !member.is_retired;
        }
        self.count_receivers();
    }

    /// It receives nothing more; what is in the channel is its siblings'.
    pub(crate) fn retire(&mut self, worker: WorkerId) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.receives = false;
            member.is_retired = true;
        }
        self.count_receivers();
    }

    pub(crate) fn remove(&mut self, worker: WorkerId) {
        if let Some(member) = self.members.remove(&worker) {
            self.gone = self.gone.saturating_add(member.view.taken());
        }
        self.count_receivers();
    }

    fn count_receivers(&mut self) {
        self.receivers = self.members.values().filter(|member| member.receives).count();
    }

    /// How many are in the channel.
    fn len(&self) -> u64 {
        // Without a channel nothing was sent; and the ioctl fails for no socket that is open.
        self.channel.as_ref().and_then(|channel| channel.len().ok()).unwrap_or(0)
    }

    /// Whether another may be sent.
    fn has_room(&mut self) -> bool {
        if self.room == 0 {
            let taken = taken(&self.members, self.gone);
            self.room = room(self.bound, self.sent, taken, || self.len());
        }
        self.room > 0 && self.receivers > 0
    }

    /// Asks all workers to kick then, if they were not asked to already; true if that is new.
    fn ask_for(&mut self, kick: Option<Kick>) -> bool {
        let is_new = self.kick != kick;
        if is_new {
            self.kick = kick;
            for member in self.members.values() {
                member.view.set_starving(kick);
            }
        }
        is_new
    }

    /// Sends what was accepted, each by itself: the rest of a batch would wait for whoever took it.
    fn send(&mut self) -> io::Result<u32> {
        let mut sent = 0;
        // How many were in the channel after it was found full.
        let mut full_at = None;
        while let (Some(channel), Some(parcel)) = (&self.channel, self.held.front()) {
            match channel.send(parcel) {
                // Our copy is closed here, at once: the client shall see the worker's close.
                Ok(()) => {
                    full_at = None;
                    self.held.pop_front();
                    self.sent += 1;
                    self.room = self.room.saturating_sub(1);
                    sent += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Full although it is within its bound: the socket holds less. How much is asked before a second
                    // try; after the first it may have been emptied.
                    let Some(length) = full_at else {
                        full_at = Some(self.len());
                        continue;
                    };
                    self.bound = length.max(1);
                    self.room = 0;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// How many connections workers say they took.
fn taken<B: Board>(members: &BTreeMap<WorkerId, Member<B>>, gone: u64) -> u64 {
    members.values().fold(gone, |sum, member| sum.saturating_add(member.view.taken()))
}

/// How many may be sent. `taken`: what workers say; `len` asks the kernel how many are in the channel.
fn room(bound: u64, sent: u64, taken: u64, len: impl FnOnce() -> u64) -> u64 {
    match sent.checked_sub(taken) {
        Some(queued) if queued < bound => bound - queued,
        _ => bound.saturating_sub(len()),
    }
}

impl<B: Board> Dispatcher for SharedQueue<B> {
    fn sources(&self) -> &[Source] {
        self.gate.listeners()
    }

    fn arm(&mut self, interest: &mut Interest) {
        let room = self.has_room();
        let starves = self.gate.starves(room);
        let asked = self.ask_for((starves || self.gate.is_done()).then_some(Kick::OnTaken));
        // Looked at after the workers were asked: whoever took one before that did not kick.
        let room = room || (asked && self.has_room());
        self.gate.arm(room, interest);
        if (room && !self.held.is_empty()) || self.is_done() {
            interest.now();
        }
    }

    fn dispatch(&mut self, ready: &[SourceId], budget: u32) -> io::Result<u32> {
        let before = self.send()?;
        let most = budget.min(u32::try_from(BATCH).unwrap_or(u32::MAX));
        let mut collected = Ok(0);
        if self.held.is_empty() && self.has_room() {
            let most = most.min(u32::try_from(self.room).unwrap_or(u32::MAX));
            let Self { gate, held, members, gone, sent, .. } = self;
            let behind = || taken(members, *gone) < *sent;
            collected = gate.accept(ready, most, behind, |parcel| held.push_back(parcel));
        }
        let sent = self.send();
        collected.and(sent).map(|sent| before + sent)
    }

    fn close(&mut self) {
        self.gate.close();
    }

    fn is_done(&self) -> bool {
        self.gate.is_done() && self.held.is_empty() && self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::room;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Send as many as there is room for.
        Send,
        /// Somebody receives one, and has not counted it yet.
        Receive,
        /// Somebody counts one that it received.
        Count,
        /// Somebody dies before it counts.
        Die,
    }

    proptest! {
        /// Whoever counts late, or never: the channel holds no more than it shall, and where it is empty
        /// there is room.
        #[test]
        fn the_channel_never_holds_more_than_its_bound(
            bound in 1_u64..9,
            steps in proptest::collection::vec(
                prop_oneof![Just(Step::Send), Just(Step::Receive), Just(Step::Count), Just(Step::Die)],
                1..200,
            ),
        ) {
            let (mut sent, mut received, mut counted, mut dead) = (0, 0, 0, 0);
            for step in steps {
                let uncounted = received - counted - dead;
                match step {
                    Step::Send => {
                        let len = sent - received;
                        let room = room(bound, sent, counted, || len);
                        prop_assert!(len > 0 || room > 0);
                        sent += room;
                        prop_assert!(sent - received <= bound, "{} of {bound}", sent - received);
                    }
                    Step::Receive if received < sent => received += 1,
                    Step::Count if uncounted > 0 => counted += 1,
                    Step::Die if uncounted > 0 => dead += 1,
                    Step::Receive | Step::Count | Step::Die => {}
                }
            }
        }
    }
}
