//! Whole blocks in open loop: one server at a time, everyone on the same trace, order shuffled.
//!
//! Tails need long undisturbed stretches, so slices will not do; the shared trace takes the place
//! of the shared moment, and each latency is also set against the ideal queue on that trace.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::accounts;
use crate::block::{Block, Fault, LAG_MAX_US, Played, trace_seed};
use crate::cli::Runtime;
use crate::contestant::{BASELINE, Contestant, Launch};
use crate::ideal;
use crate::killer::Toll;
use crate::load::Handle;
use crate::load::category::{Category, Tally};
use crate::load::protocol::{Arrival, Trace};
use crate::measure::latency::{Latency, to_f64};
use crate::measure::ratio::{self, median};
use crate::measure::share::Share;
use crate::report::{Caution, Ideal, Kills, Ratios, Row, Scenario};
use crate::scenario::Context;
use crate::trace::{Shape, Work};

/// What a block costs beside its trace: starting and ending a server, the last answers.
const PER_BLOCK: Duration = Duration::from_millis(300);

/// Blocks shorter than this have no tail to speak of; then there are fewer of them.
const BLOCK_MIN: Duration = Duration::from_millis(2_000);

/// The length of a block when the number of rounds is given and not the time.
const BLOCK_GIVEN: Duration = Duration::from_secs(4);

/// Rounds if there is time: enough to shuffle.
const ROUNDS: u32 = 3;

/// Consecutive requests that are resampled together: they queued behind each other.
const CHUNK: usize = 100;

/// A block's first requests are not measured: one in so many.
pub(crate) const WARM_UP: usize = 10;

/// Accepting loops of a worker.
const LANES: u64 = 1;

/// What a scenario of blocks is.
#[derive(Debug)]
pub struct Plan {
    /// Its name.
    pub name: &'static str,
    /// What is done, for the report.
    pub setting: String,
    /// The work of a request.
    pub work: Work,
    /// Fraction of the time the workers are busy.
    pub load: f64,
    /// What each worker runs.
    pub runtime: Runtime,
    /// What is done to the workers.
    pub fault: Fault,
    /// The length of a block if nothing is asked for; else what fits the time.
    pub block: Option<Duration>,
}

impl Plan {
    /// Whether workers are killed.
    fn kills(&self) -> bool {
        matches!(self.fault, Fault::Kill(_))
    }
}

/// What one contestant did over all rounds.
#[derive(Default)]
struct Runner {
    connections: Tally,
    made: u64,
    /// Measured work by worker, in microseconds.
    busy_us: BTreeMap<u32, u64>,
    /// Latencies of the measured part, by chunk of the trace, in nanoseconds.
    chunks: Vec<Vec<u64>>,
    ideal_ns: Vec<u64>,
    cpu_server_us: Vec<f64>,
    cpu_both_us: Vec<f64>,
    switches: Vec<f64>,
    after_us: Vec<f64>,
    lags_ns: Vec<u64>,
    kills: Kills,
    cycles: u32,
    remarks: Vec<String>,
    failures: Vec<String>,
}

/// Runs the scenario.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted.
pub fn run(context: &Context<'_>, plan: &Plan) -> anyhow::Result<Scenario> {
    let mut random = SmallRng::seed_from_u64(context.seed);
    let mut load = Handle::start(context.program, context.interrupt)?;
    let (running, skipped): (Vec<_>, Vec<_>) =
        context.contestants.iter().partition(|contestant| obstacle(contestant, plan).is_none());
    let rounds = context.asked.seeds.or(context.reps);
    let (rounds, length) =
        schedule(context.budget, running.len(), rounds, context.asked.block.or(plan.block));
    let rounds = if running.is_empty() { 0 } else { rounds };
    let shape = Shape::at_load(plan.load, context.workers, plan.work.clone(), length)?;

    let mut seeds = Vec::new();
    let mut runners: Vec<Runner> = running.iter().map(|_| Runner::default()).collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    for round in 0..rounds {
        let seed = trace_seed(context.seed, round);
        seeds.push(seed);
        let arrivals = shape.draw(seed)?;
        let fault = plan.fault;
        let runtime = plan.runtime;
        let options = &[];
        let block = Block { context, runtime, arrivals: &arrivals, length, seed, fault, options };
        let mut played: Vec<Option<Played>> = running.iter().map(|_| None).collect();
        order.shuffle(&mut random);
        for &index in &order {
            let one = block
                .play(running[index], &mut load)
                .with_context(|| format!("{}, {}", plan.name, running[index].label()))?;
            played[index] = Some(one);
            context.progress.tick(plan.name);
        }
        let played: Vec<Played> = played.into_iter().flatten().collect();
        let charge = charge_of(&running, &played);
        for (runner, played) in runners.iter_mut().zip(played) {
            runner.add(&arrivals, played, charge, context.workers);
        }
    }

    let yardstick = running.iter().position(|one| one.label() == context.asked.against);
    let mut rows: Vec<Row> = running
        .iter()
        .zip(&runners)
        .map(|(contestant, runner)| row(contestant, runner, plan, context.workers))
        .collect();
    if let Some(yardstick) = yardstick {
        for index in (0..rows.len()).filter(|&index| index != yardstick) {
            rows[index].ratios = ratios(&runners[index], &runners[yardstick], &mut random);
        }
    }
    let cautions = lag_caution(&rows).into_iter().collect();
    let notes = rows.iter().zip(&runners).flat_map(|(row, runner)| {
        runner.remarks.iter().map(|text| format!("{}: {text}", row.contestant))
    });
    let notes = notes.collect();
    let failures = rows
        .iter()
        .zip(&runners)
        .flat_map(|(row, runner)| failures_of(row, runner, plan))
        .collect();
    for contestant in skipped {
        let skipped = obstacle(contestant, plan);
        let row = Row { contestant: contestant.label(), skipped, ..Row::default() };
        rows.push(row);
    }
    Ok(Scenario {
        name: plan.name.to_owned(),
        setting: plan.setting.clone(),
        runtime: plan.runtime,
        unit: "connection".to_owned(),
        rounds,
        seeds,
        spread: "busy time".to_owned(),
        rows,
        notes,
        cautions,
        failures,
    })
}

/// What the ideal of a round is charged, from what everyone measured in it.
pub(crate) fn charge_of(running: &[&Contestant], played: &[Played]) -> f64 {
    let baseline = running.iter().position(|one| one.label() == BASELINE);
    let baseline = baseline.and_then(|index| played[index].after_us());
    ideal::charge(baseline, played.iter().filter_map(Played::after_us))
}

/// Latencies of the ideal on this trace, in nanoseconds: the work that was measured, or that was asked
/// for where nobody answered, and `charge_us` each.
pub(crate) fn ideal_ns(
    arrivals: &[Arrival],
    trace: &Trace,
    charge_us: f64,
    workers: u32,
) -> Vec<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds")]
    let charge_ns = (charge_us * 1e3) as u64;
    let works: Vec<(u64, u64)> = arrivals
        .iter()
        .zip(&trace.records)
        .map(|(arrival, record)| {
            let service_us = record.service_us.unwrap_or(arrival.service_us);
            (arrival.at_us * 1_000, service_us * 1_000 + charge_ns)
        })
        .collect();
    ideal::latencies(&works, workers)
}

/// Why a contestant cannot take part.
fn obstacle(contestant: &Contestant, plan: &Plan) -> Option<String> {
    if plan.fault != Fault::None && contestant.launch == Launch::Baseline {
        Some("it has no supervisor that starts and ends workers".to_owned())
    } else if contestant.runtimes.contains(&plan.runtime) {
        None
    } else {
        Some(format!("it cannot serve the {} runtime", plan.runtime.word()))
    }
}

/// How many rounds of how long blocks fit `budget` for so many contestants.
///
/// Rounds that are given are kept, and so is the length of a block that is given; then they take
/// as long as they take.
fn schedule(
    budget: Duration,
    contestants: usize,
    rounds: Option<NonZeroU32>,
    block: Option<Duration>,
) -> (u32, Duration) {
    let contestants = u32::try_from(contestants).unwrap_or(u32::MAX).max(1);
    match (rounds, block) {
        (Some(rounds), block) => return (rounds.get(), block.unwrap_or(BLOCK_GIVEN)),
        (None, Some(block)) => return (1, block),
        (None, None) => {}
    }
    let length = |rounds: u32| (budget / contestants / rounds).saturating_sub(PER_BLOCK);
    let rounds = (1..=ROUNDS).rev().find(|&rounds| length(rounds) >= BLOCK_MIN).unwrap_or(1);
    (rounds, length(rounds).max(BLOCK_MIN / 2))
}

impl Runner {
    /// Adds what a block brought; the ideal is charged `charge_us` per request.
    fn add(&mut self, arrivals: &[Arrival], played: Played, charge_us: f64, workers: u32) {
        let trace = &played.trace;
        self.made += arrivals.len() as u64;
        for record in &trace.records {
            self.connections.count(record.category);
            self.lags_ns.push(record.lag_us * 1000);
            if let (Some(worker), Some(service_us)) = (record.worker, record.service_us) {
                *self.busy_us.entry(worker).or_default() += service_us;
            }
        }
        let warm = trace.records.len() / WARM_UP;
        let served = |record: &&crate::load::protocol::Record| record.category == Category::Served;
        for chunk in trace.records[warm..].chunks(CHUNK) {
            self.chunks
                .push(chunk.iter().filter(served).map(|one| one.latency_us * 1000).collect());
        }
        self.ideal_ns.extend(ideal_ns(arrivals, trace, charge_us, workers).iter().skip(warm));
        self.after_us.extend(played.after_us());
        if let Some(used) = &played.used {
            let served = to_f64(trace.records.len() as u64);
            self.switches.push(to_f64(used.switches) / served);
            self.cpu_server_us.push(to_f64(used.total_ns()) / 1e3 / served);
            self.cpu_both_us.push(to_f64(used.total_ns() + trace.cpu_ns) / 1e3 / served);
        }
        self.cycles += played.scaled.as_ref().map_or(0, |scaled| scaled.cycles);
        if let Some(toll) = &played.toll {
            settle(toll, arrivals, &played, &mut self.kills);
        }
        for remark in played.remarks {
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        self.failures.extend(played.failures);
    }
}

/// Adds the kills of a block, each with its account.
fn settle(toll: &Toll, arrivals: &[Arrival], played: &Played, sum: &mut Kills) {
    let trace = &played.trace;
    let failed = |category| !matches!(category, Category::Served | Category::Shed);
    let mut ends_us: Vec<u64> = arrivals
        .iter()
        .zip(&trace.records)
        .filter(|(_, record)| failed(record.category))
        .map(|(arrival, record)| trace.start_us + arrival.at_us + record.latency_us)
        .collect();
    ends_us.sort_unstable();
    let margin_us = accounts::MARGIN_US + played.lag_max_us();
    let settled = accounts::settle(&toll.kills, &ends_us, margin_us, LANES);
    sum.kills += toll.kills.len() as u64;
    sum.beyond += settled.uncounted;
    let each = sum.each.get_or_insert_default();
    each.unexplained += settled.unexplained;
    each.most = each.most.max(settled.most);
    for kill in &toll.kills {
        sum.in_service += kill.in_service;
        each.queued += kill.queued;
        each.queued_most = each.queued_most.max(kill.queued);
        each.with_queue += u64::from(kill.queued > 0);
    }
}

/// A contestant's row.
fn row(contestant: &Contestant, runner: &Runner, plan: &Plan, workers: u32) -> Row {
    let latency = Latency::of(runner.chunks.iter().flatten().copied());
    let ideal = Latency::of(runner.ideal_ns.iter().copied());
    let over = |own: Option<f64>, ideal: Option<f64>| Some(own? / ideal?);
    let lag = Latency::of(runner.lags_ns.iter().copied());
    let kills = plan.kills().then_some(runner.kills);
    Row {
        contestant: contestant.label(),
        // With faults the ideal, which has none, is no yardstick.
        ideal: (plan.fault == Fault::None).then(|| Ideal {
            p50: over(latency.p50_us, ideal.p50_us),
            p99: over(latency.p99_us, ideal.p99_us),
            p999: over(latency.p999_us, ideal.p999_us),
        }),
        latency,
        cpu_server_us: median(&mut runner.cpu_server_us.clone()),
        cpu_both_us: median(&mut runner.cpu_both_us.clone()),
        after_us: median(&mut runner.after_us.clone()),
        switches: median(&mut runner.switches.clone()),
        share: Share::of(&runner.busy_us, workers),
        connections: runner.connections.clone(),
        kills,
        cycles: (runner.cycles > 0).then_some(runner.cycles),
        lag_p99_us: lag.p99_us,
        ..Row::default()
    }
}

/// Everything as ratio to the yardstick on the same traces. Throughput is the trace's.
fn ratios(runner: &Runner, yardstick: &Runner, random: &mut SmallRng) -> Ratios {
    let mut at = |quantile| ratio::percentile(&runner.chunks, &yardstick.chunks, quantile, random);
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    let mut paired = |own: &[f64], other: &[f64]| ratio::paired(own, other, random);
    Ratios {
        throughput: None,
        p50,
        p99,
        p999,
        cpu_server: paired(&runner.cpu_server_us, &yardstick.cpu_server_us),
        cpu_both: paired(&runner.cpu_both_us, &yardstick.cpu_both_us),
    }
}

/// A late generator measures itself, or the machine's other work.
pub(crate) fn lag_caution(rows: &[Row]) -> Option<Caution> {
    let late: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let lag = row.lag_p99_us.filter(|&lag| lag > LAG_MAX_US)?;
            Some(format!("{} {:.1} ms", row.contestant, lag / 1_000.0))
        })
        .collect();
    (!late.is_empty()).then(|| {
        Caution::new(
            format!(
                "One request in a hundred was sent later than intended by more than: {}.",
                late.join(", ")
            ),
            "The machine was busy with something else, and these tails hold its noise.",
            "Run again when it is quiet.",
        )
    })
}

/// What may not be: an unaccounted connection, a failure without a kill, more of them than kills
/// explain.
fn failures_of(row: &Row, runner: &Runner, plan: &Plan) -> Vec<String> {
    let label = &row.contestant;
    let connections = &row.connections;
    let mut failures: Vec<String> =
        runner.failures.iter().map(|failure| format!("{label}: {failure}")).collect();
    if connections.sum() != runner.made {
        failures.push(format!(
            "{label}: {} connections made, but {} accounted for",
            runner.made,
            connections.sum()
        ));
    }
    let never = |category| match category {
        Category::Served => false,
        Category::Other => true,
        _ => !plan.kills(),
    };
    for category in Category::ALL.into_iter().filter(|&category| never(category)) {
        let count = connections.of(category);
        if count > 0 {
            failures.push(format!("{label}: {count} connections {}", category.word()));
        }
    }
    let unexplained = row.kills.and_then(|kills| kills.each).map_or(0, |each| each.unexplained);
    if unexplained > 0 {
        failures.push(format!(
            "{label}: {unexplained} connections failed that no kill explains: beyond what the \
             workers killed just before had in service, and one more each that was not counted yet"
        ));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::EachKill;

    #[test]
    fn blocks_fit_the_budget() {
        let seconds = Duration::from_secs;
        for (budget, contestants, rounds) in [(36, 4, 3), (14, 4, 1), (22, 3, 3), (36, 12, 1)] {
            let (seen, length) = schedule(seconds(budget), contestants, None, None);
            assert_eq!(seen, rounds, "{budget} s for {contestants}");
            let contestants = u32::try_from(contestants).unwrap();
            assert!((length + PER_BLOCK) * contestants * seen <= seconds(budget));
        }
        let reps = NonZeroU32::new(7);
        assert_eq!(schedule(seconds(1), 3, reps, None), (7, BLOCK_GIVEN));
        assert_eq!(schedule(seconds(1), 3, reps, Some(seconds(20))), (7, seconds(20)));
        assert_eq!(schedule(seconds(1), 3, None, Some(seconds(60))), (1, seconds(60)));
    }

    #[test]
    fn what_may_not_be_makes_the_run_a_failure() {
        let check = |kills: Option<Kills>, categories: &[Category], expected: &[&str]| {
            let plan = Plan {
                name: "made-up",
                setting: String::new(),
                work: Work::Constant(Duration::from_millis(1)),
                load: 0.5,
                runtime: Runtime::Blocking,
                fault: kills.map_or(Fault::None, |_| Fault::Kill(Duration::from_millis(100))),
                block: None,
            };
            let mut runner = Runner { made: 3, ..Runner::default() };
            categories.iter().for_each(|&category| runner.connections.count(category));
            let connections = runner.connections.clone();
            let row = Row { contestant: "it".to_owned(), connections, kills, ..Row::default() };
            assert_eq!(failures_of(&row, &runner, &plan), expected, "{categories:?}");
        };
        use Category::{Other, Reset, Served, Taken};
        let kills = |kills, unexplained| {
            let each = Some(EachKill { unexplained, ..EachKill::default() });
            Some(Kills { kills, each, ..Kills::default() })
        };
        check(None, &[Served, Served, Served], &[]);
        check(None, &[Served, Served], &["it: 3 connections made, but 2 accounted for"]);
        check(None, &[Served, Served, Reset], &["it: 1 connections reset"]);
        check(kills(1, 0), &[Served, Served, Taken], &[]);
        check(kills(1, 0), &[Served, Served, Other], &["it: 1 connections other"]);
        check(
            kills(1, 1),
            &[Served, Taken, Reset],
            &[
                "it: 1 connections failed that no kill explains: beyond what the workers killed just \
               before had in service, and one more each that was not counted yet",
            ],
        );
    }
}
