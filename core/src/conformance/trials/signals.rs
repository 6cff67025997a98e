//! Signals that reach workers, though they are the supervisor's.

use std::time::Duration;

use rustix::process::Signal;

use crate::conformance::client::visit;
use crate::conformance::herd::Seat;
use crate::conformance::journal::Said;
use crate::conformance::proc::{self, poll_until};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

/// A terminal asks those in the background whether they block SIGTTOU, and lets them write if they do; if they
/// handle it, the write begins anew and never ends. The same goes for reads and SIGTTIN, which then fail.
pub(super) fn terminal(stage: &Stage) -> Outcome {
    let wanted = mask(&[Signal::TTIN, Signal::TTOU]);
    for fork in [false, true] {
        let mut herd = stage.serving(&Spec { fork, ..stage.spec() })?;
        for seat in herd.wait_full(stage.spec().workers)? {
            // A thread that begins, and whoever starts it, block everything for a moment.
            let what = format!("forked: {fork}: all threads of {seat:?} block {wanted:x}");
            poll_until(&what, || {
                let blocked = proc::blocked_signals(seat.pid)?;
                Ok(blocked.iter().all(|&mask| mask == wanted).then_some(()))
            })?;
        }
        herd.finish()?;
    }
    Ok(Verdict::Passed)
}

/// Who manages services signals all processes at once, those too that have not reached `Service::run` yet.
pub(super) fn booting(stage: &Stage) -> Outcome {
    const WORKERS: u32 = 2;
    for signal in [Signal::TTIN, Signal::HUP, Signal::TERM] {
        let boot_delay = Duration::from_millis(300);
        let mut herd = stage.start(&Spec { boot_delay, workers: WORKERS, ..stage.spec() })?;
        let seats = herd.journal().wait("its workers boot", 0, |said| {
            let started = |said: &Said| match *said {
                Said::Started { worker, pid } => Some(Seat { worker, pid }),
                _ => None,
            };
            let seats: Vec<_> = said.iter().filter_map(started).collect();
            (seats.len() == WORKERS as usize).then_some(seats)
        })?;
        for &seat in &seats {
            herd.signal_worker(seat, signal)?;
        }
        let serve = herd.wait_full(WORKERS).map_err(|error| format!("{signal:?}: {error}"))?;
        if serve != seats {
            return Err(format!("{signal:?} to {seats:?}, and {serve:?} serve"));
        }
        visit(herd.address()?).map_err(|lost| format!("{signal:?}: {lost}"))?;
        herd.finish()?;
    }
    Ok(Verdict::Passed)
}

fn mask(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |mask, signal| mask | 1 << (signal.as_raw() - 1))
}
