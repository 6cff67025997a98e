//! What becomes of a connection that nobody survives.

use std::borrow::Cow;

use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::channel::Parcel;

/// How many workers may die with a connection in their queue before it is refused instead of sent again.
///
/// 2: whatever killed these, it shall not take down worker after worker.
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
