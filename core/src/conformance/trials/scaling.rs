//! Slots grow and shrink while clients come, and nobody notices.

use rustix::process::Signal;

use crate::conformance::journal::Said;
use crate::conformance::load::Load;
use crate::conformance::proc::poll_until;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict, rounds};

const WORKERS: u32 = 4;

/// To one worker and back, several times.
pub(super) fn under_load(stage: &Stage) -> Outcome {
    let rounds = rounds("FORKHERD_CONFORMANCE_SCALINGS", 3);
    let mut herd = stage.serving(&Spec { workers: WORKERS, ..stage.spec() })?;
    let load = Load::start(herd.address()?, 4);
    let down = (1..WORKERS).rev().map(|workers| (Signal::TTOU, workers));
    let up = (2..=WORKERS).map(|workers| (Signal::TTIN, workers));
    let steps: Vec<_> = down.chain(up).collect();
    for _ in 0..rounds {
        for &(signal, workers) in &steps {
            let so_far = load.over();
            poll_until("connections between two steps", || {
                Ok((load.over() >= so_far + 5).then_some(()))
            })?;
            let mark = herd.journal().mark();
            herd.signal(signal)?;
            herd.journal().wait("the service is scaled", mark, |said| {
                said.contains(&Said::Scaled(workers)).then_some(())
            })?;
        }
        herd.wait_full(WORKERS)?;
    }
    let tally = load.stop()?;
    stage.report(&format!("{WORKERS} to 1 to {WORKERS} workers, {rounds} times: {tally}"));
    tally.all_answered()?;
    herd.finish()?;
    Ok(Verdict::Passed)
}
