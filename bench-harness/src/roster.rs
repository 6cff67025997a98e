//! Which workers of a server are ready, as its supervisor tells.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::unistd::Pid;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::interrupt::Interrupt;
use crate::server::{Notice, Server};

/// Longest a supervisor may take to notice what it should.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Ready workers: process id by slot.
#[derive(Debug, Default)]
pub struct Roster(BTreeMap<u32, i32>);

impl Roster {
    /// Waits until all `workers` are known to be ready.
    ///
    /// # Errors
    /// They did not become ready, or we were interrupted.
    pub fn full(server: &mut Server, workers: u32, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let mut roster = Self::default();
        let deadline = Instant::now() + PATIENCE;
        while roster.0.len() < workers as usize {
            match server.notice(deadline, interrupt)? {
                Some(notice) => roster.heed(&notice),
                None => bail!("{} of {workers} workers became ready", roster.0.len()),
            }
        }
        Ok(roster)
    }

    /// Keeps the account.
    pub fn heed(&mut self, notice: &Notice) {
        match *notice {
            Notice::Ready { slot, pid, .. } => {
                self.0.insert(slot, pid);
            }
            Notice::Exited { slot, pid, .. } if self.0.get(&slot) == Some(&pid) => {
                self.0.remove(&slot);
            }
            _ => {}
        }
    }

    /// A random ready worker, which is then no longer on the roster; none if none is ready.
    pub fn take(&mut self, random: &mut SmallRng) -> Option<(u32, Pid)> {
        if self.0.is_empty() {
            return None;
        }
        let index = random.random_range(0..self.0.len());
        let slot = *self.0.keys().nth(index)?;
        self.0.remove(&slot).map(|pid| (slot, Pid::from_raw(pid)))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_successor_takes_the_slot_and_a_late_exit_does_not_empty_it() {
        let mut roster = Roster::default();
        let ready = |generation, pid| Notice::Ready { slot: 1, generation, pid };
        let status = "signal 9".to_owned();
        let exited = Notice::Exited {
            slot: 1,
            generation: 0,
            pid: 5,
            taken: 0,
            completed: 0,
            status,
            at_us: 0,
        };
        roster.heed(&ready(0, 5));
        roster.heed(&ready(1, 6));
        roster.heed(&exited);
        let mut random = SmallRng::seed_from_u64(1);
        assert_eq!(roster.take(&mut random), Some((1, Pid::from_raw(6))));
        assert_eq!(roster.take(&mut random), None);
    }
}
