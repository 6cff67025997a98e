//! One client connection: connect, send, read and check the answer; never waits.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::category::{End, Read};
use crate::apps::hello;

/// Longest answer we know how to read.
const ANSWER_MAX: usize = 1024;

/// Client addresses, 127.0.0.1 and up: 28,000 ports each, so that ports last.
pub const SOURCES: u32 = 32;

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its status code.
    pub(super) status: u16,
    /// Whether a 200 had the body and length it must have.
    pub(super) as_expected: bool,
    /// `X-Worker`.
    pub(super) worker: Option<u32>,
    /// `X-Service-Us`.
    pub(super) service_us: Option<u64>,
    /// `X-Taken-Us`.
    pub(super) taken_us: Option<u64>,
    /// `X-After-Ns`.
    pub(super) after_ns: Option<u64>,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Wait for this direction.
    Pending,
    /// A whole answer is there and the connection is still open.
    Answered,
    /// It is over.
    Ended(End),
}

/// A connection and the request on it. Dropping it closes with a reset: no `TIME_WAIT`.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    request: Cow<'static, [u8]>,
    sent: usize,
    connected: bool,
    bytes: [u8; ANSWER_MAX],
    filled: usize,
    answer: Option<Answer>,
    /// Requests so far.
    asked: u32,
    /// Kept open with nothing out on it: it cannot be late.
    pub(super) idle: bool,
    /// When its life (or its current request) began.
    pub(super) since: Instant,
}

impl Connection {
    /// Begins to connect from the `number`-th source address; the request goes out as soon as it
    /// can.
    pub(super) fn open(
        target: SocketAddrV4,
        number: u32,
        request: Cow<'static, [u8]>,
    ) -> io::Result<Self> {
        let since = Instant::now();
        let socket = connect(target, number)?;
        let bytes = [0; ANSWER_MAX];
        Ok(Self {
            socket,
            request,
            sent: 0,
            connected: false,
            bytes,
            filled: 0,
            answer: None,
            asked: 1,
            idle: false,
            since,
        })
    }

    /// Sends another request on this connection.
    pub(super) fn ask(&mut self, request: Cow<'static, [u8]>) -> Progress {
        self.request = request;
        self.again()
    }

    /// Sends the same request again on this connection.
    pub(super) fn again(&mut self) -> Progress {
        self.since = Instant::now();
        self.asked += 1;
        self.idle = false;
        self.sent = 0;
        self.filled = 0;
        self.answer = None;
        self.send()
    }

    /// Requests so far, the one that is out included.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// Whether it waits to write (else to read).
    pub(super) fn wants_write(&self) -> bool {
        self.sent < self.request.len()
    }

    /// What was read of the current answer.
    pub(super) fn read(&self) -> Read {
        match self.answer {
            Some(Answer { status, as_expected, .. }) => Read::Answer { status, as_expected },
            None if self.filled == 0 => Read::Nothing,
            None => Read::Part,
        }
    }

    /// The current answer, if it is there.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answer
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn advance(&mut self) -> Progress {
        if self.wants_write() { self.send() } else { self.receive() }
    }

    /// Writes what is left of the request. On loopback the handshake is done inside `connect(2)`,
    /// so the first attempt mostly succeeds and no wait for writability is needed.
    pub(super) fn send(&mut self) -> Progress {
        if !self.connected {
            // A refused connect is reported here and only here.
            match self.socket.take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return Progress::Ended(end_of(&error)),
            }
        }
        while self.wants_write() {
            match self.socket.write(&self.request[self.sent..]) {
                Ok(count) => {
                    self.connected = true;
                    self.sent += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    return Progress::Pending;
                }
                Err(error) => return Progress::Ended(end_of(&error)),
            }
        }
        Progress::Pending
    }

    /// Reads until the answer is whole, the connection ends, or nothing is there.
    fn receive(&mut self) -> Progress {
        loop {
            if self.filled == ANSWER_MAX {
                return Progress::Ended(End::Strange);
            }
            match self.socket.read(&mut self.bytes[self.filled..]) {
                Ok(0) => return Progress::Ended(End::Closed),
                // Bytes behind a whole answer, which nobody asked for.
                Ok(_) if self.answer.is_some() => return Progress::Ended(End::Strange),
                Ok(count) => {
                    self.filled += count;
                    match parse(&self.bytes[..self.filled]) {
                        Ok(None) => {}
                        Ok(Some((answer, closes))) => {
                            self.answer = Some(answer);
                            if !closes {
                                return Progress::Answered;
                            }
                        }
                        Err(()) => return Progress::Ended(End::Strange),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Pending,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Progress::Ended(end_of(&error)),
            }
        }
    }
}

/// Begins to connect from the `number`-th source address, without waiting. Dropping the socket resets
/// the connection: no `TIME_WAIT`.
pub(super) fn connect(target: SocketAddrV4, number: u32) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::TCP))?;
    // The port is chosen at connect, when the kernel knows the whole tuple.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number % SOURCES);
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket),
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What an error says about the connection.
pub(super) fn end_of(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionRefused => End::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => End::Reset,
        ErrorKind::TimedOut => End::TimedOut,
        _ => End::Strange,
    }
}

/// The answer in `bytes` and whether it announces the close; `None` if it is not all there,
/// an error if it is none.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, bool)>, ()> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = head.parse(bytes).map_err(|_| ())? else {
        return Ok(None);
    };
    let mut length = None;
    let mut worker = None;
    let (mut service_us, mut taken_us, mut after_ns) = (None, None, None);
    let mut closes = false;
    for field in head.headers.iter() {
        let value = str::from_utf8(field.value).map_err(|_| ())?;
        if field.name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().map_err(|_| ())?);
        } else if field.name.eq_ignore_ascii_case("x-worker") {
            worker = Some(value.parse().map_err(|_| ())?);
        } else if field.name.eq_ignore_ascii_case("x-service-us") {
            service_us = Some(value.parse().map_err(|_| ())?);
        } else if field.name.eq_ignore_ascii_case("x-taken-us") {
            taken_us = Some(value.parse().map_err(|_| ())?);
        } else if field.name.eq_ignore_ascii_case("x-after-ns") {
            after_ns = Some(value.parse().map_err(|_| ())?);
        } else if field.name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        }
    }
    let (Some(status), Some(length)) = (head.code, length) else { return Err(()) };
    let body = &bytes[start..];
    match body.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Greater => Err(()),
        std::cmp::Ordering::Equal => {
            let as_expected = status == 200 && body == hello::BODY && worker.is_some();
            let answer = Answer { status, as_expected, worker, service_us, taken_us, after_ns };
            Ok(Some((answer, closes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_checked_in_full() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nX-Worker: 3\r\nX-Service-Us: 9\r\n\
                     X-Taken-Us: 5\r\nX-After-Ns: 6\r\nConnection: close\r\n\r\nHello, world!";
        let answer = Answer {
            status: 200,
            as_expected: true,
            worker: Some(3),
            service_us: Some(9),
            taken_us: Some(5),
            after_ns: Some(6),
        };
        assert_eq!(parse(good), Ok(Some((answer, true))));
        for cut in 0..good.len() {
            assert_eq!(parse(&good[..cut]), Ok(None), "cut at {cut}");
        }
        let wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nX-Worker: 3\r\n\r\nHello, World!";
        assert!(!parse(wrong).unwrap().unwrap().0.as_expected);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"), Err(()));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Err(()));
        assert_eq!(parse(b"nonsense\r\n\r\n"), Err(()));
    }
}
