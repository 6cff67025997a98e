//! A worker's side: it receives from the channel that all share.

use std::io;
use std::os::fd::AsFd;

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Interruptible, Leaving, Load, Source, SourceId,
    Waiter, Wake,
};
use rustix::io::Errno;

use crate::CHANNEL;
use crate::channel::{Received, Wait};
use crate::inbox::Inbox;

#[derive(Debug)]
pub(crate) struct PullAcceptor {
    /// One: the channel.
    sources: [Source; 1],
    inbox: Inbox,
    /// To wait in `recvmsg(2)` itself, where one connection is served at a time.
    ///
    /// The channel has no end for one worker alone, so it has to be called away.
    waits: Option<Interruptible>,
    /// The channel may have a connection.
    is_pending: bool,
    /// Took one since the last wait.
    served: bool,
    leaving: Option<Leaving>,
}

impl PullAcceptor {
    pub(crate) fn open(inherited: &Inherited) -> io::Result<Self> {
        // A signal calls one thread away.
        let waits = if inherited.runtime().is_one_at_a_time() && inherited.lanes() == 1 {
            Some(Interruptible::new(inherited.descriptor(CHANNEL)?)?)
        } else {
            None
        };
        let fd = inherited.descriptor(CHANNEL)?;
        Ok(Self {
            sources: [Source { fd, wake: Wake::SharedExclusive }],
            inbox: Inbox::new(inherited),
            waits,
            is_pending: false,
            served: false,
            leaving: None,
        })
    }

    fn receive(&self, channel: impl AsFd, wait: Wait) -> io::Result<Option<Connection>> {
        // A message holds one connection.
        let mut received = None;
        match self.inbox.receive(channel, wait, |connection| received = Some(connection))? {
            Received::End => Ok(None),
            Received::Parcels { .. } => received.map(Some).ok_or_else(|| Errno::MFILE.into()),
        }
    }
}

impl Acceptor for PullAcceptor {
    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        let has_room = load.room > 0;
        interest.set(0, has_room && self.leaving.is_none());
        // The kernel asks those who wait exclusively in a fixed order, so who was served goes to its end.
        if std::mem::take(&mut self.served) {
            interest.rejoin(0);
        }
        if has_room && self.is_pending {
            interest.now();
        }
    }

    fn woken(&mut self, _ready: &[SourceId]) {
        self.is_pending = true;
    }

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        if std::mem::take(&mut self.is_pending) {
            match self.receive(&self.sources[0].fd, Wait::Not) {
                Ok(Some(connection)) => {
                    self.served = true;
                    // When the service ends there is nobody else for what is left in the channel.
                    self.is_pending = self.leaving == Some(Leaving::ServiceEnds);
                    return Ok(Some(connection));
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    self.is_pending = true;
                    return Err(error);
                }
                Ok(None) => return Ok(None),
                Err(_) => {}
            }
        }
        match self.leaving {
            Some(_) => Ok(None),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Receives at most once more for each wake-up that may have been spent on this worker: what is in the
    /// channel is its siblings'.
    fn close(&mut self, leaving: Leaving) {
        self.leaving = Some(leaving);
        // Also one that came while it waited by itself, and was called away.
        self.is_pending = true;
    }

    fn is_contested(&self) -> bool {
        true
    }

    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        if self.waits.is_some() { Some(self) } else { None }
    }
}

impl Waiter for PullAcceptor {
    fn accept_waiting(&mut self) -> io::Result<Option<Connection>> {
        let Some(channel) = &self.waits else { return Err(io::ErrorKind::WouldBlock.into()) };
        if self.inbox.meter().in_service() > 0 {
            // The handler keeps connections beyond its call: only the runtime knows how many there is
            // room for.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.receive(channel, Wait::ForEver) {
            Err(error) if is_called_away(&error) => {
                channel.restore()?;
                Err(io::ErrorKind::Interrupted.into())
            }
            result => result,
        }
    }
}

fn is_called_away(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOTSOCK, Errno::INTR].iter().any(|errno| number == Some(errno.raw_os_error()))
}
