//! *worker-killed*: workers die under load. What is lost beyond what they were serving?

use std::time::Duration;

use crate::block::Fault;
use crate::blocks::{self, Plan};
use crate::report::Scenario;
use crate::trace::Work;

use super::{Context, Kind};

/// Work of every request: long enough that a killed worker is mostly caught serving.
const WORK: Duration = Duration::from_millis(2);

/// Fraction of the time the workers are busy.
const LOAD: f64 = 0.7;

/// Mean time between kills.
const INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let plan = Plan {
        name: Kind::WorkerKilled.name(),
        setting: format!(
            "Open loop, Poisson arrivals at load {LOAD}, {} ms of work each (the worker sleeps); \
             about every {} ms a random worker gets SIGKILL and its supervisor starts another. \
             What a killed worker had in service by its board is lost under any strategy; beyond \
             that each kill may cost one connection (taken, uncounted). The \
             baseline has no supervisor and does not take part.",
            WORK.as_millis(),
            INTERVAL.as_millis()
        ),
        work: Work::Constant(WORK),
        load: LOAD,
        runtime: context.runtime(Kind::WorkerKilled),
        fault: Fault::Kill(INTERVAL),
        block: None,
    };
    blocks::run(context, &plan)
}
