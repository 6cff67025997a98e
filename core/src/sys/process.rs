//! Starting a worker and adopting what it inherited.
#![expect(clippy::disallowed_methods, reason = "this is where raw numbers become owned")]
#![expect(unsafe_code, reason = "code between fork and exec, and descriptors known by number only")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, getppid};

/// What the supervisor acts upon. A worker may get it, too, and has to let it pass.
const FOR_SUPERVISOR: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Arranges what the child does between `fork` and `exec`: it blocks the supervisor's signals until
/// [`leave_signals_to_supervisor`] and unblocks all others, dies with this process, and keeps exactly 0, 1, 2
/// and `keep` over the `exec`.
///
/// Supervisor · before each spawn, on the thread that stays alive: the death signal follows the thread
/// that forked.
pub(crate) fn on_start(command: &mut Command, keep: Vec<RawFd>) {
    let supervisor = nix::unistd::getpid();
    // SAFETY: the closure runs in the forked child before `exec`. It makes plain system calls and
    // neither allocates nor locks: `keep` was allocated before the fork, and an `io::Error` made from an
    // error number holds no heap memory.
    unsafe { command.pre_exec(move || before_exec(supervisor, &keep)) };
}

fn before_exec(supervisor: Pid, keep: &[RawFd]) -> io::Result<()> {
    // A blocked signal stays blocked over `exec`, and a handler does not stay: what came before the worker has
    // its own would end or stop it. The supervisor blocks SIGCHLD, too, which is the worker's own.
    SigSet::from_iter(FOR_SUPERVISOR).thread_set_mask()?;
    set_pdeathsig(Signal::SIGKILL)?;
    // If the supervisor died before the line above took effect, no signal will ever come.
    if getppid() != supervisor {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: marks descriptors close-on-exec and closes none, so no owner in this child is surprised.
    let marked = unsafe { libc::close_range(3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        return Err(io::Error::last_os_error());
    }
    for &fd in keep {
        // SAFETY: changes one flag of a descriptor that the caller holds open until after the spawn.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

const CLOSE_RANGE_CLOEXEC: libc::c_int = 4; // linux/close_range.h, since Linux 5.11

/// Puts a duplicate of `fd` under this number, where it stays over an `exec`.
///
/// Child · right before the `exec`: whatever was open under the number is closed.
pub(crate) fn place_descriptor(fd: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: in a forked child about to become another program nobody uses the number again, whoever
    // owned it.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes ownership of an inherited descriptor and marks it close-on-exec again.
///
/// Worker · once per number, right at the start.
///
/// # Errors
/// `EBADF` if nothing is open under that number.
pub(crate) fn adopt_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads a flag, and tells by EBADF whether the number is open.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number was just seen open. The supervisor listed it as ours and lists no number twice
    // (`Inherited` refuses a repeated one), and nothing else in this process knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Whether nothing is open under any of these numbers. One system call, `poll(2)`, and nothing is opened for it: a
/// duplicate under such a number would have the kernel make the whole table as long.
///
/// `false`, too, where that cannot be known: there are more than this process may open.
#[must_use]
pub fn are_free(numbers: Range<RawFd>) -> bool {
    let ask = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut asked: Vec<libc::pollfd> = numbers.map(ask).collect();
    let Ok(count) = libc::nfds_t::try_from(asked.len()) else { return false };
    // SAFETY: reads and writes so many elements of a vector that has so many. It does not wait.
    let answered = unsafe { libc::poll(asked.as_mut_ptr(), count, 0) };
    answered >= 0 && asked.iter().all(|one| one.revents & libc::POLLNVAL != 0)
}

/// Makes sure that children are reported: a program started with SIGCHLD ignored would never see them.
pub(crate) fn default_child_signal() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours in signal context.
    unsafe { sigaction(Signal::SIGCHLD, &default) }?;
    Ok(())
}

/// Has these signals come to this thread, which blocks them, whichever thread the kernel gives them to. Returns
/// what was to happen on them before, for [`scatter_signals`].
///
/// Supervisor · after it has blocked them. Every thread has a mask of its own: where the program had started
/// others before, a signal to the process would be theirs, and its default action the end of the process.
pub(crate) fn gather_signals(signals: &SigSet) -> io::Result<Vec<(Signal, SigAction)>> {
    READER.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
    let gather = SigAction::new(SigHandler::Handler(pass_on), SaFlags::SA_RESTART, SigSet::empty());
    let install = |signal| {
        // SAFETY: the handler makes one system call and leaves `errno` as it was.
        let old = unsafe { sigaction(signal, &gather) }?;
        Ok((signal, old))
    };
    signals.iter().map(install).collect()
}

/// Puts back what was to happen on these signals.
///
/// Supervisor · at its end.
pub(crate) fn scatter_signals(old: &[(Signal, SigAction)]) -> io::Result<()> {
    for (signal, action) in old {
        // SAFETY: puts back what the program itself had installed.
        unsafe { sigaction(*signal, action) }?;
    }
    Ok(())
}

/// The thread that reads the supervisor's signals.
static READER: AtomicI32 = AtomicI32::new(0);

/// Runs on another thread than the reader, which blocks the signal. In a forked worker there is no such
/// thread, and nothing happens.
extern "C" fn pass_on(signal: libc::c_int) {
    let errno = Errno::last_raw();
    let process = nix::unistd::getpid().as_raw();
    let thread = READER.load(Ordering::Relaxed);
    // SAFETY: a system call without memory. The number is of a thread of this process, or of none.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    Errno::set_raw(errno);
}

/// Lets the signals that are for the supervisor pass without effect, unless the program has its own way with them.
///
/// Worker · at its start. The supervisor decides who leaves, and says so on the board; a service manager
/// that signals the whole control group (systemd does) must not cut off requests that the supervisor is
/// about to drain. A handler that does nothing, rather than "ignore", because programs that a worker
/// starts would inherit the latter.
///
/// Before it starts threads: they inherit that SIGTTIN and SIGTTOU are *blocked*. A worker is in the background of
/// its terminal. Where that may not write (`stty tostop`), a line of its log is answered by SIGTTOU, and after a
/// handler that does nothing the write begins anew, for ever. With the signal blocked it passes, and a read fails
/// with `EIO`. Programs that `std::process::Command` starts have nothing blocked.
pub(crate) fn leave_signals_to_supervisor() -> io::Result<()> {
    let nothing =
        SigAction::new(SigHandler::Handler(do_nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in FOR_SUPERVISOR {
        // SAFETY: the handler touches nothing, so it is safe in signal context.
        let old = unsafe { sigaction(signal, &nothing) }?;
        if !matches!(old.handler(), SigHandler::SigDfl) {
            // SAFETY: puts back what the program itself had installed.
            unsafe { sigaction(signal, &old) }?;
        }
    }
    let terminal = [Signal::SIGTTIN, Signal::SIGTTOU];
    SigSet::from_iter(terminal).thread_block()?;
    // Blocked since before the `exec`. What has come since passes here.
    SigSet::from_iter(FOR_SUPERVISOR.into_iter().filter(|signal| !terminal.contains(signal)))
        .thread_unblock()?;
    Ok(())
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_free_where_nothing_is_open() {
        let (file, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = file.as_raw_fd();
        assert!(!are_free(number..number + 1) && !are_free(0..number + 1));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
        let limit = RawFd::try_from(limit).unwrap();
        // The last ones: no test opens so many.
        assert!(are_free(limit - 100..limit));
        // More than this process may open.
        assert!(!are_free(limit..2 * limit + 1));
    }
}
