//! The worker: what runs in a process that the supervisor started.
//!
//! A runtime decides how connections are served; [`Lane`] is what all runtimes share: the
//! epoll set, the control channel, and the order in which a worker looks, takes and leaves.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::board::OwnBoard;
use crate::connection::{Connection, Meter};
use crate::error::Error;
use crate::inherit::{Fds, Inherited, Legacy};
use crate::strategy::{RuntimeKind, Strategy};

mod blocking;
mod lane;
#[cfg(feature = "tokio")]
mod lookout;
mod threads;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "tokio")]
pub use self::tokio::{AsyncConnection, AsyncStream, Tokio};
pub use blocking::Blocking;
pub(crate) use lane::Lane;
pub use threads::Threads;

/// Names of the descriptors every worker inherits beside those of its strategy.
pub(crate) mod inherited_name {
    pub(crate) const CONTROL: &str = "forkherd-control";
    pub(crate) const OWN_PAGE: &str = "forkherd-own-page";
    pub(crate) const SUPERVISOR_PAGE: &str = "forkherd-supervisor-page";
    pub(crate) const KICK: &str = "forkherd-kick";
}

/// What a worker sends once it serves.
pub(crate) const READY: u8 = b'R';
/// What a worker sends that ends by itself: it finishes what it serves, and takes nothing more.
pub(crate) const QUITS: u8 = b'Q';
/// What a lane of several sends when it leaves in good order.
pub(crate) const LEFT: u8 = b'L';
/// What the supervisor sends when a wake-up may have been lost: look at the board, and at every source.
/// What there is to know stands on the board: a channel that is full loses nothing, because a worker that
/// has left so much unread was not looking anyway, and will.
pub(crate) const POKE: u8 = b'P';
/// What it sends when something on the worker's board has changed and no wake-up can be lost by it. With
/// 128 slots and as many workers, looking at every source each time one of them comes is half a million
/// calls that find nothing.
pub(crate) const NEWS: u8 = b'N';

/// How a worker serves the connections that its strategy brings.
///
/// Implemented by [`Blocking`], [`Threads`] and, with the feature `tokio`, by `Tokio`.
pub trait Runtime: sealed::Sealed {
    /// What strategies have to know of it.
    fn kind(&self) -> RuntimeKind;
}

pub(crate) mod sealed {
    use super::{Error, WorkerSetup};

    /// The part of a runtime that only this crate calls.
    pub trait Sealed {
        /// Worker · serves until it is told to leave or the supervisor is gone.
        fn serve(self, setup: WorkerSetup) -> Result<(), Error>;
    }
}

/// What a runtime works with.
#[derive(Debug)]
pub struct WorkerSetup {
    pub(crate) meter: Meter,
    /// As many as the runtime has asked for.
    pub(crate) lanes: Vec<Lane>,
    /// The supervisor's channel. Without threads the lane has it, and this is a duplicate.
    pub(crate) control: OwnedFd,
    /// With threads, the other ends of what each has in the place of the supervisor's channel.
    pub(crate) relays: Vec<OwnedFd>,
    /// How often an event loop has to show that it turns.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "for event loops"))]
    pub(crate) heartbeat: Option<Duration>,
}

/// Runs this process as a worker, until it has drained or its supervisor is gone.
pub(crate) fn run(
    mut legacy: Legacy,
    strategy: &dyn Strategy,
    runtime: impl Runtime,
    service: &str,
    read_timeout: Option<Duration>,
) -> Result<(), Error> {
    let worker = legacy.worker;
    if legacy.service != service {
        return Err(Error::NotOurWorker { found: legacy.service, reached: service.to_owned() });
    }
    // Every line this process logs says which slot it sits on.
    let span = tracing::info_span!("worker", slot = worker.slot.0, generation = worker.generation);
    let _in_span = span.entered();
    // Set before `exec` too; a set-user-id program loses it there.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| Error::system("prctl", e))?;
    crate::sys::leave_signals_to_supervisor().map_err(|e| Error::system("sigaction", e))?;
    set_title(service, worker.slot.0);

    let mut take = |name: &str| take(&mut legacy.fds, name);
    let control = take(inherited_name::CONTROL)?;
    let kick = take(inherited_name::KICK)?;
    let board = {
        // Mapped, they need not stay open.
        let own_page = take(inherited_name::OWN_PAGE)?;
        let supervisor_page = take(inherited_name::SUPERVISOR_PAGE)?;
        OwnBoard::map(&own_page, &supervisor_page)
            .map_err(|source| Error::System { what: "mapping the board", source })?
    };
    let listeners = legacy.listeners.len();
    // For blocking reads alone: others would pay a call for nothing.
    let read_timeout = read_timeout.filter(|_| !runtime.kind().wants_nonblocking());
    let meter = Meter::new(board, kick, worker, legacy.listeners, read_timeout);
    let inherited = Inherited {
        fds: legacy.fds,
        meter: meter.clone(),
        slots: legacy.slots,
        listeners,
        runtime: runtime.kind(),
    };
    let failed = |source| Error::Open { worker, source };
    let (mut lanes, mut relays) = (Vec::new(), Vec::new());
    let kind = runtime.kind();
    for _ in 0..kind.lanes() {
        let acceptor = strategy.open(&inherited).map_err(failed)?;
        let told_by = if !matches!(kind, RuntimeKind::Threads(_)) {
            control.try_clone().map_err(failed)?
        } else {
            let flags = SocketFlags::CLOEXEC;
            let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .map_err(|error| failed(error.into()))?;
            relays.push(ours);
            theirs
        };
        lanes.push(Lane::new(acceptor, told_by, meter.clone()).map_err(failed)?);
    }
    // What the strategy did not open it does not need.
    drop(inherited);
    runtime.serve(WorkerSetup { meter, lanes, control, relays, heartbeat: legacy.heartbeat })
}

fn take(fds: &mut Fds, name: &str) -> Result<OwnedFd, Error> {
    fds.remove(name).ok_or_else(|| {
        Error::Inherited(format!("descriptor `{name}` is missing from what this worker inherited"))
    })
}

/// The kernel keeps 15 bytes; `ps -o args` shows the long form, set at the start as `argv[0]`.
fn set_title(service: &str, slot: u32) {
    let mut title = format!("w{slot}:{service}");
    title.truncate(title.floor_char_boundary(15));
    if let Ok(title) = std::ffi::CString::new(title) {
        // Cosmetic: a kernel that refuses leaves the old name.
        let _ = nix::sys::prctl::set_name(&title);
    }
}

/// What a handler's error is worth: the client went away, or the handler says so.
pub(crate) fn note_outcome(meter: &Meter, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        meter.board().count_failed();
        tracing::debug!(slot = meter.worker().slot.0, %error, "connection ended with an error");
    }
}

/// What a lane's turn brought.
#[derive(Debug)]
pub(crate) enum Turn {
    /// A connection to serve.
    Serve(Connection),
    /// Nothing; go round.
    Again,
    /// Drained: this worker may go.
    Drained,
    /// The supervisor is gone.
    Orphaned,
}
