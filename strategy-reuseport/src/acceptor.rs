//! A worker's side: it watches its own slot's listeners, and those it has to cover.

use std::io;

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Leaving, ListenerSet, Load, SlotId, Source,
    SourceId, Wake,
};

use crate::{Watch, listener_name};

#[derive(Debug)]
pub(crate) struct ReuseportAcceptor {
    listeners: ListenerSet,
    /// Whose listener a source is.
    slots: Vec<SlotId>,
    own: SlotId,
    watch: Watch,
}

impl ReuseportAcceptor {
    pub(crate) fn open(inherited: &Inherited, watch: Watch) -> io::Result<Self> {
        let nonblocking = inherited.runtime().wants_nonblocking();
        let mut listeners = ListenerSet::new(inherited.meter().clone(), nonblocking);
        let mut slots = Vec::new();
        for slot in (0..inherited.slots()).map(SlotId) {
            for index in 0..inherited.listeners() {
                let fd = inherited.descriptor(&listener_name(slot, index))?;
                // Exclusive, its own too: while a slot changes hands two workers watch one listener.
                listeners.add(fd, index, Wake::SharedExclusive);
                slots.push(slot);
            }
        }
        Ok(Self { listeners, slots, own: inherited.worker().slot, watch })
    }
}

impl Acceptor for ReuseportAcceptor {
    fn sources(&self) -> &[Source] {
        self.listeners.sources()
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        for (source, slot) in self.slots.iter().enumerate() {
            let sibling = match self.watch {
                Watch::Own => false,
                Watch::Uncovered => load.cover.contains(slot),
                Watch::All => true,
            };
            interest.set(source, *slot == self.own || sibling);
        }
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
