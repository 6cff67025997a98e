//! Closed-loop slices: the next request starts when one ends. Good for cost, bad for tails.

use std::borrow::Cow;
use std::io;
use std::time::Instant;

use super::category::{Category, End, Read, categorize};
use super::connection::Progress;
use super::cpu_ns;
use super::driver::Driver;
use super::protocol::{Slice, Target};

/// One request per connection: about 50 bytes.
const SHORT: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/// Many requests per connection.
const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// `connections` short connections, `clients` at a time.
pub(super) fn short(target: Target, clients: u32, connections: u32) -> io::Result<Slice> {
    let mut driver = Driver::new()?;
    let mut slice =
        Slice { latency_ns: Vec::with_capacity(connections as usize), ..Slice::default() };
    let mut left = connections;
    let mut active = 0_u32;
    let mut happened = Vec::new();
    let start = Instant::now();
    let cpu_before = cpu_ns()?;
    let mut free: Vec<usize> = (0..clients as usize).collect();
    while left > 0 || active > 0 {
        while let Some(number) = free.pop().filter(|_| left > 0) {
            left -= 1;
            match driver.open(number, target, Cow::Borrowed(SHORT))? {
                Ok(()) => active += 1,
                Err(end) => {
                    slice.tally.count(categorize(Read::Nothing, end, false));
                    free.push(number);
                }
            }
        }
        driver.wait(None, &mut happened)?;
        for &(number, progress) in &happened {
            let Some(connection) = driver.take(number) else { continue };
            let end = progress.end_of_single(target);
            let category = categorize(connection.read(), end, false);
            if category == Category::Served {
                slice.latency_ns.push(nanoseconds(connection.since));
                if let Some(worker) = connection.answer().and_then(|answer| answer.worker) {
                    *slice.workers.entry(worker).or_default() += 1;
                }
            }
            slice.tally.count(category);
            active -= 1;
            free.push(number);
        }
    }
    slice.wall_ns = nanoseconds(start);
    slice.cpu_ns = cpu_ns()? - cpu_before;
    Ok(slice)
}

/// Connections that were opened and are kept for requests.
#[derive(Debug)]
pub(super) struct Kept {
    driver: Driver,
    open: Vec<usize>,
    broken: Slice,
}

impl Kept {
    /// Opens `connections` and waits for one answer on each.
    pub(super) fn open(target: Target, connections: u32) -> io::Result<Self> {
        let mut kept = Self { driver: Driver::new()?, open: Vec::new(), broken: Slice::default() };
        for number in 0..connections as usize {
            match kept.driver.open(number, target, Cow::Borrowed(KEPT))? {
                Ok(()) => kept.open.push(number),
                Err(end) => kept.broken.tally.count(categorize(Read::Nothing, end, false)),
            }
        }
        // The first answers are not measured, but who fell by the way is counted.
        let mut first = Slice::default();
        kept.exchange(1, &mut first)?;
        kept.broken.tally.add(&first.tally);
        Ok(kept)
    }

    /// `per_connection` requests on each, then closes them all.
    pub(super) fn request(mut self, per_connection: u32) -> io::Result<Slice> {
        let mut slice = std::mem::take(&mut self.broken);
        let start = Instant::now();
        let cpu_before = cpu_ns()?;
        for number in self.open.clone() {
            if let Some(connection) = self.driver.get(number)
                && let Progress::Ended(end) = connection.again()
            {
                self.drop_broken(number, end, &mut slice);
            }
        }
        self.exchange(per_connection, &mut slice)?;
        slice.wall_ns = nanoseconds(start);
        slice.cpu_ns = cpu_ns()? - cpu_before;
        for _ in &self.open {
            slice.tally.count(Category::Served);
        }
        Ok(slice)
    }

    /// Waits for `rounds` answers on every open connection, a request being out on each.
    fn exchange(&mut self, rounds: u32, slice: &mut Slice) -> io::Result<()> {
        let mut left = vec![rounds; self.open.iter().max().map_or(0, |last| last + 1)];
        let mut waiting = self.open.len();
        let mut happened = Vec::new();
        while waiting > 0 {
            self.driver.wait(None, &mut happened)?;
            for &(number, progress) in &happened {
                let Some(connection) = self.driver.get(number) else { continue };
                let end = match (progress, connection.answer()) {
                    (Progress::Answered, Some(answer)) if answer.as_expected => {
                        slice.latency_ns.push(nanoseconds(connection.since));
                        if let Some(worker) = answer.worker {
                            *slice.workers.entry(worker).or_default() += 1;
                        }
                        left[number] -= 1;
                        if left[number] == 0 {
                            waiting -= 1;
                            continue;
                        }
                        match connection.again() {
                            Progress::Ended(end) => end,
                            Progress::Pending | Progress::Answered => continue,
                        }
                    }
                    (Progress::Ended(end), _) => end,
                    _ => End::Strange,
                };
                if left[number] > 0 {
                    waiting -= 1;
                }
                self.drop_broken(number, end, slice);
            }
        }
        Ok(())
    }

    /// A kept connection ended by itself: never *served*, whatever was answered on it before.
    fn drop_broken(&mut self, number: usize, end: End, slice: &mut Slice) {
        self.driver.take(number);
        self.open.retain(|&other| other != number);
        let read = if end == End::Closed { Read::Part } else { Read::Nothing };
        slice.tally.count(categorize(read, end, false));
    }
}

/// Since `start`, in nanoseconds.
fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
