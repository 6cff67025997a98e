//! Descriptors: none is left over, none is inherited by accident, and running out of them drops nobody.

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;

use crate::conformance::client::{all_answered, crowd};
use crate::conformance::journal::Said;
use crate::conformance::proc::{self, poll_until};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

/// Twenty kills and a rolling restart later everybody holds what they held at first.
pub(super) fn same(stage: &Stage) -> Outcome {
    const WORKERS: u32 = 3;
    const KILLS: usize = 20;
    const STRAY: &str = "left-open-by-accident";

    // Without close-on-exec: the service inherits it, and no worker may.
    let stray = memfd_create(STRAY, MemfdFlags::empty()).map_err(|e| e.to_string())?;
    let mut herd = stage.serving(&Spec { workers: WORKERS, ..stage.spec() })?;
    drop(stray);
    herd.journal().expect("worker died");

    let failed = |e: std::io::Error| e.to_string();
    let supervisor = proc::descriptors(herd.pid()).map_err(failed)?;
    if !supervisor.iter().any(|link| link.contains(STRAY)) {
        return Err(format!("the trial's own trap is not set: {supervisor:?}"));
    }
    let first = proc::descriptors(herd.wait_full(WORKERS)?[0].pid).map_err(failed)?;
    if first.iter().any(|link| link.contains(STRAY)) {
        return Err(format!("inherited by accident: {first:?}"));
    }
    let same = |what: &str, found: &[String], expected: &[String]| {
        if found == expected {
            return Ok(());
        }
        Err(format!("{what} holds\n{found:?}, instead of\n{expected:?}"))
    };
    // One that was just poked may have something in hand, too.
    let settled = |who: &str, pid: u32, expected: &[String]| {
        poll_until("the same descriptors", || {
            Ok((proc::descriptors(pid)? == expected).then_some(()))
        })
        .or_else(|_| same(who, &proc::descriptors(pid).map_err(failed)?, expected))
    };
    for other in herd.wait_full(WORKERS)? {
        settled("another worker of the first generation", other.pid, &first)?;
    }

    for kill in 0..KILLS {
        let seats = herd.wait_full(WORKERS)?;
        let victim = seats[kill % seats.len()];
        herd.kill(victim)?;
        herd.wait_successor(victim)?;
    }
    let mark = herd.journal().mark();
    herd.signal(Signal::HUP)?;
    herd.journal().wait("the rolling restart is done", mark, |said| {
        said.contains(&Said::RestartDone).then_some(())
    })?;
    all_answered(crowd(herd.address()?, 50, "serve")?)?;

    // Whoever answered last may still have that connection in hand: look until it has let go.
    settled("the supervisor", herd.pid(), &supervisor)?;
    for seat in herd.wait_full(WORKERS)? {
        settled("a worker", seat.pid, &first)?;
    }
    stage.report(&format!("supervisor {}, worker {}: {first:?}", supervisor.len(), first.len()));
    herd.finish()?;
    Ok(Verdict::Passed)
}
