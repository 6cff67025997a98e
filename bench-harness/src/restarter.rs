//! Asks a server for rolling restarts while a trace is played (SIGHUP), one after the other.

use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;
use crate::interrupt::Interrupt;
use crate::measure::timeline::Deed;
use crate::roster::PATIENCE;
use crate::server::{Notice, Server};

/// The restarter of one block on one server.
#[derive(Debug)]
pub struct Restarter<'s> {
    server: &'s mut Server,
    interval: Duration,
    next: Instant,
    last: Instant,
    /// Whether one is under way.
    busy: bool,
    restarted: Restarted,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Restarted {
    /// Rolling restarts that replaced every worker.
    pub restarts: u32,
    /// When each was asked for, and when it was done.
    pub deeds: Vec<Deed>,
    /// Ends that were no drains, restarts that were given up or not finished.
    pub failures: Vec<String>,
}

impl<'s> Restarter<'s> {
    /// One about every `interval`, or as soon as the last is done, between the first and the last tenth
    /// of `length`.
    #[must_use]
    pub fn new(server: &'s mut Server, interval: Duration, length: Duration) -> Self {
        let now = Instant::now();
        Self {
            server,
            interval,
            next: now + length / 10,
            last: now + length - length / 10,
            busy: false,
            restarted: Restarted::default(),
        }
    }

    /// Heeds what the supervisor told, asks for the next restart if it is time, and says when to be
    /// called again.
    ///
    /// # Errors
    /// The server has ended, or could not be signalled.
    pub fn glance(&mut self) -> anyhow::Result<Option<Instant>> {
        while let Some(notice) = self.server.try_notice()? {
            self.heed(&notice);
        }
        let now = Instant::now();
        if self.busy {
            return Ok(Some(now + Duration::from_millis(5)));
        }
        if now >= self.last {
            return Ok(None);
        }
        if now >= self.next {
            let Ok(pid) = i32::try_from(self.server.pid()) else { bail!("a strange process id") };
            kill(Pid::from_raw(pid), Signal::SIGHUP)?;
            self.busy = true;
            self.done("restart");
            self.next = now + self.interval;
            return Ok(Some(now + Duration::from_millis(5)));
        }
        Ok(Some(self.next))
    }

    /// Waits until the last one is done, and says what was done.
    ///
    /// # Errors
    /// The server has ended, or we were interrupted.
    pub fn finish(mut self, interrupt: &Interrupt) -> anyhow::Result<Restarted> {
        let deadline = Instant::now() + PATIENCE;
        while self.busy {
            match self.server.notice(deadline, interrupt)? {
                Some(notice) => self.heed(&notice),
                None => {
                    self.restarted.failures.push("a rolling restart was never finished".to_owned());
                    break;
                }
            }
        }
        Ok(self.restarted)
    }

    fn done(&mut self, what: &str) {
        self.restarted.deeds.push(Deed::new(clock::monotonic_us(), what));
    }

    fn heed(&mut self, notice: &Notice) {
        match notice {
            Notice::Restarted => {
                self.busy = false;
                self.restarted.restarts += 1;
                self.done("restarted");
            }
            Notice::RestartAborted { slot } => {
                self.busy = false;
                let text = format!("a rolling restart was given up at slot {slot}");
                self.restarted.failures.push(text);
            }
            Notice::Exited { slot, status, .. } if status != "exit 0" => {
                let text = format!("worker {slot} ended with {status} instead of draining");
                self.restarted.failures.push(text);
            }
            _ => {}
        }
    }
}
