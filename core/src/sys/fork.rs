//! A bare fork: the child goes on in a copy of this very program.
#![expect(clippy::disallowed_methods, reason = "this is where the process is copied")]
#![expect(unsafe_code, reason = "fork, and closing descriptors by number")]

use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

/// What the child of a fork ends with if its code panicked; as a `main` that panics.
const PANICKED: i32 = 101;

/// How many threads this process has.
pub(crate) fn threads() -> io::Result<usize> {
    let listed = std::fs::read_dir("/proc/self/task").map_err(|error| {
        let text = format!("cannot list /proc/self/task, is /proc mounted? ({error})");
        io::Error::new(error.kind(), text)
    })?;
    Ok(listed.count())
}

/// Refuses unless this process has a single thread.
///
/// unshare(2) of `CLONE_THREAD` does nothing where there is one and fails where there are more. It takes 0.2 µs; to list
/// them takes 6 µs, and memory of which nearly three pages are copied after each fork (Linux 6.18). Where the call is
/// forbidden, as in many containers, they are counted.
fn refuse_threads() -> io::Result<()> {
    if unshare(CloneFlags::CLONE_THREAD).is_ok() {
        return Ok(());
    }
    match threads()? {
        1 => Ok(()),
        count => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("cannot fork a process of {count} threads: start workers anew instead"),
        )),
    }
}

/// Copies this process. The child unblocks all signals, takes no notice of its own children's, dies with this process, leads a process group of
/// its own, reads nothing from stdin, closes all descriptors but 0, 1, 2 and `keep`, runs `child`, and
/// ends with what that returns: it never comes back here, and drops nothing that is ours.
///
/// Supervisor · the thread that forks has to stay alive: the death signal follows it.
///
/// # Errors
/// That of `fork(2)`; `WouldBlock`, in words, if there is more than one thread: another might hold a lock
/// that nobody would ever release in the child.
pub(crate) fn fork(keep: &[RawFd], child: impl FnOnce() -> i32) -> io::Result<u32> {
    refuse_threads()?;
    let supervisor = nix::unistd::getpid();
    // SAFETY: this process has a single thread, asked above, and nothing between that line and this one
    // starts another; so no lock is held by anybody else, and the child may do what any program may.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if let Ok(pid) = u32::try_from(pid)
        && pid > 0
    {
        return Ok(pid);
    }
    let status = catch_unwind(AssertUnwindSafe(|| {
        super::default_child_signal()?;
        SigSet::empty().thread_set_mask()?;
        set_pdeathsig(Signal::SIGKILL)?;
        // If the supervisor died before the line above took effect, no signal will ever come.
        if getppid() != supervisor {
            return Err(io::Error::other("the supervisor is gone"));
        }
        nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))?;
        let nothing =
            rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
        rustix::stdio::dup2_stdin(&nothing)?;
        drop(nothing);
        close_all_but(keep)?;
        Ok(child())
    }));
    let status = match status {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            tracing::error!(%error, "a forked worker cannot begin");
            1
        }
        Err(_) => PANICKED,
    };
    // What was written and not yet flushed belongs to this child alone: the supervisor flushes lines.
    let _ = io::Write::flush(&mut io::stdout());
    // SAFETY: ends the process without running destructors: those of values that are the supervisor's
    // must not run here, for their descriptors are closed or mean something else by now.
    unsafe { libc::_exit(status) }
}

/// Closes every descriptor from 3 on that is not in `keep`.
fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<libc::c_uint> = keep
        .iter()
        .filter_map(|&fd| libc::c_uint::try_from(fd).ok())
        .filter(|&fd| fd > 2)
        .collect();
    kept.sort_unstable();
    let mut first = 3;
    for &fd in kept.iter().chain([&libc::c_uint::MAX]) {
        if first < fd {
            // SAFETY: the values that own these numbers are the supervisor's; in this child they are never
            // used and never dropped, because it ends by `_exit`.
            let result = unsafe { libc::close_range(first, fd - 1, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_several_threads_is_refused_with_their_number() {
        // Whoever runs tests has a thread for each; this makes sure of it.
        let (stay, stayed) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stayed.recv());
        let error = refuse_threads().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let count: usize = error.to_string().split(' ').nth(5).unwrap().parse().unwrap();
        assert!(count > 1, "{error}");
        drop(stay);
        assert!(other.join().unwrap().is_err());
    }
}
