//! The listeners of a dispatcher: when they are watched, and how many connections are accepted from them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use forkherd_core::{Interest, Source, SourceId, Wake, queue_bound};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use crate::channel::{Note, Parcel, try_room};
use crate::pace::Pace;

/// Supervisor. While nobody has room, what waits waits in the listeners' backlogs, where it costs
/// nothing: they are not watched, and not watched again before they were once found empty, because each
/// change costs a call.
#[derive(Debug)]
pub(crate) struct Gate {
    listeners: Vec<Source>,
    flags: SocketFlags,
    pace: Pace,
    /// Nobody had room when last asked.
    starving: bool,
    /// Room has come back: look at the listeners without being told.
    look: bool,
    /// Where to look first: after the one that gave something last, or a listener that is never empty would
    /// keep the others waiting for ever.
    turn: SourceId,
    /// How many more to accept before the service ends.
    left_to_take: Option<u32>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            flags: SocketFlags::CLOEXEC,
            pace: Pace::default(),
            starving: false,
            look: false,
            turn: 0,
            left_to_take: None,
        }
    }
}

impl Gate {
    /// Takes the listeners it will accept from; `nonblocking`: what the connections shall be.
    pub(crate) fn prepare(&mut self, listeners: &[impl AsFd], nonblocking: bool) -> io::Result<()> {
        for listener in listeners {
            let fd = listener.as_fd().try_clone_to_owned()?;
            self.listeners.push(Source { fd, wake: Wake::Private });
        }
        if nonblocking {
            self.flags |= SocketFlags::NONBLOCK;
        }
        Ok(())
    }

    pub(crate) fn listeners(&self) -> &[Source] {
        &self.listeners
    }

    /// First half of `arm`: whether workers have to be asked for room.
    pub(crate) fn starves(&mut self, has_room: bool) -> bool {
        self.starving |= !has_room;
        self.starving
    }

    /// Second half: `has_room` as of after they were asked.
    pub(crate) fn arm(&mut self, has_room: bool, interest: &mut Interest) {
        let accepts = self.left_to_take != Some(0);
        if has_room && (self.starving || self.left_to_take.is_some()) {
            self.look = accepts;
        }
        interest.set_all(has_room && !self.starving && accepts);
        if has_room && self.look {
            interest.now();
        }
    }

    /// Accepts up to `most` connections. `behind`: whether what was accepted before is still under way.
    ///
    /// # Errors
    /// That of `accept4(2)`; what was accepted before it was handed over.
    pub(crate) fn accept(
        &mut self,
        ready: &[SourceId],
        most: u32,
        behind: impl Fn() -> bool,
        mut parcel: impl FnMut(Parcel),
    ) -> io::Result<u32> {
        let most = most.min(self.left_to_take.unwrap_or(u32::MAX));
        if most == 0 {
            return Ok(0);
        }
        if self.look {
            let (mut total, first) = (0, self.turn);
            for step in 0..self.listeners.len() {
                let source = (first + step) % self.listeners.len();
                let found = self.accept_from(source, most - total, &mut parcel)?;
                if found > 0 {
                    self.turn = source + 1;
                }
                total += found;
            }
            if total < most {
                // Nothing waits: from here on the listeners tell.
                self.look = false;
                self.starving = false;
                if self.left_to_take.is_some() {
                    self.left_to_take = Some(0);
                }
            }
            return Ok(total);
        }
        let mut total = 0;
        for &source in ready {
            let asked = self.pace.next(&behind).min(most - total);
            let found = self.accept_from(source, asked, &mut parcel)?;
            self.pace.found(asked, found);
            total += found;
        }
        Ok(total)
    }

    fn accept_from(
        &mut self,
        source: SourceId,
        most: u32,
        parcel: &mut impl FnMut(Parcel),
    ) -> io::Result<u32> {
        let Some(listener) = self.listeners.get(source) else { return Ok(0) };
        for count in 0..most {
            match acceptfrom_with(&listener.fd, self.flags) {
                Ok((socket, peer)) => {
                    if let Some(left) = self.left_to_take.as_mut() {
                        *left = left.saturating_sub(1);
                    }
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).into();
                    let listener = u16::try_from(source).unwrap_or(u16::MAX);
                    parcel(Parcel { socket, note: Note { peer, listener, deaths: 0 } });
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(most)
    }

    /// The service ends: what is queued now is the last.
    pub(crate) fn close(&mut self) {
        let queued = self.listeners.iter().map(|l| queue_bound(&l.fd)).sum();
        self.left_to_take = Some(queued);
    }

    /// Whether everything was accepted after [`close`](Self::close).
    pub(crate) fn is_done(&self) -> bool {
        self.left_to_take == Some(0)
    }

    /// As [`try_room`], with a descriptor like any other.
    pub(crate) fn try_room(&self, count: usize) -> io::Result<()> {
        self.listeners.first().map_or(Ok(()), |listener| try_room(&listener.fd, count))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_listener_that_is_never_empty_keeps_no_other_waiting() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        let addresses = listeners.iter().flat_map(|one| [one.local_addr().unwrap(); 4]);
        let _clients: Vec<_> = addresses.map(|one| TcpStream::connect(one).unwrap()).collect();
        let mut gate = Gate::default();
        gate.prepare(&listeners, true).unwrap();
        // Nobody had room, and now there is some again for one at a time.
        gate.starves(false);
        gate.arm(true, &mut Interest::default());
        let mut from = Vec::new();
        for _ in 0..8 {
            gate.accept(&[], 1, || false, |parcel| from.push(parcel.note.listener)).unwrap();
        }
        assert_eq!(from, [0, 1, 0, 1, 0, 1, 0, 1]);
    }
}
