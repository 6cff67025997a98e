//! A handler panics: its worker ends and is replaced; or, on an event loop, only its connection ends.

use crate::conformance::client::{Client, all_answered, crowd};
use crate::conformance::stage::{Outcome, Stage, Verdict};

/// With threads the whole worker ends, too: one that went on with a thread less would seem as able as before.
pub(super) fn handler(stage: &Stage) -> Outcome {
    let spec = stage.spec();
    let mut herd = stage.serving(&spec)?;
    for part in ["worker died", "one of its lanes ended"] {
        herd.journal().expect(part);
    }
    let seats = herd.wait_full(spec.workers)?;
    let address = herd.address()?;
    let mut client = Client::asking(address, "panic").map_err(|lost| lost.to_string())?;
    let worker = client.begun().map_err(|lost| format!("panic: {lost}"))?;
    let victim = seats.iter().find(|seat| seat.worker == worker);
    let victim = *victim.ok_or_else(|| format!("{worker} began, which has no seat"))?;
    if let Ok(answer) = client.answer() {
        return Err(format!("it did not panic: {answer:?}"));
    }
    if stage.runtime.is_one_at_a_time() {
        let exit = herd.wait_exit(victim)?;
        if exit.status == "exit 0" {
            return Err(format!("it ended with {}", exit.status));
        }
        herd.wait_successor(victim)?;
    }
    all_answered(crowd(address, 20, "serve")?)?;
    if !stage.runtime.is_one_at_a_time() && herd.wait_full(spec.workers)? != seats {
        return Err(format!("{seats:?} became {:?}", herd.seats()));
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}
