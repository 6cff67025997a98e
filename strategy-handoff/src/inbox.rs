//! What a worker does with each connection it receives, whatever the channel.

use std::io;
use std::os::fd::AsFd;

use forkherd_core::{Connection, Inherited, Meter};

use crate::channel::{Received, Wait, receive};

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

    /// Receives one message. Its connections count as taken at once: nobody else can have them.
    pub(crate) fn receive(
        &self,
        channel: impl AsFd,
        wait: Wait,
        mut connection: impl FnMut(Connection),
    ) -> io::Result<Received> {
        receive(channel, wait, |parcel| {
            let listener = usize::from(parcel.note.listener).min(self.listeners - 1);
            connection(self.meter.begin(parcel.socket, parcel.note.peer, listener));
        })
    }
}
