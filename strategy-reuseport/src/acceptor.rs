//! A worker's side: it watches its own slot's listeners, and those of siblings that it has to cover or may
//! steal from.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Leaving, ListenerSet, Load, Meter, SlotId, Source,
    SourceId, Wake,
};

use crate::counts::{Count, Counts};
use crate::{Watch, listener_name};

#[derive(Debug)]
pub(crate) struct ReuseportAcceptor {
    listeners: ListenerSet,
    /// Whose listener a source is.
    slots: Vec<SlotId>,
    own: SlotId,
    watch: Watch,
    counts: Option<Arc<Counts>>,
    meter: Meter,
    /// It is never too busy to take more, so it lets those take first what it covers who have less.
    is_event_loop: bool,
    /// Since when it does.
    stands_back_since: Option<Instant>,
    is_closed: bool,
}

impl ReuseportAcceptor {
    pub(crate) fn open(
        inherited: &Inherited,
        watch: Watch,
        counts: Option<Arc<Counts>>,
    ) -> io::Result<Self> {
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
        let own = inherited.worker().slot;
        if let Some(counts) = &counts {
            let counts = Arc::clone(counts);
            inherited.meter().on_completed(move || counts.add(Count::Serving, own, -1));
        }
        let is_event_loop = !inherited.runtime().is_one_at_a_time();
        Ok(Self {
            listeners,
            slots,
            own,
            watch,
            counts,
            meter: inherited.meter().clone(),
            is_event_loop,
            stands_back_since: None,
            is_closed: false,
        })
    }

    /// Who has more than his share leaves what waits in covered slots to others: for so long.
    fn stands_back(&mut self, covered: &[SlotId]) -> Option<Duration> {
        let counts = self.counts.as_ref().filter(|_| self.is_event_loop)?;
        if counts.has_share(self.own, slot_count(&self.slots), covered) {
            self.stands_back_since = None;
            return None;
        }
        let since = *self.stands_back_since.get_or_insert_with(Instant::now);
        HEAD_START.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }
}

impl Acceptor for ReuseportAcceptor {
    fn sources(&self) -> &[Source] {
        self.listeners.sources()
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        if self.is_event_loop {
            // Siblings take what waits for it: see `late`.
            self.meter.say_full(load.room == 0 || load.is_short);
        }
        let stands_back = self.stands_back(load.cover);
        if let Some(left) = stands_back {
            interest.recheck(left);
        }
        for (source, slot) in self.slots.iter().enumerate() {
            let sibling = match self.watch {
                Watch::Own => false,
                Watch::Uncovered => stands_back.is_none() && load.cover.contains(slot),
                Watch::Group => in_one_group(*slot, self.own) || load.cover.contains(slot),
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
        let connection = match &self.counts {
            Some(counts) if self.watch == Watch::Group && !self.is_closed => {
                try_longest(&mut self.listeners, &self.slots, counts, self.own)?
            }
            _ => self.listeners.try_accept()?,
        };
        if let (Some(_), Some(counts)) = (&connection, &self.counts) {
            let from = self.slots.get(self.listeners.last_taken_from()).copied();
            counts.take(from.unwrap_or(self.own), self.own);
        }
        Ok(connection)
    }

    fn close(&mut self, leaving: Leaving) {
        self.is_closed = true;
        self.listeners.close(leaving);
    }
}

/// How long those with fewer connections may take what waits in a covered slot before anybody does: they may
/// have no time either.
///
/// 20 ms: an event loop that turns takes within one, and who waits there has waited for longer.
const HEAD_START: Duration = Duration::from_millis(20);

/// How many slots steal from one another.
///
/// 16: see the costs at 64 and 128 workers in ARCHITECTURE.md.
const GROUP: u32 = 16;

/// One connection from where somebody of our group has waited longest.
///
/// No wake-up is lost by taking another connection than the one it was about: as many were woken as came,
/// and each of them goes on looking until it has one, or found nothing anywhere.
fn try_longest(
    listeners: &mut ListenerSet,
    slots: &[SlotId],
    counts: &Counts,
    own: SlotId,
) -> io::Result<Option<Connection>> {
    let group = group_of(own, slots);
    if let Some(longest) = counts.longest_waiting(group) {
        // Its addresses, the first of them first.
        for source in (0..slots.len()).rev().filter(|&source| slots[source] == longest) {
            listeners.look_first(source);
        }
    }
    let connection = match listeners.try_accept() {
        // What was counted is still on its way, or somebody else took it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            listeners.woken(&[]);
            listeners.try_accept()
        }
        result => result,
    }?;
    listeners.forget_watched();
    Ok(connection)
}

/// The slots that steal from one another with this one.
fn group_of(slot: SlotId, slots: &[SlotId]) -> Range<u32> {
    let first = slot.0 / GROUP * GROUP;
    first..slot_count(slots).min(first + GROUP)
}

fn slot_count(slots: &[SlotId]) -> u32 {
    // They ascend.
    slots.last().map_or(0, |last| last.0 + 1)
}

/// Whether these two steal from one another.
fn in_one_group(one: SlotId, other: SlotId) -> bool {
    one.0 / GROUP == other.0 / GROUP
}
