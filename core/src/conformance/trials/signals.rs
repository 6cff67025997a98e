//! Signals that reach workers, though they are the supervisor's.

use rustix::process::Signal;

use crate::conformance::proc;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

/// A terminal asks those in the background whether they block SIGTTOU, and lets them write if they do; if they
/// handle it, the write begins anew and never ends. The same goes for reads and SIGTTIN, which then fail.
pub(super) fn terminal(stage: &Stage) -> Outcome {
    let wanted = mask(&[Signal::TTIN, Signal::TTOU]);
    for fork in [false, true] {
        let mut herd = stage.serving(&Spec { fork, ..stage.spec() })?;
        for seat in herd.wait_full(stage.spec().workers)? {
            let blocked = proc::blocked_signals(seat.pid).map_err(|e| e.to_string())?;
            if blocked.iter().any(|&mask| mask != wanted) {
                return Err(format!(
                    "forked: {fork}: {seat:?} blocks {blocked:x?}, not {wanted:x}"
                ));
            }
        }
        herd.finish()?;
    }
    Ok(Verdict::Passed)
}

fn mask(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |mask, signal| mask | 1 << (signal.as_raw() - 1))
}
