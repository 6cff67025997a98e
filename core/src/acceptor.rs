//! Where a worker's connections come from: the face every strategy shows to the worker runtimes.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::board::Leaving;
use crate::connection::Connection;
use crate::id::SlotId;

/// A worker's source of connections.
///
/// Worker · made by [`Strategy::open`](crate::Strategy::open), driven by the runtime:
///
/// ```text
/// loop:  arm ─► the runtime applies the wishes and waits ─► woken ─► try_accept ─► serve
/// ```
///
/// An acceptor never waits; the runtime does. Only so can one loop watch several listeners, a control
/// channel and a clock, and only so does `EPOLLEXCLUSIVE` work: it is lost when the exclusive epoll is
/// itself watched by another (8 of 8 workers woke instead of 1 of 8, Linux 6.18).
pub trait Acceptor: Send + fmt::Debug {
    /// What the runtime watches. The set is fixed from `open` on; which members are watched at the
    /// moment is said in [`arm`](Self::arm). [`SourceId`] is the index in this slice.
    fn sources(&self) -> &[Source];

    /// Before every wait: says what should be watched. Costs a system call for a change only.
    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        let _ = (load, interest);
    }

    /// After a wait: these sources *may* have a connection. Comes with events and with owed wake-ups
    /// alike (see [`Wake::SharedExclusive`]). Empty when the supervisor pokes: a wake-up may have died
    /// with another worker, so look everywhere.
    fn woken(&mut self, ready: &[SourceId]);

    /// Takes one connection. `Ok(None)`: closed and nothing is left, the worker may go.
    ///
    /// # Errors
    /// `WouldBlock`: nothing now. Anything else is classified by [`AcceptFault`].
    fn try_accept(&mut self) -> io::Result<Option<Connection>>;

    /// Begins to leave. The next `arm` leaves shared sources; a private channel is read until its
    /// end-of-file. Called once.
    fn close(&mut self, leaving: Leaving);

    /// Whether other workers as a rule wait for the same sources. On a runtime that watches through an
    /// epoll of its own (tokio) each connection would then wake all of them, so a thread of its own
    /// waits for this acceptor, where `EPOLLEXCLUSIVE` works.
    fn is_contested(&self) -> bool {
        false
    }

    /// Worker · for one-at-a-time runtimes: the same acceptor as one that waits in the system call
    /// itself, which saves the `epoll_wait(2)`. Not used any more after [`close`](Self::close), or once
    /// it said `WouldBlock`: the runtime waits from then on.
    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        None
    }
}

/// An acceptor that waits by itself, in `accept(2)` or `recvmsg(2)`.
pub trait Waiter {
    /// Waits for a connection and takes it. `Ok(None)`: nothing will ever come, the worker may go.
    ///
    /// # Errors
    /// `Interrupted`: the control channel has something to say (see [`Interruptible`](crate::Interruptible)).
    /// `WouldBlock`: it cannot wait, the runtime has to. Anything else is classified by [`AcceptFault`].
    fn accept_waiting(&mut self) -> io::Result<Option<Connection>>;
}

/// Supervisor · its share of the data path, for strategies where it accepts.
///
/// The same face as [`Acceptor`], watched directly by the supervisor's loop: a nested epoll would cost
/// one more call per connection.
pub trait Dispatcher {
    /// What the supervisor watches; fixed from `prepare` on.
    fn sources(&self) -> &[Source];

    /// Before every wait: what should be watched, and whether there is work already.
    fn arm(&mut self, interest: &mut Interest);

    /// Hands on at most `budget` connections, so that control is never starved, and says how many. Also
    /// called without a ready source when `arm` asked for [`Interest::now`].
    ///
    /// # Errors
    /// As for [`Acceptor::try_accept`]; what was accepted before the error is not lost.
    fn dispatch(&mut self, ready: &[SourceId], budget: u32) -> io::Result<u32>;

    /// The service ends: take what is queued in the listeners now, and nothing that comes later.
    fn close(&mut self);

    /// Whether everything is handed on after [`close`](Self::close).
    fn is_done(&self) -> bool;
}

/// Index of a [`Source`] in `sources()`.
pub type SourceId = usize;

/// A descriptor the runtime watches for input.
#[derive(Debug)]
pub struct Source {
    /// What to watch.
    pub fd: OwnedFd,
    /// Who else watches it.
    pub wake: Wake,
}

/// Who is woken when a source becomes readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Nobody else watches it.
    Private,
    /// Everybody who watches it is woken.
    Shared,
    /// One of those who watch it is woken (`EPOLLEXCLUSIVE`, since Linux 4.5).
    ///
    /// Leaving such a source may swallow a wake-up that nobody else gets. The runtime therefore hands
    /// every source it left to [`Acceptor::woken`] as one that may be ready: an *owed* wake-up.
    /// Without it 33 of 163 retirements left a connection waiting (Linux 6.18).
    SharedExclusive,
}

/// What an acceptor may take into account.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Connections this worker is serving.
    pub in_service: u32,
    /// Connections it has descriptors left for. At 0 it should not take any.
    pub room: u32,
    /// The last attempt found none, or no memory: handlers have taken what was free. Another one follows.
    pub is_short: bool,
    /// Slots nobody serves now, whose listeners this worker should look after too.
    pub cover: &'a [SlotId],
}

/// Wishes for the next wait. Sources stay as they were last set; all are joined at first.
#[derive(Debug, Default)]
pub struct Interest {
    wanted: Vec<bool>,
    rejoin: Vec<bool>,
    now: bool,
    recheck: Option<Duration>,
}

impl Interest {
    pub(crate) fn all(sources: usize) -> Self {
        Self {
            wanted: vec![true; sources],
            rejoin: vec![false; sources],
            now: false,
            recheck: None,
        }
    }

    pub(crate) fn begin(&mut self) {
        self.now = false;
        self.recheck = None;
        self.rejoin.fill(false);
    }

    /// Watch this source, or leave it.
    pub fn set(&mut self, source: SourceId, watch: bool) {
        if let Some(wanted) = self.wanted.get_mut(source) {
            *wanted = watch;
        }
    }

    /// Watch all sources, or leave all.
    pub fn set_all(&mut self, watch: bool) {
        self.wanted.fill(watch);
    }

    /// Leave this source and join it again at once, behind everybody else who watches it: the kernel
    /// asks those who watch exclusively in the order in which they joined.
    pub fn rejoin(&mut self, source: SourceId) {
        if let Some(rejoin) = self.rejoin.get_mut(source) {
            *rejoin = true;
        }
    }

    pub(crate) fn wants_rejoin(&self, source: SourceId) -> bool {
        self.rejoin.get(source).copied().unwrap_or(false)
    }

    /// There is work already: do not wait.
    pub fn now(&mut self) {
        self.now = true;
    }

    /// Come back to `arm` after this time at the latest.
    pub fn recheck(&mut self, after: Duration) {
        self.recheck = Some(after);
    }

    pub(crate) fn wants_recheck(&self) -> Option<Duration> {
        self.recheck
    }

    /// Whether a source is wanted.
    #[must_use]
    pub fn wants(&self, source: SourceId) -> bool {
        self.wanted.get(source).copied().unwrap_or(false)
    }

    pub(crate) fn wants_now(&self) -> bool {
        self.now
    }
}

/// What a failed `accept4(2)` or `recvmsg(2)` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcceptFault {
    /// Nothing there, or interrupted: wait.
    NotNow,
    /// This one connection is gone; the next may be fine.
    ThisConnection,
    /// Descriptors or memory are used up. Trying at once would be a busy loop (42,046 failing calls in
    /// 0.1 s), so the sources are left for [`PAUSE`](Self::PAUSE) or until a connection ends.
    Resources,
    /// The listener itself is broken: nothing will ever come from it.
    Listener,
}

impl AcceptFault {
    /// How long a source is left alone when resources are used up. nginx waits 500 ms, HAProxy 100 ms;
    /// here a freed descriptor ends the pause at once.
    pub const PAUSE: Duration = Duration::from_millis(100);

    /// The class of an error, after `accept(2)`: "treat them like EAGAIN".
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Self::NotNow,
            None if error.kind() == io::ErrorKind::WouldBlock => Self::NotNow,
            Some(
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ETOOMANYREFS,
            ) => Self::Resources,
            Some(libc::EINVAL | libc::EBADF | libc::ENOTSOCK | libc::EFAULT) => Self::Listener,
            _ => Self::ThisConnection,
        }
    }
}

/// Counts failures of single connections that come in a row: after many the fault is not with the
/// connections (a security module that refuses every accept), and trying on is a busy loop.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streak(u32);

impl Streak {
    /// More than any burst of clients that reset while they were queued makes likely to be in the way of
    /// a healthy service, for [`AcceptFault::PAUSE`].
    const MOST: u32 = 64;

    /// What the error means, with those before it in mind.
    pub(crate) fn fault(&mut self, error: &io::Error) -> AcceptFault {
        match AcceptFault::of(error) {
            AcceptFault::ThisConnection => {
                self.0 += 1;
                if self.0.is_multiple_of(Self::MOST) {
                    AcceptFault::Resources
                } else {
                    AcceptFault::ThisConnection
                }
            }
            other => other,
        }
    }

    /// Something was accepted.
    pub(crate) fn end(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_accept_has_a_class() {
        use AcceptFault::{Listener, NotNow, Resources, ThisConnection};
        let table = [
            (libc::EAGAIN, NotNow),
            (libc::EINTR, NotNow),
            (libc::ECONNABORTED, ThisConnection),
            (libc::EPROTO, ThisConnection),
            (libc::ENETDOWN, ThisConnection),
            (libc::EHOSTUNREACH, ThisConnection),
            (libc::ENETUNREACH, ThisConnection),
            (libc::EOPNOTSUPP, ThisConnection),
            (libc::ENOPROTOOPT, ThisConnection),
            (libc::EPERM, ThisConnection),
            (libc::EMFILE, Resources),
            (libc::ENFILE, Resources),
            (libc::ENOBUFS, Resources),
            (libc::ENOMEM, Resources),
            (libc::ETOOMANYREFS, Resources),
            (libc::EINVAL, Listener),
            (libc::EBADF, Listener),
            (libc::ENOTSOCK, Listener),
        ];
        for (number, class) in table {
            assert_eq!(AcceptFault::of(&io::Error::from_raw_os_error(number)), class, "{number}");
        }
        assert_eq!(AcceptFault::of(&io::ErrorKind::WouldBlock.into()), NotNow);
    }

    #[test]
    fn many_single_faults_in_a_row_are_no_single_faults() {
        let error = io::Error::from_raw_os_error(libc::EPERM);
        let mut streak = Streak::default();
        let mut pauses = || {
            let faults = (0..640).map(|_| streak.fault(&error));
            faults.filter(|&fault| fault == AcceptFault::Resources).count()
        };
        assert_eq!(pauses(), 10);
        let mut broken = Streak::default();
        for _ in 0..640 {
            assert_eq!(broken.fault(&error), AcceptFault::ThisConnection);
            broken.end();
        }
    }
}
