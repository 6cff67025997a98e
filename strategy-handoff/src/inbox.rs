//! What a worker does with each connection it receives, whatever the channel.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};

use forkherd_core::{Connection, Inherited, Meter};

use crate::channel::{Parcel, Received, Wait, receive, receive_with_care};
use crate::descriptors::TABLE;

/// Held by a lane that is short of descriptors while it receives: what it found room for another would take.
static CARE: Mutex<()> = Mutex::new(());

#[derive(Debug)]
pub(crate) struct Inbox {
    meter: Meter,
    listeners: usize,
}

impl Inbox {
    pub(crate) fn new(inherited: &Inherited) -> Self {
        Self { meter: inherited.meter().clone(), listeners: inherited.listeners() }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether this worker may have no room for a message, and looks before it receives one.
    pub(crate) fn is_short(&self) -> bool {
        TABLE.is_short()
    }

    /// Receives one message. Its connections count as taken at once, those it came without too: nobody else
    /// can have them.
    ///
    /// # Errors
    /// As [`receive`]. `EMFILE`: there was no room for a message, and none was received.
    pub(crate) fn receive(
        &self,
        channel: impl AsFd,
        wait: Wait,
        mut connection: impl FnMut(Connection),
    ) -> io::Result<Received> {
        TABLE.look();
        let mut highest = 0;
        let parcel = |parcel: Parcel| {
            highest = highest.max(parcel.socket.as_raw_fd());
            let listener = usize::from(parcel.note.listener).min(self.listeners - 1);
            connection(self.meter.begin(parcel.socket, parcel.note.peer, listener));
        };
        let received = if self.is_short() {
            // Who waits in the call is the only lane. Nothing panics while it is held.
            let _alone = CARE.lock().unwrap_or_else(PoisonError::into_inner);
            receive_with_care(channel, wait, parcel)?
        } else {
            receive(channel, wait, parcel)?
        };
        if let Received::Parcels { count, lost } = received {
            (0..lost).for_each(|_| self.meter.lose());
            TABLE.note(count, lost, highest);
        }
        Ok(received)
    }
}
