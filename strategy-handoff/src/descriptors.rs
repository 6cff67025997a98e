//! Whether a worker has descriptors for what it is sent, as far as it can know without asking each time.
//!
//! A message whose descriptors find no room comes without them (`MSG_CTRUNC`): its connections are lost. That there is
//! room cannot be read off the numbers that were received, each the *lowest* that was free and perhaps a hole
//! below a thousand files that a handler keeps. But since the lowest goes first, the last numbers below the limit are
//! taken last. So a worker looks at these from time to time, all with one call; while nothing is open there, it
//! receives without asking. When something is, it is *short*, and looks at each message before it receives it,
//! until a look finds them free again.

use std::ops::{Range, RangeInclusive};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use forkherd_core::are_free;
use rustix::process::{Resource, getrlimit};

use crate::channel::BATCH;

/// A worker looks once in so many connections at least, and once in so many at most; between them in a sixteenth of
/// its limit.
///
/// 64: one call for so many can be seen in no measurement but a count of system calls. 1024: a look
/// takes 17 µs then (2,064 numbers, Linux 6.18), with 64 it takes 2 µs, and nobody shall wait long for one.
const LOOK_EVERY: RangeInclusive<u32> = 64..=1024;

/// What is known of the table of descriptors. It belongs to the process, and so does this: what one lane loses is
/// a warning to all.
pub(crate) static TABLE: Table = Table::new();

#[derive(Debug)]
pub(crate) struct Table {
    is_short: AtomicBool,
    /// So many connections more until the next look.
    left: AtomicU32,
    /// Where the margin began at the last look.
    margin: AtomicI32,
}

/// The last numbers below the limit.
#[derive(Clone, Debug)]
struct Margin {
    /// A batch, and for each connection between two looks two files that its handler opens and keeps. The
    /// connections themselves show when they come so far.
    numbers: Range<RawFd>,
    /// Connections between two looks.
    every: u32,
}

impl Margin {
    /// As the limit is now: others may change it.
    fn measure() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::below(RawFd::try_from(limit).unwrap_or(RawFd::MAX))
    }

    fn below(limit: RawFd) -> Self {
        let every = u32::try_from(limit / 16).unwrap_or(0);
        let every = every.clamp(*LOOK_EVERY.start(), *LOOK_EVERY.end());
        let margin = RawFd::try_from(2 * every as usize + BATCH).unwrap_or(RawFd::MAX);
        Self { numbers: (limit - margin).max(0)..limit, every }
    }

    /// Whether there are so many, and any before them.
    fn is_whole(&self) -> bool {
        self.numbers.start > 0
    }
}

impl Table {
    const fn new() -> Self {
        Self {
            is_short: AtomicBool::new(false),
            left: AtomicU32::new(0),
            margin: AtomicI32::new(RawFd::MAX),
        }
    }

    /// Before a message: looks, if it is time.
    pub(crate) fn look(&self) {
        self.look_with(Margin::measure, are_free);
    }

    fn look_with(
        &self,
        measure: impl FnOnce() -> Margin,
        are_free: impl FnOnce(Range<RawFd>) -> bool,
    ) {
        if self.left.load(Ordering::Relaxed) > 0 {
            return;
        }
        let margin = measure();
        self.left.store(margin.every, Ordering::Relaxed);
        self.margin.store(margin.numbers.start, Ordering::Relaxed);
        let is_plenty = margin.is_whole() && are_free(margin.numbers);
        self.is_short.store(!is_plenty, Ordering::Relaxed);
    }

    /// After a message of so many connections, and so many more that were lost. `highest`: the highest number
    /// that was received.
    pub(crate) fn note(&self, count: usize, lost: usize, highest: RawFd) {
        // Two lanes at once may count one for both: the look comes one later.
        let left = self.left.load(Ordering::Relaxed);
        let more = u32::try_from(count + lost).unwrap_or(u32::MAX);
        self.left.store(left.saturating_sub(more), Ordering::Relaxed);
        if lost > 0 || highest >= self.margin.load(Ordering::Relaxed) {
            self.is_short.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    const LIMIT: RawFd = 400;
    /// Looks there are rarer.
    const MORE: RawFd = 2_000;

    /// A worker's table of descriptors, and what is open in it.
    struct World {
        table: Table,
        limit: RawFd,
        free: BTreeSet<RawFd>,
        connections: Vec<RawFd>,
        files: Vec<RawFd>,
        lost: usize,
    }

    impl World {
        fn new(limit: RawFd) -> Self {
            let (table, connections, files) = (Table::new(), Vec::new(), Vec::new());
            Self { table, limit, free: (12..limit).collect(), connections, files, lost: 0 }
        }

        fn lowest(&mut self) -> Option<RawFd> {
            self.free.pop_first()
        }

        fn open_files(&mut self, count: usize) {
            let files: Vec<_> = (0..count).map_while(|_| self.lowest()).collect();
            self.files.extend(files);
        }

        /// One message. Whoever is short looks whether there is room for it.
        fn receive(&mut self, count: usize) -> usize {
            let free = &self.free;
            self.table.look_with(
                || Margin::below(self.limit),
                // Above the limit nothing is open, and nothing can be opened.
                |mut last| last.all(|one| free.contains(&one) || one >= self.limit),
            );
            if self.table.is_short() && count > self.free.len() {
                return 0;
            }
            let received: Vec<_> = (0..count).map_while(|_| self.lowest()).collect();
            let lost = count - received.len();
            let highest = received.iter().copied().max().unwrap_or(0);
            self.table.note(received.len(), lost, highest);
            self.connections.extend(&received);
            self.lost += lost;
            received.len()
        }

        fn close(&mut self, from: impl Fn(&mut Self) -> &mut Vec<RawFd>, which: usize) {
            let list = from(self);
            if !list.is_empty() {
                let number = list.swap_remove(which % list.len());
                self.free.insert(number);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many in a message, and so many files for each that are kept.
        Receive(usize, usize),
        /// So many connections end, from some on.
        End(usize, usize),
        /// A file is closed.
        Forget(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_usize..=BATCH, 0_usize..=2).prop_map(|(count, files)| Step::Receive(count, files)),
            4 => (1_usize..2 * BATCH, any::<usize>()).prop_map(|(count, from)| Step::End(count, from)),
            2 => any::<usize>().prop_map(Step::Forget),
        ]
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        /// Whatever ends, and wherever that leaves holes.
        #[test]
        fn who_keeps_two_files_for_each_connection_loses_nothing(
            limit in prop_oneof![Just(LIMIT), Just(MORE)],
            steps in proptest::collection::vec(step(), 1..600),
        ) {
            let mut world = World::new(limit);
            for step in steps {
                match step {
                    Step::Receive(count, files) => {
                        let received = world.receive(count);
                        world.open_files(files * received);
                    }
                    Step::End(count, from) => {
                        for _ in 0..count {
                            world.close(|world| &mut world.connections, from);
                        }
                    }
                    Step::Forget(which) => world.close(|world| &mut world.files, which),
                }
                prop_assert_eq!(world.lost, 0);
            }
        }
    }

    /// All of them low, and a cache above: each message is received on a low number again.
    #[test]
    fn holes_below_a_full_table_cost_one_message() {
        let mut world = World::new(LIMIT);
        for _ in 0..4 {
            world.receive(1);
        }
        world.open_files(usize::try_from(LIMIT).unwrap());
        for _ in 0..4 {
            world.close(|world| &mut world.connections, 0);
        }
        for round in 0..200 {
            world.receive(if round % 2 == 0 { 1 } else { BATCH });
            while !world.connections.is_empty() {
                world.close(|world| &mut world.connections, 0);
            }
        }
        // Of the first that was more than four.
        assert_eq!(world.lost, BATCH - 4);
        // When the cache is gone, whole messages come again.
        while !world.files.is_empty() {
            world.close(|world| &mut world.files, 0);
        }
        while world.table.is_short() {
            assert_eq!(world.receive(1), 1);
        }
        assert_eq!(world.receive(BATCH), BATCH);
        assert_eq!(world.lost, BATCH - 4);
    }

    /// Files that a handler keeps fill what is left of it.
    #[test]
    fn a_limit_that_is_lowered_costs_one_message() {
        let mut world = World::new(MORE);
        world.receive(1);
        world.limit = LIMIT;
        world.free.retain(|&one| one < LIMIT);
        world.open_files(world.free.len());
        for _ in 0..4 {
            world.receive(BATCH);
        }
        for _ in 0..2_000 {
            world.receive(1);
        }
        assert_eq!(world.lost, BATCH);
    }

    #[test]
    fn a_limit_below_the_margin_is_short_for_good() {
        let table = Table::new();
        table.look_with(|| Margin::below(64), |_| true);
        assert!(table.is_short());
        assert_eq!(Margin::below(64).numbers, 0..64);
    }

    #[test]
    fn who_may_open_more_looks_more_seldom() {
        let every = [64, 1_024, 20_000, 1 << 20].map(|limit| Margin::below(limit).every);
        assert_eq!(every, [64, 64, 1_024, 1_024]);
        assert_eq!(Margin::below(1_024).numbers, 880..1_024);
        assert_eq!(Margin::below(20_000).numbers, 17_936..20_000);
    }
}
