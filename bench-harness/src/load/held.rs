//! Connections that are opened, answered once and then kept, by the thousand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::category::{Category, End, Read, Tally, categorize, categorize_kept};
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
    /// Opens `connections`, `burst` at a time; the next burst when each of the last was answered. Who takes
    /// longer than `deadline` is late.
    pub(super) fn open(
        target: Target,
        connections: u32,
        burst: u32,
        seed: u64,
        deadline: Duration,
    ) -> io::Result<Self> {
        let mut held = Self {
            driver: Driver::with_deadline(deadline)?,
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
                    // One that was open already fell, or one we wait for.
                    (progress, _) if !self.fell(number, progress) => waiting -= 1,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// One ended by itself, or was answered as it should not; whether it had been open.
    fn fell(&mut self, number: usize, progress: Progress) -> bool {
        let end = if let Progress::Ended(end) = progress { end } else { End::Closed };
        let read = self.driver.take(number).map_or(Read::Nothing, |connection| connection.read());
        self.tally.count(categorize_kept(read, end));
        self.workers.remove(&number).is_some()
    }

    /// Looks at all once more: who fell since the last answer is open no longer.
    fn look(&mut self) -> io::Result<()> {
        let mut happened = Vec::new();
        loop {
            self.driver.wait(Some(Instant::now()), &mut happened)?;
            if happened.is_empty() {
                return Ok(());
            }
            for &(number, progress) in &happened {
                self.fell(number, progress);
            }
        }
    }

    /// Which are open, and what became of all that were made.
    pub(super) fn count(&mut self) -> io::Result<Open> {
        self.look()?;
        let mut workers: BTreeMap<u32, u64> = BTreeMap::new();
        for &worker in self.workers.values() {
            *workers.entry(worker).or_default() += 1;
        }
        let mut tally = self.tally.clone();
        self.workers.iter().for_each(|_| tally.count(Category::Served));
        Ok(Open { workers, tally, made: self.made })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::load::misbehaving::{Deed, NEVER, abort, config, with_script};
    use crate::load::protocol::Answers;

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn every_connection_is_accounted_for(
            deeds in prop::collection::vec(select(&Deed::QUICK[..]), 1..40),
            connections in 1_u32..20,
            burst in 1_u32..20,
            (churned, step) in (0_u32..15, 1_u32..6),
            aborted in 0_usize..3,
            seed in any::<u64>(),
        ) {
            let (open, met) = with_script(&deeds, |address| thread::scope(|scope| {
                (0..aborted).for_each(|_| drop(scope.spawn(move || abort(address))));
                let target = Target { address, answers: Answers::Ours };
                let mut held = Held::open(target, connections, burst, seed, NEVER).unwrap();
                held.churn(churned, step).unwrap();
                held.count().unwrap()
            }));
            prop_assert_eq!(open.made, u64::from(connections + churned));
            prop_assert_eq!(open.tally.sum(), open.made);
            prop_assert!(open.workers.values().sum::<u64>() <= open.tally.of(Category::Served));
            // When we notice who leaves after an answer nobody knows: it may have been closed by us before.
            let of = |category| {
                let is_so = |deed: &&Deed| deed.of_kept() == Some(category);
                met.iter().filter(is_so).count() as u64
            };
            let left = met.iter().filter(|deed| **deed == Deed::AnswerAndLeave).count() as u64;
            for category in Category::ALL.into_iter().filter(|&one| one != Category::Served) {
                let (seen, known) = (open.tally.of(category), of(category));
                let at_most = if category == Category::Other { known + left } else { known };
                prop_assert!((known..=at_most).contains(&seen), "{:?}: {:?} {:?}", category, open, met);
            }
        }
    }

    #[test]
    fn who_is_never_answered_is_late() {
        let deadline = Duration::from_millis(100);
        let (open, _) = with_script(&[Deed::Stall; 4], |address| {
            let target = Target { address, answers: Answers::Ours };
            Held::open(target, 4, 2, 1, deadline).unwrap().count().unwrap()
        });
        assert_eq!((open.made, open.tally.of(Category::Late)), (4, 4), "{open:?}");
    }

    #[test]
    fn who_is_closed_after_the_last_answer_is_not_served() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!() };
        let server = thread::spawn(move || {
            let mut streams = Vec::new();
            for _ in 0..100 {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                let answer =
                    "HTTP/1.1 200 OK\r\nX-Worker: 1\r\nContent-Length: 13\r\n\r\nHello, world!";
                stream.write_all(answer.as_bytes()).unwrap();
                streams.push(stream);
            }
            streams
        });
        let target = Target { address, answers: Answers::Ours };
        let mut held = Held::open(target, 100, 1, 1, NEVER).unwrap();
        let mut streams = server.join().unwrap();
        assert_eq!(held.count().unwrap().tally.of(Category::Served), 100);
        // More than one wait tells.
        drop(streams.split_off(10));
        let open = held.count().unwrap();
        assert_eq!(open.workers, BTreeMap::from([(1, 10)]));
        let tally = &open.tally;
        assert_eq!((tally.of(Category::Served), tally.of(Category::Other)), (10, 90), "{open:?}");
    }
}
