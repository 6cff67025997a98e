//! A worker's side: it watches every listener, exclusively.

use std::io;

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Leaving, ListenerSet, Load, Source, SourceId, Wake,
};

use crate::listener_name;

#[derive(Debug)]
pub(crate) struct PreforkAcceptor {
    listeners: ListenerSet,
}

impl PreforkAcceptor {
    pub(crate) fn open(inherited: &Inherited) -> io::Result<Self> {
        let nonblocking = inherited.runtime().wants_nonblocking();
        let mut listeners = ListenerSet::new(inherited.meter().clone(), nonblocking);
        for index in 0..inherited.listeners() {
            let fd = inherited.descriptor(&listener_name(index))?;
            listeners.add(fd, index, Wake::SharedExclusive);
        }
        Ok(Self { listeners })
    }
}

impl Acceptor for PreforkAcceptor {
    fn sources(&self) -> &[Source] {
        self.listeners.sources()
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        interest.set_all(true);
        self.listeners.arm(load.room, interest);
    }

    fn woken(&mut self, ready: &[SourceId]) {
        self.listeners.woken(ready);
    }

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        self.listeners.try_accept()
    }

    fn close(&mut self, leaving: Leaving) {
        self.listeners.close(leaving);
    }
}
