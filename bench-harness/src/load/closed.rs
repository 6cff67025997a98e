//! Closed-loop slices: the next request starts when one ends. Good for cost, bad for tails.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, Instant};

use super::category::{Category, End, Read, categorize, categorize_kept};
use super::connection::Progress;
use super::cpu_ns;
use super::driver::Driver;
use super::protocol::{Slice, Target};

/// One request per connection: about 50 bytes.
const SHORT: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

/// Many requests per connection.
const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// `connections` short connections, `clients` at a time; who takes longer than `deadline` is late.
pub(super) fn short(
    target: Target,
    clients: u32,
    connections: u32,
    deadline: Duration,
) -> io::Result<Slice> {
    let mut driver = Driver::with_deadline(deadline)?;
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
    /// Opens `connections` and waits for one answer on each; who takes longer than `deadline` is late.
    pub(super) fn open(target: Target, connections: u32, deadline: Duration) -> io::Result<Self> {
        let driver = Driver::with_deadline(deadline)?;
        let mut kept = Self { driver, open: Vec::new(), broken: Slice::default() };
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
                    // Refused, or answered wrongly; that the server stays is no merit then.
                    _ => End::Closed,
                };
                if left[number] > 0 {
                    waiting -= 1;
                }
                self.drop_broken(number, end, slice);
            }
        }
        Ok(())
    }

    /// A kept connection ended by itself, or was answered as it should not.
    fn drop_broken(&mut self, number: usize, end: End, slice: &mut Slice) {
        let read = self.driver.take(number).map_or(Read::Nothing, |connection| connection.read());
        self.open.retain(|&other| other != number);
        slice.tally.count(categorize_kept(read, end));
    }
}

/// Since `start`, in nanoseconds.
fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::load::category::Tally;
    use crate::load::misbehaving::{Deed, NEVER, abort, config, with_script};
    use crate::load::protocol::Answers;

    fn target(address: std::net::SocketAddrV4) -> Target {
        Target { address, answers: Answers::Ours }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn every_short_connection_is_accounted_for(
            deeds in prop::collection::vec(select(&Deed::QUICK[..]), 1..30),
            connections in 1_u32..40,
            clients in 1_u32..6,
            aborted in 0_usize..3,
        ) {
            let (slice, met) = with_script(&deeds, |address| thread::scope(|scope| {
                (0..aborted).for_each(|_| drop(scope.spawn(move || abort(address))));
                short(target(address), clients, connections, NEVER).unwrap()
            }));
            let answered = u64::from(connections) - met.len() as u64;
            let mut expected = Tally::default();
            (0..answered).for_each(|_| expected.count(Category::Served));
            met.iter().for_each(|deed| expected.count(deed.of_closed()));
            prop_assert_eq!(&slice.tally, &expected, "{:?}", met);
            let served = slice.tally.of(Category::Served);
            prop_assert_eq!(slice.latency_ns.len() as u64, served);
            prop_assert_eq!(slice.workers.values().sum::<u64>(), served);
        }

        #[test]
        fn every_kept_connection_is_accounted_for(
            deeds in prop::collection::vec(select(&Deed::QUICK[..]), 1..60),
            (good, spread) in (0_usize..60, 1_usize..5),
            connections in 1_u32..12,
            requests in 1_u32..6,
            aborted in 0_usize..3,
        ) {
            // Few connections would live to be asked twice if each request met something else.
            let answers = std::iter::repeat_n(Deed::Answer, good);
            let between = deeds.into_iter().flat_map(|deed| {
                std::iter::once(deed).chain(std::iter::repeat_n(Deed::Answer, spread))
            });
            let deeds: Vec<Deed> = answers.chain(between).collect();
            let (slice, met) = with_script(&deeds, |address| thread::scope(|scope| {
                (0..aborted).for_each(|_| drop(scope.spawn(move || abort(address))));
                let kept = Kept::open(target(address), connections, NEVER).unwrap();
                kept.request(requests).unwrap()
            }));
            prop_assert_eq!(slice.tally.sum(), u64::from(connections), "{:?} {:?}", slice, met);
            let of = |category| {
                let is_so = |deed: &&Deed| deed.of_kept() == Some(category);
                met.iter().filter(is_so).count() as u64
            };
            // Who leaves after an answer may do so before the next request, beside it, or after the last.
            let left = met.iter().filter(|deed| **deed == Deed::AnswerAndLeave).count() as u64;
            for category in Category::ALL.into_iter().filter(|&one| one != Category::Served) {
                let (seen, known) = (slice.tally.of(category), of(category));
                let at_most = match category {
                    Category::Other | Category::Reset => known + left,
                    _ => known,
                };
                prop_assert!((known..=at_most).contains(&seen), "{:?}: {:?} {:?}", category, slice, met);
            }
        }
    }

    #[test]
    fn who_is_never_answered_is_late() {
        let deadline = Duration::from_millis(100);
        let (slice, _) = with_script(&[Deed::Stall; 4], |address| {
            short(target(address), 2, 4, deadline).unwrap()
        });
        assert_eq!((slice.tally.sum(), slice.tally.of(Category::Late)), (4, 4), "{slice:?}");
        let (slice, _) = with_script(&[Deed::Stall; 4], |address| {
            Kept::open(target(address), 4, deadline).unwrap().request(3).unwrap()
        });
        assert_eq!((slice.tally.sum(), slice.tally.of(Category::Late)), (4, 4), "{slice:?}");
    }

    #[test]
    fn who_is_refused_with_a_503_is_shed() {
        for before in [0, 1, 5] {
            let mut deeds = vec![Deed::Answer; before];
            deeds.push(Deed::Shed);
            let (slice, _) = with_script(&deeds, |address| {
                Kept::open(target(address), 1, NEVER).unwrap().request(9).unwrap()
            });
            assert_eq!((slice.tally.sum(), slice.tally.of(Category::Shed)), (1, 1), "{slice:?}");
        }
    }
}
