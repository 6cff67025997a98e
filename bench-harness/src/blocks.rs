//! Whole blocks in open loop: one server at a time, everyone on the same trace, order shuffled.
//!
//! Tails need long undisturbed stretches, so slices will not do; the shared trace takes the place
//! of the shared moment, and each latency is also set against the ideal queue on that trace.

mod hung;
mod runner;
mod tails;

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::ensure;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::block::{Block, Played, trace_seed};
use crate::contestant::{BASELINE, Contestant};
use crate::ideal;
use crate::load::Handle;
use crate::load::protocol::Arrival;
use crate::measure::ratio::{ROUNDS_MIN, median};
use crate::report::{Row, Scenario};
use crate::scenario::spec::{Fault, Open, Part, Spec};
use crate::scenario::{self, Context};
use crate::void::until_unfinished;
use runner::Runner;

/// What is allowed for each block beside its trace when blocks are fitted into a time: less than it takes as a
/// rule (0.4 to 1.3 s were seen), so that a run is rather longer than its blocks too short for a figure.
const PER_BLOCK: Duration = Duration::from_millis(300);

/// Shorter blocks have no tail to speak of, and one stall of the machine decides them: rather fewer of them, and
/// rather a longer run. Only who is in a hurry (`--quick`, `--seconds`) gets shorter ones.
pub(crate) const BLOCK_MIN: Duration = Duration::from_secs(10);

/// However little time there is.
const SHORTEST: Duration = Duration::from_secs(1);

/// Rounds if there is time: enough to shuffle.
const ROUNDS: u32 = 3;

/// A part in one round: its trace, and what each contestant brought by its turn.
struct Turn<'p> {
    part: &'p Part,
    arrivals: Vec<Arrival>,
    brought: Vec<Brought>,
}

/// What a contestant brought in a part.
enum Brought {
    /// It had no turn.
    Nothing,
    /// It was interrupted: what it had brought before, if its block was void and played again.
    Unfinished(Played),
    Block(Played),
}

impl Turn<'_> {
    /// Whether everybody has played it.
    fn is_finished(&self) -> bool {
        self.brought.iter().all(Brought::is_block)
    }

    /// Hands what was brought to the runners: figures of who has played it `if` they count, and of everybody what
    /// became of connections. Returns what the ideal was charged.
    fn hand_over(self, running: &[&Contestant], runners: &mut [Runner], counts: bool) -> f64 {
        let charge_us = charge_of(running, &self.brought);
        for (runner, brought) in runners.iter_mut().zip(self.brought) {
            match brought {
                Brought::Block(played) if counts => {
                    runner.add(self.part, &self.arrivals, played, charge_us);
                }
                Brought::Block(played) | Brought::Unfinished(played) => {
                    runner.account(&self.arrivals, &played);
                }
                Brought::Nothing => {}
            }
        }
        charge_us
    }
}

impl Brought {
    fn is_block(&self) -> bool {
        self.block().is_some()
    }

    fn block(&self) -> Option<&Played> {
        match self {
            Self::Block(played) => Some(played),
            Self::Unfinished(_) | Self::Nothing => None,
        }
    }
}

/// Runs the scenario. Somebody who interrupts it gets the rounds that are finished, the parts of the next that
/// everybody has played, and if there is none of either, whoever has played the first part.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted before a block was finished.
pub fn run(context: &Context<'_>, spec: &Spec, open: &Open) -> anyhow::Result<Scenario> {
    let (runtime, needed) = (context.runtime(spec), spec.needs());
    let mut random = SmallRng::seed_from_u64(context.seed);
    let mut load = Handle::start(context.program, context.interrupt)?;
    let (running, skipped): (Vec<&Contestant>, Vec<_>) = context
        .contestants
        .iter()
        .partition(|contestant| contestant.obstacle(runtime, &needed).is_none());
    let (planned, lengths) = schedule(context, open, running.len());
    let planned = if running.is_empty() { 0 } else { planned };
    let blocks = u32::try_from(running.len() * lengths.len()).unwrap_or(u32::MAX);
    context.umpire.plan(planned.saturating_mul(blocks));
    let detection = open.hung_after_ms.map(|ms| ms.to_string());
    let options: Vec<&str> =
        detection.iter().flat_map(|ms| ["--hung-after", ms.as_str()]).collect();

    let mut seeds = Vec::new();
    let mut charges_us = Vec::new();
    let mut runners: Vec<Runner> =
        running.iter().map(|one| Runner::new(one, context, runtime, open)).collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    let (mut rounds, mut unfinished) = (0, None);
    for round in 0..planned {
        let seed = trace_seed(context.seed, round);
        let mut turns: Vec<Turn<'_>> = Vec::new();
        let mut play = || {
            for (part, &length) in open.parts.iter().zip(&lengths) {
                let arrivals = draw(part, context.workers, length, seed)?;
                let block = Block {
                    context,
                    runtime,
                    arrivals: &arrivals,
                    length,
                    seed,
                    part,
                    nofile: open.nofile,
                    options: &options,
                };
                order.shuffle(&mut random);
                let blocks = order.iter().map(|&index| {
                    let place = || format!("{}, {}", spec.name, running[index].label());
                    let one = block.play(running[index], &mut load);
                    one.inspect(|_| context.progress.tick()).map_err(|one| one.at(place()))
                });
                let blocks = blocks.map(|one| one.map(Brought::Block));
                let (blocks, ended) = until_unfinished(blocks, |voided| {
                    Brought::Unfinished(Played::unfinished(voided))
                });
                let mut brought: Vec<Brought> = running.iter().map(|_| Brought::Nothing).collect();
                for (&index, one) in order.iter().zip(blocks) {
                    brought[index] = one;
                }
                turns.push(Turn { part, arrivals, brought });
                ended?;
            }
            anyhow::Ok(())
        };
        let interrupted = match play() {
            Ok(()) => None,
            Err(error) => {
                let is_any = turns.iter().any(|turn| turn.brought.iter().any(Brought::is_block));
                if !context.keeps_after(&error, rounds + u32::from(is_any)) {
                    return Err(error);
                }
                Some(turns.iter().filter(|turn| turn.is_finished()).count())
            }
        };
        for turn in turns {
            // Some played a part that was interrupted, and others did not: their figures count if there are no
            // others, and of the others then it is said that they have none.
            let counts = turn.is_finished() || (rounds == 0 && interrupted == Some(0));
            let charge_us = turn.hand_over(&running, &mut runners, counts);
            charges_us.extend(counts.then_some(charge_us));
        }
        if interrupted.is_none_or(|parts| parts > 0 || rounds == 0) {
            seeds.push(seed);
            rounds += 1;
            unfinished = interrupted.map(|parts| u32::try_from(parts).unwrap_or(u32::MAX));
        }
        if interrupted.is_some() {
            break;
        }
        context.progress.round(rounds);
    }

    let yardstick = runners.iter().find(|one| one.label == context.asked.against);
    let yardstick = yardstick.filter(|one| one.has_played());
    let mut rows: Vec<Row> = runners
        .iter()
        .map(|one| if one.has_played() { one.row(yardstick, &mut random) } else { one.left_out() })
        .collect();
    let mut notes = Vec::new();
    if rows.iter().any(|row| !row.tails.is_empty() || row.ideal.is_some()) {
        let somebody_told = runners.iter().any(Runner::told_after);
        notes.extend(median(&mut charges_us).map(|charge| charged(charge, somebody_told)));
    }
    if rounds < ROUNDS_MIN && rows.iter().any(|row| row.ratios.p50.is_some()) {
        notes.push(within(rounds));
    }
    notes.extend(runners.iter().flat_map(Runner::notes));
    let cautions = runners.iter().flat_map(Runner::cautions).collect();
    let failures = runners.iter().zip(&rows).flat_map(|(runner, row)| runner.failures(row));
    let failures = failures.collect();
    rows.sort_by_key(|row| row.skipped.is_some());
    rows.extend(skipped.into_iter().map(|contestant| Row {
        contestant: contestant.label(),
        skipped: contestant.obstacle(runtime, &needed),
        ..Row::default()
    }));
    Ok(Scenario {
        name: spec.name.clone(),
        setting: open.setting(context, runtime),
        against: None,
        runtime,
        unit: open.unit().to_owned(),
        rounds,
        unfinished,
        seeds,
        block_s: lengths.iter().filter(|_| rounds > 0).map(Duration::as_secs_f64).collect(),
        spread: "busy time".to_owned(),
        rows,
        notes,
        cautions,
        failures,
        ..Scenario::default()
    })
}

/// The trace of a block; a handler that is to hang is in it.
fn draw(part: &Part, workers: u32, length: Duration, seed: u64) -> anyhow::Result<Vec<Arrival>> {
    let mut arrivals = part.shape(workers, scenario::cores(), length)?.draw(seed)?;
    ensure!(
        !arrivals.is_empty(),
        "no request is due within {} s: ask for longer blocks (--seconds), a higher rate or smaller bursts",
        length.as_secs_f64()
    );
    if let Some(Fault::Loop { for_ms }) = part.fault {
        hung::insert(&mut arrivals, length / 5, Duration::from_millis(for_ms.get().into()));
    }
    Ok(arrivals)
}

/// What the ideal of a part is charged, from what everyone measured who has played it.
fn charge_of(running: &[&Contestant], brought: &[Brought]) -> f64 {
    let after_us = |brought: &Brought| brought.block().and_then(Played::after_us);
    let baseline = running.iter().position(|one| one.label() == BASELINE);
    let baseline = baseline.and_then(|index| after_us(&brought[index]));
    ideal::charge(baseline, brought.iter().filter_map(after_us))
}

/// What intervals of so few `rounds` do not say.
fn within(rounds: u32) -> String {
    let blocks = if rounds == 1 { "one block".to_owned() } else { format!("{rounds} blocks") };
    format!(
        "Intervals of latency come from within {blocks} of each contestant: how one start of a server differs \
         from the next is not in them. From {ROUNDS_MIN} traces on (compare --seeds {ROUNDS_MIN}) it is."
    )
}

/// What the ideal was charged, and why so much: `told` says whether any worker told what it needed.
fn charged(charge_us: f64, told: bool) -> String {
    let why = if told {
        "(median over blocks) beside its work: what a worker of the baseline, or else of the quickest, \
         needed after each service in the same round"
    } else {
        "beside its work, about what a plain accept, read, write and close take: workers that serve many at \
         a time cannot tell what they need after each, and other programs do not"
    };
    format!("The ideal was charged {charge_us:.0} µs per request {why}.")
}

/// How many rounds, and the length of a block for each part.
fn schedule(context: &Context<'_>, open: &Open, contestants: usize) -> (u32, Vec<Duration>) {
    let given = context.asked.seeds.or(context.reps);
    let parts = u32::try_from(open.parts.len()).unwrap_or(u32::MAX);
    let contestants = u32::try_from(contestants).unwrap_or(u32::MAX).max(1);
    let fits = fit(context.budget, contestants * parts, given);
    let length = |part: &Part| part.length(context.asked.block);
    let rounds = if open.parts.iter().all(|part| length(part).is_some()) {
        given.or(open.seeds).map_or(1, NonZeroU32::get)
    } else {
        fits.0
    };
    let lengths = open.parts.iter().map(|part| length(part).unwrap_or(fits.1)).collect();
    (rounds, lengths)
}

/// How many rounds of how long blocks fit `budget`, so many of them in a round: several only if each block lasts
/// [`BLOCK_MIN`]. Rounds that are given are kept; then they take as long as they take.
pub(crate) fn fit(budget: Duration, blocks: u32, rounds: Option<NonZeroU32>) -> (u32, Duration) {
    if let Some(rounds) = rounds {
        return (rounds.get(), BLOCK_MIN);
    }
    let length = |rounds: u32| (budget / blocks / rounds).saturating_sub(PER_BLOCK);
    let rounds = (1..=ROUNDS).rev().find(|&rounds| length(rounds) >= BLOCK_MIN).unwrap_or(1);
    (rounds, length(rounds).max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::latency::{BEYOND_MIN, beyond, to_f64};
    use crate::scenario::builtin;
    use crate::scenario::spec::Engine;

    #[test]
    fn blocks_fit_the_budget() {
        let seconds = Duration::from_secs;
        for (budget, blocks, rounds) in [(44, 4, 1), (14, 4, 1), (130, 4, 3), (36, 12, 1)] {
            let (seen, length) = fit(seconds(budget), blocks, None);
            assert_eq!(seen, rounds, "{budget} s for {blocks}");
            assert!((length + PER_BLOCK) * blocks * seen <= seconds(budget));
        }
        assert_eq!(fit(seconds(1), 3, NonZeroU32::new(7)), (7, BLOCK_MIN));
    }

    #[test]
    fn what_nobody_told_is_not_said_to_be_measured() {
        assert!(charged(61.4, true).starts_with("The ideal was charged 61 µs per request (median"));
        let said = charged(charge_of(&[], &[]), false);
        assert!(said.starts_with("The ideal was charged 30 µs per request beside"), "{said}");
        assert!(!said.contains("baseline") && said.contains("cannot tell"), "{said}");
    }

    #[test]
    fn a_block_without_requests_is_an_error_and_no_figure() {
        let spec = builtin::find("connection-storm").unwrap();
        let Engine::Open(open) = &spec.engine else { panic!("{spec:?}") };
        // A burst comes every half second.
        let draw = |ms| draw(&open.parts[0], 8, Duration::from_millis(ms), 1);
        assert_eq!(draw(600).unwrap().len(), 400);
        let error = draw(400).unwrap_err().to_string();
        assert!(error.starts_with("no request is due within 0.4 s: ask for longer"), "{error}");
    }

    #[test]
    fn blocks_with_figures_are_long_enough_for_them() {
        for spec in builtin::all() {
            let Engine::Open(open) = &spec.engine else { continue };
            for part in open.parts.iter().filter(|part| !part.figures.is_empty()) {
                let length = part.length(None).expect("a part with figures has a length");
                for seed in 0..20 {
                    let trace = draw(part, 8, length, seed).unwrap();
                    let measured =
                        (trace.len() - trace.len() / crate::measure::figures::WARM_UP) as u64;
                    for figure in &part.figures {
                        let beyond = beyond(measured, figure.quantile);
                        assert!(to_f64(beyond) >= BEYOND_MIN, "{}: {beyond}", figure.name);
                    }
                }
            }
        }
    }
}
