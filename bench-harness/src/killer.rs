//! Kills workers while a trace is played, and keeps account of what each had in service.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::clock;
use crate::interrupt::Interrupt;
use crate::measure::queue;
use crate::roster::{PATIENCE, Roster};
use crate::server::{Notice, Server};

/// One kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kill {
    /// When, in microseconds of the clock that all processes share.
    pub at_us: u64,
    /// When its supervisor had reaped it, by the same clock: by then its sockets were closed.
    pub reaped_us: u64,
    /// Connections the worker had in service, by its board.
    pub in_service: u64,
    /// Connections that waited in accept queues of the service just before.
    pub queued: u64,
}

/// What the kills of one block cost.
#[derive(Debug, Default)]
pub struct Toll {
    /// In order of time.
    pub kills: Vec<Kill>,
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
    roster: Roster,
    /// Killed, and not yet reported as exited: index of the kill by process id.
    killed: BTreeMap<i32, usize>,
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
        let roster = Roster::full(server, workers, interrupt)?;
        let now = Instant::now();
        Ok(Self {
            server,
            interrupt,
            random: SmallRng::seed_from_u64(seed),
            interval,
            next: now + length / 10,
            last: now + length - length / 10,
            roster,
            killed: BTreeMap::new(),
            toll: Toll::default(),
        })
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
        let Some((_, pid)) = self.roster.take(&mut self.random) else { return Ok(()) };
        let queued = queue::depth(self.server.address().port())?;
        let at_us = clock::monotonic_us();
        kill(pid, Signal::SIGKILL)?;
        self.killed.insert(pid.as_raw(), self.toll.kills.len());
        self.toll.kills.push(Kill { at_us, reaped_us: at_us, in_service: 0, queued });
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
        self.roster.heed(notice);
        if let Notice::Exited { slot, pid, taken, completed, status, at_us, .. } = notice {
            match self.killed.remove(pid) {
                Some(index) => {
                    let kill = &mut self.toll.kills[index];
                    kill.in_service = taken.saturating_sub(*completed);
                    kill.reaped_us = *at_us;
                }
                None => {
                    self.toll.failures.push(format!("worker {slot} ended by itself ({status})"));
                }
            }
        }
    }
}
