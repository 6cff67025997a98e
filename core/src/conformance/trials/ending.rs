//! How a service ends: by SIGTERM, by a second one, by Ctrl-C, and by the death of its supervisor.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::conformance::client::{Client, all_answered, crowd};
use crate::conformance::herd::ends_within;
use crate::conformance::proc::{self, poll_until};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict, rounds};

/// Some are in service, some wait; all of them are answered.
pub(super) fn drain(stage: &Stage) -> Outcome {
    const CLIENTS: usize = 8;

    let mut herd = stage.serving(&stage.spec())?;
    let address = herd.address()?;
    let mut clients = crowd(address, CLIENTS, "hold")?;
    poll_until("all have arrived", || Ok((proc::arrived(address)? == CLIENTS).then_some(())))?;
    // Who is first is not said: a worker may cover for another before it looks at its own.
    let queued = poll_until("somebody is in service", || {
        let queued = proc::queued(address)?;
        Ok(((queued as usize) < CLIENTS).then_some(queued))
    })?;
    herd.signal(Signal::TERM)?;
    herd.journal().wait_log("stopping")?;
    for (n, client) in clients.iter_mut().enumerate() {
        client.ask("go on").map_err(|lost| format!("client {n}: {lost}"))?;
    }
    all_answered(clients)?;
    herd.wait_finished()?;
    stage.report(&format!(
        "{CLIENTS} answered after SIGTERM, of which {queued} were in the backlog"
    ));
    Ok(Verdict::Passed)
}

/// After SIGTERM the supervisor is stopped until the time for draining is over.
pub(super) fn stood_still(stage: &Stage) -> Outcome {
    const CLIENTS: usize = 8;
    const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
    const STOPPED: Duration = Duration::from_secs(7);

    let drain_ms = u64::try_from(DRAIN_TIMEOUT.as_millis()).ok();
    let mut herd = stage.serving(&Spec { drain_ms, ..stage.spec() })?;
    let address = herd.address()?;
    let mut clients = crowd(address, CLIENTS, "hold")?;
    poll_until("all have arrived", || Ok((proc::arrived(address)? == CLIENTS).then_some(())))?;
    herd.signal(Signal::TERM)?;
    herd.journal().wait_log("stopping")?;
    herd.signal(Signal::STOP)?;
    let since = Instant::now();
    poll_until("the deadline has passed", || Ok((since.elapsed() >= STOPPED).then_some(())))?;
    herd.signal(Signal::CONT)?;
    for (n, client) in clients.iter_mut().enumerate() {
        client.ask("go on").map_err(|lost| format!("client {n}: {lost}"))?;
    }
    all_answered(clients)?;
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

/// Connections that are kept alive and idle do not hold up whoever has to leave: first one worker after
/// the other (SIGHUP), then all (SIGTERM).
pub(super) fn idle_connections(stage: &Stage) -> Outcome {
    const CLIENTS: usize = 6;

    let spec = stage.spec();
    let mut herd = stage.serving(&spec)?;
    let address = herd.address()?;
    let clients = if stage.serves_one_at_a_time() { spec.workers as usize } else { CLIENTS };
    for signal in [Signal::HUP, Signal::TERM] {
        let mut clients = crowd(address, clients, "linger")?;
        for (n, client) in clients.iter_mut().enumerate() {
            client.begun().map_err(|lost| format!("client {n}: {lost}"))?;
        }
        herd.signal(signal)?;
        // Nobody sends anything, so whoever is not closed stays until the drain timeout.
        for (n, client) in clients.iter_mut().enumerate() {
            client.end().map_err(|lost| format!("{signal:?}, client {n}: {lost}"))?;
        }
        if signal == Signal::HUP {
            herd.journal().wait_log("rolling restart done")?;
        }
    }
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

/// The first asks, the second insists.
pub(super) fn twice(stage: &Stage) -> Outcome {
    let mut herd = stage.serving(&stage.spec())?;
    for part in ["worker died", "killing a worker"] {
        herd.journal().expect(part);
    }
    let mut client = Client::asking(herd.address()?, "hold").map_err(|lost| lost.to_string())?;
    client.begun().map_err(|lost| lost.to_string())?;
    herd.signal(Signal::TERM)?;
    // Two signals that wait at the same time are one.
    herd.journal().wait_log("stopping")?;
    herd.signal(Signal::TERM)?;
    // Its client still holds that connection, and would for longer than anybody waits here.
    herd.wait_finished()?;
    match client.answer() {
        Ok(answer) => Err(format!("the request was waited for: {answer:?}")),
        Err(_) => Ok(Verdict::Passed),
    }
}

/// A terminal sends SIGINT to the whole group; it reaches workers only through their supervisor.
pub(super) fn ctrl_c(stage: &Stage) -> Outcome {
    let mut herd = stage.serving(&stage.spec())?;
    let mut client = Client::asking(herd.address()?, "hold").map_err(|lost| lost.to_string())?;
    client.begun().map_err(|lost| lost.to_string())?;
    herd.signal_group(Signal::INT)?;
    herd.journal().wait_log("stopping")?;
    client.ask("go on").map_err(|lost| lost.to_string())?;
    client.answer().map_err(|lost| format!("the request under way: {lost}"))?;
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

/// The supervisor is killed; in every second round one of its workers is stopped.
pub(super) fn orphans(stage: &Stage) -> Outcome {
    outlived(stage, &stage.spec())
}

pub(super) fn forked_orphans(stage: &Stage) -> Outcome {
    outlived(stage, &Spec { fork: true, ..stage.spec() })
}

fn outlived(stage: &Stage, spec: &Spec) -> Outcome {
    const WITHIN: Duration = Duration::from_secs(1);

    let rounds = rounds("FORKHERD_CONFORMANCE_ORPHANS", 4);
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let mut herd = stage.serving(&Spec { workers: 3, ..spec.clone() })?;
        let seats = herd.wait_full(3)?;
        if round % 2 == 1 {
            herd.stop(seats[round as usize % seats.len()])?;
        }
        let workers = herd.watch_workers()?;
        let killed = Instant::now();
        herd.kill_supervisor()?;
        let mut alive = 0;
        for worker in &workers {
            if !ends_within(worker, WITHIN.saturating_sub(killed.elapsed()))? {
                alive += 1;
                // It would stay for ever.
                let _ = rustix::process::pidfd_send_signal(worker, Signal::KILL);
            }
        }
        longest = longest.max(killed.elapsed());
        if alive > 0 {
            return Err(format!(
                "round {round}: {alive} workers alive {WITHIN:?} after their supervisor"
            ));
        }
        herd.wait_nothing_left()?;
    }
    stage.report(&format!("{rounds} supervisors killed: all workers gone within {longest:?}"));
    Ok(Verdict::Passed)
}
