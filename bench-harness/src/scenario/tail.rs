//! *tail*: one-at-a-time workers, long blocks, three shapes of work. How close does each strategy come
//! to one ideal queue, on the worst of several traces?

use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::block::{Block, Fault, LAG_MAX_US, Played, REPEATS, trace_seed};
use crate::blocks::{WARM_UP, charge_of, ideal_ns};
use crate::contestant::Contestant;
use crate::load::Handle;
use crate::load::category::Tally;
use crate::load::protocol::Arrival;
use crate::measure::latency::{BEYOND_MIN, beyond, percentile, to_f64};
use crate::measure::ratio::median;
use crate::report::{Caution, Row, Scenario, Tail};
use crate::trace::{Shape, Work, short_us};

use super::{Context, Kind, nobody_failed};

/// Mean of exponential work. From 4 ms on, the 0.1–0.2 ms a wake-up takes on an idle machine stay
/// below 5 %.
const MEAN: Duration = Duration::from_millis(4);

/// Short work of the bimodal shape, whose mean is then 4.04 ms.
const SHORT: Duration = Duration::from_micros(2_700);

/// Traces if nothing is asked for.
pub(super) const SEEDS: u32 = 3;

/// What a block costs beside its trace.
const PER_BLOCK: Duration = Duration::from_millis(500);

/// A shape of work at a load.
struct Part {
    work: Work,
    load: f64,
    /// Length of a block: 25 s of bimodal work leave 31,000 requests, 31 of them beyond the 99.9th
    /// percentile.
    length: Duration,
    figures: &'static [Figure],
}

/// What is read from a block.
struct Figure {
    name: &'static str,
    quantile: f64,
    /// Of the short requests only, which wait behind the long ones.
    short_only: bool,
}

const PARTS: [Part; 3] = [
    Part {
        work: Work::Exponential(MEAN),
        load: 0.7,
        length: Duration::from_secs(20),
        figures: &[Figure { name: "exp 0.7 p99", quantile: 0.99, short_only: false }],
    },
    Part {
        work: Work::Exponential(MEAN),
        load: 0.9,
        length: Duration::from_secs(20),
        figures: &[Figure { name: "exp 0.9 p99", quantile: 0.99, short_only: false }],
    },
    Part {
        work: Work::Bimodal { short: SHORT, times: 100, one_in: 200 },
        load: 0.7,
        length: Duration::from_secs(25),
        figures: &[
            Figure { name: "bim 0.7 short p99", quantile: 0.99, short_only: true },
            Figure { name: "bim 0.7 p99.9", quantile: 0.999, short_only: false },
        ],
    },
];

/// How long it takes, with nothing void.
pub(super) fn budget(contestants: u32, seeds: u32, block: Option<Duration>) -> Duration {
    let round: Duration = PARTS.iter().map(|part| block.unwrap_or(part.length) + PER_BLOCK).sum();
    round * contestants * seeds
}

/// What one contestant did over all blocks.
#[derive(Default)]
struct Runner {
    tails: Vec<Tail>,
    connections: Tally,
    made: u64,
    after_us: Vec<f64>,
    lag_us: f64,
    void: u32,
    remarks: Vec<String>,
    failures: Vec<String>,
}

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let runtime = context.runtime(Kind::Tail);
    let mut random = SmallRng::seed_from_u64(context.seed);
    let mut load = Handle::start(context.program, context.interrupt)?;
    let can = |contestant: &&Contestant| contestant.runtimes.contains(&runtime);
    let (running, skipped): (Vec<&Contestant>, Vec<_>) = context.contestants.iter().partition(can);
    let rounds = context.asked.seeds.or(context.reps).map_or(SEEDS, std::num::NonZeroU32::get);

    let mut runners: Vec<Runner> = running.iter().map(|_| Runner::default()).collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    let mut charges_us = Vec::new();
    let mut seeds = Vec::new();
    for round in 0..rounds {
        let seed = trace_seed(context.seed, round);
        seeds.push(seed);
        for part in &PARTS {
            let length = context.asked.block.unwrap_or(part.length);
            let shape = Shape::at_load(part.load, context.workers, part.work.clone(), length)?;
            let arrivals = shape.draw(seed)?;
            let (fault, options) = (Fault::None, &[][..]);
            let block =
                Block { context, runtime, arrivals: &arrivals, length, seed, fault, options };
            let mut played: Vec<Played> = running.iter().map(|_| Played::default()).collect();
            order.shuffle(&mut random);
            for &index in &order {
                let (one, void) = block
                    .play_calm(running[index], &mut load)
                    .with_context(|| format!("tail, {}", running[index].label()))?;
                runners[index].void += void;
                played[index] = one;
                context.progress.tick(Kind::Tail.name());
            }
            let charge = charge_of(&running, &played);
            charges_us.push(charge);
            for (runner, played) in runners.iter_mut().zip(played) {
                runner.add(part, &arrivals, played, charge, context.workers);
            }
        }
    }

    let mut rows = Vec::new();
    let (mut notes, mut failures) = (Vec::new(), Vec::new());
    notes.extend(median(&mut charges_us).map(|charge| {
        format!(
            "The ideal was charged {charge:.0} µs per request (median over blocks) beside its \
             work: what a worker of the baseline, or else of the quickest, needed after each \
             service in the same round."
        )
    }));
    for (contestant, runner) in running.iter().zip(&runners) {
        let label = contestant.label();
        notes.extend(runner.remarks.iter().map(|text| format!("{label}: {text}")));
        failures.extend(runner.failures.iter().map(|failure| format!("{label}: {failure}")));
        failures.extend(nobody_failed(&label, &runner.connections, runner.made));
        rows.push(row(label, runner));
    }
    rows.extend(skipped.into_iter().map(|contestant| Row {
        contestant: contestant.label(),
        skipped: Some(format!("it cannot serve the {} runtime", runtime.word())),
        ..Row::default()
    }));
    Ok(Scenario {
        name: Kind::Tail.name().to_owned(),
        setting: format!(
            "Open loop, Poisson arrivals, latency from the intended time ÷ that of one ideal queue, \
             first come first served, on the same arrivals and the work each server measured. Work \
             (the worker sleeps): exp, exponential with mean {} ms; bim, 99.5 % {} ms and 0.5 % a \
             hundred times that. Whole blocks in shuffled order, the same trace for everyone in a \
             round, one server up at a time, nothing pinned. A block in which the generator lagged \
             (p99 over 1 ms) is void and repeated, at most twice.",
            MEAN.as_millis(),
            SHORT.as_secs_f64() * 1e3,
        ),
        runtime,
        unit: "connection".to_owned(),
        rounds,
        seeds,
        spread: String::new(),
        cautions: cautions(&rows),
        rows,
        notes,
        failures,
    })
}

impl Runner {
    /// Adds what a block brought; the ideal is charged `charge_us` per request.
    fn add(
        &mut self,
        part: &Part,
        arrivals: &[Arrival],
        played: Played,
        charge_us: f64,
        workers: u32,
    ) {
        let records = &played.trace.records;
        self.made += arrivals.len() as u64;
        records.iter().for_each(|record| self.connections.count(record.category));
        let ideal = ideal_ns(arrivals, &played.trace, charge_us, workers);
        let warm = records.len() / WARM_UP;
        let short = short_us(arrivals);
        for figure in part.figures {
            let counts = |arrival: &Arrival| !figure.short_only || arrival.service_us <= short;
            let measured = arrivals.iter().zip(records).zip(&ideal).skip(warm);
            let (mut own, mut best): (Vec<u64>, Vec<u64>) = measured
                .filter(|((arrival, _), _)| counts(arrival))
                .map(|((_, record), &ideal)| (record.latency_us * 1_000, ideal))
                .unzip();
            let ratio = percentile(&mut own, figure.quantile)
                .zip(percentile(&mut best, figure.quantile))
                .map(|(own, best)| own / best);
            self.tail(figure.name).add(ratio, beyond(own.len() as u64, figure.quantile));
        }
        self.after_us.extend(played.after_us());
        self.lag_us = self.lag_us.max(played.lag_p99_us().unwrap_or_default());
        for remark in played.remarks {
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        self.failures.extend(played.failures);
    }

    /// The figure of this name.
    fn tail(&mut self, name: &str) -> &mut Tail {
        let index = self.tails.iter().position(|tail| tail.figure == name);
        let index = index.unwrap_or_else(|| {
            self.tails.push(Tail::new(name));
            self.tails.len() - 1
        });
        &mut self.tails[index]
    }
}

fn row(contestant: String, runner: &Runner) -> Row {
    Row {
        contestant,
        tails: runner.tails.clone(),
        void: runner.void,
        after_us: median(&mut runner.after_us.clone()),
        lag_p99_us: Some(runner.lag_us),
        connections: runner.connections.clone(),
        ..Row::default()
    }
}

/// What makes figures worth less, or absent.
fn cautions(rows: &[Row]) -> Vec<Caution> {
    let mut cautions = Vec::new();
    let late: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let lag = row.lag_p99_us.filter(|&lag| lag > LAG_MAX_US)?;
            Some(format!("{} {:.1} ms", row.contestant, lag / 1e3))
        })
        .collect();
    if !late.is_empty() {
        cautions.push(Caution::new(
            format!(
                "After {REPEATS} repetitions the generator still lagged in some block (p99): {}.",
                late.join(", ")
            ),
            "The machine was busy with something else, and these tails hold its noise.",
            "Run again when it is quiet.",
        ));
    }
    let few = |tail: &&Tail| to_f64(tail.beyond) < BEYOND_MIN;
    let few: Vec<&str> = rows
        .first()
        .map(|row| row.tails.iter().filter(few).map(|tail| &*tail.figure).collect())
        .unwrap_or_default();
    if !few.is_empty() {
        cautions.push(Caution::new(
            format!("Fewer than {BEYOND_MIN} samples lie beyond: {}.", few.join(", ")),
            "Such figures would be anecdotes and are left out.",
            "Ask for longer blocks (--seconds).",
        ));
    }
    cautions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::category::Category;
    use crate::load::protocol::{Record, Trace};

    #[test]
    fn blocks_are_long_enough_for_their_percentiles() {
        for part in &PARTS {
            let shape = Shape::at_load(part.load, 8, part.work.clone(), part.length).unwrap();
            assert!(part.work.mean().unwrap() >= MEAN, "{:?}", part.work);
            for seed in 0..20 {
                let trace = shape.draw(seed).unwrap();
                let measured = (trace.len() - trace.len() / WARM_UP) as u64;
                for figure in part.figures {
                    let beyond = beyond(measured, figure.quantile);
                    assert!(to_f64(beyond) >= BEYOND_MIN, "{}: {beyond}", figure.name);
                }
            }
        }
    }

    /// A server that is the ideal, but answers everything half as late again.
    #[test]
    fn a_server_half_as_slow_again_is_one_and_a_half_times_the_ideal() {
        let part = &PARTS[2];
        let shape = Shape::at_load(part.load, 8, part.work.clone(), part.length).unwrap();
        let arrivals = shape.draw(1).unwrap();
        let record = |arrival: &Arrival| Record {
            lag_us: 0,
            latency_us: 0,
            service_us: Some(arrival.service_us),
            worker: Some(0),
            taken_us: None,
            after_ns: None,
            category: Category::Served,
        };
        let records = arrivals.iter().map(record).collect();
        let mut trace = Trace { records, ..Trace::default() };
        let ideal = ideal_ns(&arrivals, &trace, 50.0, 8);
        for (record, ideal) in trace.records.iter_mut().zip(ideal) {
            record.latency_us = ideal / 1_000 * 3 / 2;
        }
        let mut runner = Runner::default();
        let played = Played { trace, ..Played::default() };
        runner.add(part, &arrivals, played, 50.0, 8);
        assert_eq!(runner.tails.len(), 2);
        for tail in &runner.tails {
            let ratio = tail.over_ideal[0];
            assert!((ratio - 1.5).abs() < 0.001, "{tail:?}");
        }
        assert_eq!(nobody_failed("it", &runner.connections, runner.made), Vec::<String>::new());
    }
}
