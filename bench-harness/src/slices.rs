//! Paired slices: all servers up at once, one client visiting them in short, shuffled slices.
//!
//! One server after the other scatters by ±30–50 % on a busy machine, because what the machine
//! does between them is in the figures. Slices of about 25 ms within one round share it, so their
//! ratio does not: two copies of one server come out at 0.99–1.02.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, bail};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::limits::Given;
use crate::load::Handle;
use crate::load::category::Tally;
use crate::load::protocol::{Order, Target};
use crate::measure::cpu::{Account, Tree, Usage, in_no_account};
use crate::measure::curve;
use crate::measure::latency::{Latencies, to_f64};
use crate::measure::memory;
use crate::measure::ratio::{self, median};
use crate::measure::share::Share;
use crate::measure::syscalls::Counters;
use crate::pin::Pin;
use crate::report::{Caution, Ratios, Row, Samples, Scenario};
use crate::scenario::spec::{self, Closed, Spec};
use crate::scenario::{Context, nobody_failed};
use crate::server::Server;
use crate::slice::Sample;
use crate::void::Watch;

/// Fewest rounds worth reporting, whatever the budget says: five make an interval.
const ROUNDS_MIN: u32 = 5;

/// Slices in which system calls are counted: 1,200 connections.
const COUNTED_SLICES: u32 = 3;

/// What the spread over workers is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// CPU time: for short connections an even *count* is not the goal.
    BusyTime,
    /// Answered requests: for connections that stay.
    Requests,
}

impl Spread {
    /// The word in reports.
    fn word(self) -> &'static str {
        match self {
            Self::BusyTime => "busy time",
            Self::Requests => "requests",
        }
    }
}

/// A contestant during the scenario.
struct Runner {
    label: String,
    workers: u32,
    server: Server,
    account: Account,
    given: Given,
    samples: Vec<Sample>,
    syscalls: Option<f64>,
    connections: Tally,
    made: u64,
    names_worker: bool,
}

impl spec::Slice {
    /// What is counted and timed.
    fn unit(self) -> &'static str {
        match self {
            Self::Fresh(_) => "connection",
            Self::Kept(_) => "request",
        }
    }

    fn spread(self) -> Spread {
        match self {
            Self::Fresh(_) => Spread::BusyTime,
            Self::Kept(_) => Spread::Requests,
        }
    }

    /// What is to be done before a slice (not measured), if anything, and the slice itself.
    fn orders(self, target: Target, clients: u32) -> (Option<Order>, Order) {
        match self {
            Self::Fresh(connections) => {
                (None, Order::Short { target, clients, connections: connections.get() })
            }
            Self::Kept(requests) => (
                Some(Order::Open { target, connections: clients }),
                Order::Requests { per_connection: requests.get() },
            ),
        }
    }
}

/// Runs the scenario. Somebody who interrupts it gets the rounds that are finished.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted before a round was finished.
pub fn run(context: &Context<'_>, spec: &Spec, closed: &Closed) -> anyhow::Result<Scenario> {
    let runtime = context.runtime(spec);
    let clients = context.asked.clients.unwrap_or(closed.clients).get();
    let slice = closed.slice;
    let orders = |target| slice.orders(target, clients);
    let start = Instant::now();
    let mut random = SmallRng::seed_from_u64(context.seed);
    // Before anything is started, so that everything inherits it.
    let _pin = Pin::to_one_core().context("cannot pin to one core")?;
    let mut load = Handle::start(context.program, context.interrupt)?;
    let mut runners = Vec::new();
    let mut skipped = Vec::new();
    for contestant in context.contestants {
        let label = contestant.label();
        if let Some(why) = contestant.obstacle(runtime, &spec.needs()) {
            skipped.push(Row { contestant: label, skipped: Some(why), ..Row::default() });
            continue;
        }
        let Context { program, interrupt, .. } = *context;
        let workers = context.workers_of(contestant);
        let server = Server::start(program, contestant, workers, runtime, interrupt)?;
        let account = server.account()?;
        let given = Given::to(&server)?;
        let (samples, connections) = (Vec::new(), Tally::default());
        let names_worker = contestant.offers.names_worker;
        let (syscalls, made) = (None, 0);
        runners.push(Runner {
            label,
            workers,
            server,
            account,
            given,
            samples,
            syscalls,
            connections,
            made,
            names_worker,
        });
    }

    let mut order: Vec<usize> = (0..runners.len()).collect();
    let mut rounds = 0;
    // Round 0 is the warm-up: counted, not measured.
    for round in 0_u32.. {
        if runners.is_empty() {
            break;
        }
        order.shuffle(&mut random);
        let watch = Watch::start()?;
        let played = order.iter().try_for_each(|&index| {
            let runner = &mut runners[index];
            let sample = visit(&mut load, runner, &orders)
                .with_context(|| format!("{}, {}", spec.name, runner.label))?;
            if round > 0 {
                runner.samples.push(sample);
            } else {
                // Whom a first load makes a stranger start, he has started by now.
                runner.account.renew()?;
            }
            anyhow::Ok(())
        });
        if let Err(error) = played {
            if !context.keeps_after(&error, rounds) {
                return Err(error);
            }
            // Some were visited in the round that others missed. Their connections stay in the account.
            runners.iter_mut().for_each(|runner| runner.samples.truncate(rounds as usize));
            break;
        }
        // Another round comes anyway: one that is void need only be forgotten.
        if round > 0 {
            let is_void = context.umpire.voids(&watch.end()?);
            if is_void && !context.umpire.keeps() {
                runners.iter_mut().for_each(|runner| drop(runner.samples.pop()));
            } else {
                rounds += 1;
            }
        }
        context.progress.round(rounds);
        let elapsed = start.elapsed();
        let next = elapsed + elapsed / (round + 1);
        let over = match context.reps {
            Some(reps) => rounds >= reps.get() || round >= reps.get().saturating_mul(2),
            None => next > context.budget && (rounds >= ROUNDS_MIN || round >= 4 * ROUNDS_MIN),
        };
        if over {
            break;
        }
    }

    let mut cautions = Vec::new();
    // Of connections only, in a pass of its own.
    if matches!(slice, spec::Slice::Fresh(_)) {
        for runner in &mut runners {
            // As it is now: a stranger's may be others than at the start.
            let tree = Tree::of(runner.server.pid())?;
            let mut counters = match Counters::on(&tree) {
                Ok(counters) => counters,
                // The reason is the same for all: no permission, or no tracefs.
                Err(why) => {
                    cautions.push(Caution::new(
                        format!("System calls were not counted: {why:#}."),
                        "The report says nothing about them.",
                        "Run as root, with tracefs mounted on /sys/kernel/tracing.",
                    ));
                    break;
                }
            };
            let counted = count_syscalls(&mut counters, &mut load, runner, &orders)
                .with_context(|| format!("{}, {}", spec.name, runner.label));
            match counted {
                Ok(counted) => runner.syscalls = Some(counted),
                // Times are measured by then.
                Err(error) if context.keeps_after(&error, rounds) => break,
                Err(error) => return Err(error),
            }
        }
    }
    // The client first: an order that was interrupted may still be under way.
    drop(load);

    let mut notes = Vec::new();
    for runner in &mut runners {
        while runner.server.try_notice()?.is_some() {}
        let remarks = runner.server.remarks().iter();
        notes.extend(remarks.map(|text| format!("{}: {text}", runner.label)));
        if runner.samples.iter().any(|sample| sample.server.is_none()) {
            cautions.push(in_no_account(&runner.label));
        }
    }
    let mut failures = Vec::new();
    let mut rows = Vec::new();
    let yardstick = runners.iter().find(|runner| runner.label == context.asked.against);
    for runner in &runners {
        rows.push(row(runner, yardstick, slice.spread(), &mut random));
        failures.extend(nobody_failed(&runner.label, &runner.connections, runner.made));
    }
    rows.extend(skipped);
    for runner in runners {
        if let Err(error) = runner.server.end() {
            failures.push(format!("{}: {error:#}", runner.label));
        }
    }
    Ok(Scenario {
        name: spec.name.clone(),
        setting: closed.setting(clients),
        against: None,
        runtime,
        unit: slice.unit().to_owned(),
        rounds,
        spread: slice.spread().word().to_owned(),
        rows,
        notes,
        cautions,
        failures,
        ..Scenario::default()
    })
}

/// One slice on a contestant.
fn visit(
    load: &mut Handle,
    runner: &mut Runner,
    orders: &impl Fn(Target) -> (Option<Order>, Order),
) -> anyhow::Result<Sample> {
    let (before, order) = orders(runner.server.target());
    let made = match before.as_ref().unwrap_or(&order) {
        Order::Short { connections, .. } | Order::Open { connections, .. } => *connections,
        _ => bail!("this order opens no slice"),
    };
    let sample = Sample::take(load, &runner.account, before.as_ref(), &order)?;
    // Of a slice that was interrupted nobody told what became of them.
    runner.made += u64::from(made);
    runner.connections.add(&sample.slice.tally);
    Ok(sample)
}

/// System calls of the server per unit, over some slices whose times are not measured.
fn count_syscalls(
    counters: &mut Counters,
    load: &mut Handle,
    runner: &mut Runner,
    orders: &impl Fn(Target) -> (Option<Order>, Order),
) -> anyhow::Result<f64> {
    let before = counters.read()?;
    let mut units_done = 0.0;
    for _ in 0..COUNTED_SLICES {
        units_done += visit(load, runner, orders)?.units();
    }
    Ok(to_f64(counters.read()?.saturating_sub(before)) / units_done)
}

/// A figure of every slice; none at all if one has none, since slices are compared round by round.
fn each(runner: &Runner, figure: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
    runner.samples.iter().map(figure).collect::<Option<_>>().unwrap_or_default()
}

/// Answered requests per second.
fn throughput(sample: &Sample) -> Option<f64> {
    Some(sample.throughput())
}

/// A contestant's row.
fn row(runner: &Runner, yardstick: Option<&Runner>, spread: Spread, random: &mut SmallRng) -> Row {
    let mut per_worker: BTreeMap<u32, u64> = BTreeMap::new();
    let mut samples =
        Samples { cpu_server_us: each(runner, Sample::cpu_server_us), ..Samples::default() };
    for sample in &runner.samples {
        let answered = sample.slice.workers.iter().map(|(&worker, &count)| (worker, count));
        let busy = (0..).zip(sample.server.iter().flat_map(Usage::workers_ns).copied());
        let used: BTreeMap<u32, u64> = match spread {
            Spread::BusyTime => busy.collect(),
            Spread::Requests => answered.collect(),
        };
        samples.max_over_mean.extend(Share::of(&used, runner.workers).max_over_mean);
        for (worker, amount) in used {
            *per_worker.entry(worker).or_default() += amount;
        }
    }
    let latencies = runner.samples.iter().flat_map(|sample| &sample.slice.latency_ns);
    let latencies = Latencies::of(latencies.copied());
    let middle = |figure: fn(&Sample) -> Option<f64>| median(&mut each(runner, figure));
    Row {
        contestant: runner.label.clone(),
        throughput: middle(throughput),
        latency: latencies.summary(),
        curve: curve::points(&latencies),
        // A foreign kernel may keep the account to itself; then there is no figure.
        pss_kib: memory::mean_pss_kib(runner.account.tree().workers()).ok().flatten(),
        cpu_server_us: middle(Sample::cpu_server_us),
        cpu_both_us: middle(Sample::cpu_both_us),
        switches: middle(Sample::switches),
        syscalls: runner.syscalls,
        // Which of its processes are workers only a server of ours says.
        share: if runner.names_worker {
            Share::of(&per_worker, runner.workers)
        } else {
            Share::default()
        },
        connections: runner.connections.clone(),
        listeners: Some(runner.given.listeners),
        backlog: runner.given.backlog,
        open_files: Some(runner.given.open_files),
        ratios: match yardstick {
            Some(yardstick) if !std::ptr::eq(runner, yardstick) => {
                ratios(runner, yardstick, random)
            }
            _ => Ratios::default(),
        },
        samples,
        ..Row::default()
    }
}

/// Everything as ratio to the yardstick, round by round.
fn ratios(runner: &Runner, yardstick: &Runner, random: &mut SmallRng) -> Ratios {
    let mut paired = |figure: fn(&Sample) -> Option<f64>| {
        ratio::paired(&each(runner, figure), &each(yardstick, figure), random)
    };
    let (throughput, cpu_server) = (paired(throughput), paired(Sample::cpu_server_us));
    let cpu_both = paired(Sample::cpu_both_us);
    let chunks = |runner: &Runner| -> Vec<Vec<u64>> {
        runner.samples.iter().map(|sample| sample.slice.latency_ns.clone()).collect()
    };
    let (own, other) = (chunks(runner), chunks(yardstick));
    let mut at = |quantile| ratio::percentile(&own, &other, quantile, random);
    Ratios { throughput, p50: at(0.5), p99: at(0.99), p999: at(0.999), cpu_server, cpu_both }
}
