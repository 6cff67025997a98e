//! The scenarios: what is asked of every contestant. Each is a file ([`spec`]) that an engine runs:
//! [`crate::slices`] (cost, paired slices), [`crate::blocks`] (tails and faults, whole blocks) or
//! [`crate::held`] (connections that stay).

mod budget;
pub mod builtin;
mod needs;
mod read;
mod setting;
pub mod spec;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::interrupt::{Interrupt, Interrupted};
use crate::load::category::{Category, Tally};
use crate::process::Program;
use crate::progress::Progress;
use crate::report::Scenario;
use crate::void::Umpire;
use crate::{blocks, held, slices};
use spec::{Engine, Spec};

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
    /// Says which rounds are void.
    pub umpire: &'c Umpire,
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

/// What is said of who has no figures for that reason.
pub(crate) const INTERRUPTED: &str = "interrupted before it had finished";

impl Context<'_> {
    /// Worker processes of this contestant.
    #[must_use]
    pub fn workers_of(&self, contestant: &Contestant) -> u32 {
        contestant.workers_of(self.workers)
    }

    /// Whether `error` only says that somebody interrupted us, with `rounds` finished that are worth keeping.
    pub(crate) fn keeps_after(&self, error: &anyhow::Error, rounds: u32) -> bool {
        rounds > 0 && error.chain().any(|cause| cause.is::<Interrupted>())
    }

    /// What each worker runs in this scenario.
    #[must_use]
    pub fn runtime(&self, spec: &Spec) -> Runtime {
        self.asked.runtime_of(spec)
    }
}

impl Asked<'_> {
    /// The runtime that `spec` runs on.
    #[must_use]
    pub fn runtime_of(&self, spec: &Spec) -> Runtime {
        self.runtime.or(spec.runtimes.first().copied()).unwrap_or(Runtime::Blocking)
    }
}

/// The cores that this process may use.
#[must_use]
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

/// Runs a scenario. Interrupted, it is that of the rounds that are finished, if there are any; whoever calls
/// looks at the flag.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted before a round was finished. What
/// went wrong *while measuring* is in the scenario's failures instead.
pub fn run(spec: &Spec, context: &Context<'_>) -> anyhow::Result<Scenario> {
    let mut scenario = match &spec.engine {
        Engine::Closed(closed) => slices::run(context, spec, closed)?,
        Engine::Open(open) => blocks::run(context, spec, open)?,
        Engine::Held(held) => held::run(context, spec, held)?,
    };
    scenario.setting = format!("{} {}", spec.question, scenario.setting);
    Ok(scenario)
}

/// What may not be where nobody is to be harmed: a connection unaccounted for, or not served.
pub(crate) fn nobody_failed(label: &str, connections: &Tally, made: u64) -> Vec<String> {
    unaccounted(label, connections, made)
        .into_iter()
        .chain(ended(label, connections, |category| {
            category.is_failure() || category == Category::Shed
        }))
        .collect()
}

/// A sentence if not every connection made has its category.
pub(crate) fn unaccounted(label: &str, connections: &Tally, made: u64) -> Option<String> {
    let sum = connections.sum();
    (sum != made).then(|| format!("{label}: {made} connections made, but {sum} accounted for"))
}

/// A sentence for each category that may not be.
pub(crate) fn ended(
    label: &str,
    connections: &Tally,
    never: impl Fn(Category) -> bool,
) -> Vec<String> {
    Category::ALL
        .into_iter()
        .filter(|&category| never(category) && connections.of(category) > 0)
        .map(|category| {
            format!("{label}: {} connections {}", connections.of(category), category.word())
        })
        .collect()
}
