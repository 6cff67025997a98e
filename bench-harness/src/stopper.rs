//! Stops a worker while a trace is played (SIGSTOP), and lets it go on later.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::clock;
use crate::interrupt::Interrupt;
use crate::roster::Roster;
use crate::server::Server;

/// A worker that hung for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hang {
    /// Its seat.
    pub slot: u32,
    /// When it began to hang, in microseconds of the clock that all processes share.
    pub since_us: u64,
    /// A time before it went on, in microseconds of the clock that all processes share. Nothing is
    /// taken while a worker hangs, so whatever it took before this it held when it began to hang.
    pub held_until_us: u64,
}

/// A worker that is stopped now.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    slot: u32,
    pid: Pid,
    since_us: u64,
}

/// The stopper of one block on one server. Dropping it lets the worker go on.
#[derive(Debug)]
pub struct Stopper<'s> {
    server: &'s mut Server,
    random: SmallRng,
    roster: Roster,
    stop: Instant,
    go_on: Instant,
    stopped: Option<Stopped>,
    hang: Option<Hang>,
}

impl<'s> Stopper<'s> {
    /// Waits until all `workers` are known to be ready; a random one is stopped `at` from now on for
    /// `length`.
    ///
    /// # Errors
    /// The workers did not become ready, or we were interrupted.
    pub fn new(
        server: &'s mut Server,
        workers: u32,
        at: Duration,
        length: Duration,
        seed: u64,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let roster = Roster::full(server, workers, interrupt)?;
        let stop = Instant::now() + at;
        let random = SmallRng::seed_from_u64(seed);
        Ok(Self { server, random, roster, stop, go_on: stop + length, stopped: None, hang: None })
    }

    /// Heeds what the supervisor told, stops or lets go on if it is time, and says when to be called
    /// again.
    ///
    /// # Errors
    /// The server has ended, or the worker could not be signalled.
    pub fn glance(&mut self) -> anyhow::Result<Option<Instant>> {
        while let Some(notice) = self.server.try_notice()? {
            self.roster.heed(&notice);
        }
        let now = Instant::now();
        match (self.stopped, self.hang) {
            (_, Some(_)) => Ok(None),
            (None, None) if now < self.stop => Ok(Some(self.stop)),
            (None, None) => {
                if let Some((slot, pid)) = self.roster.take(&mut self.random) {
                    let since_us = clock::monotonic_us();
                    kill(pid, Signal::SIGSTOP)?;
                    self.stopped = Some(Stopped { slot, pid, since_us });
                }
                Ok(Some(self.go_on))
            }
            (Some(_), None) if now < self.go_on => Ok(Some(self.go_on)),
            (Some(Stopped { slot, pid, since_us }), None) => {
                self.hang = Some(Hang { slot, since_us, held_until_us: clock::monotonic_us() });
                self.stopped = None;
                kill(pid, Signal::SIGCONT)?;
                Ok(None)
            }
        }
    }

    /// Who was stopped; none if the block was too short for it.
    ///
    /// # Errors
    /// The worker could not be signalled.
    pub fn finish(self) -> anyhow::Result<Option<Hang>> {
        Ok(self.hang)
    }
}

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        if let Some(Stopped { pid, .. }) = self.stopped {
            // A stopped worker drains for nobody. It cannot have been reaped: its supervisor lives,
            // and workers leave only when they run.
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
}
