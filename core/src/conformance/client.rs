//! A client of a service under test, and what can become of its connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::herd::PATIENCE;
use crate::connection::Peer;
use crate::id::{SlotId, WorkerId};
use crate::listener::Address;
use crate::stream::Stream;

/// A connection that has asked for something, or will.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    unread: Vec<u8>,
}

/// What a worker says about itself and the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) worker: WorkerId,
    pub(super) pid: u32,
    pub(super) listener: String,
    pub(super) address: Address,
    pub(super) peer: Peer,
}

/// What became of a connection: one of these, and no other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Lost {
    /// `connect(2)` failed: nobody listens.
    Refused,
    /// Closed before an answer.
    Closed,
    /// Reset before an answer.
    Reset,
    /// No answer within [`PATIENCE`].
    Overdue,
    /// Something else; always a failure.
    Other,
}

impl Lost {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Overdue,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Closed => "closed before an answer",
            Self::Reset => "reset",
            Self::Overdue => "not answered in time",
            Self::Other => "other",
        })
    }
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Self, Lost> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: io::Error| Lost::of(&error))?;
        Ok(Self { stream: Stream::Tcp(stream), unread: Vec::new() })
    }

    /// Through a Unix socket, with its request on the way.
    pub(super) fn asking_unix(path: &Path, request: &str) -> Result<Self, Lost> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: io::Error| Lost::of(&error))?;
        let mut client = Self { stream: Stream::Unix(stream), unread: Vec::new() };
        client.ask(request)?;
        Ok(client)
    }

    /// A connection with its request on the way.
    pub(super) fn asking(address: SocketAddr, request: &str) -> Result<Self, Lost> {
        let mut client = Self::connect(address)?;
        client.ask(request)?;
        Ok(client)
    }

    pub(super) fn ask(&mut self, request: &str) -> Result<(), Lost> {
        self.stream.write_all(format!("{request}\n").as_bytes()).map_err(|error| Lost::of(&error))
    }

    /// This end's address.
    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr(),
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads the line that says which worker has begun.
    pub(super) fn begun(&mut self) -> Result<WorkerId, Lost> {
        begun(&self.line()?).ok_or(Lost::Other)
    }

    /// Reads the answer, with or without the line before it.
    pub(super) fn answer(&mut self) -> Result<Answer, Lost> {
        let mut line = self.line()?;
        if begun(&line).is_some() {
            line = self.line()?;
        }
        parse(&line).ok_or(Lost::Other)
    }

    /// Reads until the other side closes.
    pub(super) fn end(&mut self) -> Result<(), Lost> {
        let mut buffer = [0; 64];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Lost::Other),
            Err(error) => Err(Lost::of(&error)),
        }
    }

    fn line(&mut self) -> Result<String, Lost> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line = self.unread.drain(..=end).collect::<Vec<_>>();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut buffer = [0; 256];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Lost::Closed),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) => return Err(Lost::of(&error)),
            }
        }
    }
}

fn begun(line: &str) -> Option<WorkerId> {
    let (slot, generation) = line.strip_prefix("begun ")?.split_once('.')?;
    Some(WorkerId { slot: SlotId(slot.parse().ok()?), generation: generation.parse().ok()? })
}

fn parse(line: &str) -> Option<Answer> {
    let mut words = line.split(' ');
    let slot = SlotId(words.next()?.parse().ok()?);
    let worker = WorkerId { slot, generation: words.next()?.parse().ok()? };
    let pid = words.next()?.parse().ok()?;
    let listener = words.next()?.to_owned();
    let address = words.next()?.parse().ok()?;
    let peer = match words.next()? {
        "unix" => Peer::Unix,
        address => Peer::Inet(address.parse().ok()?),
    };
    words.next().is_none().then_some(Answer { worker, pid, listener, address, peer })
}

/// One connection from beginning to end, its end included.
pub(super) fn visit(address: SocketAddr) -> Result<Answer, Lost> {
    let mut client = Client::asking(address, "serve")?;
    let answer = client.answer()?;
    client.end()?;
    Ok(answer)
}

/// So many connections, each with its request on the way.
pub(super) fn crowd(
    address: SocketAddr,
    count: usize,
    request: &str,
) -> Result<Vec<Client>, String> {
    (0..count)
        .map(|n| Client::asking(address, request).map_err(|lost| format!("client {n}: {lost}")))
        .collect()
}

/// Every one of them has to be answered, all within [`PATIENCE`].
pub(super) fn all_answered(clients: Vec<Client>) -> Result<Vec<Answer>, String> {
    let deadline = Instant::now() + PATIENCE;
    let count = clients.len();
    let mut answers = Vec::new();
    let mut lost = Vec::new();
    for (n, mut client) in clients.into_iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean for ever; and whoever has his answer already is read at once.
        let left = Some(left.max(Duration::from_millis(10)));
        client.stream.set_read_timeout(left).map_err(|error| error.to_string())?;
        match client.answer() {
            Ok(answer) => answers.push(answer),
            Err(how) => lost.push(format!("client {n}: {how}")),
        }
    }
    if lost.is_empty() {
        return Ok(answers);
    }
    Err(format!("{} of {count} lost: {}", lost.len(), lost.join(", ")))
}
