//! The worker's side of a channel of its own.

use std::collections::VecDeque;
use std::io;

use forkherd_core::{
    AcceptFault, Acceptor, Connection, Inherited, Interest, Leaving, Load, Source, SourceId,
    Waiter, Wake,
};
use rustix::io::Errno;

use crate::CHANNEL;
use crate::channel::{BATCH, Received, Wait, try_room_for_next};
use crate::inbox::Inbox;

#[derive(Debug)]
pub(crate) struct HandoffAcceptor {
    /// One: the channel.
    sources: [Source; 1],
    inbox: Inbox,
    /// Received, counted as taken, and not served yet: the rest of a message.
    pending: VecDeque<Connection>,
    /// The message they came in had lost some: to be said after the last of them.
    has_lost: bool,
    headroom: Headroom,
    /// Whether this worker may wait in `recvmsg(2)` itself.
    waits: bool,
}

impl HandoffAcceptor {
    /// `unreceived`: how many connections may be in the channel of a worker that gets several in one
    /// message.
    pub(crate) fn open(inherited: &Inherited, unreceived: Option<u32>) -> io::Result<Self> {
        let fd = inherited.descriptor(CHANNEL)?;
        // The channel is the worker's; its lanes share it.
        let is_alone = inherited.lanes() == 1;
        let wake = if is_alone { Wake::Private } else { Wake::SharedExclusive };
        Ok(Self {
            sources: [Source { fd, wake }],
            inbox: Inbox::new(inherited),
            pending: VecDeque::new(),
            has_lost: false,
            headroom: Headroom::for_batches(unreceived),
            waits: is_alone && inherited.runtime().is_one_at_a_time(),
        })
    }

    /// Receives one message; `None` at end-of-file. Where there is no room for the next it says so: what waits in
    /// this channel waits for nobody else.
    fn receive(&mut self, wait: Wait) -> io::Result<Option<Connection>> {
        let pending = &mut self.pending;
        let keep = |connection| pending.push_back(connection);
        let received = self.inbox.receive(&self.sources[0].fd, wait, keep);
        if matches!(&received, Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()))
        {
            self.inbox.meter().say_full(true);
        }
        match received? {
            Received::End => Ok(None),
            Received::Parcels { lost, .. } => {
                self.has_lost = lost > 0;
                self.next()
            }
        }
    }

    /// Who said that it is full says when it is not any more. By then it is sent single connections: it is short, so
    /// its gate is closed since the last [`arm`](Acceptor::arm), and nothing goes round that is too large for all.
    ///
    /// # Errors
    /// That of [`try_room_for_next`]: it still is.
    fn recover(&self) -> io::Result<()> {
        let meter = self.inbox.meter();
        if meter.is_full() {
            try_room_for_next(&self.sources[0].fd)?;
            meter.say_full(false);
        }
        Ok(())
    }

    /// The next of the message at hand.
    fn next(&mut self) -> io::Result<Option<Connection>> {
        match self.pending.pop_front() {
            Some(connection) => Ok(Some(connection)),
            None if std::mem::take(&mut self.has_lost) => Err(Errno::MFILE.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether there is something left of the message at hand.
    fn has_next(&self) -> bool {
        !self.pending.is_empty() || self.has_lost
    }
}

impl Acceptor for HandoffAcceptor {
    fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Without room a received descriptor would be lost (`MSG_CTRUNC`), so nothing is received.
    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        let room = if self.inbox.is_short() { 0 } else { load.room };
        if let Some(is_short) = self.headroom.changes(room) {
            self.inbox.meter().close_gate(is_short);
        }
        interest.set(0, load.room > 0);
        if load.room == 0 {
            self.inbox.meter().say_full(true);
        } else if self.recover().is_err() {
            // Nothing comes while it is full, so nothing would wake it.
            interest.recheck(AcceptFault::PAUSE);
        }
        if self.has_next() {
            interest.now();
        }
    }

    fn woken(&mut self, _ready: &[SourceId]) {}

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        if self.has_next() { self.next() } else { self.receive(Wait::Not) }
    }

    /// The supervisor closes its end, and then there is an end to what comes.
    fn close(&mut self, _leaving: Leaving) {}

    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        if self.waits { Some(self) } else { None }
    }
}

/// Nobody has to call this worker away: to be retired, and to lose its supervisor, are ends of its
/// channel, and there is nothing else it would have to do.
impl Waiter for HandoffAcceptor {
    fn accept_waiting(&mut self) -> io::Result<Option<Connection>> {
        if self.inbox.meter().in_service() > 0 {
            // The handler keeps connections beyond its call: only the runtime knows how many there is
            // room for.
            self.waits = false;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.recover()?;
        self.receive(Wait::ForEver)
    }
}

/// Whether a worker has room for whole batches.
///
/// A message whose descriptors find no room is lost, so whoever sends it has to know. A worker whose room, or whose
/// table of descriptors, gets short says so (it closes its gate) while it still has room for all that may be in its channel
/// already, and from then on it is sent one connection in each message. What it had not yet said when a
/// message was sent is within its credits, and these are what the room is short of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Headroom {
    /// Short is less than this. 0: it never gets a batch.
    enough: u32,
    is_short: bool,
}

impl Headroom {
    fn for_batches(unreceived: Option<u32>) -> Self {
        let batch = u32::try_from(BATCH).unwrap_or(u32::MAX);
        Self { enough: unreceived.map_or(0, |most| most.saturating_add(batch)), is_short: false }
    }

    /// `Some` if that is new.
    fn changes(&mut self, room: u32) -> Option<bool> {
        // Back only with some to spare: each change for the worse wakes the supervisor.
        let enough = if self.is_short { self.enough.saturating_mul(2) } else { self.enough };
        let is_short = room < enough;
        let changed = is_short != self.is_short;
        self.is_short = is_short;
        changed.then_some(is_short)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The supervisor sends batches as long as it sees an open gate and credit; what is in the channel
        /// when the gate closes finds room, whatever comes and goes.
        #[test]
        fn a_batch_never_finds_too_little_room(
            credits in 1_u32..40, total in 1_u32..200,
            steps in proptest::collection::vec((any::<bool>(), 1_u32..17, 0_u32..40), 1..200),
        ) {
            let mut headroom = Headroom::for_batches(Some(credits));
            let mut gate = headroom.changes(total).unwrap_or(false);
            let mut room = total;
            let mut channel: VecDeque<u32> = VecDeque::new();
            for (receives, size, ended) in steps {
                if receives {
                    room = (room + ended).min(total);
                    // `arm` comes before each receive, and says so before it receives.
                    gate = headroom.changes(room).unwrap_or(gate);
                    if room > 0 && let Some(count) = channel.pop_front() {
                        prop_assert!(count <= room, "{count} for {room}");
                        room -= count;
                    }
                } else {
                    let queued: u32 = channel.iter().sum();
                    let most = if gate { 1 } else { 16 };
                    let count = size.min(most).min(credits - queued);
                    if count > 0 {
                        channel.push_back(count);
                    }
                }
            }
        }
    }
}
