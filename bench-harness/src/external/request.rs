//! One request to anybody, with blocking calls: to find out whether a server answers, and what it offers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::load::answer::{Parsed, longest, parse};
use crate::load::protocol::Answers;

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
pub struct Client(TcpStream);

impl Client {
    /// Connects; every further wait on it takes at most `patience`.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn connect(address: SocketAddrV4, patience: Duration) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address.into(), patience)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// `GET path`, and the whole answer.
    ///
    /// # Errors
    /// The connection ended or nothing came in time; what came is no answer, or too long a one.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Reply> {
        let start = Instant::now();
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").context("sending")?;
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            let count = self.0.read(&mut piece).with_context(|| format!("GET {path}"))?;
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
