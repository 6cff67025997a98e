//! *scaling*: slots are taken away and given back under load. Is anybody reset?

use std::time::Duration;

use crate::block::Fault;
use crate::blocks::{self, Plan};
use crate::report::Scenario;
use crate::trace::Work;

use super::{Context, Kind};

/// Work of every request.
const WORK: Duration = Duration::from_millis(1);

/// Of one worker, since one is what is left.
const LOAD_OF_ONE: f64 = 0.4;

/// Times down to one slot and back.
const CYCLES: u32 = 50;

/// The length of a block if nothing is asked for: a step about every 35 ms with eight workers.
const BLOCK: Duration = Duration::from_secs(30);

/// How long it takes.
pub(super) fn budget(contestants: u32, seeds: u32, block: Option<Duration>) -> Duration {
    (block.unwrap_or(BLOCK) + Duration::from_millis(500)) * contestants * seeds
}

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let plan = Plan {
        name: Kind::Scaling.name(),
        setting: format!(
            "Open loop, Poisson arrivals that keep one worker busy {LOAD_OF_ONE} of the time, {} ms \
             of work each (the worker sleeps); {CYCLES} times all slots but one are taken away and \
             given back, one by one (SIGTTOU, SIGTTIN). Nobody may fail. The baseline has no \
             supervisor and does not take part.",
            WORK.as_millis(),
        ),
        work: Work::Constant(WORK),
        load: LOAD_OF_ONE / f64::from(context.workers),
        runtime: context.runtime(Kind::Scaling),
        fault: Fault::Scale(CYCLES),
        block: Some(BLOCK),
    };
    blocks::run(context, &plan)
}
