//! One client connection: connect, send, read and check the answer; never waits.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::answer::{Answer, OURS_MAX, Parsed, longest, parse};
use super::category::{End, Read};
use super::protocol::{Answers, Target};

/// Client addresses, 127.0.0.1 and up: 28,000 ports each, so that ports last.
pub const SOURCES: u32 = 32;

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

impl Progress {
    /// How a connection ended that was to close after one answer.
    pub(super) fn end_of_single(self, target: Target) -> End {
        match (self, target.answers) {
            (Self::Ended(end), _) => end,
            // Kept open although we asked to close: wrong, unless a stranger does it.
            (_, Answers::Ours) => End::Strange,
            (_, Answers::Any) => End::Closed,
        }
    }
}

/// A connection and the request on it. Dropping it closes with a reset: no `TIME_WAIT`.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    request: Cow<'static, [u8]>,
    sent: usize,
    connected: bool,
    /// What was read of the current answer, and room for more.
    bytes: Vec<u8>,
    filled: usize,
    answers: Answers,
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
        target: Target,
        number: u32,
        request: Cow<'static, [u8]>,
    ) -> io::Result<Self> {
        let since = Instant::now();
        let socket = connect(target.address, number)?;
        Ok(Self {
            socket,
            request,
            sent: 0,
            connected: false,
            bytes: vec![0; OURS_MAX],
            filled: 0,
            answers: target.answers,
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
            if self.filled == self.bytes.len() {
                if self.filled >= longest(self.answers) {
                    return Progress::Ended(End::Strange);
                }
                self.bytes.resize(2 * self.filled, 0);
            }
            match self.socket.read(&mut self.bytes[self.filled..]) {
                Ok(0) => {
                    // The close may be what ends the answer.
                    if self.answer.is_none()
                        && let Parsed::Whole(answer, _) = self.parse(true)
                    {
                        self.answer = Some(answer);
                    }
                    return Progress::Ended(End::Closed);
                }
                // Bytes behind a whole answer, which nobody asked for.
                Ok(_) if self.answer.is_some() => return Progress::Ended(End::Strange),
                Ok(count) => {
                    self.filled += count;
                    match self.parse(false) {
                        Parsed::Part => {}
                        Parsed::Whole(answer, closes) => {
                            self.answer = Some(answer);
                            if !closes {
                                return Progress::Answered;
                            }
                        }
                        Parsed::Strange => return Progress::Ended(End::Strange),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Pending,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Progress::Ended(end_of(&error)),
            }
        }
    }

    /// What was read of the current answer; `over` says that nothing more will come.
    fn parse(&self, over: bool) -> Parsed {
        parse(&self.bytes[..self.filled], self.answers, over)
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
