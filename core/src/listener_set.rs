//! An acceptor's inner part for everyone who accepts from listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{SocketFlags, acceptfrom_with};

use crate::acceptor::{Interest, Source, SourceId, Wake};
use crate::board::Leaving;
use crate::connection::{Connection, Meter};
use crate::sys::queue_bound;

/// Listening sockets watched by one worker: which may be ready, in turn, and how to leave them.
///
/// Worker. A strategy's acceptor wraps one and decides only which members are watched when.
///
/// *Leaving*, in this order: the runtime deregisters the listeners; each was perhaps just woken for us,
/// so each gets one more accept; then it is over. Closing first lost a connection in 13 of 550 restarts,
/// and "accept until there is nothing" never ends while siblings are busy. Only when the whole service
/// ends is the queue, as long as it is at that moment, emptied.
#[derive(Debug)]
pub struct ListenerSet {
    sources: Vec<Source>,
    /// Which address of the plan a source listens on.
    listener: Vec<usize>,
    /// What a poke is about: the sources of the last wish.
    watched: Vec<bool>,
    /// Sources that may have a connection.
    pending: Vec<bool>,
    /// Where the next look begins, so that no source starves another.
    turn: usize,
    meter: Meter,
    flags: SocketFlags,
    left_to_take: Option<u32>,
}

impl ListenerSet {
    /// An empty set. `nonblocking`: what the accepted connections shall be.
    #[must_use]
    pub fn new(meter: Meter, nonblocking: bool) -> Self {
        let flags = if nonblocking {
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
        } else {
            SocketFlags::CLOEXEC
        };
        Self {
            sources: Vec::new(),
            listener: Vec::new(),
            watched: Vec::new(),
            pending: Vec::new(),
            turn: 0,
            meter,
            flags,
            left_to_take: None,
        }
    }

    /// Adds a listening socket, which has to be non-blocking.
    pub fn add(&mut self, fd: OwnedFd, listener: usize, wake: Wake) -> SourceId {
        self.sources.push(Source { fd, wake });
        self.listener.push(listener);
        self.watched.push(false);
        self.pending.push(false);
        self.sources.len() - 1
    }

    /// For [`Acceptor::sources`](crate::Acceptor::sources).
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// For [`Acceptor::arm`](crate::Acceptor::arm), after the strategy's own wishes: leaves everything
    /// once closed or without room, and does not wait while a wake-up is unspent.
    pub fn arm(&mut self, room: u32, interest: &mut Interest) {
        if self.left_to_take.is_some() || room == 0 {
            interest.set_all(false);
        }
        for (source, watched) in self.watched.iter_mut().enumerate() {
            *watched = interest.wants(source);
        }
        if room > 0 && self.pending.contains(&true) {
            interest.now();
        }
    }

    /// For [`Acceptor::woken`](crate::Acceptor::woken). A poke means all that are watched.
    pub fn woken(&mut self, ready: &[SourceId]) {
        if ready.is_empty() {
            for (pending, watched) in self.pending.iter_mut().zip(&self.watched) {
                *pending |= watched;
            }
        }
        for &source in ready {
            if let Some(pending) = self.pending.get_mut(source) {
                *pending = true;
            }
        }
    }

    /// For [`Acceptor::try_accept`](crate::Acceptor::try_accept): one connection from the next source in
    /// turn that may have one.
    ///
    /// # Errors
    /// `WouldBlock` if none had; otherwise that of `accept4(2)`.
    pub fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        let count = self.sources.len();
        for step in 0..count {
            let source = (self.turn + step) % count;
            if !std::mem::take(&mut self.pending[source]) {
                continue;
            }
            match acceptfrom_with(&self.sources[source].fd, self.flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let connection = self.meter.begin(socket, peer, self.listener[source]);
                    self.turn = source + 1;
                    self.spend_one();
                    return Ok(Some(connection));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => {
                    // The wake-up is not spent: whoever comes back after a pause looks here again.
                    self.pending[source] = true;
                    return Err(error.into());
                }
            }
        }
        match self.left_to_take {
            Some(_) => Ok(None),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Where the connection came from that [`try_accept`](Self::try_accept) returned last.
    #[must_use]
    pub fn last_taken_from(&self) -> SourceId {
        // A connection taken sets it behind its source.
        self.turn.saturating_sub(1)
    }

    /// For [`Acceptor::try_accept`](crate::Acceptor::try_accept), before the look: `source` may have a
    /// connection, and is the first to be looked at.
    pub fn look_first(&mut self, source: SourceId) {
        if let Some(pending) = self.pending.get_mut(source) {
            *pending = true;
            self.turn = source;
        }
    }

    /// For [`Acceptor::try_accept`](crate::Acceptor::try_accept), after a connection was taken: what is
    /// watched is not looked at again until the kernel says so, which for as long as it has a connection
    /// is at the next wait. What was left keeps its wake-up.
    pub fn forget_watched(&mut self) {
        for (pending, watched) in self.pending.iter_mut().zip(&self.watched) {
            *pending &= !watched;
        }
    }

    /// When the service ends: a connection taken leaves one less to take, and another look is due.
    fn spend_one(&mut self) {
        if let Some(left) = self.left_to_take.as_mut()
            && *left > 0
        {
            *left -= 1;
            self.pending.fill(true);
        }
    }

    /// For [`Acceptor::close`](crate::Acceptor::close).
    pub fn close(&mut self, leaving: Leaving) {
        let queued = match leaving {
            Leaving::OthersStay => 0,
            // Bounded by what is there now: clients that come later must not keep us for ever.
            Leaving::ServiceEnds => {
                self.pending.fill(true);
                self.sources.iter().map(|source| queue_bound(&source.fd)).sum()
            }
        };
        self.left_to_take = Some(queued);
    }
}
