//! Workers are killed under load, again and again: lost is what they had taken, and nothing else.

use crate::conformance::client::Lost;
use crate::conformance::load::Load;
use crate::conformance::proc::poll_until;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict, rounds};

const WORKERS: u32 = 4;
const CLIENTS: usize = 4;
/// Fewest connections between two kills, so that each kill hits a service at work.
const BETWEEN: u32 = 20;

pub(super) fn under_load(stage: &Stage) -> Outcome {
    kill_under_load(stage, &Spec { workers: WORKERS, ..stage.spec() })
}

pub(super) fn forked(stage: &Stage) -> Outcome {
    kill_under_load(stage, &Spec { workers: WORKERS, fork: true, ..stage.spec() })
}

fn kill_under_load(stage: &Stage, spec: &Spec) -> Outcome {
    let kills = rounds("FORKHERD_CONFORMANCE_KILLS", 10);
    let connections = rounds("FORKHERD_CONFORMANCE_CONNECTIONS", kills * BETWEEN);
    let between = u64::from(connections / kills.max(1));
    let mut herd = stage.serving(spec)?;
    herd.journal().expect("worker died");
    let load = Load::start(herd.address()?, CLIENTS);
    let mut in_service = 0;
    for kill in 0..kills {
        let begin = load.over();
        poll_until("connections between two kills", || {
            Ok((load.over() >= begin + between).then_some(()))
        })?;
        let seats = herd.wait_full(WORKERS)?;
        let victim = seats[kill as usize % seats.len()];
        in_service += herd.kill(victim)?.in_service;
        herd.wait_successor(victim)?;
    }
    let tally = load.stop()?;
    let lost = tally.lost(Lost::Closed) + tally.lost(Lost::Reset);
    let uncounted = lost.saturating_sub(in_service);
    stage.report(&format!(
        "{kills} kills: {tally}; in service at the kills {in_service}, taken but uncounted {uncounted}"
    ));
    // On each accept lane one connection may be taken and not counted yet, where nobody but the worker itself
    // knows what it took.
    let is_known = stage.subject.queue.is_of_channels();
    let most = if is_known { 0 } else { u64::from(kills * stage.runtime.lanes()) };
    if uncounted > most {
        return Err(format!("{uncounted} lost beyond what was in service: {tally}"));
    }
    for how in [Lost::Refused, Lost::Overdue, Lost::Other] {
        if tally.lost(how) > 0 {
            return Err(format!("{how}: {tally}"));
        }
    }
    if tally.answered() < between * u64::from(kills) / 2 {
        return Err(format!("too little was going on: {tally}"));
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}
