//! Whole blocks in open loop: one server at a time, everyone on the same trace, order shuffled.
//!
//! Tails need long undisturbed stretches, so slices will not do; the shared trace takes the place
//! of the shared moment, and each latency is also set against the ideal queue on that trace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::cli::Runtime;
use crate::contestant::{Contestant, Launch};
use crate::ideal;
use crate::killer::Killer;
use crate::load::Handle;
use crate::load::category::{Category, Tally};
use crate::load::protocol::{Arrival, Order, Trace};
use crate::measure::cpu::{SETTLE, Tree};
use crate::measure::latency::{Latency, to_f64};
use crate::measure::ratio::{self, median};
use crate::measure::share::Share;
use crate::report::{Ideal, Kills, Ratios, Row, Scenario};
use crate::scenario::Context;
use crate::server::Server;
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
const WARM_UP: usize = 10;

/// A generator later than this (99th percentile) gets a caution.
const LAG_MAX_US: f64 = 1_000.0;

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
    /// Mean time between kills of workers, if workers are killed.
    pub kills: Option<Duration>,
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
    lags_ns: Vec<u64>,
    kills: Kills,
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
    let (rounds, length) = schedule(context.budget, running.len(), rounds, context.asked.block);
    let rounds = if running.is_empty() { 0 } else { rounds };
    let shape = Shape::at_load(plan.load, context.workers, plan.work, length);

    let mut seeds = Vec::new();
    let mut runners: Vec<Runner> = running.iter().map(|_| Runner::default()).collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    for round in 0..rounds {
        let seed = trace_seed(context.seed, round);
        seeds.push(seed);
        let arrivals = shape.draw(seed)?;
        order.shuffle(&mut random);
        for &index in &order {
            let block = Block { context, plan, arrivals: &arrivals, length, seed };
            block
                .play(running[index], &mut load, &mut runners[index])
                .with_context(|| format!("{}, {}", plan.name, running[index].label()))?;
            context.progress.tick(plan.name);
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
        seeds,
        spread: "busy time".to_owned(),
        unit: "connection".to_owned(),
        rounds,
        rows,
        cautions,
        failures,
    })
}

/// Why a contestant cannot take part.
fn obstacle(contestant: &Contestant, plan: &Plan) -> Option<String> {
    if plan.kills.is_some() && contestant.launch == Launch::Baseline {
        Some("it has no supervisor to replace a killed worker".to_owned())
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

/// The seed of a round's trace: six digits, so that it can be read and told.
pub(crate) fn trace_seed(scenario: u64, round: u32) -> u64 {
    scenario.wrapping_add(u64::from(round) + 1) % 1_000_000
}

/// One block to be played.
struct Block<'b> {
    context: &'b Context<'b>,
    plan: &'b Plan,
    arrivals: &'b [Arrival],
    length: Duration,
    seed: u64,
}

impl Block<'_> {
    /// Starts the server, plays the trace, ends the server, and adds it all to `runner`.
    fn play(
        &self,
        contestant: &Contestant,
        load: &mut Handle,
        runner: &mut Runner,
    ) -> anyhow::Result<()> {
        let Context { program, workers, interrupt, .. } = *self.context;
        let mut server = Server::start(program, contestant, workers, self.plan.runtime, interrupt)?;
        let SocketAddr::V4(target) = server.address() else {
            bail!("the load process speaks IPv4 only");
        };
        let kills = self.plan.kills.is_some();
        let order = Order::Trace { target, arrivals: self.arrivals.to_vec(), kills };
        if let Some(interval) = self.plan.kills {
            let mut killer =
                Killer::new(&mut server, workers, interval, self.length, self.seed, interrupt)?;
            let trace = load.trace(&order, self.length, || killer.glance())?;
            let toll = killer.finish()?;
            runner.kills.kills += toll.kills;
            runner.kills.in_service += toll.in_service;
            runner.failures.extend(toll.failures);
            self.add(&trace, runner);
        } else {
            let tree = Tree::of(server.pid())?;
            let before = tree.usage()?;
            let trace = load.trace(&order, self.length, || Ok(None))?;
            std::thread::sleep(SETTLE);
            let used = tree.usage()?.since(&before);
            let cpu_ns = used.total_ns();
            let served = to_f64(trace.records.len() as u64);
            runner.switches.push(to_f64(used.switches) / served);
            runner.cpu_server_us.push(to_f64(cpu_ns) / 1e3 / served);
            runner.cpu_both_us.push(to_f64(cpu_ns + trace.cpu_ns) / 1e3 / served);
            self.add(&trace, runner);
        }
        if let Err(error) = server.end() {
            runner.failures.push(format!("{error:#}"));
        }
        Ok(())
    }

    /// Adds what was measured to `runner`.
    fn add(&self, trace: &Trace, runner: &mut Runner) {
        runner.made += self.arrivals.len() as u64;
        for record in &trace.records {
            runner.connections.count(record.category);
            runner.lags_ns.push(record.lag_us * 1000);
            if let (Some(worker), Some(service_us)) = (record.worker, record.service_us) {
                *runner.busy_us.entry(worker).or_default() += service_us;
            }
        }
        let warm = trace.records.len() / WARM_UP;
        let served = |record: &&crate::load::protocol::Record| record.category == Category::Served;
        for chunk in trace.records[warm..].chunks(CHUNK) {
            runner
                .chunks
                .push(chunk.iter().filter(served).map(|one| one.latency_us * 1000).collect());
        }
        let works: Vec<(u64, u64)> = self
            .arrivals
            .iter()
            .zip(&trace.records)
            .map(|(arrival, record)| {
                let service = record.service_us.unwrap_or(arrival.service_us);
                (arrival.at_us, service + ideal::OVERHEAD_US)
            })
            .collect();
        let ideal = ideal::latencies(&works, self.context.workers);
        runner.ideal_ns.extend(ideal.iter().skip(warm).map(|latency| latency * 1000));
    }
}

/// A contestant's row.
fn row(contestant: &Contestant, runner: &Runner, plan: &Plan, workers: u32) -> Row {
    let latency = Latency::of(runner.chunks.iter().flatten().copied());
    let ideal = Latency::of(runner.ideal_ns.iter().copied());
    let over = |own: Option<f64>, ideal: Option<f64>| Some(own? / ideal?);
    let lag = Latency::of(runner.lags_ns.iter().copied());
    let kills = plan.kills.map(|_| Kills {
        beyond: runner.connections.failed().saturating_sub(runner.kills.in_service),
        ..runner.kills
    });
    Row {
        contestant: contestant.label(),
        // With kills the ideal, which loses nothing, is no yardstick.
        ideal: plan.kills.is_none().then(|| Ideal {
            p50: over(latency.p50_us, ideal.p50_us),
            p99: over(latency.p99_us, ideal.p99_us),
            p999: over(latency.p999_us, ideal.p999_us),
        }),
        latency,
        cpu_server_us: median(&mut runner.cpu_server_us.clone()),
        cpu_both_us: median(&mut runner.cpu_both_us.clone()),
        switches: median(&mut runner.switches.clone()),
        share: Share::of(&runner.busy_us, workers),
        connections: runner.connections.clone(),
        kills,
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
fn lag_caution(rows: &[Row]) -> Option<String> {
    let late: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let lag = row.lag_p99_us.filter(|&lag| lag > LAG_MAX_US)?;
            Some(format!("{} {:.1} ms", row.contestant, lag / 1_000.0))
        })
        .collect();
    (!late.is_empty()).then(|| {
        format!(
            "One request in a hundred was sent later than intended by more than: {}. The machine \
             was busy with something else, and these tails hold its noise; run again when it is \
             quiet.",
            late.join(", ")
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
        _ => plan.kills.is_none(),
    };
    for category in Category::ALL.into_iter().filter(|&category| never(category)) {
        let count = connections.of(category);
        if count > 0 {
            failures.push(format!("{label}: {count} connections {}", category.word()));
        }
    }
    if let Some(kills) = row.kills.filter(|kills| kills.beyond > kills.kills) {
        failures.push(format!(
            "{label}: {} connections failed beyond what {} killed workers had in service; at most \
             one per kill can be taken and not yet counted",
            kills.beyond, kills.kills
        ));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

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
                kills: kills.map(|_| Duration::from_millis(100)),
            };
            let mut runner = Runner { made: 3, ..Runner::default() };
            categories.iter().for_each(|&category| runner.connections.count(category));
            let connections = runner.connections.clone();
            let row = Row { contestant: "it".to_owned(), connections, kills, ..Row::default() };
            assert_eq!(failures_of(&row, &runner, &plan), expected, "{categories:?}");
        };
        use Category::{Other, Reset, Served, Taken};
        let kills = |kills, beyond| Some(Kills { kills, in_service: 0, beyond });
        check(None, &[Served, Served, Served], &[]);
        check(None, &[Served, Served], &["it: 3 connections made, but 2 accounted for"]);
        check(None, &[Served, Served, Reset], &["it: 1 connections reset"]);
        check(kills(1, 1), &[Served, Served, Taken], &[]);
        check(kills(1, 1), &[Served, Served, Other], &["it: 1 connections other"]);
        check(
            kills(1, 2),
            &[Served, Taken, Reset],
            &["it: 2 connections failed beyond what 1 killed workers had in service; at most one \
               per kill can be taken and not yet counted"],
        );
    }
}
