//! One worker process as the supervisor holds it, and how it is started.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::pulse::{Pulse, Rule, Sign};
use crate::board::{Board, Counts, Leaving};
use crate::connection::ListenerName;
use crate::error::Error;
use crate::id::{SlotId, WorkerId};
use crate::inherit::{
    ENV_FDS, ENV_HEARTBEAT, ENV_LISTENERS, ENV_SERVICE, ENV_SLOTS, ENV_SUPERVISOR, ENV_WORKER,
    Inherit, Legacy,
};
use crate::listener::ListenSpec;
use crate::pool::Listener;
use crate::start::Program;
use crate::sys;
use crate::worker::{NEWS, POKE, inherited_name};

/// How a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It ended by itself, with this status.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
}

impl ExitStatus {
    /// Whether it ended by itself with status 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit {status}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Stopped or continued, as SIGCHLD tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Stopped,
    Continued,
}

/// A started worker. Watched, signalled and reaped by its pidfd only, so never mistaken for a stranger.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pidfd: OwnedFd,
    /// The other end is the worker's life-line: it reads end-of-file when we are gone. A foreign program
    /// has none.
    control: Option<OwnedFd>,
    board: Arc<Board>,
    said_ready: bool,
    /// Admitted.
    pub(super) ready: bool,
    pub(super) draining: bool,
    /// By a signal.
    pub(super) stopped: bool,
    /// It said that it ends by itself.
    pub(super) quits: bool,
    /// Once it was looked at.
    pub(super) pulse: Option<Pulse>,
    /// How many wake-ups it had hoarded when last asked.
    hoarded: u64,
}

impl Process {
    /// Of a child that was just started and not reaped, so the number is still its own.
    pub(super) fn watched(
        pid: u32,
        control: Option<OwnedFd>,
        board: Arc<Board>,
    ) -> io::Result<Self> {
        let number =
            i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self {
                pid,
                pidfd,
                control,
                board,
                said_ready: false,
                ready: false,
                draining: false,
                stopped: false,
                quits: false,
                pulse: None,
                hoarded: 0,
            }),
            Err(error) => {
                // Unwatched it would never be reaped. Not reaped yet, its number is its own.
                let number = nix::unistd::Pid::from_raw(number.as_raw_pid());
                nix::sys::signal::kill(number, nix::sys::signal::Signal::SIGKILL)?;
                waitid(Id::Pid(number), WaitPidFlag::WEXITED)?;
                Err(error.into())
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// Whether it has hoarded a wake-up since the last time: everybody else has to look.
    pub(super) fn has_hoarded(&mut self) -> bool {
        let hoarded = self.board.hoarded();
        std::mem::replace(&mut self.hoarded, hoarded) != hoarded
    }

    /// Stopped, hung or about to end: it gets nothing, for now.
    pub(super) fn is_avoided(&self) -> bool {
        self.stopped || self.quits || self.pulse.is_some_and(|pulse| pulse.hung)
    }

    pub(super) fn sign(&self, rule: Rule) -> Sign {
        let (calls, in_handler) = self.board.calls();
        let is_idle = in_handler < rule.lanes && !rule.has_heartbeat;
        let run = is_idle.then(|| self.time_run()).flatten();
        Sign { calls, in_handler, beat: self.board.beat(), run }
    }

    /// How long it has run, all its threads together. `None`: the system does not tell.
    fn time_run(&self) -> Option<Duration> {
        // Not reaped yet, its number is its own.
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(self.pid.cast_signed())).ok()?;
        clock_gettime(clock).ok().map(Duration::from)
    }

    pub(super) fn counts(&self) -> Counts {
        self.board.counts()
    }

    /// True the first time.
    pub(super) fn becomes_ready(&mut self) -> bool {
        !std::mem::replace(&mut self.said_ready, true)
    }

    /// Tells the worker which slots to cover, if that is new to it.
    pub(super) fn cover(&self, slots: &[SlotId]) {
        if self.board.set_cover(slots) {
            self.say(NEWS);
        }
    }

    pub(super) fn drain(&mut self, leaving: Leaving) {
        self.draining = true;
        self.board.set_drain(leaving);
        self.poke();
        if self.control.is_none() {
            // ESRCH: it is dead already and its pidfd says so.
            let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        }
    }

    /// Makes the worker look at its board and its sources.
    pub(super) fn poke(&self) {
        self.say(POKE);
    }

    fn say(&self, word: u8) {
        // A full channel holds pokes that were not read yet, which say the same. A closed one belongs to
        // a worker whose death is on its way to us.
        if let Some(control) = &self.control {
            let _ = send(control, &[word], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    pub(super) fn kill(&self) {
        // ESRCH: it is dead already and its pidfd says so.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Reaps it, if it is dead.
    pub(super) fn try_wait(&self) -> Option<ExitStatus> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
            Ok(WaitStatus::Exited(_, status)) => Some(ExitStatus::Exited(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::Signaled(signal as i32)),
            // Somebody else reaped it. How it ended is lost, that it ended is not.
            Err(nix::errno::Errno::ECHILD) => Some(ExitStatus::Exited(-1)),
            _ => None,
        }
    }

    /// Waits for the end of a killed process.
    pub(super) fn wait(&self) {
        while let Err(nix::errno::Errno::EINTR) =
            waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED)
        {}
    }

    /// Whether SIGCHLD was about this one.
    pub(super) fn stop_or_continue(&self) -> Option<Change> {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG;
        match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
            Ok(WaitStatus::Stopped(..)) => Some(Change::Stopped),
            Ok(WaitStatus::Continued(_)) => Some(Change::Continued),
            _ => None,
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}

/// Starts workers: this program again, with its own arguments.
#[derive(Debug)]
pub(super) struct Spawner {
    service: String,
    arguments: Vec<OsString>,
    listeners: String,
    slots: u32,
    heartbeat: Option<Duration>,
}

impl Spawner {
    pub(super) fn new(
        service: &str,
        listeners: &[ListenerName],
        slots: u32,
        heartbeat: Option<Duration>,
    ) -> Result<Self, Error> {
        let mut specs = Vec::new();
        for listener in listeners {
            let spec = ListenSpec::new(&*listener.name, listener.address.clone())
                .map_err(|e| Error::system("naming a listener", io::Error::other(e)))?;
            specs.push(spec.to_string());
        }
        Ok(Self {
            service: service.to_owned(),
            arguments: std::env::args_os().skip(1).collect(),
            listeners: specs.join(","),
            slots,
            heartbeat,
        })
    }

    /// Starts this program again.
    pub(super) fn start_again(
        &self,
        worker: WorkerId,
        kit: Kit,
        board: Arc<Board>,
    ) -> io::Result<Process> {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(&self.arguments)
            .arg0(format!("{}: worker {}", self.service, worker.slot))
            .env(ENV_WORKER, worker.to_string())
            .env(ENV_SUPERVISOR, std::process::id().to_string())
            .env(ENV_SERVICE, &self.service)
            .env(ENV_LISTENERS, &self.listeners)
            .env(ENV_SLOTS, self.slots.to_string())
            .env(ENV_HEARTBEAT, self.heartbeat.map_or(0, |period| period.as_millis()).to_string())
            .env(ENV_FDS, kit.inherit.to_env())
            .stdin(Stdio::null())
            // Of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which then decides.
            .process_group(0);
        sys::on_start(&mut command, kit.inherit.numbers());
        let child = command.spawn()?;
        Process::watched(child.id(), Some(kit.control), board)
    }

    /// Forks; the child runs `run` and never comes back.
    pub(super) fn fork(
        &self,
        worker: WorkerId,
        kit: Kit,
        board: Arc<Board>,
        listeners: impl FnOnce() -> Vec<ListenerName>,
        run: impl FnOnce(Legacy) -> Result<(), Error>,
    ) -> io::Result<Process> {
        let keep = kit.inherit.numbers();
        let Kit { inherit, control } = kit;
        // In the parent they are closed when this returns; in the child they are the worker's.
        let mut inherit = Some(inherit);
        let legacy = |inherit: Inherit| Legacy {
            worker,
            service: self.service.clone(),
            fds: inherit.into_fds(),
            listeners: listeners(),
            slots: self.slots,
            heartbeat: self.heartbeat,
        };
        let child = || match inherit.take().map(legacy).map(run) {
            Some(Err(error)) => {
                // With its cause, as a `main` shows it.
                tracing::error!(slot = worker.slot.0, ?error, "a forked worker failed");
                1
            }
            _ => 0,
        };
        let pid = sys::fork(&keep, child)?;
        Process::watched(pid, Some(control), board)
    }

    /// Starts another program with these listeners from descriptor 3 on.
    pub(super) fn start_program(
        &self,
        program: &Program,
        worker: WorkerId,
        listeners: &[Listener],
        board: Arc<Board>,
    ) -> io::Result<Process> {
        let names: Vec<&str> = listeners.iter().map(Listener::name).collect();
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env("LISTEN_FDS", listeners.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("FORKHERD_SLOT", worker.slot.to_string());
        // High enough that none is in the way of those from 3 on; not higher, for there may be no room.
        let above = FIRST_LISTEN_FD + i32::try_from(listeners.len()).unwrap_or(i32::MAX / 2);
        let fds: io::Result<Vec<OwnedFd>> =
            listeners.iter().map(|l| Ok(rustix::io::fcntl_dupfd_cloexec(l, above)?)).collect();
        let fds = fds?;
        // Whether it can be executed is known only in the child, which says so here.
        let (said, says) = io::pipe()?;
        let mut keep: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        keep.push(says.as_raw_fd());
        let pid = sys::fork(&keep, || {
            let error = exec(&mut command, &fds);
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = rustix::io::write(&says, &code.to_ne_bytes());
            1
        })?;
        drop(says);
        let mut process = Process::watched(pid, None, board)?;
        process.becomes_ready();
        let mut code = [0_u8; 4];
        match rustix::io::retry_on_intr(|| rustix::io::read(&said, &mut code)) {
            Ok(4) => {
                process.wait();
                let error = io::Error::from_raw_os_error(i32::from_ne_bytes(code));
                let path = program.path.display();
                Err(io::Error::new(error.kind(), format!("cannot execute {path}: {error}")))
            }
            _ => Ok(process),
        }
    }
}

/// Where the `LISTEN_FDS` protocol begins (sd_listen_fds(3)).
const FIRST_LISTEN_FD: i32 = 3;

/// Child · becomes `command`. Returns only if it cannot.
fn exec(command: &mut Command, listeners: &[OwnedFd]) -> io::Error {
    for (number, listener) in (FIRST_LISTEN_FD..).zip(listeners) {
        if let Err(error) = sys::place_descriptor(listener, number) {
            return error;
        }
    }
    command.env("LISTEN_PID", std::process::id().to_string()).exec()
}

/// What a worker of this program gets, whatever its strategy: our end, and all that it inherits.
#[derive(Debug)]
pub(super) struct Kit {
    inherit: Inherit,
    control: OwnedFd,
}

impl Kit {
    pub(super) fn new(
        mut inherit: Inherit,
        own_page: &OwnedFd,
        supervisor_page: &OwnedFd,
        kick: &OwnedFd,
    ) -> io::Result<Self> {
        let (control, worker_end) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        inherit.add(inherited_name::CONTROL, &worker_end)?;
        inherit.add(inherited_name::OWN_PAGE, own_page)?;
        inherit.add(inherited_name::SUPERVISOR_PAGE, supervisor_page)?;
        inherit.add(inherited_name::KICK, kick)?;
        Ok(Self { inherit, control })
    }
}
