//! Kills workers while a trace is played, and keeps account of what they had in service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::interrupt::Interrupt;
use crate::server::{Notice, Server};

/// Longest a supervisor may take to notice what it should.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kills of one block cost.
#[derive(Debug, Default)]
pub struct Toll {
    /// Workers killed.
    pub kills: u64,
    /// Connections they had in service by their boards.
    pub in_service: u64,
    /// Ends that were not ours.
    pub failures: Vec<String>,
}

/// The killer of one block on one server.
#[derive(Debug)]
pub struct Killer<'k> {
    server: &'k mut Server,
    interrupt: &'k Interrupt,
    random: SmallRng,
    interval: Duration,
    next: Instant,
    last: Instant,
    /// Ready workers: process id by slot.
    ready: BTreeMap<u32, i32>,
    /// Killed, and not yet reported as exited.
    killed: BTreeSet<i32>,
    toll: Toll,
}

impl<'k> Killer<'k> {
    /// Waits until all `workers` are known to be ready. Kills come about every `interval`, after
    /// the first and before the last tenth of `length`.
    ///
    /// # Errors
    /// The workers did not become ready, or we were interrupted.
    pub fn new(
        server: &'k mut Server,
        workers: u32,
        interval: Duration,
        length: Duration,
        seed: u64,
        interrupt: &'k Interrupt,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let mut killer = Self {
            server,
            interrupt,
            random: SmallRng::seed_from_u64(seed),
            interval,
            next: now,
            last: now,
            ready: BTreeMap::new(),
            killed: BTreeSet::new(),
            toll: Toll::default(),
        };
        let deadline = now + PATIENCE;
        while killer.ready.len() < workers as usize {
            match killer.server.notice(deadline, interrupt)? {
                Some(notice) => killer.heed(&notice),
                None => bail!("{} of {workers} workers became ready", killer.ready.len()),
            }
        }
        let now = Instant::now();
        killer.next = now + length / 10;
        killer.last = now + length - length / 10;
        Ok(killer)
    }

    /// Heeds what the supervisor told, kills if it is time, and says when to be called again.
    ///
    /// # Errors
    /// The server has ended, or a worker could not be killed.
    pub fn glance(&mut self) -> anyhow::Result<Option<Instant>> {
        while let Some(notice) = self.server.try_notice()? {
            self.heed(&notice);
        }
        let now = Instant::now();
        if now >= self.last {
            return Ok(None);
        }
        if now >= self.next {
            self.strike()?;
            self.next = now + self.interval.mul_f64(self.random.random_range(0.5..1.5));
        }
        Ok(Some(self.next))
    }

    /// Kills a random ready worker; none is ready only if the last kills were not yet repaired.
    fn strike(&mut self) -> anyhow::Result<()> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let index = self.random.random_range(0..self.ready.len());
        let Some(slot) = self.ready.keys().nth(index).copied() else { return Ok(()) };
        if let Some(pid) = self.ready.remove(&slot) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            self.killed.insert(pid);
            self.toll.kills += 1;
        }
        Ok(())
    }

    /// Waits until every killed worker was reported, and gives the toll.
    ///
    /// # Errors
    /// The server has ended, or we were interrupted.
    pub fn finish(mut self) -> anyhow::Result<Toll> {
        let deadline = Instant::now() + PATIENCE;
        while !self.killed.is_empty() {
            match self.server.notice(deadline, self.interrupt)? {
                Some(notice) => self.heed(&notice),
                None => {
                    let lost = self.killed.len();
                    self.toll.failures.push(format!("{lost} kills were never reported"));
                    break;
                }
            }
        }
        Ok(self.toll)
    }

    /// Keeps the account.
    fn heed(&mut self, notice: &Notice) {
        match *notice {
            Notice::Ready { slot, pid, .. } => {
                self.ready.insert(slot, pid);
            }
            Notice::Exited { slot, pid, taken, completed, ref status, .. } => {
                if self.ready.get(&slot) == Some(&pid) {
                    self.ready.remove(&slot);
                }
                if self.killed.remove(&pid) {
                    self.toll.in_service += taken.saturating_sub(completed);
                } else {
                    self.toll.failures.push(format!("worker {slot} ended by itself ({status})"));
                }
            }
            Notice::Started { .. } | Notice::Stopped { .. } | Notice::Continued { .. } => {}
        }
    }
}
