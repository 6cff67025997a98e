//! A worker that waits in `accept(2)` itself: the textbook's, and the cheapest for few workers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Interruptible, Leaving, ListenerSet, Load, Meter,
    Source, SourceId, Waiter, Wake,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::listener_name;

/// One listener, which is blocking until the service ends.
///
/// `accept(2)` looks at the queue before it looks at signals, so a wake-up that comes together with a
/// signal is not lost, and a worker that leaves owes nobody anything.
#[derive(Debug)]
pub(crate) struct BlockingAcceptor {
    listener: Interruptible,
    meter: Meter,
    /// For when the runtime waits: the service ends, or somebody made the listener non-blocking.
    set: ListenerSet,
}

impl BlockingAcceptor {
    pub(crate) fn open(inherited: &Inherited) -> io::Result<Self> {
        let meter = inherited.meter().clone();
        let mut set = ListenerSet::new(meter.clone(), false);
        set.add(inherited.descriptor(&listener_name(0))?, 0, Wake::SharedExclusive);
        let listener = Interruptible::new(inherited.descriptor(&listener_name(0))?)?;
        Ok(Self { listener, meter, set })
    }
}

impl BlockingAcceptor {
    fn is_nonblocking(&self) -> bool {
        rustix::fs::fcntl_getfl(self.listener.socket())
            .is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
    }
}

impl Waiter for BlockingAcceptor {
    fn accept_waiting(&mut self) -> io::Result<Option<Connection>> {
        match acceptfrom_with(self.listener.as_fd(), SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                Ok(Some(self.meter.begin(socket, peer, 0)))
            }
            Err(Errno::NOTSOCK | Errno::INTR) => {
                self.listener.restore()?;
                Err(io::ErrorKind::Interrupted.into())
            }
            // The listener's read timeout, which connections inherit from it, limits the wait, too: that is
            // no reason to do anything else. `WouldBlock` is for one that somebody made non-blocking.
            Err(Errno::AGAIN) if !self.is_nonblocking() => Err(io::ErrorKind::Interrupted.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Acceptor for BlockingAcceptor {
    fn sources(&self) -> &[Source] {
        self.set.sources()
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        interest.set_all(true);
        self.set.arm(load.room, interest);
    }

    fn woken(&mut self, ready: &[SourceId]) {
        self.set.woken(ready);
    }

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        self.set.try_accept()
    }

    fn close(&mut self, leaving: Leaving) {
        if leaving == Leaving::ServiceEnds {
            // All leave, so all may have it non-blocking: what is queued is taken, and nobody waits. A
            // sibling that still waits is about to be called away.
            let flags = rustix::fs::fcntl_getfl(self.listener.socket());
            let set = flags.and_then(|flags| {
                rustix::fs::fcntl_setfl(self.listener.socket(), flags | OFlags::NONBLOCK)
            });
            if let Err(error) = set {
                tracing::warn!(%error, "cannot empty the queue before leaving");
                return self.set.close(Leaving::OthersStay);
            }
        }
        self.set.close(leaving);
    }

    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        Some(self)
    }
}
