//! A socket and its count, in the order in which they end.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_linger, socket_linger};

use super::Info;
use crate::sys::has_unsent;

/// Dropping it counts the connection as completed, then closes the socket: the next connection comes on its way
/// meanwhile. Where the close is to wait (`SO_LINGER`) it is the other way round, since that one would wait as well.
///
/// Only whoever had the socket in hand can have asked for that, so that nobody else pays for the question. The wait is
/// ours and not the close's: the last of all who hold a socket waits, and that may be a supervisor that has sent it a moment
/// ago, and in which nothing may wait.
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
            && let Some(Whole { info, socket }) = &self.whole
            && let Some(time) = lingers(socket)
        {
            let worker = info.worker();
            if let Err(error) = linger(socket, time) {
                tracing::warn!(slot = worker.slot.0, generation = worker.generation, %error, "it did not linger");
            }
            if let Some(Whole { info, socket }) = self.whole.take() {
                drop(socket);
                drop(info);
            }
        }
    }
}

/// For how long its close is to wait until the client has what was sent. Corresponds to `SO_LINGER` with a time above
/// zero; with zero the close resets the connection, at once.
fn lingers(socket: &impl AsFd) -> Option<Duration> {
    socket_linger(socket).ok().flatten().filter(|time| !time.is_zero())
}

/// Waits until the client has what was sent, as the close would, after which it does not: neither this one nor that of
/// whoever else holds the socket.
///
/// # Errors
/// That of `setsockopt(2)`.
fn linger(socket: &impl AsFd, time: Duration) -> io::Result<()> {
    set_socket_linger(socket, None)?;
    let start = Instant::now();
    // With a Unix socket the client has what was sent.
    while has_unsent(socket).unwrap_or(false) && start.elapsed() < time {
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// How often a socket that lingers is looked at.
const LOOK: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc::{self, RecvTimeoutError};

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::Timespec;

    use super::*;
    use crate::connection::{Connection, Meter};
    use crate::stream::Stream;

    const LONG: Duration = Duration::from_secs(60);

    fn connected() -> (Connection, TcpStream, Meter) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, peer) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let meter = Meter::alone(None);
        (meter.begin(ours.into(), peer, 0), client, meter)
    }

    /// Whether the client is told of the end, within this time, though the connection is only now counted as
    /// completed.
    fn closes_first(patience: Duration, prepare: impl FnOnce(&Connection)) -> bool {
        let (connection, client, meter) = connected();
        prepare(&connection);
        let (counted, told) = mpsc::channel();
        meter.on_completed(move || {
            let mut fds = [PollFd::new(&client, PollFlags::RDHUP)];
            let patience = Timespec::try_from(patience).unwrap();
            counted.send(poll(&mut fds, Some(&patience)).unwrap() > 0).unwrap();
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
        assert!(closes_first(LONG, lingering(LONG)));
    }

    #[test]
    fn every_other_is_counted_before_it_is_closed() {
        let at_once = Duration::ZERO;
        assert!(!closes_first(at_once, |_| {}));
        let set_ttl = |connection: &Connection| connection.stream().tcp().unwrap().set_ttl(9);
        assert!(!closes_first(at_once, |connection| set_ttl(connection).unwrap()));
        // A reset, which waits for nobody.
        assert!(!closes_first(at_once, lingering(Duration::ZERO)));
    }

    /// Sends what fills all buffers, lingers, and returns what is told when it is counted, and another who holds the
    /// socket.
    fn full(time: Duration) -> (mpsc::Receiver<()>, Stream, TcpStream) {
        let (mut connection, client, meter) = connected();
        while connection.write(&[0; 1 << 16]).is_ok() {}
        lingering(time)(&connection);
        let other = connection.stream().try_clone().unwrap();
        let (counted, told) = mpsc::channel();
        meter.on_completed(move || counted.send(()).unwrap());
        std::thread::spawn(move || drop(connection));
        (told, other, client)
    }

    /// A supervisor may hold the socket for a moment longer than a worker: it would wait instead.
    #[test]
    fn who_lingers_waits_for_its_client_and_nobody_else_does() {
        let (told, other, mut client) = full(LONG);
        let moment = Duration::from_millis(300);
        assert_eq!(told.recv_timeout(moment), Err(RecvTimeoutError::Timeout));
        let start = Instant::now();
        while socket_linger(&other).unwrap().is_some() {
            assert!(start.elapsed() < LONG);
            std::thread::sleep(LOOK);
        }
        drop(other);
        std::io::copy(&mut client, &mut std::io::sink()).unwrap();
        told.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn who_lingers_waits_no_longer_than_it_wanted_to_and_for_nobody_who_has_gone() {
        let (told, _other, _client) = full(Duration::from_secs(1));
        told.recv_timeout(LONG).unwrap();
        let (told, _other, client) = full(2 * LONG);
        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        told.recv_timeout(LONG).unwrap();
    }
}
