//! What a worker does with each connection it receives, whatever the channel.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use forkherd_core::{Connection, Inherited, Meter};
use rustix::process::{Resource, getrlimit};

use crate::channel::{BATCH, Received, Wait, oldest, receive, try_room};

/// A received descriptor is the lowest that was free, so its number says how many are left at most. With
/// fewer than this many, whether there are enough is tried before each message.
///
/// 32: a batch, and as many again for what handlers open between two messages.
const MARGIN: u64 = 2 * BATCH as u64;

#[derive(Debug)]
pub(crate) struct Inbox {
    meter: Meter,
    listeners: usize,
    /// The first descriptor within the margin.
    short_from: RawFd,
    /// The last message lost something, or came within the margin.
    is_short: Cell<bool>,
}

impl Inbox {
    pub(crate) fn new(inherited: &Inherited) -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        let short_from = limit.and_then(|limit| limit.saturating_sub(MARGIN).try_into().ok());
        Self {
            meter: inherited.meter().clone(),
            listeners: inherited.listeners(),
            short_from: short_from.unwrap_or(RawFd::MAX),
            is_short: Cell::new(false),
        }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
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
        if self.is_short.get() {
            // Whoever waits will get one at least.
            let least = usize::from(wait == Wait::ForEver);
            try_room(&channel, oldest(&channel).max(least))?;
        }
        let mut highest = 0;
        let received = receive(channel, wait, |parcel| {
            highest = highest.max(parcel.socket.as_raw_fd());
            let listener = usize::from(parcel.note.listener).min(self.listeners - 1);
            connection(self.meter.begin(parcel.socket, parcel.note.peer, listener));
        })?;
        if let Received::Parcels { lost, .. } = received {
            (0..lost).for_each(|_| self.meter.lose());
            self.is_short.set(lost > 0 || highest >= self.short_from);
        }
        Ok(received)
    }
}
