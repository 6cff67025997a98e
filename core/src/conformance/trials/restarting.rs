//! A rolling restart replaces every worker, and no client notices.

use rustix::process::Signal;

use crate::conformance::journal::Said;
use crate::conformance::load::Load;
use crate::conformance::proc::poll_until;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

const WORKERS: u32 = 4;

/// Twice in a row, while others connect all the time.
pub(super) fn under_load(stage: &Stage) -> Outcome {
    let mut herd = stage.serving(&Spec { workers: WORKERS, ..stage.spec() })?;
    let load = Load::start(herd.address()?, 4);
    poll_until("the load runs", || Ok((load.over() >= 100).then_some(())))?;
    for generation in 1..=2 {
        let mark = herd.journal().mark();
        herd.signal(Signal::HUP)?;
        herd.journal().wait("the rolling restart is done", mark, |said| {
            said.contains(&Said::RestartDone).then_some(())
        })?;
        let seats = herd.wait_full(WORKERS)?;
        if let Some(seat) = seats.iter().find(|seat| seat.worker.generation != generation) {
            return Err(format!("restart {generation} left {} in its slot", seat.worker));
        }
    }
    // And the last ones serve.
    let so_far = load.over();
    poll_until(
        "connections after the restart",
        || Ok((load.over() >= so_far + 100).then_some(())),
    )?;
    let tally = load.stop()?;
    stage.report(&format!("two rolling restarts: {tally}"));
    tally.all_answered()?;
    herd.finish()?;
    Ok(Verdict::Passed)
}
