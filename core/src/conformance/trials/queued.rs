//! What waits for a worker outlives it: first the queue is built up and *measured*, then the worker dies.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::conformance::Queue;
use crate::conformance::client::{Answer, Client, all_answered, crowd};
use crate::conformance::herd::{Herd, Seat};
use crate::conformance::journal::Said;
use crate::conformance::proc::{self, poll_until};
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict, rounds};
use crate::id::WorkerId;

/// Fewer than this in the queue are no proof.
const DEPTH: u32 = 8;
/// Most clients tried to get so many onto one slot's listener.
const MOST_CLIENTS: usize = 400;
const WORKERS: u32 = 2;

/// Nobody notices that the worker is stopped; it is killed with its queue.
pub(super) fn killed(stage: &Stage) -> Outcome {
    let credits = Some(DEPTH);
    let spec = Spec { workers: WORKERS, detect_stopped: false, credits, ..stage.spec() };
    let mut herd = stage.serving(&spec)?;
    herd.journal().expect("worker died");
    let mut depths = Vec::new();
    for round in 0..rounds("FORKHERD_CONFORMANCE_QUEUES", 2) {
        let seats = herd.wait_idle(WORKERS)?;
        for &seat in &seats {
            herd.stop(seat)?;
        }
        let queue = match stage.subject.queue {
            Queue::Shared => on_shared_listener(&herd, seats[round as usize % seats.len()])?,
            Queue::PerSlot => on_own_listener(&herd, &seats)?,
            Queue::Channel { .. }
            | Queue::UnfinishedChannel { .. }
            | Queue::SharedChannel { .. } => {
                let clients = in_channels(&herd, WORKERS)?;
                let victim = seats[round as usize % seats.len()];
                Queued { clients, victim, depth: DEPTH }
            }
        };
        depths.push(queue.depth);
        let exit = herd.kill(queue.victim)?;
        if exit.in_service > 0 {
            return Err(format!(
                "{} was idle, but had {} in service",
                queue.victim.worker, exit.in_service
            ));
        }
        for &seat in seats.iter().filter(|&&seat| seat != queue.victim) {
            herd.resume(seat)?;
        }
        all_answered(queue.clients)
            .map_err(|lost| format!("round {round}, {}: {lost}", queue.depth))?;
        herd.wait_successor(queue.victim)?;
    }
    stage.report(&format!("{} kills with {depths:?} queued, lost 0", depths.len()));
    herd.finish()?;
    Ok(Verdict::Passed)
}

/// The supervisor notices, and siblings serve the queue while the worker still stands there, stopped.
pub(super) fn stopped(stage: &Stage) -> Outcome {
    let (depth, lost) = match stage.subject.queue {
        Queue::Shared | Queue::PerSlot => (stopped_with_listener(stage)?, 0),
        Queue::Channel { .. } | Queue::UnfinishedChannel { .. } | Queue::SharedChannel { .. } => {
            stopped_with_channel(stage)?
        }
    };
    stage.report(&format!(
        "stopped with {depth} queued: answered by siblings; lost {lost} in service"
    ));
    Ok(Verdict::Passed)
}

/// Clients that wait for a worker, and how many of them do.
struct Queued {
    clients: Vec<Client>,
    victim: Seat,
    depth: u32,
}

fn on_shared_listener(herd: &Herd, victim: Seat) -> Result<Queued, String> {
    let address = herd.address()?;
    let clients = crowd(address, DEPTH as usize + 4, "serve")?;
    let depth = poll_until("the listener's queue holds all", || {
        let depth = proc::queued(address)?;
        Ok((depth as usize == clients.len()).then_some(depth))
    })?;
    Ok(Queued { clients, victim, depth })
}

/// Adds clients until the listener of some slot has enough; that slot's worker is the victim.
fn on_own_listener(herd: &Herd, seats: &[Seat]) -> Result<Queued, String> {
    let address = herd.address()?;
    let mut clients = Vec::new();
    while clients.len() < MOST_CLIENTS {
        clients.extend(crowd(address, 4, "serve")?);
        let depths = poll_until("the listeners' queues hold all", || {
            let depths = proc::queued_by_listener(herd.pid(), address)?;
            Ok((depths.iter().sum::<u32>() as usize == clients.len()).then_some(depths))
        })?;
        if depths.len() != seats.len() {
            return Err(format!("{} listeners for {} slots", depths.len(), seats.len()));
        }
        if let Some(slot) = depths.iter().position(|&depth| depth >= DEPTH) {
            return Ok(Queued { clients, victim: seats[slot], depth: depths[slot] });
        }
    }
    Err(format!("{MOST_CLIENTS} clients, and no slot has {DEPTH}"))
}

/// Fills every channel, seen by what is left in the listener: a channel holds at most [`DEPTH`], so if
/// the listener lacks as many as all channels hold, each is full.
fn in_channels(herd: &Herd, workers: u32) -> Result<Vec<Client>, String> {
    const TOO_MANY: u32 = 4;
    let address = herd.address()?;
    let clients = crowd(address, (workers * DEPTH + TOO_MANY) as usize, "serve")?;
    poll_until("every channel is full", || {
        let (queued, arrived) = (proc::queued(address)?, proc::arrived(address)?);
        Ok((queued == TOO_MANY && arrived >= clients.len()).then_some(()))
    })?;
    Ok(clients)
}

/// All stop, so that a queue grows; the victim's siblings go on.
fn stopped_with_listener(stage: &Stage) -> Result<u32, String> {
    let mut herd = stage.serving(&Spec { workers: WORKERS, ..stage.spec() })?;
    herd.journal().expect("worker died");
    let seats = herd.wait_idle(WORKERS)?;
    for &seat in &seats {
        herd.stop(seat)?;
    }
    let queue = match stage.subject.queue {
        Queue::PerSlot => on_own_listener(&herd, &seats)?,
        _ => on_shared_listener(&herd, seats[0])?,
    };
    for &seat in seats.iter().filter(|&&seat| seat != queue.victim) {
        herd.resume(seat)?;
    }
    by_others(&all_answered(queue.clients)?, queue.victim)?;
    // And what comes from now on.
    by_others(&all_answered(crowd(herd.address()?, 50, "serve")?)?, queue.victim)?;
    herd.kill(queue.victim)?;
    herd.wait_successor(queue.victim)?;
    all_answered(crowd(herd.address()?, 20, "serve")?)?;
    herd.finish()?;
    Ok(queue.depth)
}

/// Two workers, each held up by a client at its gate, with their channels full.
struct Full {
    herd: Herd,
    gates: BTreeMap<WorkerId, Client>,
    clients: Vec<Client>,
    sibling: Seat,
    victim: Seat,
}

fn full_channels(stage: &Stage, spec: Spec) -> Result<Full, String> {
    // One that serves one at a time needs a credit for the client that holds it up, where credits are for
    // what it has not finished.
    let unfinished = stage.subject.queue.is_of_channels() && stage.serves_one_at_a_time();
    let credits = DEPTH + u32::from(unfinished);
    let herd = stage.serving(&Spec { workers: WORKERS, credits: Some(credits), ..spec })?;
    let seats = herd.wait_idle(WORKERS)?;
    let [sibling, victim] = seats[..] else { return Err(format!("not two: {seats:?}")) };

    let address = herd.address()?;
    let mut gates = BTreeMap::new();
    for _ in &seats {
        let mut gate = Client::asking(address, "gate").map_err(|lost| lost.to_string())?;
        let worker = gate.begun().map_err(|lost| format!("a gate: {lost}"))?;
        gates.insert(worker, gate);
    }
    if gates.len() < seats.len() {
        return Err("one client held up both workers".to_owned());
    }
    let clients = in_channels(&herd, WORKERS)?;
    Ok(Full { herd, gates, clients, sibling, victim })
}

impl Full {
    /// Lets one go on that was held up at its gate, and says who answered.
    fn open(&mut self, seat: Seat) -> Result<Answer, String> {
        let mut gate = self.gates.remove(&seat.worker).ok_or("it stands at no gate")?;
        gate.ask("open").map_err(|lost| lost.to_string())?;
        gate.answer().map_err(|lost| format!("the gate of {}: {lost}", seat.worker))
    }
}

/// Both workers are held up, so that their channels fill; then one stops, and the other goes on.
fn stopped_with_channel(stage: &Stage) -> Result<(u32, u64), String> {
    let mut full = full_channels(stage, stage.spec())?;
    let victim = full.victim;
    full.herd.journal().expect("worker died");
    full.herd.stop(victim)?;
    let answer = full.open(full.sibling)?;
    by_others(&[answer], victim)?;
    let Full { mut herd, mut gates, clients, .. } = full;
    by_others(&all_answered(clients)?, victim)?;

    let exit = herd.kill(victim)?;
    herd.wait_successor(victim)?;
    let answered = gates.remove(&victim.worker).is_none_or(|mut gate| gate.answer().is_ok());
    if exit.in_service != 1 || answered {
        return Err(format!("the victim had {} in service", exit.in_service));
    }
    all_answered(crowd(herd.address()?, 20, "serve")?)?;
    herd.finish()?;
    Ok((DEPTH, exit.in_service))
}

/// The victim is held up with its channel full, and told to leave before anybody knows that it hangs. It
/// cannot leave; what waits for it is served by its sibling all the same, once it counts as hung.
pub(super) fn retired(stage: &Stage) -> Outcome {
    // On a loaded machine it may hang before its channel is full, and then this shows nothing.
    for hung_ms in [1_000, 4_000, 16_000] {
        if retired_before_it_hangs(stage, hung_ms)? {
            return Ok(Verdict::Passed);
        }
    }
    Err("the channels were never full in time".to_owned())
}

fn retired_before_it_hangs(stage: &Stage, hung_ms: u64) -> Result<bool, String> {
    let mut full = full_channels(stage, Spec { hung_ms: Some(hung_ms), ..stage.spec() })?;
    let victim = full.victim;
    full.herd.journal().expect("worker hangs");
    // The highest slot leaves.
    full.herd.signal(Signal::TTOU)?;
    full.herd.journal().wait("the victim is told to leave", 0, |said| {
        said.contains(&Said::Scaled(WORKERS - 1)).then_some(())
    })?;
    if full.herd.journal().said().contains(&Said::Hung(victim.worker)) {
        return Ok(false);
    }
    let answer = full.open(full.sibling)?;
    by_others(&[answer], victim)?;
    let clients = std::mem::take(&mut full.clients);
    by_others(&all_answered(clients)?, victim)?;
    let answer = full.open(victim)?;
    if answer.worker != victim.worker {
        return Err(format!("not the victim answered: {answer:?}"));
    }
    full.herd.finish()?;
    Ok(true)
}

fn by_others(answers: &[Answer], victim: Seat) -> Result<(), String> {
    match answers.iter().find(|answer| answer.worker == victim.worker) {
        Some(answer) => Err(format!("a stopped worker answered: {answer:?}")),
        None => Ok(()),
    }
}
