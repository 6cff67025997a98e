//! Clients that come and go in threads of their own, and what became of all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::client::{Lost, visit};

/// Most connections one thread makes: a trial that goes wrong ends, too.
const MOST_PER_THREAD: u64 = 50_000;

/// A load under way; stops when dropped.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

/// What became of the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    attempts: u64,
    answered: u64,
    lost: BTreeMap<Lost, u64>,
}

impl Load {
    /// So many clients, each one connection after the other.
    pub(super) fn start(address: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads = (0..clients)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || {
                    let mut tally = Tally::default();
                    while !stop.load(Ordering::Relaxed) && tally.attempts < MOST_PER_THREAD {
                        tally.count(visit(address).map(|_| ()));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    tally
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    /// Connections that are over.
    pub(super) fn over(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets everybody finish what they are at.
    pub(super) fn stop(mut self) -> Result<Tally, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            all.add(&thread.join().map_err(|_| "a client panicked".to_owned())?);
        }
        let sum = all.answered + all.lost.values().sum::<u64>();
        if sum != all.attempts {
            return Err(format!("{sum} connections are in a category, {} were made", all.attempts));
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Whoever drops a load has something worse to report.
            let _ = thread.join();
        }
    }
}

impl Tally {
    fn count(&mut self, outcome: Result<(), Lost>) {
        self.attempts += 1;
        match outcome {
            Ok(()) => self.answered += 1,
            Err(how) => *self.lost.entry(how).or_default() += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.answered += other.answered;
        for (&how, count) in &other.lost {
            *self.lost.entry(how).or_default() += count;
        }
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    pub(super) fn lost(&self, how: Lost) -> u64 {
        self.lost.get(&how).copied().unwrap_or(0)
    }

    /// Nobody may have been lost.
    pub(super) fn all_answered(&self) -> Result<(), String> {
        if self.attempts > 0 && self.answered == self.attempts {
            return Ok(());
        }
        Err(self.to_string())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections, {} answered", self.attempts, self.answered)?;
        self.lost.iter().try_for_each(|(how, count)| write!(f, ", {count} {how}"))
    }
}
