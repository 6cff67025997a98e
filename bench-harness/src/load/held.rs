//! Connections that are opened, answered once and then kept, by the thousand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::category::{Category, End, Read, Tally, categorize};
use super::connection::Progress;
use super::driver::Driver;
use super::protocol::{Open, Target};

/// One request, so that the worker is known.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// Connections that are kept open; dropping it closes them.
#[derive(Debug)]
pub(super) struct Held {
    driver: Driver,
    target: Target,
    /// The worker of each open connection, by its number.
    workers: BTreeMap<usize, u32>,
    /// The next number to give.
    next: usize,
    /// Those that ended by themselves.
    tally: Tally,
    made: u64,
    random: SmallRng,
}

impl Held {
    /// Opens `connections`, `burst` at a time; the next burst when each of the last was answered.
    pub(super) fn open(
        target: Target,
        connections: u32,
        burst: u32,
        seed: u64,
    ) -> io::Result<Self> {
        let mut held = Self {
            driver: Driver::new()?,
            target,
            workers: BTreeMap::new(),
            next: 0,
            tally: Tally::default(),
            made: 0,
            random: SmallRng::seed_from_u64(seed),
        };
        let mut left = connections;
        while left > 0 {
            let now = left.min(burst.max(1));
            held.add(now)?;
            left -= now;
        }
        Ok(held)
    }

    /// Closes `connections` at random and opens as many anew, `step` at a time.
    pub(super) fn churn(&mut self, connections: u32, step: u32) -> io::Result<()> {
        let mut left = connections;
        while left > 0 {
            let now = left.min(step.max(1));
            for _ in 0..now {
                let index = self.random.random_range(0..self.workers.len().max(1));
                let Some(number) = self.workers.keys().nth(index).copied() else { break };
                self.workers.remove(&number);
                self.driver.take(number);
                self.tally.count(Category::Served);
            }
            self.add(now)?;
            left -= now;
        }
        Ok(())
    }

    /// Opens `connections` at once and waits for an answer on each.
    fn add(&mut self, connections: u32) -> io::Result<()> {
        // Not in the order of their source addresses, of which there are a few dozen.
        let mut numbers: Vec<usize> = (self.next..self.next + connections as usize).collect();
        numbers.shuffle(&mut self.random);
        self.next += connections as usize;
        let mut waiting = 0;
        for number in numbers {
            self.made += 1;
            match self.driver.open(number, self.target, Cow::Borrowed(REQUEST))? {
                Ok(()) => waiting += 1,
                Err(end) => self.tally.count(categorize(Read::Nothing, end, false)),
            }
        }
        let mut happened = Vec::new();
        while waiting > 0 {
            self.driver.wait(None, &mut happened)?;
            for &(number, progress) in &happened {
                let Some(connection) = self.driver.get(number) else { continue };
                let answer = connection.answer().filter(|answer| answer.as_expected);
                let worker = answer.and_then(|answer| answer.worker);
                match (progress, worker) {
                    (Progress::Answered, Some(worker)) => {
                        connection.idle = true;
                        self.workers.insert(number, worker);
                        waiting -= 1;
                    }
                    (progress, _) => {
                        let end =
                            if let Progress::Ended(end) = progress { end } else { End::Strange };
                        self.driver.take(number);
                        // One that was open already fell, or one we wait for.
                        if self.workers.remove(&number).is_none() {
                            waiting -= 1;
                        }
                        self.tally.count(categorize(Read::Nothing, end, false));
                    }
                }
            }
        }
        Ok(())
    }

    /// Which are open, and what became of all that were made.
    pub(super) fn count(&self) -> Open {
        let mut workers: BTreeMap<u32, u64> = BTreeMap::new();
        for &worker in self.workers.values() {
            *workers.entry(worker).or_default() += 1;
        }
        let mut tally = self.tally.clone();
        self.workers.iter().for_each(|_| tally.count(Category::Served));
        Open { workers, tally, made: self.made }
    }
}
