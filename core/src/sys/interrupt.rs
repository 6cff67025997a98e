//! A descriptor that a signal takes away from whoever waits on it.
#![expect(unsafe_code, reason = "a signal handler, and two descriptors that it knows by number")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::fs::{Mode, OFlags};

/// A descriptor on which one may wait in the system call itself and still be called away.
///
/// Worker · made in [`Strategy::open`](crate::Strategy::open), used by a [`Waiter`](crate::Waiter). One
/// per process.
///
/// # Why this is hard
///
/// A flag that a signal handler sets is not enough: the signal may come between the look at the flag and
/// the system call, and then nothing ends the wait (47 of 5,000 hung, Linux 6.18). Here the handler puts
/// `/dev/null` in the place of the descriptor. Whether the call has begun (it is restarted), or begins
/// later, it fails with `ENOTSOCK`. The runtime has the signal, SIGURG, sent by the kernel whenever the
/// control channel has something to say (`O_ASYNC`), its end included; nobody has to send one.
///
/// # Correct order
///
/// On `ENOTSOCK` or `EINTR`: [`restore`](Self::restore), *then* look at the control channel and the
/// board, then wait again. A poke that comes in between takes the descriptor away again.
///
/// # Limitations
///
/// The thread gets a SIGURG for every poke, also while it serves. It is handled with `SA_RESTART`, and a
/// [`Connection`](crate::Connection) goes on reading and writing; other calls that a timeout limits may
/// fail with `EINTR`, as after any signal.
#[derive(Debug)]
pub struct Interruptible {
    fd: OwnedFd,
    saved: OwnedFd,
    /// The handler knows its number; open as long as this process lives.
    _nothing: OwnedFd,
}

/// What the handler replaces, and by what; −1 while there is nothing to replace.
static TARGET: AtomicI32 = AtomicI32::new(-1);
static NOTHING: AtomicI32 = AtomicI32::new(-1);

impl Interruptible {
    /// Takes a socket that is waited on, and installs the handler.
    ///
    /// # Errors
    /// `AlreadyExists` if this process has one; those of `open(2)` of `/dev/null` and of `dup(2)`.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let saved = fd.try_clone()?;
        let nothing =
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if TARGET.compare_exchange(-1, fd.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst).is_err()
        {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "this process waits on an interruptible descriptor already",
            ));
        }
        NOTHING.store(nothing.as_raw_fd(), Ordering::SeqCst);
        let action =
            SigAction::new(SigHandler::Handler(take_away), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler only loads atomics, calls dup3(2), which is async-signal-safe, and keeps
        // errno.
        unsafe { sigaction(Signal::SIGURG, &action) }?;
        SigSet::from(Signal::SIGURG).thread_unblock()?;
        Ok(Self { fd, saved, _nothing: nothing })
    }

    /// Undoes what a signal has done.
    ///
    /// # Errors
    /// That of `dup3(2)`.
    pub fn restore(&self) -> io::Result<()> {
        // SAFETY: `fd` is ours and stays open under its number; both are live for the call. The number
        // never means anything but the socket or `/dev/null`.
        let result =
            unsafe { libc::dup3(self.saved.as_raw_fd(), self.fd.as_raw_fd(), libc::O_CLOEXEC) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The socket itself, which no signal takes away: for options and for calls that do not wait.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.saved.as_fd()
    }
}

impl AsFd for Interruptible {
    /// What to wait on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        // Before the number can mean something else.
        TARGET.store(-1, Ordering::SeqCst);
    }
}

extern "C" fn take_away(_signal: libc::c_int) {
    let errno = nix::errno::Errno::last();
    let target = TARGET.load(Ordering::SeqCst);
    if target >= 0 {
        // SAFETY: both numbers belong to the live `Interruptible`: it is on the thread that this handler
        // interrupts, or on another that waits on it, and it takes `TARGET` back before it closes them.
        unsafe { libc::dup3(NOTHING.load(Ordering::SeqCst), target, libc::O_CLOEXEC) };
    }
    errno.set();
}

// linux/fcntl.h; libc has none of them.
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;

#[repr(C)]
struct Owner {
    kind: libc::c_int,
    thread: libc::pid_t,
}

/// Has the kernel send SIGURG to this thread whenever `channel` has input, or ends.
///
/// To the thread: one sent to the process might interrupt another of its threads, and the wait would go
/// on. Corresponds to `fcntl(2)` with `F_SETSIG`, `F_SETOWN_EX` (Linux 2.6.32) and `O_ASYNC`.
pub(crate) fn signal_on_input(channel: impl AsFd) -> io::Result<()> {
    let channel = channel.as_fd();
    let number = channel.as_raw_fd();
    // SAFETY: `channel` is open for the call; the command takes an int and touches no memory.
    if unsafe { libc::fcntl(number, F_SETSIG, libc::SIGURG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let owner = Owner { kind: F_OWNER_TID, thread: nix::unistd::gettid().as_raw() };
    // SAFETY: `channel` is open and `owner`, laid out as the kernel's `f_owner_ex`, is live for the call,
    // which only reads it.
    if unsafe { libc::fcntl(number, F_SETOWN_EX, &raw const owner) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = rustix::fs::fcntl_getfl(channel)?;
    // rustix does not name O_ASYNC.
    let flags = flags | OFlags::from_bits_retain(libc::O_ASYNC.cast_unsigned());
    Ok(rustix::fs::fcntl_setfl(channel, flags)?)
}
