//! How a service ends: by SIGTERM, by a second one, by Ctrl-C, and by the death of its supervisor.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::conformance::client::{Client, all_answered, crowd};
use crate::conformance::herd::{Herd, Seat, ends_within};
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

/// So many wait for the only worker.
const WAITING: usize = 8;

/// A service of one worker, all of whose lanes are in a request of these clients; behind them others wait.
fn busy(
    stage: &Stage,
    request: &str,
    waiting: &[&str],
) -> Result<(Herd, Seat, Vec<Client>, Vec<Client>), String> {
    let herd = stage.serving(&Spec { workers: 1, ..stage.spec() })?;
    let seats = herd.wait_full(1)?;
    let seat = *seats.first().ok_or("nobody is there")?;
    let address = herd.address()?;
    let lanes = stage.runtime.lanes() as usize;
    let mut held = crowd(address, lanes, request)?;
    for (n, client) in held.iter_mut().enumerate() {
        client.begun().map_err(|lost| format!("in service, {n}: {lost}"))?;
    }
    let mut behind = Vec::new();
    for request in waiting {
        behind.extend(crowd(address, 1, request)?);
    }
    let all = lanes + waiting.len();
    poll_until("all have arrived", || Ok((proc::arrived(address)? == all).then_some(())))?;
    Ok((herd, seat, held, behind))
}

/// The only worker is killed after the service was told to end. What waits for it is answered all the same.
pub(super) fn killed(stage: &Stage) -> Outcome {
    let (mut herd, seat, _held, behind) = busy(stage, "gate", &["serve"; WAITING])?;
    herd.journal().expect("worker died");
    herd.signal(Signal::TERM)?;
    herd.journal().wait_log("stopping")?;
    herd.kill(seat)?;
    all_answered(behind)?;
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

/// As [`killed`], but the supervisor learns of both at the same time.
pub(super) fn killed_meanwhile(stage: &Stage) -> Outcome {
    let (mut herd, seat, _held, behind) = busy(stage, "gate", &["serve"; WAITING])?;
    stop_supervisor(&herd)?;
    kill_unseen(&herd, seat)?;
    herd.signal(Signal::TERM)?;
    herd.signal(Signal::CONT)?;
    all_answered(behind)?;
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

/// As [`killed_meanwhile`], in a rolling restart: the old worker is still there, but leaves to its successor
/// what is queued, and that is killed.
pub(super) fn successor_killed(stage: &Stage) -> Outcome {
    let (mut herd, seat, mut held, _) = busy(stage, "gate", &[])?;
    herd.signal(Signal::HUP)?;
    let successor = herd.wait_successor(seat)?;
    stop_supervisor(&herd)?;
    kill_unseen(&herd, successor)?;
    let behind = crowd(herd.address()?, WAITING, "serve")?;
    herd.signal(Signal::TERM)?;
    herd.signal(Signal::CONT)?;
    all_answered(behind)?;
    for client in &mut held {
        client.ask("go on").map_err(|lost| lost.to_string())?;
    }
    all_answered(held)?;
    herd.wait_finished()?;
    Ok(Verdict::Passed)
}

fn stop_supervisor(herd: &Herd) -> Result<(), String> {
    herd.signal(Signal::STOP)?;
    poll_until("the supervisor is stopped", || Ok(proc::is_stopped(herd.pid()).then_some(())))
}

/// Kills a worker whose supervisor is stopped.
fn kill_unseen(herd: &Herd, seat: Seat) -> Result<(), String> {
    herd.journal().expect("worker died");
    herd.signal_worker(seat, Signal::KILL)?;
    poll_until("the worker is dead", || Ok(proc::parent(seat.pid).is_none().then_some(())))
}

/// A handler panics after the service was told to end, and those behind its client are answered.
pub(super) fn panicking(stage: &Stage) -> Outcome {
    let waiting = [&["panic"][..], &["serve"; WAITING]].concat();
    let (mut herd, _, mut held, behind) = busy(stage, "hold", &waiting)?;
    for part in ["worker died", "one of its lanes ended", "worker ends by itself"] {
        herd.journal().expect(part);
    }
    herd.signal(Signal::TERM)?;
    herd.journal().wait_log("stopping")?;
    for client in &mut held {
        client.ask("go on").map_err(|lost| lost.to_string())?;
    }
    all_answered(held)?;
    all_answered(behind.into_iter().skip(1).collect())?;
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
