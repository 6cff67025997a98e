//! Child processes that do not outlive their reason: a guard for the parent, a tie for the child.

use std::ffi::CString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// Longest a child may take to end after TERM before it is killed.
///
/// 5 s: a supervisor drains its workers first, and our longest answers take tens of milliseconds.
pub const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Ties this process to the life of its parent: when `parent` ends, this process gets `signal`.
///
/// Child · first thing, from the main thread. `parent` is the parent's process id as the parent
/// gave it, which closes the gap in which it could die before the tie is made. Corresponds to
/// `prctl(PR_SET_PDEATHSIG)`; it follows the *thread* that started this process, so parents here
/// start children from their main thread only.
///
/// # Errors
/// `NotFound` if `parent` is gone already; the caller ends.
pub fn die_with(parent: u32, signal: Signal) -> io::Result<()> {
    prctl::set_pdeathsig(signal)?;
    if u32::try_from(getppid().as_raw()) == Ok(parent) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("parent process {parent} is gone")))
    }
}

/// The executable that servers and load processes run: one whose `main` is
/// [`commands::main`](crate::commands::main).
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// What it is called in lists of processes.
    name: PathBuf,
}

/// The running program itself, whatever lies under its path by now: a build in between would have one
/// comparison measure two programs.
const THIS: &str = "/proc/self/exe";

impl Program {
    /// This program once more: what `compare` starts.
    ///
    /// # Errors
    /// What `/proc/self/exe` said.
    pub fn this() -> io::Result<Self> {
        Ok(Self { path: THIS.into(), name: std::env::current_exe()? })
    }

    /// The one at `path`, for a program that is none itself, such as a benchmark.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.clone(), path }
    }

    /// A command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name);
        command
    }
}

/// Has lists of processes call this one after the first word it was started with: the kernel calls whoever is
/// started by [`Program::this`] `exe`.
///
/// Any process · first thing. Corresponds to `prctl(PR_SET_NAME)`, which keeps 15 bytes.
pub fn take_name() {
    let word = std::env::args_os().next().map(PathBuf::from);
    let name = word.as_deref().and_then(Path::file_name).map(|name| CString::new(name.as_bytes()));
    if let Some(Ok(name)) = name {
        // Nothing depends on it.
        let _ = prctl::set_name(&name);
    }
}

/// A child process that is ended and reaped when this value is dropped.
///
/// Its standard output is read line by line by a thread of its own, so that a child that prints
/// never stands still because nobody reads; the thread ends with the output.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Guarded {
    /// Starts `command` in a process group of its own: Ctrl-C on the terminal reaches only us, and
    /// we end our children in order.
    ///
    /// # Errors
    /// What `fork(2)` or `execve(2)` said, or that no thread could be started; then the child is ended.
    pub fn start(command: &mut Command, with_input: bool) -> io::Result<Self> {
        let input = if with_input { Stdio::piped() } else { Stdio::null() };
        let mut child = command.stdin(input).stdout(Stdio::piped()).process_group(0).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        // Guarded already when its output cannot be read.
        let mut guarded = Self { child, input, lines: channel().1 };
        if let Some(output) = output {
            guarded.lines = lines_of(output)?;
        }
        Ok(guarded)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, line by line; closed once it closes it.
    #[must_use]
    pub fn lines(&self) -> &Receiver<String> {
        &self.lines
    }

    /// Its standard input, if it was started with one.
    #[must_use]
    pub fn input(&mut self) -> Option<&mut ChildStdin> {
        self.input.as_mut()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// What `waitpid(2)` said.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// TERM, a bounded wait, then KILL; reaped in any case.
    ///
    /// # Errors
    /// What `waitpid(2)` said.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        drop(self.input.take());
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + END_TIMEOUT;
        let mut pause = Duration::from_micros(200);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            // Bounded polling: without threads or pidfds of our own, and it is never in a
            // measured stretch.
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()
    }

    /// Sends `signal`; a child that has ended already is not an error.
    pub fn signal(&mut self, signal: Signal) {
        // Not yet reaped (`try_wait` is the only reaper), so the number is still this child's.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Reads `output` in a thread; lines that are not UTF-8 are passed on as well as can be.
fn lines_of(output: ChildStdout) -> io::Result<Receiver<String>> {
    let (sender, receiver) = channel();
    thread::Builder::new().spawn(move || {
        let mut reader = BufReader::with_capacity(64 * 1024, output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if sender.send(text).is_err() {
                        return;
                    }
                }
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ignores_term_is_killed_and_lines_come_in_order() {
        let script = "trap '' TERM; echo one; echo two; while :; do sleep 0.01; done";
        let mut child = Guarded::start(Command::new("sh").args(["-c", script]), false).unwrap();
        let wait = Duration::from_secs(5);
        assert_eq!(child.lines().recv_timeout(wait).unwrap(), "one");
        assert_eq!(child.lines().recv_timeout(wait).unwrap(), "two");
        let start = Instant::now();
        assert!(!child.end().unwrap().success());
        assert!(start.elapsed() >= END_TIMEOUT);
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = Guarded::start(Command::new("sleep").arg("100"), false).unwrap();
        let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap());
        drop(child);
        assert!(kill(pid, None).is_err());
    }
}
