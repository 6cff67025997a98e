//! What becomes of a connection that worker after worker dies before it has received it.

use std::borrow::Cow;

use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::channel::Parcel;

/// How many workers may die with a connection in their queue before it is refused instead of sent again.
///
/// 2: it did not kill them, for what a worker has received dies with it and is never sent again. But where
/// three in a row die first, its client shall hear of it, and not wait for a fourth.
pub const DEATHS: u8 = 2;

/// How a connection is refused: some bytes, perhaps, and then it is closed.
#[derive(Clone, Default, Debug)]
pub(crate) struct Refusal {
    bytes: Cow<'static, [u8]>,
}

impl Refusal {
    pub(crate) fn new(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { bytes: bytes.into() }
    }

    pub(crate) fn is_due(&self, parcel: &Parcel) -> bool {
        parcel.note.deaths > DEATHS
    }

    /// Supervisor. Never waits: a client whose window is closed gets less, or nothing.
    pub(crate) fn refuse(&self, parcel: Parcel) {
        let (peer, deaths) = (parcel.note.peer, parcel.note.deaths);
        tracing::warn!(%peer, deaths, "refused: it was queued for workers that died");
        if !self.bytes.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            // Whether the client gets it is the client's affair.
            let _ = send(&parcel.socket, &self.bytes, flags);
            // What the client sent was never read, so the close is a reset; end-of-file goes before it.
            let _ = shutdown(&parcel.socket, Shutdown::Write);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use forkherd_core::Peer;

    use super::*;
    use crate::channel::Note;

    #[test]
    fn a_refusal_arrives_whole_though_the_request_was_never_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&[b'x'; 10_000]).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        // All of it has come.
        let mut seen = vec![0; 10_000];
        while socket.peek(&mut seen).unwrap() < seen.len() {}
        let note = Note { peer: Peer::from(peer), listener: 0, deaths: DEATHS + 1 };
        Refusal::new(&b"no"[..]).refuse(Parcel { socket: socket.into(), note });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"no");
    }
}
