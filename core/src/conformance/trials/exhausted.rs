//! Descriptors, channels and time run out, and nothing vanishes in silence.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::conformance::client::{Client, all_answered, crowd, visit};
use crate::conformance::herd::PATIENCE;
use crate::conformance::journal::Said;
use crate::conformance::proc::{self, poll_until};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};

/// What each worker may open; the supervisor may open as many, and what its slots need.
const FILES: u64 = 64;
const WORKERS: u32 = 2;
/// A worker that holds so many is at its limit, less what it keeps in reserve.
const FULL: usize = 50;

/// More clients than all workers have descriptors for: some are served, some wait, nobody is dropped;
/// not when the supervisor pokes workers that are full, nor when it tells them to leave.
pub(super) fn descriptors(stage: &Stage) -> Outcome {
    const CLIENTS: usize = 500;

    let spec = Spec { files: Some(FILES), workers: WORKERS, ..stage.spec() };
    let mut herd = stage.serving(&spec)?;
    let address = herd.address()?;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(Client::connect(address).map_err(|lost| format!("client {n}: {lost}"))?);
    }
    let seats = herd.wait_full(WORKERS)?;
    if !stage.serves_one_at_a_time() {
        poll_until("every worker has as many as it can hold", || {
            let mut held = Vec::new();
            for seat in &seats {
                held.push(proc::descriptors(seat.pid)?.len());
            }
            Ok(held.iter().all(|&held| held >= FULL).then_some(()))
        })?;
    }
    // One that stops makes the supervisor poke the other, which is full.
    for &seat in &seats {
        herd.stop(seat)?;
        herd.resume(seat)?;
    }
    // The first leaves as soon as its successor is ready, full as it is.
    let mark = herd.journal().mark();
    herd.signal(Signal::HUP)?;
    herd.wait_successor(seats[0])?;
    for (n, client) in clients.iter_mut().enumerate() {
        client.ask("serve").map_err(|lost| format!("client {n}: {lost}"))?;
    }
    all_answered(clients)?;
    herd.journal().wait("the rolling restart is done", mark, |said| {
        said.contains(&Said::RestartDone).then_some(())
    })?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// An event loop has as many connections as it can have, and they stay; who comes beyond that is served by
/// the other.
pub(super) fn full_loop(stage: &Stage) -> Outcome {
    /// More than one can hold, fewer than both.
    const KEPT: usize = 64;
    const CLIENTS: usize = 40;
    let spec = Spec { files: Some(FILES), workers: WORKERS, ..stage.spec() };
    let mut herd = stage.serving(&spec)?;
    let seats = herd.wait_idle(WORKERS)?;
    let (full, other) = (seats[0], seats[1]);
    // All that come meanwhile go to one.
    herd.stop(other)?;
    let address = herd.address()?;
    let mut kept = crowd(address, KEPT, "hold")?;
    poll_until("it has as many as it can hold", || {
        Ok((proc::descriptors(full.pid)?.len() >= FULL).then_some(()))
    })?;
    let clients = crowd(address, CLIENTS, "serve")?;
    herd.resume(other)?;
    all_answered(clients)?;
    for (n, client) in kept.iter_mut().enumerate() {
        client.ask("go").map_err(|lost| format!("client {n}: {lost}"))?;
    }
    let of_full = all_answered(kept)?.iter().filter(|answer| answer.worker == full.worker).count();
    stage.report(&format!("{of_full} connections of {KEPT} at the one that was full"));
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// An event loop has few connections, and no descriptor for another: its handlers have taken them all.
pub(super) fn starved_loop(stage: &Stage) -> Outcome {
    const CLIENTS: usize = 1_000;
    let spec = Spec { files: Some(FILES), workers: WORKERS, ..stage.spec() };
    let mut herd = stage.serving(&spec)?;
    herd.journal().expect("cannot accept now: pausing");
    let seats = herd.wait_idle(WORKERS)?;
    let address = herd.address()?;
    let mut hoarder = Client::asking(address, "hoard").map_err(|lost| lost.to_string())?;
    let starved = hoarder.begun().map_err(|lost| format!("hoard: {lost}"))?;
    // One after the other: each would wait if the other had to find out anew.
    let begin = Instant::now();
    for n in 0..CLIENTS {
        let answer = visit(address).map_err(|lost| format!("client {n}: {lost}"))?;
        if answer.worker == starved {
            return Err(format!("answered without a descriptor: {answer:?}"));
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{n} of {CLIENTS} served within {:?}", begin.elapsed()));
        }
    }
    stage.report(&format!("{CLIENTS} served within {:?}", begin.elapsed()));
    // What it had is free again, and it comes back by itself; nobody else is there.
    hoarder.ask("go").map_err(|lost| lost.to_string())?;
    hoarder.answer().map_err(|lost| format!("hoard: {lost}"))?;
    let other = seats.into_iter().find(|seat| seat.worker != starved).ok_or("who answered?")?;
    herd.stop(other)?;
    let answer = visit(address).map_err(|lost| format!("it does not come back: {lost}"))?;
    if answer.worker != starved {
        return Err(format!("who is stopped answered: {answer:?}"));
    }
    herd.resume(other)?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Fewer descriptors than the supervisor needs for its slots: it does not start, and says why.
pub(super) fn refused(stage: &Stage) -> Outcome {
    const TOO_FEW: &str = "descriptors for";
    let spec = Spec { supervisor_files: Some(16), workers: 8, ..stage.spec() };
    let mut herd = stage.start(&spec)?;
    herd.journal().expect(TOO_FEW);
    herd.journal().wait_log(TOO_FEW)?;
    let status = herd.wait_end("it lacks descriptors")?;
    if status.success() || !herd.journal().said().is_empty() {
        return Err(format!("it began: {status}"));
    }
    herd.wait_nothing_left()?;
    Ok(Verdict::Passed)
}

/// Files may not even have the size of a board's page, and that is said. With just that size it serves.
pub(super) fn file_size(stage: &Stage) -> Outcome {
    const PAGE: u64 = 4_096;
    let mut herd = stage.start(&Spec { file_size: Some(PAGE - 1), ..stage.spec() })?;
    for part in ["cannot start a worker", "gives up", "files may have 4095"] {
        herd.journal().expect(part);
    }
    let status = herd.wait_end("its workers have no board")?;
    if status.code() != Some(1) {
        return Err(format!("it ended with {status}"));
    }
    herd.journal().wait_log("files may have 4095")?;
    herd.wait_nothing_left()?;

    let mut herd = stage.serving(&Spec { file_size: Some(PAGE), ..stage.spec() })?;
    visit(herd.address()?).map_err(|lost| lost.to_string())?;
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// Descriptors under way are counted against the user's limit, too (`ETOOMANYREFS`), unless it has
/// privileges.
pub(super) fn under_way(stage: &Stage) -> Outcome {
    const CREDITS: u32 = 200;
    if !nix::unistd::geteuid().is_root() {
        return Ok(Verdict::Skipped("only root can become somebody else".to_owned()));
    }
    let (files, credits) = (Some(FILES), Some(CREDITS));
    let spec = Spec {
        files,
        credits,
        user: Some(65_534),
        workers: WORKERS,
        detect_stopped: false,
        ..stage.spec()
    };
    let mut herd = stage.serving(&spec)?;
    herd.journal().expect("cannot accept: pausing");
    let seats = herd.wait_idle(WORKERS)?;
    for &seat in &seats {
        herd.stop(seat)?;
    }
    let address = herd.address()?;
    let clients = crowd(address, 2 * CREDITS as usize, "serve")?;
    // More than the limit are on their way, the others wait in the backlog.
    herd.journal().wait_log("cannot accept: pausing")?;
    let queued = proc::queued(address).map_err(|e| e.to_string())?;
    for &seat in &seats {
        herd.resume(seat)?;
    }
    all_answered(clients)?;
    stage.report(&format!("{queued} waited in the backlog when no descriptor could be sent"));
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// All workers are stopped for a while: the supervisor goes on, and so does everything once they do.
pub(super) fn everybody_stopped(stage: &Stage) -> Outcome {
    const WORKERS: u32 = 4;
    const CLIENTS: usize = 200;
    /// A stop and a start each.
    const PROBES: u32 = 15;
    const EVERY: Duration = Duration::from_millis(200);
    // What is promised of a machine that has nothing else to do; a trial beside others is patient.
    let strict = std::env::var_os("FORKHERD_CONFORMANCE_STRICT").is_some();
    let (reaction, relief) = if strict { (100, 200) } else { (5_000, 20_000) };

    let mut herd = stage.serving(&Spec { workers: WORKERS, ..stage.spec() })?;
    let seats = herd.wait_idle(WORKERS)?;
    for &seat in &seats {
        herd.stop(seat)?;
    }
    let clients = crowd(herd.address()?, CLIENTS, "serve")?;
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    // Whether the supervisor reacts: it is told of one worker again and again.
    for probe in 1..=PROBES {
        for act in [crate::conformance::herd::Herd::resume, crate::conformance::herd::Herd::stop] {
            let asked = Instant::now();
            act(&herd, seats[0])?;
            slowest = slowest.max(asked.elapsed());
        }
        let next = begin + EVERY * probe;
        poll_until("the next probe", || Ok((Instant::now() >= next).then_some(())))?;
    }
    let relieved = Instant::now();
    for &seat in &seats {
        herd.resume(seat)?;
    }
    all_answered(clients)?;
    let until_served = relieved.elapsed();
    stage.report(&format!(
        "all stopped for {:?}: slowest reaction {slowest:?}, everybody served {until_served:?} after \
         they went on",
        relieved - begin
    ));
    let over = |time: Duration, most_ms: u64| time > Duration::from_millis(most_ms);
    if over(slowest, reaction) || over(until_served, relief) {
        return Err(format!("reaction {slowest:?}, served after {until_served:?}"));
    }
    herd.finish()?;
    Ok(Verdict::Passed)
}
