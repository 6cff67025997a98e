//! `host`: this program as the parent of a stranger's server, so that nothing of it is left behind.
//!
//! Host · adopts whatever loses its parent below it (`PR_SET_CHILD_SUBREAPER`), reads what the command
//! prints, says `listening on ADDR` once the port accepts, and on SIGTERM, or when its own parent ends,
//! ends everything below it: SIGTERM to all, a bounded wait, then SIGKILL until nobody is left. `hosted`
//! is the moment between `fork(2)` and the command, and ties the command to the life of its host.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cli::{Host, Hosted};
use crate::measure::cpu::Tree;
use crate::process::{self, Program};

/// Longest a server may take until its port accepts.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest it may take to end after SIGTERM: less than whoever ends us waits.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a port is tried and an end is looked for.
const GLANCE: Duration = Duration::from_millis(10);

/// How often all that are left are killed, before they are left to the kernel.
const KILLS: u32 = 50;

/// Lines of its output that are kept to be quoted.
const LINES: usize = 8;

/// What begins the line that says why it cannot be served.
pub const FAILED: &str = "failed: ";

/// Host: the command's whole life. What keeps it from serving is said on standard output, in one line
/// after [`FAILED`], for whoever waits there for `listening on ADDR`.
///
/// # Errors
/// It ended although nobody wanted it to; or the world does not let us host it.
pub fn run(arguments: &Host) -> anyhow::Result<()> {
    process::die_with(arguments.parent, Signal::SIGTERM)?;
    prctl::set_child_subreaper(true)?;
    // Before any thread: all inherit it, and so does what we start; `run_hosted` gives it back.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut brood = Brood::start(&arguments.command, signals)?;
    match brood.await_accept(arguments.listen) {
        Ok(Heard::Accepts) => writeln!(io::stdout(), "listening on {}", arguments.listen)?,
        Ok(Heard::End) => return Ok(()),
        Err(error) => {
            let said = brood.end();
            writeln!(io::stdout(), "{FAILED}{error:#}{said}")?;
            return Ok(());
        }
    }
    brood.watch().map_err(|error| anyhow!("{error:#}{}", brood.end()))
}

/// Becomes the command.
///
/// # Errors
/// The host is gone, or the command cannot be executed.
pub fn run_hosted(arguments: &Hosted) -> anyhow::Result<()> {
    // SIGTERM and not SIGKILL: a server takes its workers along.
    process::die_with(arguments.parent, Signal::SIGTERM)?;
    // 1 ns instead of 50 µs, as our own servers have: a sleep stands for work. Inherited.
    prctl::set_timerslack(1)?;
    // Blocked in its host, or a server would never hear that it is to leave, nor that a child of it ended.
    SigSet::empty().thread_set_mask()?;
    let [program, words @ ..] = &arguments.command[..] else { bail!("there is no command") };
    Err(Command::new(program).args(words).exec())
        .with_context(|| format!("cannot execute {program}"))
}

/// Why a wait is over.
enum Heard {
    Accepts,
    End,
}

/// The command and all below it; dropping it leaves nobody.
struct Brood {
    first: Child,
    /// How the first of them ended.
    status: Option<ExitStatus>,
    signals: SignalFd,
    said: Said,
    readers: Vec<JoinHandle<()>>,
}

impl Brood {
    /// Starts the command in a process group of its own, its output to be read by us.
    fn start(command: &[String], signals: SignalFd) -> anyhow::Result<Self> {
        let mut first = Program::this()?
            .command()
            .args(["hosted", "--parent", &std::process::id().to_string(), "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (out, err) = (first.stdout.take(), first.stderr.take());
        // Not to be left behind when its output cannot be read.
        let (said, readers) = (Said::default(), Vec::new());
        let mut brood = Self { first, status: None, signals, said, readers };
        if let (Some(out), Some(err)) = (out, err) {
            brood.readers.push(brood.said.listen(out)?);
            brood.readers.push(brood.said.listen(err)?);
        }
        Ok(brood)
    }

    /// Waits until its port accepts or we are to end.
    fn await_accept(&mut self, address: SocketAddr) -> anyhow::Result<Heard> {
        let deadline = Instant::now() + ACCEPT_TIMEOUT;
        loop {
            if TcpStream::connect_timeout(&address, GLANCE).is_ok() {
                return Ok(Heard::Accepts);
            }
            if !self.reap()? {
                bail!("it ended{} before it accepted on {address}", self.how());
            }
            if Instant::now() >= deadline {
                bail!("it did not accept on {address} within {ACCEPT_TIMEOUT:?}");
            }
            if self.heard(PollTimeout::try_from(GLANCE)?)? {
                return Ok(Heard::End);
            }
        }
    }

    /// Waits until we are to end.
    fn watch(&mut self) -> anyhow::Result<()> {
        while !self.heard(PollTimeout::NONE)? {
            if !self.reap()? {
                bail!("the server ended{} while it was measured", self.how());
            }
        }
        Ok(())
    }

    /// Waits for a signal; whether it was one that ends us.
    fn heard(&mut self, timeout: PollTimeout) -> anyhow::Result<bool> {
        let mut watched = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ends = false;
        while let Some(signal) = self.signals.read_signal()? {
            ends |= i32::try_from(signal.ssi_signo) != Ok(Signal::SIGCHLD as i32);
        }
        Ok(ends)
    }

    /// Reaps all that ended, adopted ones, too; whether anybody is left.
    fn reap(&mut self) -> anyhow::Result<bool> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Ok(true),
                Ok(status) => self.note(status),
                Err(Errno::ECHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Keeps how the first ended.
    fn note(&mut self, status: WaitStatus) {
        use std::os::unix::process::ExitStatusExt as _;
        let first = i32::try_from(self.first.id()).ok().map(Pid::from_raw);
        let raw = match status {
            WaitStatus::Exited(_, code) => code << 8,
            WaitStatus::Signaled(_, signal, _) => signal as i32,
            _ => return,
        };
        if status.pid() == first {
            self.status = Some(ExitStatus::from_raw(raw));
        }
    }

    /// How it ended, in words that follow "ended".
    fn how(&self) -> String {
        self.status.map_or_else(String::new, |status| format!(" with {status}"))
    }

    /// Sends `signal` to all that are left.
    fn signal_all(&self, signal: Signal) {
        let own = std::process::id();
        let Ok(tree) = Tree::of(own) else { return };
        for &pid in tree.pids().iter().filter(|&&pid| pid != own) {
            // Whoever ended between the look and the signal is a zombie of its parent or ours, so the
            // number is not a stranger's.
            if let Ok(pid) = i32::try_from(pid) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// Ends everybody; whether nobody is left.
    fn end_all(&mut self) -> bool {
        self.signal_all(Signal::SIGTERM);
        if self.are_gone_by(Instant::now() + END_TIMEOUT) {
            return true;
        }
        // Again and again, as one may have forked meanwhile.
        (0..KILLS).any(|_| {
            self.signal_all(Signal::SIGKILL);
            self.are_gone_by(Instant::now() + GLANCE)
        })
    }

    /// Ends everybody, and gives what they said last.
    fn end(&mut self) -> String {
        if self.end_all() {
            // Whoever wrote is gone, so the readers come to an end.
            self.readers.drain(..).for_each(|reader| drop(reader.join()));
        }
        self.said.to_string()
    }

    /// Waits until nobody is left or `deadline`; whether nobody is.
    fn are_gone_by(&mut self, deadline: Instant) -> bool {
        while matches!(self.reap(), Ok(true)) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(GLANCE);
        }
        true
    }
}

impl Drop for Brood {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// The last lines that a command printed.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<VecDeque<String>>>);

impl Said {
    /// Reads `from` in a thread that ends with it, so that nobody who prints ever stands still.
    ///
    /// # Errors
    /// No thread could be started.
    fn listen(&self, from: impl Read + Send + 'static) -> io::Result<JoinHandle<()>> {
        let Self(lines) = self.clone();
        thread::Builder::new().spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            // A line without end is cut, and goes on as the next.
            while matches!(reader.by_ref().take(1024).read_until(b'\n', &mut line), Ok(1..)) {
                let text: String =
                    String::from_utf8_lossy(&line).trim().chars().take(200).collect();
                line.clear();
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
        })
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return formatter.write_str("; it said nothing");
        }
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        write!(formatter, "; its last words: {}", lines.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let said = Said::default();
        assert_eq!(said.to_string(), "; it said nothing");
        let text: String = (0..20).map(|number| format!("line {number}\n")).collect();
        said.listen(io::Cursor::new(text)).unwrap().join().unwrap();
        let all = said.to_string();
        assert!(
            all.starts_with("; its last words: line 12 | ") && all.ends_with("line 19"),
            "{all}"
        );
        said.listen(io::Cursor::new(vec![b'x'; 5_000])).unwrap().join().unwrap();
        assert!(said.to_string().len() < 8 * 210, "{said}");
    }
}
