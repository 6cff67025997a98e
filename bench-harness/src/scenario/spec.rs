//! What a scenario is: a small TOML file, read into plain data. How it is read, and what is refused, is in
//! `read`.
//!
//! The built-in ones are in `bench-harness/scenarios`, and say by example what can be written. Who runs
//! a specification is its engine: [`crate::slices`], [`crate::blocks`] or [`crate::held`].

use std::num::NonZeroU32;
use std::time::Duration;

use forkherd_core::SLOTS_LIMIT;
use serde::Deserialize;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::load::protocol::{Beside, Connections, Pace};
use crate::trace::{Arrivals, Handler, Shape, Work};
use crate::void::Rules;

/// More connections than one load process can have open.
pub(crate) const CONNECTIONS_MAX: u32 = 100_000;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its name on the command line and in reports.
    pub name: String,
    /// One honest line about it, for `list`.
    pub line: String,
    /// The question it answers.
    pub question: String,
    /// What its workers can run, the usual one first.
    pub runtimes: Vec<Runtime>,
    /// Its share of the time. Without one it takes as long as its parts do.
    pub budget: Option<Budget>,
    /// Each contestant takes part once with each of these numbers of workers per core, as
    /// `LABEL@WORKERS`. Without any, once, with the number that was asked for.
    #[serde(default)]
    pub workers_per_core: Vec<NonZeroU32>,
    /// What makes a round void.
    #[serde(default)]
    pub void: Rules,
    /// How it is run, and on what.
    pub engine: Engine,
}

/// Time a scenario may take, server starts included, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// As a rule.
    pub full_s: f64,
    /// With `--quick`.
    pub quick_s: f64,
}

/// The ways to run a scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Engine {
    /// Closed loop in paired slices: what a connection or a request costs.
    Closed(Closed),
    /// Open loop (unless a part says otherwise) in whole blocks: tails, and what faults do.
    Open(Open),
    /// Connections that are opened and kept: how they spread.
    Held(Held),
}

/// A closed loop.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Connections outstanding, or kept open.
    pub clients: NonZeroU32,
    /// What a slice is.
    pub slice: Slice,
}

/// One visit at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Slice {
    /// So many connections, one request each.
    Fresh(NonZeroU32),
    /// So many requests on each of the clients' connections, which are opened before.
    Kept(NonZeroU32),
}

/// An open loop.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Independent traces, if their number is not given by the time.
    pub seeds: Option<NonZeroU32>,
    /// A worker that gets nothing done for so long, in milliseconds, counts as hung. [default: core's]
    pub hung_after_ms: Option<NonZeroU32>,
    /// Most open files of each of the server's processes. [default: what there is]
    pub nofile: Option<NonZeroU32>,
    /// What is played to each contestant, block by block.
    pub parts: Vec<Part>,
}

/// One kind of block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How requests come.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// How many; recorded arrivals say so themselves.
    pub rate: Option<Rate>,
    /// What each asks for.
    pub work: Work,
    /// What is done with it.
    #[serde(default)]
    pub handler: Handler,
    /// When requests are sent: at their time, or the next when one ends.
    #[serde(default)]
    pub pace: Pace,
    /// What carries them.
    #[serde(default)]
    pub connections: Connections,
    /// Who else is connected.
    #[serde(default)]
    pub beside: Beside,
    /// Whether a request that is not answered in time is what is counted here, and no failure.
    #[serde(default)]
    pub may_be_late: bool,
    /// Length of a block, in seconds. Without one it is what fits the budget.
    pub length_s: Option<NonZeroU32>,
    /// What is done to the workers meanwhile.
    pub fault: Option<Fault>,
    /// Percentiles that are set against the ideal, trace by trace.
    #[serde(default)]
    pub figures: Vec<Figure>,
}

/// How many requests come.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rate {
    /// So much that the workers are busy for this fraction of the time.
    Load(f64),
    /// So much that work which burns CPU keeps the machine's cores busy for this fraction of the time,
    /// however many workers there are.
    Cores(f64),
    /// So many requests a second, however many workers there are.
    PerSecond(f64),
}

/// What is done to the workers of a server during a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A random one is killed about so often.
    Kill {
        /// The mean time between kills, in milliseconds.
        every_ms: NonZeroU32,
    },
    /// A random one gets SIGSTOP after a fifth of the block.
    Stop {
        /// How long it stays stopped, in milliseconds.
        for_ms: NonZeroU32,
    },
    /// A request makes its handler go round without a system call, after a fifth of the block.
    Loop {
        /// How long it goes round, in milliseconds.
        for_ms: NonZeroU32,
    },
    /// All slots but one are taken away and given back, one by one.
    Scale {
        /// How many times.
        cycles: NonZeroU32,
    },
    /// Rolling restarts, one after the other.
    Restart {
        /// From the beginning of one to that of the next, in milliseconds, or as long as one takes.
        every_ms: NonZeroU32,
    },
}

/// A percentile that is set against that of the ideal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What it is called in the report.
    pub name: String,
    /// Which: 0.99 is the 99th percentile.
    pub quantile: f64,
    /// Of the requests with the shortest work only, which wait behind the long ones.
    #[serde(default)]
    pub short_only: bool,
}

/// Connections that are opened, answered once and kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// How many.
    pub connections: NonZeroU32,
    /// Of all connections, one in so many is a burst.
    pub bursts: NonZeroU32,
    /// Of all connections, one in so many is closed at random and opened anew.
    pub churn: NonZeroU32,
}

impl Spec {
    /// Those who take part, out of `contestants`, on so many cores. Who has a number of workers of his own
    /// keeps it.
    #[must_use]
    pub fn lineup(&self, contestants: &[Contestant], cores: u32) -> Vec<Contestant> {
        let (own, others): (Vec<&Contestant>, Vec<_>) =
            contestants.iter().partition(|one| one.workers.is_some());
        let with = |count: &NonZeroU32| {
            let workers = NonZeroU32::new(count.get().saturating_mul(cores).min(SLOTS_LIMIT));
            others.iter().map(move |&one| Contestant { workers, ..one.clone() })
        };
        if self.workers_per_core.is_empty() {
            return contestants.to_vec();
        }
        let counted = self.workers_per_core.iter().flat_map(with);
        counted.chain(own.into_iter().cloned()).collect()
    }

    /// Whether it has a number of clients that can be asked for: those of a closed loop, or connections
    /// that stay.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        match &self.engine {
            Engine::Closed(_) | Engine::Held(_) => true,
            Engine::Open(open) => open.parts.iter().any(Part::is_closed),
        }
    }

    /// Whether it has a time of its own, of which there can be less.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Whether it has rounds, whose number can be asked for.
    #[must_use]
    pub fn has_rounds(&self) -> bool {
        !matches!(self.engine, Engine::Held(_))
    }

    /// Whether it has blocks, whose length and number can be asked for.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        matches!(self.engine, Engine::Open(_))
    }
}

impl Open {
    /// What is counted and timed: a request, which is a connection where each has one of its own.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let keeps = |part: &Part| matches!(part.connections, Connections::Kept(_));
        if self.parts.iter().any(keeps) { "request" } else { "connection" }
    }

    /// Whether the ideal is a yardstick: it knows no faults and nobody beside, sends at the intended
    /// time, and its servers serve one at a time, or share cores.
    #[must_use]
    pub fn has_ideal(&self, runtime: Runtime) -> bool {
        self.parts.iter().all(|part| {
            let one_at_a_time = runtime == Runtime::Blocking || part.handler == Handler::Spins;
            let plain = part.fault.is_none() && part.beside == Beside::default();
            one_at_a_time && plain && !part.is_closed()
        })
    }
}

impl Part {
    /// What a block of this length is drawn from, with so many workers on so many cores.
    ///
    /// # Errors
    /// The work cannot be drawn.
    pub(crate) fn shape(
        &self,
        workers: u32,
        cores: u32,
        length: Duration,
    ) -> anyhow::Result<Shape> {
        let work = self.work.clone();
        let shape = match self.rate {
            Some(Rate::Load(load)) => Shape::at_load(load, workers, work, length)?,
            Some(Rate::Cores(load)) => Shape::at_load(load, cores, work, length)?,
            Some(Rate::PerSecond(per_second)) => Shape::poisson(per_second, work, length),
            None => Shape::poisson(0.0, work, length),
        };
        Ok(Shape { arrivals: self.arrivals.clone(), handler: self.handler, ..shape })
    }

    /// Whether the next request is sent when one ends.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    /// The same with so many clients, if it is a closed loop and they are asked for.
    pub(crate) fn pace(&self, clients: Option<NonZeroU32>) -> Pace {
        match (self.pace, clients) {
            (Pace::Closed { length_us, .. }, Some(clients)) => Pace::Closed { clients, length_us },
            (pace, _) => pace,
        }
    }

    /// The shortest block that leaves time before and after its fault.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        match self.fault {
            Some(Fault::Stop { for_ms } | Fault::Loop { for_ms }) => {
                Duration::from_millis(for_ms.get().into()) * 8 / 5
            }
            _ => Duration::ZERO,
        }
    }

    /// The length of its blocks: what was asked for, or its own, or what fits the time.
    #[must_use]
    pub fn length(&self, asked: Option<Duration>) -> Option<Duration> {
        let own = self.length_s.map(|s| Duration::from_secs(s.get().into()));
        asked.or(own).map(|length| length.max(self.shortest()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    #[test]
    fn a_kept_connection_is_not_what_a_figure_is_per() {
        let unit = |name: &str| match builtin::find(name).unwrap().engine {
            Engine::Open(open) => open.unit(),
            other => panic!("{name} has no blocks: {other:?}"),
        };
        assert_eq!(unit("uneven-keep-alive"), "request");
        assert_eq!(unit("uneven-work"), "connection");
    }

    #[test]
    fn each_contestant_takes_part_with_each_number_of_workers() {
        let own = Contestant { workers: NonZeroU32::new(3), ..Contestant::baseline() };
        let labels = |counts: &[u32]| {
            let workers_per_core = counts.iter().copied().filter_map(NonZeroU32::new).collect();
            let spec = Spec { workers_per_core, ..builtin::find("keep-alive").unwrap() };
            let lineup = spec.lineup(&[Contestant::baseline(), own.clone()], 2);
            lineup.iter().map(Contestant::label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(&[]), "baseline baseline@3");
        assert_eq!(labels(&[1, 8, 1_000]), "baseline@2 baseline@16 baseline@256 baseline@3");
    }
}
