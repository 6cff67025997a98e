//! A worker that is not there yet costs nobody anything; a service that never gets there gives up.

use std::time::Duration;

use crate::conformance::client::{all_answered, crowd, visit};
use crate::conformance::journal::Said;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

/// One of two is killed, and at once many connect.
pub(super) fn at_once(stage: &Stage) -> Outcome {
    one_of_two(stage, Duration::ZERO)
}

/// The same, and the successor takes its time.
pub(super) fn slowly(stage: &Stage) -> Outcome {
    one_of_two(stage, Duration::from_millis(500))
}

fn one_of_two(stage: &Stage, boot_delay: Duration) -> Outcome {
    let mut herd = stage.serving(&Spec { boot_delay, ..stage.spec() })?;
    herd.journal().expect("worker died");
    let address = herd.address()?;
    let victim = herd.wait_full(2)?[0];
    herd.kill(victim)?;
    let mut before = 0;
    for n in 0..100 {
        visit(address).map_err(|lost| format!("connection {n} after the kill: {lost}"))?;
        let is_ready = |said: &Said| matches!(said, Said::Ready(w) if w.slot == victim.worker.slot && w.generation > 0);
        before += u32::from(!herd.journal().said().iter().any(is_ready));
    }
    stage.report(&format!("{before} of 100 answered before the successor was ready, lost 0"));
    // If the slot waited for its successor, so did those who came through it.
    if boot_delay > Duration::ZERO && before < 50 {
        return Err(format!("only {before} of 100 were answered while the successor booted"));
    }
    herd.wait_successor(victim)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Nobody else could answer: those who come wait.
pub(super) fn alone(stage: &Stage) -> Outcome {
    let boot_delay = Duration::from_millis(200);
    let mut herd = stage.serving(&Spec { workers: 1, boot_delay, ..stage.spec() })?;
    herd.journal().expect("worker died");
    let victim = herd.wait_full(1)?[0];
    herd.kill(victim)?;
    let clients = crowd(herd.address()?, 30, "serve")?;
    let answers = all_answered(clients)?;
    if let Some(answer) = answers.iter().find(|answer| answer.worker.generation == 0) {
        return Err(format!("a dead worker answered: {answer:?}"));
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Workers that end before they were ready.
pub(super) fn never(stage: &Stage) -> Outcome {
    let mut herd = stage.start(&Spec { boot_exit: Some(3), ..stage.spec() })?;
    for part in ["worker died", "gives up", "failed to start several times"] {
        herd.journal().expect(part);
    }
    let status = herd.wait_end("its workers cannot boot")?;
    if status.code() != Some(1) {
        return Err(format!("it gave up with {status}"));
    }
    herd.wait_nothing_left()?;
    if herd.journal().said().iter().any(|said| matches!(said, Said::Serving(_))) {
        return Err("it said that it serves".to_owned());
    }
    Ok(Verdict::Passed)
}
