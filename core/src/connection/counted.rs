//! A socket and its count, in the order in which they end.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::sockopt::socket_linger;

use super::Info;

/// Dropping it counts the connection as completed, then closes the socket: the next connection comes on its way
/// meanwhile. Where the close waits it is the other way round, since that one would wait as well.
///
/// Only whoever had the socket in hand can have made its close wait, so that nobody else pays for the question.
#[derive(Debug)]
pub(crate) struct Counted<S: AsFd> {
    /// `None` only while it is taken apart or dropped.
    whole: Option<Whole<S>>,
    /// Lent to somebody who may set options.
    was_lent: AtomicBool,
}

#[derive(Debug)]
struct Whole<S> {
    // The order matters: `info` counts before the socket is closed.
    info: Info,
    socket: S,
}

/// It is whole until it ends.
const WHOLE: &str = "a connection is whole as long as there is somebody to ask";

impl<S: AsFd> Counted<S> {
    pub(crate) fn new(socket: S, info: Info) -> Self {
        Self { whole: Some(Whole { info, socket }), was_lent: AtomicBool::new(false) }
    }

    pub(crate) fn info(&self) -> &Info {
        &self.whole.as_ref().expect(WHOLE).info
    }

    /// The socket, for questions.
    pub(crate) fn socket(&self) -> &S {
        &self.whole.as_ref().expect(WHOLE).socket
    }

    /// The socket, for reads and writes.
    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.whole.as_mut().expect(WHOLE).socket
    }

    /// The socket, for whatever a handler does to it.
    pub(crate) fn lend(&self) -> &S {
        self.was_lent.store(true, Ordering::Relaxed);
        self.socket()
    }

    pub(crate) fn into_parts(mut self) -> (S, Info) {
        let Whole { info, socket } = self.whole.take().expect(WHOLE);
        (socket, info)
    }

    /// The same connection by another kind of socket, if that can be made of this one.
    #[cfg(feature = "tokio")]
    pub(crate) fn try_map<T: AsFd, E>(
        self,
        convert: impl FnOnce(S) -> Result<T, E>,
    ) -> Result<Counted<T>, E> {
        let (socket, info) = self.into_parts();
        Ok(Counted::new(convert(socket)?, info))
    }
}

impl<S: AsFd> Drop for Counted<S> {
    fn drop(&mut self) {
        if *self.was_lent.get_mut()
            && let Some(Whole { info, socket }) = self.whole.take_if(|whole| waits(&whole.socket))
        {
            drop(socket);
            drop(info);
        }
    }
}

/// Whether its close waits until the client has what was sent. Corresponds to `SO_LINGER` with a time above zero; with
/// zero the close resets the connection, at once.
fn waits(socket: &impl AsFd) -> bool {
    matches!(socket_linger(socket), Ok(Some(time)) if !time.is_zero())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::sockopt::set_socket_linger;
    use rustix::time::Timespec;

    use crate::connection::{Connection, Meter};

    /// Whether the client had been told of the end when the connection was counted as completed.
    fn closes_first(prepare: impl FnOnce(&Connection)) -> bool {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, peer) = listener.accept().unwrap();
        let meter = Meter::alone(None);
        let connection = meter.begin(ours.into(), peer, 0);
        prepare(&connection);
        let (counted, told) = mpsc::channel();
        meter.on_completed(move || {
            let mut fds = [PollFd::new(&client, PollFlags::RDHUP)];
            counted.send(poll(&mut fds, Some(&Timespec::default())).unwrap() > 0).unwrap();
        });
        drop(connection);
        assert_eq!(meter.in_service(), 0);
        told.recv().unwrap()
    }

    fn lingering(time: Duration) -> impl FnOnce(&Connection) {
        move |connection| set_socket_linger(connection.stream(), Some(time)).unwrap()
    }

    #[test]
    fn a_connection_whose_close_waits_is_counted_after_it() {
        assert!(closes_first(lingering(Duration::from_secs(60))));
    }

    #[test]
    fn every_other_is_counted_before_it_is_closed() {
        assert!(!closes_first(|_| {}));
        assert!(!closes_first(|connection| connection.stream().tcp().unwrap().set_ttl(9).unwrap()));
        // A reset, which waits for nobody.
        assert!(!closes_first(lingering(Duration::ZERO)));
    }
}
