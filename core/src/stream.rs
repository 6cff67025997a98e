//! The socket of a connection, over TCP or a Unix socket: what both can do, under one name.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::connection::Peer;

/// The socket of a [`Connection`](crate::Connection).
#[derive(Debug)]
pub enum Stream {
    /// Through a TCP listener; `TCP_NODELAY` is set.
    Tcp(TcpStream),
    /// Through a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// The peer says which it is: to ask the socket would be a call per connection.
    pub(crate) fn new(socket: OwnedFd, peer: Peer) -> Self {
        match peer {
            Peer::Inet(_) => Self::Tcp(socket.into()),
            Peer::Unix => Self::Unix(socket.into()),
        }
    }

    /// The TCP socket, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) => None,
        }
    }

    /// The Unix socket, if it is one.
    #[must_use]
    pub fn unix(&self) -> Option<&UnixStream> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => Some(stream),
        }
    }

    /// Longest a read waits; `None`: for ever. Corresponds to `SO_RCVTIMEO`.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero; that of `setsockopt(2)`.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// What was set by [`set_read_timeout`](Self::set_read_timeout), or for the whole service.
    ///
    /// # Errors
    /// That of `getsockopt(2)`.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        match self {
            Self::Tcp(stream) => stream.read_timeout(),
            Self::Unix(stream) => stream.read_timeout(),
        }
    }

    /// Longest a write waits; `None`: for ever. Corresponds to `SO_SNDTIMEO`.
    ///
    /// # Errors
    /// `InvalidInput` for a time of zero; that of `setsockopt(2)`.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// What was set by [`set_write_timeout`](Self::set_write_timeout).
    ///
    /// # Errors
    /// That of `getsockopt(2)`.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        match self {
            Self::Tcp(stream) => stream.write_timeout(),
            Self::Unix(stream) => stream.write_timeout(),
        }
    }

    /// Ends reading, writing or both, for all who hold the socket. Corresponds to `shutdown(2)`.
    ///
    /// # Errors
    /// That of `shutdown(2)`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    /// Another handle on the same socket.
    ///
    /// # Errors
    /// That of `fcntl(2)` with `F_DUPFD_CLOEXEC`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write_vectored(buffers),
            Stream::Unix(stream) => (&mut &*stream).write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => stream.into(),
            Stream::Unix(stream) => stream.into(),
        }
    }
}
