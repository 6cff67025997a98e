//! The worker's side: it receives connections from a channel of its own.

use std::io;

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Leaving, Load, Meter, Source, SourceId, Wake,
};

use crate::CHANNEL;
use crate::channel::{Received, receive};

#[derive(Debug)]
pub(crate) struct HandoffAcceptor {
    /// One: the channel.
    sources: [Source; 1],
    meter: Meter,
    listeners: usize,
}

impl HandoffAcceptor {
    pub(crate) fn open(inherited: &Inherited) -> io::Result<Self> {
        let fd = inherited.descriptor(CHANNEL)?;
        Ok(Self {
            sources: [Source { fd, wake: Wake::Private }],
            meter: inherited.meter().clone(),
            listeners: inherited.listeners(),
        })
    }
}

impl Acceptor for HandoffAcceptor {
    fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Without room a received descriptor would vanish in silence (`MSG_CTRUNC`), so nothing is received.
    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        interest.set(0, load.room > 0);
    }

    fn woken(&mut self, _ready: &[SourceId]) {}

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        match receive(&self.sources[0].fd)? {
            Received::Parcel(parcel) => {
                let listener = usize::from(parcel.note.listener).min(self.listeners - 1);
                Ok(Some(self.meter.begin(parcel.socket, parcel.note.peer, listener)))
            }
            Received::End => Ok(None),
        }
    }

    /// The supervisor closes its end, and then there is an end to what comes.
    fn close(&mut self, _leaving: Leaving) {}
}
