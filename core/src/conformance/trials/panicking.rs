//! A handler panics: its worker ends and is replaced; or, on an event loop, only its connection ends.

use std::net::SocketAddr;

use crate::conformance::client::{Client, Lost, all_answered, crowd};
use crate::conformance::herd::{Herd, Seat};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};
use crate::id::WorkerId;

/// How often a handler may panic in another worker than the one with a request in its midst.
const ATTEMPTS: usize = 60;

/// A service with everybody there, in whose log a panic is no surprise.
fn full(stage: &Stage) -> Result<(Herd, Vec<Seat>), String> {
    let spec = stage.spec();
    let herd = expecting_panics(stage.serving(&spec)?);
    let seats = herd.wait_full(spec.workers)?;
    Ok((herd, seats))
}

fn expecting_panics(herd: Herd) -> Herd {
    for part in ["worker died", "one of its lanes ended", "worker ends by itself"] {
        herd.journal().expect(part);
    }
    herd
}

/// A client whose request somebody has begun, and who.
fn begun(address: SocketAddr, request: &str) -> Result<(Client, WorkerId), String> {
    let failed = |lost: Lost| format!("{request}: {lost}");
    let mut client = Client::asking(address, request).map_err(failed)?;
    let worker = client.begun().map_err(failed)?;
    Ok((client, worker))
}

/// With threads the whole worker ends, too: one that went on with a thread less would seem as able as before.
pub(super) fn handler(stage: &Stage) -> Outcome {
    let (mut herd, seats) = full(stage)?;
    let address = herd.address()?;
    let (mut client, worker) = begun(address, "panic")?;
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
    if !stage.runtime.is_one_at_a_time() && herd.wait_full(stage.spec().workers)? != seats {
        return Err(format!("{seats:?} became {:?}", herd.seats()));
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// One thread panics, and another is in the midst of a request for as long as its client likes: that is answered,
/// and nobody else waits for this worker meanwhile.
pub(super) fn beside_a_request(stage: &Stage) -> Outcome {
    let (mut herd, seats) = full(stage)?;
    let address = herd.address()?;
    let (mut held, beside) = begun(address, "hold")?;
    let seat = *seats.iter().find(|seat| seat.worker == beside).ok_or("a worker without a seat")?;
    let mut attempts = 0;
    while begun(address, "panic")?.1 != beside {
        attempts += 1;
        if attempts == ATTEMPTS {
            return Err(format!("{beside} was not met in {ATTEMPTS} attempts"));
        }
    }
    let (slot, generation) = (beside.slot, beside.generation);
    herd.journal().wait_log(&format!("what it serves slot={slot} generation={generation}"))?;
    all_answered(crowd(address, 40, "serve")?)?;
    held.ask("go on").map_err(|lost| lost.to_string())?;
    held.answer().map_err(|lost| format!("the request beside the panic: {lost}"))?;
    herd.wait_exit(seat)?;
    herd.wait_successor(seat)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// As [`beside_a_request`], and there is no other worker: its successor comes while it serves.
pub(super) fn in_the_only_worker(stage: &Stage) -> Outcome {
    let herd = stage.serving(&Spec { workers: 1, ..stage.spec() })?;
    let mut herd = expecting_panics(herd);
    let seat = *herd.wait_full(1)?.first().ok_or("nobody is there")?;
    let address = herd.address()?;
    let (mut held, _) = begun(address, "hold")?;
    begun(address, "panic")?;
    all_answered(crowd(address, 20, "serve")?)?;
    held.ask("go on").map_err(|lost| lost.to_string())?;
    held.answer().map_err(|lost| format!("the request beside the panic: {lost}"))?;
    herd.wait_exit(seat)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}
