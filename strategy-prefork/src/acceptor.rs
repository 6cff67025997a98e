//! A worker's side: it watches every listener.

use std::io;

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Leaving, ListenerSet, Load, Source, SourceId, Wake,
};

use crate::{Waiting, listener_name};

#[derive(Debug)]
pub(crate) struct PreforkAcceptor {
    listeners: ListenerSet,
    waiting: Waiting,
    /// A connection was taken since the last wait.
    served: bool,
}

impl PreforkAcceptor {
    pub(crate) fn open(inherited: &Inherited, waiting: Waiting) -> io::Result<Self> {
        let nonblocking = inherited.runtime().wants_nonblocking();
        let mut listeners = ListenerSet::new(inherited.meter().clone(), nonblocking);
        let wake = match waiting {
            Waiting::Exclusive | Waiting::Rotating => Wake::SharedExclusive,
            Waiting::Herd => Wake::Shared,
        };
        for index in 0..inherited.listeners() {
            let fd = inherited.descriptor(&listener_name(index))?;
            listeners.add(fd, index, wake);
        }
        Ok(Self { listeners, waiting, served: false })
    }
}

impl Acceptor for PreforkAcceptor {
    fn sources(&self) -> &[Source] {
        self.listeners.sources()
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        interest.set_all(true);
        if std::mem::take(&mut self.served) && self.waiting == Waiting::Rotating {
            for source in 0..self.listeners.sources().len() {
                interest.rejoin(source);
            }
        }
        self.listeners.arm(load.room, interest);
    }

    fn woken(&mut self, ready: &[SourceId]) {
        self.listeners.woken(ready);
    }

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        let taken = self.listeners.try_accept();
        self.served |= matches!(taken, Ok(Some(_)));
        taken
    }

    fn close(&mut self, leaving: Leaving) {
        self.listeners.close(leaving);
    }
}
