//! What a supervisor tells whoever wants to know.

use crate::board::Counts;
use crate::connection::ListenerName;
use crate::id::WorkerId;
use crate::supervisor::ExitStatus;

/// Something that happened to the service.
///
/// Supervisor · given to [`Service::observe`](crate::Service::observe) as it happens. For status pages,
/// readiness and tests; the same things are logged.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Once: every slot has had a ready worker.
    Serving {
        /// With the addresses they really have.
        listeners: &'a [ListenerName],
    },
    /// A worker was started.
    Started {
        /// Which.
        worker: WorkerId,
        /// Its process.
        pid: u32,
    },
    /// It can take connections.
    Ready {
        /// Which.
        worker: WorkerId,
    },
    /// A signal stopped it.
    Stopped {
        /// Which.
        worker: WorkerId,
    },
    /// A signal made it go on.
    Continued {
        /// Which.
        worker: WorkerId,
    },
    /// It is alive, and nothing got done for longer than
    /// [`Service::hung_after`](crate::Service::hung_after): it gets nothing until it goes on.
    Hung {
        /// Which.
        worker: WorkerId,
    },
    /// One that hung goes on.
    Recovered {
        /// Which.
        worker: WorkerId,
    },
    /// It ended and was reaped.
    Exited {
        /// Which.
        worker: WorkerId,
        /// What its process was.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// What its board said last; but what it had taken is what the strategy knows of it, where it
        /// knows that: see [`Strategy::taken`](crate::Strategy::taken).
        counts: Counts,
    },
    /// Something the strategy wants known, once: a fallback it took, for example.
    Remark {
        /// A sentence.
        text: &'a str,
    },
    /// There are to be so many workers from now on, on the slots below that number; those above drain.
    Scaled {
        /// How many.
        workers: u32,
    },
    /// A rolling restart has replaced every worker.
    RestartDone,
    /// A rolling restart ended early; from this slot on the old workers go on.
    RestartAborted {
        /// The successor that failed.
        worker: WorkerId,
    },
}
