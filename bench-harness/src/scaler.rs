//! Takes slots away from a server one by one until one is left, and gives them back, over and over.

use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;
use crate::measure::timeline::Deed;
use crate::server::{Notice, Server};

/// The scaler of one block on one server.
#[derive(Debug)]
pub struct Scaler<'s> {
    server: &'s mut Server,
    /// Steps in all, and how many are confirmed.
    steps: u32,
    done: u32,
    /// Slots at most.
    most: u32,
    /// What the supervisor is to confirm before the next step.
    awaited: Option<u32>,
    interval: Duration,
    next: Instant,
    deeds: Vec<Deed>,
    failures: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Scaled {
    /// Times that all slots but one were taken away and given back.
    pub cycles: u32,
    /// Each step that was confirmed.
    pub deeds: Vec<Deed>,
    /// Ends that were no drains, cycles that did not come about.
    pub failures: Vec<String>,
}

impl<'s> Scaler<'s> {
    /// `cycles` times from `workers` (two at least) to one and back, between the first and the last
    /// tenth of `length`.
    #[must_use]
    pub fn new(server: &'s mut Server, workers: u32, cycles: u32, length: Duration) -> Self {
        let steps = steps_of(workers, cycles);
        Self {
            server,
            steps,
            done: 0,
            most: workers,
            awaited: None,
            interval: length * 8 / 10 / steps.max(1),
            next: Instant::now() + length / 10,
            deeds: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Heeds what the supervisor told, takes the next step if it is time, and says when to be called
    /// again.
    ///
    /// # Errors
    /// The server has ended, or could not be signalled.
    pub fn glance(&mut self) -> anyhow::Result<Option<Instant>> {
        while let Some(notice) = self.server.try_notice()? {
            self.heed(&notice);
        }
        if self.done == self.steps {
            return Ok(None);
        }
        let now = Instant::now();
        if self.awaited.is_some() {
            // Signals of one kind merge: one at a time.
            return Ok(Some(now + Duration::from_millis(1)));
        }
        if now >= self.next {
            let (signal, slots) = step(self.done, self.most);
            let Ok(pid) = i32::try_from(self.server.pid()) else { bail!("a strange process id") };
            kill(Pid::from_raw(pid), signal)?;
            self.awaited = Some(slots);
            self.next = now + self.interval;
            return Ok(Some(now + Duration::from_millis(1)));
        }
        Ok(Some(self.next))
    }

    /// What was done.
    #[must_use]
    pub fn finish(mut self) -> Scaled {
        self.failures.extend(missing(self.done, self.steps));
        let cycles = self.done / steps_of(self.most, 1).max(1);
        Scaled { cycles, deeds: self.deeds, failures: self.failures }
    }

    fn heed(&mut self, notice: &Notice) {
        match notice {
            Notice::Scaled { workers } if self.awaited == Some(*workers) => {
                self.awaited = None;
                self.done += 1;
                let slots = if *workers == 1 { "slot" } else { "slots" };
                let deed = format!("{workers} {slots}");
                self.deeds.push(Deed::new(clock::monotonic_us(), deed));
            }
            Notice::Exited { slot, status, .. } if status != "exit 0" => {
                self.failures
                    .push(format!("worker {slot} ended with {status} instead of draining"));
            }
            _ => {}
        }
    }
}

/// What is missing of so many steps.
fn missing(done: u32, steps: u32) -> Option<String> {
    if steps == 0 {
        return Some(
            "it has one slot, and no other to take away: give it two workers at least".to_owned(),
        );
    }
    (done < steps).then(|| format!("only {done} of {steps} steps were confirmed in time"))
}

/// Steps of so many cycles: each takes all slots but one away and gives them back. More than can be counted
/// are more than can be taken.
fn steps_of(workers: u32, cycles: u32) -> u32 {
    workers.saturating_sub(1).saturating_mul(2).saturating_mul(cycles)
}

/// The `index`-th step: the signal, and the slots there are to be then.
fn step(index: u32, most: u32) -> (Signal, u32) {
    let half = most.saturating_sub(1).max(1);
    let within = index % (2 * half);
    if within < half {
        (Signal::SIGTTOU, most - 1 - within)
    } else {
        (Signal::SIGTTIN, within - half + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_goes_down_to_one_and_back() {
        let slots: Vec<u32> = (0..steps_of(4, 1) + 1).map(|index| step(index, 4).1).collect();
        assert_eq!(slots, [3, 2, 1, 2, 3, 4, 3]);
        let (down, up) = (Signal::SIGTTOU, Signal::SIGTTIN);
        let signals: Vec<Signal> = (0..6).map(|index| step(index, 4).0).collect();
        assert_eq!(signals, [down, down, down, up, up, up]);
        assert_eq!(steps_of(8, 50), 700);
        assert_eq!(steps_of(2, 1 << 31), u32::MAX);
    }

    #[test]
    fn nothing_to_do_is_not_done() {
        let said = |done, workers| missing(done, steps_of(workers, 50)).unwrap_or_default();
        assert_eq!(said(700, 8), "");
        assert_eq!(said(699, 8), "only 699 of 700 steps were confirmed in time");
        assert!(said(0, 1).starts_with("it has one slot"), "{}", said(0, 1));
    }
}
