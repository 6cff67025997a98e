//! One request to anybody, with blocking calls: to find out whether a server answers, and what it offers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::load::answer::{Parsed, longest, parse};
use crate::load::protocol::Answers;

/// Longest single wait: Ctrl-C is answered within this.
const GLANCE: Duration = Duration::from_millis(50);

/// An answer, as far as anybody gives one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status code.
    pub status: u16,
    /// From the request to its last byte.
    pub took: Duration,
    /// Whether the connection may be used again.
    pub stays_open: bool,
}

/// A connection for requests one after another.
#[derive(Debug)]
pub struct Client<'i> {
    stream: TcpStream,
    patience: Duration,
    interrupt: &'i Interrupt,
}

impl<'i> Client<'i> {
    /// Connects within `patience`; so long may a whole answer take, too.
    ///
    /// # Errors
    /// Those of `connect(2)`; or we were interrupted.
    pub fn connect(
        address: SocketAddrV4,
        patience: Duration,
        interrupt: &'i Interrupt,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + patience;
        let stream = loop {
            interrupt.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            // No attempt may take no time at all.
            let attempt = left.clamp(Duration::from_millis(1), GLANCE);
            match TcpStream::connect_timeout(&address.into(), attempt) {
                Ok(stream) => break stream,
                // Its queue is full.
                Err(error) if error.kind() == ErrorKind::TimedOut && !left.is_zero() => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot connect to {address}"));
                }
            }
        };
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, patience, interrupt })
    }

    /// `GET path`, and the whole answer.
    ///
    /// # Errors
    /// The connection ended or the answer was not whole in time; what came is no answer, or too long a
    /// one; or we were interrupted.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Reply> {
        let start = Instant::now();
        write!(self.stream, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").context("sending")?;
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            self.interrupt.check()?;
            // For all of it, and not for each read: one that drips byte by byte never ends.
            let left = self.patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                bail!("GET {path}: no whole answer within {:?}", self.patience);
            }
            self.stream.set_read_timeout(Some(left.min(GLANCE)))?;
            let count = match self.stream.read(&mut piece) {
                Ok(count) => count,
                Err(error) if is_no_end(error.kind()) => continue,
                Err(error) => return Err(error).with_context(|| format!("GET {path}")),
            };
            bytes.extend_from_slice(&piece[..count]);
            match parse(&bytes, Answers::Any, count == 0) {
                Parsed::Whole(answer, closes) => {
                    let (status, took) = (answer.status, start.elapsed());
                    return Ok(Reply { status, took, stays_open: !closes });
                }
                Parsed::Strange => bail!("GET {path}: what came is no HTTP answer"),
                Parsed::Part if count == 0 => bail!("GET {path}: closed without an answer"),
                Parsed::Part if bytes.len() > longest(Answers::Any) => {
                    bail!("GET {path}: the answer is longer than {} bytes", longest(Answers::Any))
                }
                Parsed::Part => {}
            }
        }
    }
}

/// Whether a wait is over, and nothing else.
fn is_no_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_drips_is_not_waited_for_longer_than_one_that_does_not_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let Ok(std::net::SocketAddr::V4(address)) = listener.local_addr() else {
            panic!("it was bound so")
        };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
            // A minute, if nobody leaves.
            let mut drips = head.iter().chain(std::iter::repeat_n(&b'x', 600));
            drips.all(|&byte| {
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(&[byte]).is_ok()
            })
        });
        let interrupt = Interrupt::default();
        let patience = Duration::from_millis(300);
        let mut client = Client::connect(address, patience, &interrupt).unwrap();
        let error = client.get("/").unwrap_err().to_string();
        assert_eq!(error, "GET /: no whole answer within 300ms");
        drop(client);
        assert!(!server.join().unwrap(), "it was waited for to the end");
    }
}
