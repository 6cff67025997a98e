//! A worker that is alive and gets nothing done: what comes for it is served by others.

use std::time::Duration;

use rustix::process::Signal;

use crate::conformance::client::{Client, Lost, all_answered, crowd};
use crate::conformance::herd::{Herd, Seat};
use crate::conformance::journal::Said;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

const WORKERS: u32 = 2;
const CLIENTS: usize = 40;

/// Its handler loops for ever.
pub(super) fn endless_loop(stage: &Stage) -> Outcome {
    let (mut herd, _client, victim) = hang(stage, "spin")?;
    served_by_others(&herd, victim)?;
    let exit = herd.kill(victim)?;
    if exit.in_service != 1 {
        return Err(format!("the victim had {} in service instead of 1", exit.in_service));
    }
    herd.wait_successor(victim)?;
    all_answered(crowd(herd.address()?, 20, "serve")?)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Its handler sleeps in a system call, and goes on later.
pub(super) fn blocking_sleep(stage: &Stage) -> Outcome {
    let (mut herd, mut client, victim) = hang(stage, "gate")?;
    served_by_others(&herd, victim)?;
    let mark = herd.journal().mark();
    client.ask("open").map_err(|lost| lost.to_string())?;
    let answer = client.answer().map_err(|lost| format!("what it held: {lost}"))?;
    if answer.worker != victim.worker {
        return Err(format!("not the victim answered: {answer:?}"));
    }
    herd.journal().wait("the victim goes on", mark, |said| {
        said.contains(&Said::Recovered(victim.worker)).then_some(())
    })?;
    all_answered(crowd(herd.address()?, 20, "serve")?)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// It was idle when something froze it, of which no signal tells its supervisor.
pub(super) fn frozen(stage: &Stage) -> Outcome {
    let spec = Spec { workers: WORKERS, detect_stopped: false, hung_ms: Some(250), ..stage.spec() };
    let mut herd = stage.serving(&spec)?;
    herd.journal().expect("worker hangs");
    let address = herd.address()?;
    for victim in herd.wait_idle(WORKERS)? {
        let mark = herd.journal().mark();
        herd.stop(victim)?;
        for answer in all_answered(crowd(address, CLIENTS, "serve")?)? {
            if answer.worker == victim.worker {
                return Err(format!("a frozen worker answered: {answer:?}"));
            }
        }
        herd.resume(victim)?;
        // Who was never waited for was not missed.
        herd.journal().wait("the victim goes on", mark, |said| {
            let last = said.iter().rev().find(|said| {
                matches!(said, Said::Hung(worker) | Said::Recovered(worker) if *worker == victim.worker)
            });
            (!matches!(last, Some(Said::Hung(_)))).then_some(())
        })?;
        all_answered(crowd(address, CLIENTS, "serve")?)?;
        herd.wait_idle(WORKERS)?;
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// An event loop is busy, and nobody calls it hung yet: all others are served while it is, also by those who
/// have more connections than the busy one.
pub(super) fn busy_loop(stage: &Stage) -> Outcome {
    const KEPT: usize = 40;
    let mut herd =
        stage.serving(&Spec { workers: WORKERS, hung_ms: Some(60_000), ..stage.spec() })?;
    herd.wait_idle(WORKERS)?;
    let address = herd.address()?;
    let mut gate = Client::asking(address, "gate").map_err(|lost| lost.to_string())?;
    let busy = gate.begun().map_err(|lost| format!("gate: {lost}"))?;
    let mut kept = Vec::new();
    for n in 0..KEPT {
        let lost = |lost| format!("client {n}: {lost}");
        let mut client = Client::asking(address, "hold").map_err(lost)?;
        let worker = client.begun().map_err(lost)?;
        if worker == busy {
            return Err(format!("client {n} was served by the busy worker"));
        }
        kept.push(client);
    }
    gate.ask("open").map_err(|lost| lost.to_string())?;
    gate.answer().map_err(|lost| format!("gate: {lost}"))?;
    for client in &mut kept {
        client.ask("go").map_err(|lost| lost.to_string())?;
    }
    all_answered(kept)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Told to leave, and with a request that takes long: its event loop still turns, and it is not called hung.
pub(super) fn leaving(stage: &Stage) -> Outcome {
    let lost = |lost: Lost| lost.to_string();
    // It has two at once, also where credits are for what is not finished.
    let spec = Spec { workers: 1, hung_ms: Some(250), credits: Some(2), ..stage.spec() };
    let mut herd = stage.serving(&spec)?;
    herd.journal().expect("worker hangs");
    let address = herd.address()?;
    let mut kept = Client::asking(address, "hold").map_err(lost)?;
    let leaving = kept.begun().map_err(lost)?;
    let mut told = Client::asking(address, "linger").map_err(lost)?;
    told.begun().map_err(lost)?;
    let mark = herd.journal().mark();
    herd.signal(Signal::HUP)?;
    told.end().map_err(|lost| format!("a worker that leaves keeps who would go: {lost}"))?;
    // The successor hangs in truth, and from now on: when that is known, so would the other be.
    let mut gate = Client::asking(address, "gate").map_err(lost)?;
    let hangs = gate.begun().map_err(lost)?;
    if hangs == leaving {
        return Err(format!("{leaving} was told to leave, and took another"));
    }
    herd.journal().wait("the successor counts as hung", mark, |said| {
        said.contains(&Said::Hung(hangs)).then_some(())
    })?;
    // A loaded machine may have kept it from turning for a while.
    herd.journal().wait("who leaves is alive", mark, |said| {
        let last = said.iter().rev().find(|said| {
            matches!(said, Said::Hung(worker) | Said::Recovered(worker) if *worker == leaving)
        });
        (!matches!(last, Some(Said::Hung(_)))).then_some(())
    })?;
    gate.ask("open").map_err(lost)?;
    kept.ask("go").map_err(lost)?;
    all_answered(vec![gate, kept])?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Handlers keep more connections beyond their calls than a worker has lanes, and then nothing comes for
/// longer than a worker may hang.
pub(super) fn kept_connections(stage: &Stage) -> Outcome {
    const HUNG: Duration = Duration::from_millis(250);
    let spec = Spec {
        workers: WORKERS + 1,
        hung_ms: u64::try_from(HUNG.as_millis()).ok(),
        boot_delay: 4 * HUNG,
        ..stage.spec()
    };
    let mut herd = stage.serving(&spec)?;
    herd.journal().expect("worker hangs");
    let scale = |signal, workers| {
        herd.signal(signal)?;
        herd.wait_full(workers)
    };
    scale(Signal::TTOU, WORKERS)?;
    let address = herd.address()?;
    let mut kept = Vec::new();
    // Whoever gets them: one worker at least keeps as many as it has lanes.
    for n in 0..WORKERS * (stage.runtime.lanes() - 1) + 1 {
        let lost = |lost| format!("client {n}: {lost}");
        let mut client = Client::asking(address, "keep").map_err(lost)?;
        client.begun().map_err(lost)?;
        kept.push(client);
    }
    // A worker that takes its time to start is the clock. Then those that keep connections are alone again.
    scale(Signal::TTIN, WORKERS + 1)?;
    scale(Signal::TTOU, WORKERS)?;
    // A loaded machine may have kept one in its handler for so long; whoever is out of it goes on.
    herd.journal().wait("who only keeps connections is not hung", 0, |said| {
        let count = |kind: fn(&Said) -> bool| said.iter().filter(|said| kind(said)).count();
        let hung = count(|said| matches!(said, Said::Hung(_)));
        (hung == count(|said| matches!(said, Said::Recovered(_)))).then_some(())
    })?;
    all_answered(crowd(address, CLIENTS, "serve")?)?;
    drop(kept);
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// A service one of whose workers hangs, the client that it hangs on, and that worker.
fn hang(stage: &Stage, request: &str) -> Result<(Herd, Client, Seat), String> {
    let herd = stage.serving(&Spec { workers: WORKERS, hung_ms: Some(250), ..stage.spec() })?;
    herd.journal().expect("worker hangs");
    herd.journal().expect("worker died");
    let seats = herd.wait_idle(WORKERS)?;
    let mut client = Client::asking(herd.address()?, request).map_err(|lost| lost.to_string())?;
    let worker = client.begun().map_err(|lost| format!("{request}: {lost}"))?;
    let victim = seats.into_iter().find(|seat| seat.worker == worker);
    let victim = victim.ok_or_else(|| format!("{worker} began, which has no seat"))?;
    Ok((herd, client, victim))
}

/// Those who come before anybody knows, and those who come after.
fn served_by_others(herd: &Herd, victim: Seat) -> Result<(), String> {
    let address = herd.address()?;
    let early = crowd(address, CLIENTS, "serve")?;
    herd.journal().wait("the victim counts as hung", 0, |said| {
        said.contains(&Said::Hung(victim.worker)).then_some(())
    })?;
    let late = crowd(address, CLIENTS, "serve")?;
    for answer in all_answered(early)?.into_iter().chain(all_answered(late)?) {
        if answer.worker == victim.worker {
            return Err(format!("a hung worker answered: {answer:?}"));
        }
    }
    Ok(())
}
