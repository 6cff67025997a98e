//! A worker's side: it watches every listener.

use std::io;
use std::time::{Duration, Instant};

use forkherd_core::{
    Acceptor, Connection, Inherited, Interest, Leaving, ListenerSet, Load, Meter, Source, SourceId,
    Wake,
};

use crate::{Waiting, listener_name};

/// How far a worker's connections may exceed the fewest that any worker has before it leaves the line.
///
/// 16: of 10,000 connections over 8 workers no worker then has more than 1.3 % above its share, and a
/// worker closes its gate, which wakes the supervisor, for one connection in sixteen at most.
pub const SLACK: u64 = 16;

/// How long a closed gate goes without looking again, should nobody say anything.
const RECHECK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct PreforkAcceptor {
    listeners: ListenerSet,
    waiting: Waiting,
    meter: Meter,
    is_alone: bool,
    /// Since when its gate is closed, or when it looked last what others have left waiting.
    closed_at: Option<Instant>,
    /// With its gate closed it has found something that waited.
    overdue: bool,
    /// A connection was taken since the last wait.
    served: bool,
}

impl PreforkAcceptor {
    pub(crate) fn open(inherited: &Inherited, waiting: Waiting) -> io::Result<Self> {
        let meter = inherited.meter().clone();
        let nonblocking = inherited.runtime().wants_nonblocking();
        let mut listeners = ListenerSet::new(meter.clone(), nonblocking);
        let wake = match waiting {
            Waiting::Herd => Wake::Shared,
            _ => Wake::SharedExclusive,
        };
        for index in 0..inherited.listeners() {
            let fd = inherited.descriptor(&listener_name(index))?;
            listeners.add(fd, index, wake);
        }
        let is_alone = inherited.slots() == 1;
        Ok(Self {
            listeners,
            waiting,
            meter,
            is_alone,
            closed_at: None,
            overdue: false,
            served: false,
        })
    }

    /// With the gate closed: whoever has the fewest connections may be busy with one of them. What waits
    /// for so long is taken, all of it, however many this worker has.
    fn look_after_others(&mut self) {
        let now = Instant::now();
        let since = *self.closed_at.get_or_insert(now);
        if self.overdue || now.saturating_duration_since(since) >= RECHECK {
            self.closed_at = Some(now);
            let all: Vec<SourceId> = (0..self.listeners.sources().len()).collect();
            self.listeners.woken(&all);
        }
    }
}

/// Whether a worker has so much more than another that it lets others take the next.
pub(crate) fn leaves_line(meter: &Meter, in_service: u32) -> bool {
    let is_ahead = || u64::from(in_service) > meter.least().saturating_add(SLACK);
    // Said before the line is left, and read after it was said: were all to leave at once, the supervisor
    // would see it and call back whoever has the fewest.
    let ahead = is_ahead();
    meter.close_gate(ahead);
    ahead && is_ahead()
}

impl Acceptor for PreforkAcceptor {
    fn sources(&self) -> &[Source] {
        self.listeners.sources()
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        interest.set_all(true);
        let served = std::mem::take(&mut self.served);
        match self.waiting {
            Waiting::Rotating if served => {
                for source in 0..self.listeners.sources().len() {
                    interest.rejoin(source);
                }
            }
            Waiting::Gated => {
                if leaves_line(&self.meter, load.in_service) {
                    interest.set_all(false);
                    interest.recheck(RECHECK);
                    self.look_after_others();
                } else {
                    (self.closed_at, self.overdue) = (None, false);
                }
            }
            _ => {}
        }
        self.listeners.arm(load.room, interest);
    }

    fn woken(&mut self, ready: &[SourceId]) {
        self.listeners.woken(ready);
    }

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        let taken = self.listeners.try_accept();
        self.overdue = self.closed_at.is_some() && matches!(taken, Ok(Some(_)));
        self.served |= matches!(taken, Ok(Some(_)));
        taken
    }

    fn close(&mut self, leaving: Leaving) {
        self.listeners.close(leaving);
    }

    fn is_contested(&self) -> bool {
        // The bad example shall stay one.
        self.waiting != Waiting::Herd && !self.is_alone
    }
}
