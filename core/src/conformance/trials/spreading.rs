//! Connections spread over the workers as the strategy promises.

use crate::conformance::Spread;
use crate::conformance::client::{Client, visit};
use crate::conformance::herd::Seat;
use crate::conformance::spec::Spec;
use crate::conformance::stage::{Outcome, Stage, Verdict};
use crate::id::WorkerId;

const WORKERS: u32 = 4;
const CONNECTIONS: u32 = 400;

pub(super) fn spread(stage: &Stage) -> Outcome {
    let promise = (stage.subject.spread)(stage.runtime);
    if let Spread::Level(slack) = promise {
        return level(stage, slack);
    }
    let plain = Spec { workers: WORKERS, ..stage.spec() };
    let counts = count(stage, &plain)?;
    stage.report(&format!("{counts:?} ({promise:?})"));
    match promise {
        Spread::RoundRobin => {
            // A worker that is preempted between its close and its count has no credit for a moment, and
            // is skipped. With more credits nobody ever is.
            even(&counts, 20)?;
            if stage.subject.queue.is_of_channels() {
                let counts = count(stage, &Spec { credits: Some(8), ..plain })?;
                stage.report(&format!("{counts:?} (with 8 credits)"));
                even(&counts, 0)?;
            }
        }
        Spread::Hash => chi_square(&counts)?,
        Spread::FirstInLine => {
            // On an idle machine all go to one. A client that is faster than that worker's way back into
            // its wait goes to the next in line.
            let most = counts.iter().max().copied().unwrap_or(0);
            if most < CONNECTIONS / 2 {
                return Err(format!("nobody got more than half: {counts:?}"));
            }
        }
        Spread::Level(_) | Spread::Any => {}
    }
    Ok(Verdict::Passed)
}

/// Connections that stay; then only those of the worker with the fewest do, and the rest comes anew. Level in two rounds: who
/// is kept from its processor for long hears late that others have caught up, and others look after its share.
fn level(stage: &Stage, slack: u64) -> Outcome {
    const ROUNDS: u32 = 8;
    let mut herd = stage.serving(&Spec { workers: WORKERS, ..stage.spec() })?;
    let seats = herd.wait_idle(WORKERS)?;
    let address = herd.address()?;
    let mut kept: Vec<(WorkerId, Client)> = Vec::new();
    let mut level = 0;
    for round in 0..ROUNDS {
        // Several times the slack for each: whoever lets others take the next does so, and comes back, often.
        while (kept.len() as u64) < 4 * slack * u64::from(WORKERS) {
            let lost = |lost| format!("round {round}, connection {}: {lost}", kept.len());
            let mut client = Client::asking(address, "hold").map_err(lost)?;
            let worker = client.begun().map_err(lost)?;
            kept.push((worker, client));
        }
        let of = |seat: &Seat| kept.iter().filter(|(worker, _)| *worker == seat.worker).count();
        let counts: Vec<_> = seats.iter().map(of).collect();
        stage.report(&format!("{counts:?} that stay"));
        let most = counts.iter().max().copied().unwrap_or(0);
        let fewest = counts.iter().min().copied().unwrap_or(0);
        level += u32::from((most - fewest) as u64 <= 2 * slack);
        if level == 2 {
            break;
        }
        let lightest = seats.iter().min_by_key(|seat| of(seat)).map(|seat| seat.worker);
        let (stay, leave): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(worker, _)| Some(*worker) == lightest);
        for (_, mut client) in leave {
            let lost = |lost| format!("round {round}: {lost}");
            client.ask("go").map_err(lost)?;
            client.answer().map_err(lost)?;
            client.end().map_err(lost)?;
        }
        herd.wait_idle(WORKERS)?;
        kept = stay;
    }
    drop(kept);
    herd.finish()?;
    if level < 2 {
        return Err(format!("of {ROUNDS} rounds {level} were level, which two should have been"));
    }
    Ok(Verdict::Passed)
}

/// So many connections, one after the other, by slot.
fn count(stage: &Stage, spec: &Spec) -> Result<Vec<u32>, String> {
    let mut herd = stage.serving(spec)?;
    let address = herd.address()?;
    let mut counts = vec![0; WORKERS as usize];
    for n in 0..CONNECTIONS {
        let answer = visit(address).map_err(|lost| format!("connection {n}: {lost}"))?;
        let count = counts.get_mut(answer.worker.slot.index());
        *count.ok_or_else(|| format!("there is no such slot: {answer:?}"))? += 1;
    }
    herd.finish()?;
    Ok(counts)
}

fn even(counts: &[u32], tolerance: u32) -> Result<(), String> {
    let share = CONNECTIONS / WORKERS;
    if counts.iter().all(|count| count.abs_diff(share) <= tolerance) {
        return Ok(());
    }
    Err(format!("not within {tolerance} of {share} each: {counts:?}"))
}

/// χ² with 3 degrees of freedom. An even hash passes 27.0 once in 160,000 trials.
fn chi_square(counts: &[u32]) -> Result<(), String> {
    let expected = f64::from(CONNECTIONS) / f64::from(WORKERS);
    let term = |&count: &u32| (f64::from(count) - expected).powi(2) / expected;
    let chi_square: f64 = counts.iter().map(term).sum();
    if chi_square < 27.0 {
        return Ok(());
    }
    Err(format!("χ² = {chi_square:.1}: {counts:?}"))
}
