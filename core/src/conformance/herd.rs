//! A service under test as a trial holds it: its supervisor, its workers, what they said.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};
use rustix::time::Timespec;

use super::journal::{Journal, Said};
use super::proc;
use super::spec::{self, Spec};
use crate::id::WorkerId;
use crate::listener::Address;

/// Longest a trial waits for anything: long enough for a loaded machine, so whatever takes longer hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A service in processes of its own. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Herd {
    child: Child,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
    journal: Arc<Journal>,
    readers: Vec<JoinHandle<()>>,
}

/// A worker that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seat {
    pub(super) worker: WorkerId,
    pub(super) pid: u32,
}

/// How a worker ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Exit {
    pub(super) in_service: u64,
    pub(super) status: String,
}

impl Herd {
    /// Starts it, and does not wait for anything.
    pub(super) fn start(spec: &Spec, journal: Arc<Journal>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
        let mut child = Command::new(program)
            .env(spec::ENV, spec.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // As a shell starts it, so that a trial can play the terminal.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the service: {error}"))?;
        let pidfd = match pidfd_open(pid_of(child.id())?, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // Nothing of it is ours but the child: end it here.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("pidfd_open: {error}"));
            }
        };
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let journal = Arc::clone(&journal);
            readers.push(thread::spawn(move || journal.read_notices(stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            let journal = Arc::clone(&journal);
            readers.push(thread::spawn(move || journal.read_log(stderr)));
        }
        Ok(Self { child, pidfd, status: None, journal, readers })
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until every slot has had a ready worker.
    pub(super) fn wait_serving(&self) -> Result<(), String> {
        self.listeners().map(|_| ())
    }

    fn listeners(&self) -> Result<Vec<(String, Address)>, String> {
        self.journal.wait("it serves", 0, |said| {
            said.iter().find_map(|said| match said {
                Said::Serving(listeners) => Some(listeners.clone()),
                _ => None,
            })
        })
    }

    /// Where the only, or the first, listener really listens.
    pub(super) fn address(&self) -> Result<SocketAddr, String> {
        let listeners = self.listeners()?;
        let first = listeners.first().and_then(|(_, address)| address.inet());
        first.ok_or_else(|| "no TCP listener".to_owned())
    }

    pub(super) fn address_of(&self, name: &str) -> Result<SocketAddr, String> {
        let listeners = self.listeners()?;
        let found = listeners.into_iter().find(|(other, _)| other == name);
        found.and_then(|(_, address)| address.inet()).ok_or_else(|| format!("no listener `{name}`"))
    }

    /// The ready workers that did not exit, in the order of their slots.
    pub(super) fn seats(&self) -> Vec<Seat> {
        seats(&self.journal.said())
    }

    /// Waits until each of so many slots has one ready worker, and nobody else is there.
    pub(super) fn wait_full(&self, workers: u32) -> Result<Vec<Seat>, String> {
        self.journal.wait("every slot has one ready worker", 0, |said| {
            let seats = seats(said);
            let mut slots: Vec<_> = seats.iter().map(|seat| seat.worker.slot.0).collect();
            slots.dedup();
            let started = said.iter().filter(|said| matches!(said, Said::Started { .. })).count();
            let exited = said.iter().filter(|said| matches!(said, Said::Exited { .. })).count();
            let full = slots.len() == workers as usize && started - exited == slots.len();
            full.then_some(seats)
        })
    }

    /// As [`wait_full`](Self::wait_full), and each of the workers is idle: what it answered last it has
    /// counted, too. All clients have to have their answers.
    pub(super) fn wait_idle(&self, workers: u32) -> Result<Vec<Seat>, String> {
        let seats = self.wait_full(workers)?;
        proc::poll_until("all workers are idle", || {
            Ok(seats.iter().all(|seat| proc::is_asleep(seat.pid)).then_some(()))
        })?;
        Ok(seats)
    }

    /// Sends a signal to the supervisor alone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        pidfd_send_signal(&self.pidfd, signal).map_err(|e| format!("signal the supervisor: {e}"))
    }

    /// Sends a signal to the supervisor's process group, as a terminal does.
    pub(super) fn signal_group(&self, signal: Signal) -> Result<(), String> {
        kill_process_group(pid_of(self.pid())?, signal).map_err(|e| format!("killpg: {e}"))
    }

    /// Sends a signal to a worker.
    pub(super) fn signal_worker(&self, seat: Seat, signal: Signal) -> Result<(), String> {
        // Nobody but a trial kills workers, and only their supervisor reaps them.
        if proc::parent(seat.pid) != Some(self.pid()) {
            return Err(format!("worker {} (pid {}) is not there", seat.worker, seat.pid));
        }
        kill_process(pid_of(seat.pid)?, signal).map_err(|e| format!("signal a worker: {e}"))
    }

    /// Stops a worker, and waits until its supervisor has seen it.
    pub(super) fn stop(&self, seat: Seat) -> Result<(), String> {
        let mark = self.journal.mark();
        self.signal_worker(seat, Signal::STOP)?;
        self.journal.wait("a stopped worker is noticed", mark, |said| {
            said.contains(&Said::Stopped(seat.worker)).then_some(())
        })
    }

    /// Lets a stopped worker go on, and waits until its supervisor has seen it.
    pub(super) fn resume(&self, seat: Seat) -> Result<(), String> {
        let mark = self.journal.mark();
        self.signal_worker(seat, Signal::CONT)?;
        self.journal.wait("a continued worker is noticed", mark, |said| {
            said.contains(&Said::Continued(seat.worker)).then_some(())
        })
    }

    /// Kills a worker, and waits until its supervisor has reaped it.
    pub(super) fn kill(&self, seat: Seat) -> Result<Exit, String> {
        self.signal_worker(seat, Signal::KILL)?;
        let exit = self.wait_exit(seat)?;
        if exit.status != "signal 9" {
            return Err(format!(
                "worker {} was killed, but ended with {}",
                seat.worker, exit.status
            ));
        }
        Ok(exit)
    }

    /// Waits until a worker that ends was reaped.
    pub(super) fn wait_exit(&self, seat: Seat) -> Result<Exit, String> {
        self.journal.wait("the worker is reaped", 0, |said| {
            said.iter().find_map(|said| match said {
                Said::Exited { worker, taken, completed, status, .. } if *worker == seat.worker => {
                    let in_service = taken.saturating_sub(*completed);
                    Some(Exit { in_service, status: status.clone() })
                }
                _ => None,
            })
        })
    }

    /// Waits until somebody of a later generation is ready in this worker's slot.
    pub(super) fn wait_successor(&self, seat: Seat) -> Result<Seat, String> {
        let next = |said: &[Said]| {
            seats(said).into_iter().rfind(|other| {
                other.worker.slot == seat.worker.slot
                    && other.worker.generation > seat.worker.generation
            })
        };
        self.journal.wait("a successor is ready", 0, next)
    }

    /// Waits for the end of the supervisor.
    pub(super) fn wait_end(&mut self, what: &str) -> Result<ExitStatus, String> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        if !ends_within(&self.pidfd, PATIENCE)? {
            return Err(format!("the supervisor does not end: {what}"));
        }
        let status = self.child.wait().map_err(|e| format!("cannot reap the supervisor: {e}"))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Waits until no process of the service is left: each of them holds its output.
    pub(super) fn wait_nothing_left(&self) -> Result<(), String> {
        self.journal.wait_closed()?;
        for said in self.journal.said() {
            if let Said::Started { worker, pid } = said
                && proc::parent(pid) == Some(self.pid())
            {
                return Err(format!("worker {worker} (pid {pid}) is still there"));
            }
        }
        Ok(())
    }

    /// Ends the service as one should, and looks that it does: status 0, nothing left.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        self.wait_finished()
    }

    /// Waits for an end that was asked for: status 0, nothing left.
    pub(super) fn wait_finished(&mut self) -> Result<(), String> {
        let status = self.wait_end("after SIGTERM or SIGINT")?;
        if !status.success() {
            return Err(format!("the supervisor ended with {status}"));
        }
        self.wait_nothing_left()
    }

    /// Kills the supervisor.
    pub(super) fn kill_supervisor(&mut self) -> Result<(), String> {
        self.signal(Signal::KILL)?;
        let status = self.wait_end("after SIGKILL")?;
        match status.signal() {
            Some(9) => Ok(()),
            _ => Err(format!("the supervisor was killed, but ended with {status}")),
        }
    }

    /// A descriptor of each worker that is there, which tells when it has died.
    pub(super) fn watch_workers(&self) -> Result<Vec<OwnedFd>, String> {
        let open = |seat: Seat| {
            pidfd_open(pid_of(seat.pid)?, PidfdFlags::empty())
                .map_err(|e| format!("pidfd_open: {e}"))
        };
        self.seats().into_iter().map(open).collect()
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        if self.status.is_none() {
            // In this order, and whatever fails is followed by what is stronger.
            let _ = self.signal(Signal::TERM);
            if !ends_within(&self.pidfd, Duration::from_secs(5)).unwrap_or(false) {
                let _ = self.signal(Signal::KILL);
            }
            let _ = self.child.wait();
        }
        if self.journal.wait_closed().is_ok() {
            for reader in self.readers.drain(..) {
                let _ = reader.join();
            }
        }
    }
}

/// Waits for the end of the process behind a pidfd.
pub(super) fn ends_within(pidfd: &OwnedFd, time: Duration) -> Result<bool, String> {
    let timeout = Timespec::try_from(time).map_err(|e| e.to_string())?;
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("poll: {error}")),
        }
    }
}

fn seats(said: &[Said]) -> Vec<Seat> {
    let mut seats: Vec<Seat> = Vec::new();
    let mut started: Vec<Seat> = Vec::new();
    for said in said {
        match *said {
            Said::Started { worker, pid } => started.push(Seat { worker, pid }),
            Said::Ready(worker) => seats.extend(started.iter().filter(|s| s.worker == worker)),
            Said::Exited { worker, .. } => {
                seats.retain(|seat| seat.worker != worker);
                started.retain(|seat| seat.worker != worker);
            }
            _ => {}
        }
    }
    seats.sort_by_key(|seat| seat.worker);
    seats
}

fn pid_of(pid: u32) -> Result<Pid, String> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{pid} is no process id"))
}
