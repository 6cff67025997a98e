//! *uneven-work*: blocking workers, short and long work mixed. How long does a request wait behind
//! others while some worker is idle?

use std::time::Duration;

use crate::block::Fault;
use crate::blocks::{self, Plan};
use crate::report::Scenario;
use crate::trace::Work;

use super::{Context, Kind};

/// Mean work. From 4 ms on, the 0.1–0.2 ms a wake-up takes on an idle machine stay below 5 %.
const MEAN: Duration = Duration::from_millis(4);

/// Fraction of the time the workers are busy.
const LOAD: f64 = 0.7;

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let plan = Plan {
        name: Kind::UnevenWork.name(),
        setting: format!(
            "Open loop, Poisson arrivals at load {LOAD}, work exponential with mean {} ms (the \
             worker sleeps), latency from the intended time; whole blocks in shuffled order, the \
             same trace for everyone in a round, one server up at a time, nothing pinned. Ideal: \
             one queue, first come first served, simulated on the same arrivals and the work each \
             server measured, charged per request with what the baseline needed after each \
             service in the same round.",
            MEAN.as_millis()
        ),
        work: Work::Exponential(MEAN),
        load: LOAD,
        runtime: context.runtime(Kind::UnevenWork),
        fault: Fault::None,
        block: None,
    };
    blocks::run(context, &plan)
}
