//! The scenarios: what is asked of every contestant. One file each; how they are run is in
//! [`crate::slices`] (cost, paired slices) and [`crate::blocks`] (tails and faults, whole blocks).

mod keep_alive;
mod long_lived;
mod scaling;
pub mod short_connections;
mod tail;
mod uneven_work;
mod worker_hung;
mod worker_killed;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::interrupt::Interrupt;
use crate::load::category::{Category, Tally};
use crate::process::Program;
use crate::progress::Progress;
use crate::report::Scenario;

/// The names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One request per connection, closed loop, one core: what a connection costs.
    ShortConnections,
    /// Many requests per connection on tokio, closed loop, one core: what a request costs.
    KeepAlive,
    /// Short and long blocking work, open loop: how long requests wait behind others.
    UnevenWork,
    /// Workers are killed under load: what is lost.
    WorkerKilled,
    /// Three shapes of blocking work, long blocks, several traces: the tail against an ideal queue.
    Tail,
    /// Thousands of kept connections on tokio: how they spread over workers.
    LongLived,
    /// A worker is stopped, or loops: who waits.
    WorkerHung,
    /// Slots are taken away and given back under load: who is reset.
    Scaling,
}

/// How the load of a scenario is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// The next request starts when one ends: good for cost and spread.
    Closed,
    /// Every request at its time: good for tails and faults.
    Open,
}

impl Kind {
    /// What `compare` runs if nothing is named, in the order they run.
    pub const DEFAULT: [Self; 4] =
        [Self::ShortConnections, Self::KeepAlive, Self::UnevenWork, Self::WorkerKilled];

    /// All of them, in the order they run.
    pub const ALL: [Self; 8] = [
        Self::ShortConnections,
        Self::KeepAlive,
        Self::UnevenWork,
        Self::WorkerKilled,
        Self::Tail,
        Self::LongLived,
        Self::WorkerHung,
        Self::Scaling,
    ];

    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShortConnections => "short-connections",
            Self::KeepAlive => "keep-alive",
            Self::UnevenWork => "uneven-work",
            Self::WorkerKilled => "worker-killed",
            Self::Tail => "tail",
            Self::LongLived => "long-lived",
            Self::WorkerHung => "worker-hung",
            Self::Scaling => "scaling",
        }
    }

    /// One line for `list`.
    #[must_use]
    pub fn line(self) -> &'static str {
        match self {
            Self::ShortConnections => {
                "one request per connection, blocking, closed loop, one core: CPU per connection"
            }
            Self::KeepAlive => {
                "64 kept connections, tokio, closed loop, one core: CPU per request and balance"
            }
            Self::UnevenWork => {
                "exponential work at load 0.7, blocking, open loop: tail against an ideal queue"
            }
            Self::WorkerKilled => {
                "a worker killed every 50 ms at load 0.7, open loop: what is lost"
            }
            Self::Tail => {
                "three shapes of work, 3 traces of 20 s each, blocking, open loop: tail against an \
                 ideal queue (minutes; not in the default list)"
            }
            Self::LongLived => {
                "10,000 kept connections, tokio: how they spread over workers (not in the default \
                 list)"
            }
            Self::WorkerHung => {
                "a worker stopped, or looping, for 5 s at 800 requests/s, open loop: who waits (not \
                 in the default list)"
            }
            Self::Scaling => {
                "50 times down to one slot and back under load, open loop: who is reset (not in the \
                 default list)"
            }
        }
    }

    /// How its load is made.
    #[must_use]
    pub fn load(self) -> Loop {
        match self {
            Self::ShortConnections | Self::KeepAlive | Self::LongLived => Loop::Closed,
            Self::UnevenWork
            | Self::WorkerKilled
            | Self::Tail
            | Self::WorkerHung
            | Self::Scaling => Loop::Open,
        }
    }

    /// What its workers can run, the usual one first.
    #[must_use]
    pub fn runtimes(self) -> &'static [Runtime] {
        match self {
            Self::ShortConnections | Self::WorkerKilled | Self::WorkerHung | Self::Scaling => {
                &[Runtime::Blocking, Runtime::Tokio]
            }
            Self::KeepAlive | Self::LongLived => &[Runtime::Tokio],
            Self::UnevenWork | Self::Tail => &[Runtime::Blocking],
        }
    }

    /// Its share of the time, server starts included: 86 s for those of the default list, 27.5 s if
    /// quick. The others take as long as what they promise takes, for so many contestants.
    ///
    /// Tails need samples (3,000 for a 99th percentile), so *uneven work* gets the most.
    #[must_use]
    pub fn budget(self, quick: bool, contestants: usize, asked: &Asked<'_>) -> Duration {
        let contestants = u32::try_from(contestants).unwrap_or(u32::MAX).max(1);
        let seeds = |own| asked.seeds.map_or(own, NonZeroU32::get);
        Duration::from_millis(match (self, quick) {
            (Self::Tail, _) => return tail::budget(contestants, seeds(tail::SEEDS), asked.block),
            (Self::Scaling, _) => return scaling::budget(contestants, seeds(1), asked.block),
            (Self::LongLived, _) => return long_lived::budget(contestants),
            (Self::WorkerHung, _) => {
                return worker_hung::budget(contestants, seeds(1), asked.block);
            }
            // Whole blocks of a given length take as long as they take.
            (Self::UnevenWork | Self::WorkerKilled, _) if asked.block.is_some() => {
                let block = asked.block.unwrap_or_default() + Duration::from_secs(2);
                return block * contestants * seeds(1);
            }
            (Self::ShortConnections | Self::KeepAlive, false) => 14_000,
            (Self::UnevenWork, false) => 36_000,
            (Self::WorkerKilled, false) => 22_000,
            (Self::ShortConnections | Self::KeepAlive, true) => 3_500,
            (Self::UnevenWork, true) => 14_000,
            (Self::WorkerKilled, true) => 6_500,
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// A server or the load process could not be run, or we were interrupted. What went wrong
    /// *while measuring* is in the scenario's failures instead.
    pub fn run(self, context: &Context<'_>) -> anyhow::Result<Scenario> {
        match self {
            Self::ShortConnections => short_connections::run(context),
            Self::KeepAlive => keep_alive::run(context),
            Self::UnevenWork => uneven_work::run(context),
            Self::WorkerKilled => worker_killed::run(context),
            Self::Tail => tail::run(context),
            Self::LongLived => long_lived::run(context),
            Self::WorkerHung => worker_hung::run(context),
            Self::Scaling => scaling::run(context),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What every scenario is given.
#[derive(Debug)]
pub struct Context<'c> {
    /// What servers and the load process run.
    pub program: &'c Program,
    /// Who takes part, the yardstick first.
    pub contestants: &'c [Contestant],
    /// Worker processes per contestant.
    pub workers: u32,
    /// This scenario's own seed.
    pub seed: u64,
    /// How long it may take, server starts included.
    pub budget: Duration,
    /// Rounds, however long they take.
    pub reps: Option<NonZeroU32>,
    /// What else was asked for.
    pub asked: Asked<'c>,
    /// Ctrl-C.
    pub interrupt: &'c Interrupt,
    /// Where to tell how far it is.
    pub progress: &'c Progress,
}

/// What the command line asks of scenarios; where it is silent, a scenario has its own ways.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The contestant that ratios are taken to.
    pub against: &'a str,
    /// Clients of a closed loop.
    pub clients: Option<NonZeroU32>,
    /// What each worker runs.
    pub runtime: Option<Runtime>,
    /// Length of an open-loop block.
    pub block: Option<Duration>,
    /// Independent traces of an open loop.
    pub seeds: Option<NonZeroU32>,
}

impl Context<'_> {
    /// What each worker runs in a scenario of this kind.
    #[must_use]
    pub fn runtime(&self, kind: Kind) -> Runtime {
        self.asked.runtime.unwrap_or(kind.runtimes()[0])
    }
}

/// What may not be where nobody is to be harmed: a connection unaccounted for, or not served.
pub(crate) fn nobody_failed(label: &str, connections: &Tally, made: u64) -> Vec<String> {
    let mut failures = Vec::new();
    if connections.sum() != made {
        failures.push(format!(
            "{label}: {made} connections made, but {} accounted for",
            connections.sum()
        ));
    }
    for category in Category::ALL.into_iter().filter(|&one| one != Category::Served) {
        let count = connections.of(category);
        if count > 0 {
            failures.push(format!("{label}: {count} connections {}", category.word()));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_keep_the_promises() {
        let asked = Asked { against: "", clients: None, runtime: None, block: None, seeds: None };
        let sum = |quick| {
            Kind::DEFAULT.into_iter().map(|kind| kind.budget(quick, 4, &asked)).sum::<Duration>()
        };
        assert!(sum(false) <= Duration::from_secs(90));
        assert!(sum(true) <= Duration::from_secs(28));
        // Eight contestants, the whole of it: within half an hour.
        assert!(Kind::Tail.budget(false, 8, &asked) <= Duration::from_secs(30 * 60));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Kind::ALL {
            let value = kind.to_possible_value().expect("no kind is skipped");
            assert_eq!(value.get_name(), kind.name());
        }
    }
}
