//! A client that reads slowly: asks for a large answer, waits, and takes it piece by piece.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::category::{Category, End, Read, categorize};
use super::connection::{connect, end_of};
use crate::apps::hello::FILL_MAX;

/// How long it waits before its first piece.
const WAIT: Duration = Duration::from_millis(500);

/// Bytes of a piece; a look every 20 ms takes one, the largest answer takes 2.6 s.
const PIECE: usize = 64 * 1024;

/// Longest head of an answer.
const HEAD_MAX: usize = 1024;

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It goes on.
    On,
    /// Its connection has ended.
    Over(Category),
}

/// A slow reader. Dropping it resets its connection.
#[derive(Debug)]
pub(super) struct Reader {
    socket: Socket,
    /// What is left of the request.
    request: Vec<u8>,
    /// The beginning of the answer.
    head: Vec<u8>,
    read: usize,
    first: Instant,
    moved: Instant,
    /// Whether workers are killed meanwhile.
    kills: bool,
}

impl Reader {
    /// Connects and asks for the largest answer there is.
    pub(super) fn open(target: SocketAddrV4, number: u32, kills: bool) -> Result<Self, Category> {
        let socket = connect(target, number)
            .map_err(|error| categorize(Read::Nothing, end_of(&error), kills))?;
        let request =
            format!("GET /fill/{FILL_MAX} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
        let now = Instant::now();
        let (request, head) = (request.into_bytes(), Vec::new());
        let mut reader =
            Self { socket, request, head, read: 0, first: now + WAIT, moved: now, kills };
        // On loopback a refusal is known at once.
        match reader.ask() {
            Ok(_) => Ok(reader),
            Err(end) => Err(reader.ended(end)),
        }
    }

    /// Sends what is to be sent, or reads a piece if it is time; an answer that does not go on for
    /// `deadline` is late.
    pub(super) fn read(&mut self, deadline: Duration) -> Reading {
        let moved = if self.request.is_empty() { self.take() } else { self.ask() };
        match moved {
            Ok(0) if self.moved.elapsed() > deadline => Reading::Over(self.ended(End::TimedOut)),
            Ok(0) => Reading::On,
            Ok(_) => {
                self.moved = Instant::now();
                Reading::On
            }
            Err(end) => Reading::Over(self.ended(end)),
        }
    }

    /// Bytes of the request that went out.
    fn ask(&mut self) -> Result<usize, End> {
        match self.socket.write(&self.request) {
            Ok(count) => {
                self.request.drain(..count);
                Ok(count)
            }
            Err(error) if is_not_yet(error.kind()) => Ok(0),
            Err(error) => Err(end_of(&error)),
        }
    }

    /// Bytes of the answer that were taken.
    fn take(&mut self) -> Result<usize, End> {
        if Instant::now() < self.first {
            return Ok(0);
        }
        let mut piece = [0; PIECE];
        match self.socket.read(&mut piece) {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                let room = HEAD_MAX - self.head.len();
                self.head.extend_from_slice(&piece[..count.min(room)]);
                self.read += count;
                Ok(count)
            }
            Err(error) if is_not_yet(error.kind()) => Ok(0),
            Err(error) => Err(end_of(&error)),
        }
    }

    /// Its category: served if the whole answer came.
    fn ended(&self, end: End) -> Category {
        let read = match (self.read, expected(&self.head)) {
            (0, _) => Read::Nothing,
            (read, Some((status, length))) if read == length => {
                Read::Answer { status, as_expected: length > FILL_MAX }
            }
            _ => Read::Part,
        };
        categorize(read, end, self.kills)
    }
}

fn is_not_yet(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted)
}

/// Status and length, head included, of the answer that begins so.
fn expected(bytes: &[u8]) -> Option<(u16, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(start) = head.parse(bytes).ok()? else { return None };
    let length =
        head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length: usize = str::from_utf8(length?.value).ok()?.parse().ok()?;
    Some((head.code?, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_breaks_off_was_taken_where_workers_are_killed() {
        let now = Instant::now();
        let reader = |kills| Reader {
            socket: Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap(),
            request: Vec::new(),
            head: b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n".to_vec(),
            read: 1_000,
            first: now,
            moved: now,
            kills,
        };
        assert_eq!(reader(true).ended(End::Closed), Category::Taken);
        assert_eq!(reader(false).ended(End::Closed), Category::Other);
    }

    #[test]
    fn how_long_an_answer_is_stands_in_its_head() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab";
        assert_eq!(expected(text), Some((200, text.len() + 3)));
        assert_eq!(expected(&text[..20]), None);
        assert_eq!(expected(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}
