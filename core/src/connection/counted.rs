//! A socket and its count, in the order in which they end.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::sockopt::{set_socket_linger, socket_linger};

use super::Info;
use crate::id::WorkerId;

/// Dropping it counts the connection as completed, then closes the socket: the next connection comes on its way
/// meanwhile. So nothing may wait in that close, nor in that of a supervisor that has sent the socket a moment ago and
/// may be the last to hold it: a linger time (`SO_LINGER`) is taken off.
///
/// Only whoever had the socket in hand can have set one, so that nobody else pays for the question.
#[derive(Debug)]
pub(crate) struct Counted<S: AsFd> {
    /// `None` once it is taken apart.
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
            && let Some(Whole { info, socket }) = &self.whole
            && lingers(socket)
            && let Err(error) = set_socket_linger(socket, None)
        {
            let WorkerId { slot, generation } = info.worker();
            tracing::warn!(slot = slot.0, generation, %error, "a close may wait");
        }
    }
}

/// Whether its close waits until the client has what was sent. With a time of zero it resets the connection, at once.
fn lingers(socket: &impl AsFd) -> bool {
    matches!(socket_linger(socket), Ok(Some(time)) if !time.is_zero())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::Timespec;

    use super::*;
    use crate::connection::{Connection, Meter};

    /// Longer than the tests wait for anything.
    const LONG: Duration = Duration::from_secs(300);

    fn connected() -> (Connection, TcpStream, Meter) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, peer) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let meter = Meter::alone(None);
        (meter.begin(ours.into(), peer, 0), client, meter)
    }

    fn linger(connection: &Connection, time: Duration) {
        set_socket_linger(connection.stream(), Some(time)).unwrap();
    }

    /// Whether the client had been told of the end when the connection was counted as completed.
    fn closes_first(prepare: impl FnOnce(&Connection)) -> bool {
        let (connection, client, meter) = connected();
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

    #[test]
    fn a_connection_is_counted_before_it_is_closed_whatever_its_handler_has_set() {
        assert!(!closes_first(|_| {}));
        assert!(!closes_first(|connection| connection.stream().tcp().unwrap().set_ttl(9).unwrap()));
        assert!(!closes_first(|connection| linger(connection, LONG)));
        assert!(!closes_first(|connection| linger(connection, Duration::ZERO)));
    }

    /// A supervisor may hold the socket for a moment longer than a worker: it would be the one that waits.
    #[test]
    fn who_lingers_keeps_nobody_waiting_and_its_client_gets_everything() {
        let (mut connection, mut client, _meter) = connected();
        let mut sent = 0;
        while let Ok(count) = connection.write(&[0; 1 << 16]) {
            sent += count as u64;
        }
        linger(&connection, LONG);
        let other = connection.stream().try_clone().unwrap();
        let (closed, told) = mpsc::channel();
        std::thread::spawn(move || {
            drop(connection);
            drop(other);
            closed.send(()).unwrap();
        });
        told.recv_timeout(LONG / 10).unwrap();
        assert_eq!(std::io::copy(&mut client, &mut std::io::sink()).unwrap(), sent);
    }
}
