//! *worker-hung*: one worker does nothing for a while, stopped by a signal or lost in a loop. Who has to
//! wait for it?

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::block::{Block, Fault, Played, trace_seed};
use crate::blocks::lag_caution;
use crate::contestant::{Contestant, Launch};
use crate::load::Handle;
use crate::load::category::Tally;
use crate::load::protocol::{Arrival, Trace};
use crate::report::{Hung, Row, Scenario};
use crate::stopper::Hang;
use crate::trace::{Handler, Shape, Work};

use super::{Context, Kind, nobody_failed};

/// Requests per second.
const RATE: f64 = 800.0;

/// Work of every request: four workers are busy 0.4 of the time, three 0.53.
const WORK: Duration = Duration::from_millis(2);

/// How long one worker hangs.
const HANG: Duration = Duration::from_secs(5);

/// A worker counts as hung after this, in milliseconds.
const DETECTION_MS: &str = "250";

/// The length of a block if nothing is asked for: a fifth before, the hang, and time to recover.
const BLOCK: Duration = Duration::from_secs(10);

/// Shorter blocks would end before the worker goes on.
const BLOCK_MIN: Duration = Duration::from_secs(8);

/// Later than this is *delayed*.
const DELAYED: Duration = Duration::from_secs(1);

/// The ways to hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// SIGSTOP.
    Stopped,
    /// A handler goes round and makes no system call.
    Looping,
}

impl How {
    const ALL: [Self; 2] = [Self::Stopped, Self::Looping];

    fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Looping => "looping",
        }
    }
}

/// How long it takes.
pub(super) fn budget(contestants: u32, seeds: u32, block: Option<Duration>) -> Duration {
    let block = block.unwrap_or(BLOCK).max(BLOCK_MIN) + Duration::from_millis(500);
    block * contestants * seeds * 2
}

/// What one contestant did over all blocks.
#[derive(Default)]
struct Runner {
    hung: Vec<Hung>,
    connections: Tally,
    made: u64,
    lag_us: f64,
    remarks: Vec<String>,
    failures: Vec<String>,
}

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let runtime = context.runtime(Kind::WorkerHung);
    let mut random = SmallRng::seed_from_u64(context.seed);
    let mut load = Handle::start(context.program, context.interrupt)?;
    let obstacle = |contestant: &Contestant| {
        if contestant.launch == Launch::Baseline {
            Some("it has no supervisor to notice a hung worker".to_owned())
        } else if contestant.runtimes.contains(&runtime) {
            None
        } else {
            Some(format!("it cannot serve the {} runtime", runtime.word()))
        }
    };
    let (running, skipped): (Vec<&Contestant>, Vec<_>) =
        context.contestants.iter().partition(|one| obstacle(one).is_none());
    let rounds = context.asked.seeds.or(context.reps).map_or(1, NonZeroU32::get);
    let length = context.asked.block.unwrap_or(BLOCK).max(BLOCK_MIN);

    let mut runners: Vec<Runner> = running.iter().map(|_| Runner::default()).collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    let mut seeds = Vec::new();
    for round in 0..rounds {
        let seed = trace_seed(context.seed, round);
        seeds.push(seed);
        for how in How::ALL {
            let (arrivals, fault) = plan(how, length, seed)?;
            let options = &["--hung-after", DETECTION_MS][..];
            let block =
                Block { context, runtime, arrivals: &arrivals, length, seed, fault, options };
            order.shuffle(&mut random);
            for &index in &order {
                let played = block
                    .play(running[index], &mut load)
                    .with_context(|| format!("worker-hung, {}", running[index].label()))?;
                runners[index].add(how, &arrivals, played);
                context.progress.tick(Kind::WorkerHung.name());
            }
        }
    }

    let (mut rows, mut notes, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for (contestant, runner) in running.iter().zip(&runners) {
        let label = contestant.label();
        notes.extend(runner.remarks.iter().map(|text| format!("{label}: {text}")));
        failures.extend(runner.failures.iter().map(|failure| format!("{label}: {failure}")));
        failures.extend(nobody_failed(&label, &runner.connections, runner.made));
        rows.push(Row {
            contestant: label,
            hung: runner.hung.clone(),
            lag_p99_us: Some(runner.lag_us),
            connections: runner.connections.clone(),
            ..Row::default()
        });
    }
    rows.extend(skipped.into_iter().map(|contestant| Row {
        contestant: contestant.label(),
        skipped: obstacle(contestant),
        ..Row::default()
    }));
    Ok(Scenario {
        name: Kind::WorkerHung.name().to_owned(),
        setting: format!(
            "Open loop, {RATE} requests/s with {} ms of work each (the worker sleeps). In one block \
             a random one of {} workers gets SIGSTOP for {} s, in another a request makes its \
             handler loop that long; detection after {DETECTION_MS} ms. Counted: requests delayed \
             by over 1 s; those that the hung worker had taken when it began to hang are its own, \
             all others waited for nothing.",
            WORK.as_millis(),
            context.workers,
            HANG.as_secs(),
        ),
        runtime,
        unit: "connection".to_owned(),
        rounds,
        seeds,
        spread: String::new(),
        cautions: lag_caution(&rows).into_iter().collect(),
        rows,
        notes,
        failures,
    })
}

/// The trace of a block, and what is done to the workers.
fn plan(how: How, length: Duration, seed: u64) -> anyhow::Result<(Vec<Arrival>, Fault)> {
    let shape = Shape::poisson(RATE, Work::Constant(WORK), length);
    let mut arrivals = shape.draw(seed)?;
    let at = length / 5;
    Ok(match how {
        How::Stopped => (arrivals, Fault::Stop { at, length: HANG }),
        How::Looping => {
            let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let hangs = Arrival { at_us: us(at), service_us: us(HANG), handler: Handler::Hangs };
            let index = arrivals.partition_point(|arrival| arrival.at_us <= hangs.at_us);
            arrivals.insert(index, hangs);
            (arrivals, Fault::None)
        }
    })
}

impl Runner {
    fn add(&mut self, how: How, arrivals: &[Arrival], played: Played) {
        self.made += arrivals.len() as u64;
        let records = &played.trace.records;
        records.iter().for_each(|record| self.connections.count(record.category));
        self.lag_us = self.lag_us.max(played.lag_p99_us().unwrap_or_default());
        let hang = match how {
            How::Stopped => played.hang,
            How::Looping => looped(arrivals, &played.trace),
        };
        let Some(hang) = hang else {
            self.failures.push(format!("no worker was {}", how.word()));
            return;
        };
        let seen = count(how, &played.trace, hang);
        match self.hung.iter_mut().find(|hung| hung.how == seen.how) {
            Some(hung) => hung.add(&seen),
            None => self.hung.push(seen),
        }
        for remark in played.remarks {
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        self.failures.extend(played.failures);
    }
}

/// Who looped; nobody if the request was not answered.
fn looped(arrivals: &[Arrival], trace: &Trace) -> Option<Hang> {
    let (arrival, record) =
        arrivals.iter().zip(&trace.records).find(|(one, _)| one.handler == Handler::Hangs)?;
    let end_us = trace.start_us + arrival.at_us + record.latency_us;
    // In the midst of it, so that no lateness of the client matters.
    Some(Hang { slot: record.worker?, held_until_us: end_us.checked_sub(record.service_us? / 2)? })
}

/// Counts the delayed requests, and those of them that the hung worker held.
fn count(how: How, trace: &Trace, hang: Hang) -> Hung {
    let mut hung = Hung { how: how.word().to_owned(), ..Hung::default() };
    for record in &trace.records {
        hung.requests += 1;
        if u128::from(record.latency_us) <= DELAYED.as_micros() {
            continue;
        }
        hung.delayed += 1;
        let its_own = record.worker == Some(hang.slot)
            && record.taken_us.is_some_and(|taken| taken <= hang.held_until_us);
        hung.held += u64::from(its_own);
    }
    hung
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::category::Category;
    use crate::load::protocol::Record;

    fn record(latency_us: u64, worker: Option<u32>, taken_us: Option<u64>) -> Record {
        let (service_us, category) = (Some(2_000), Category::Served);
        Record { lag_us: 0, latency_us, service_us, worker, taken_us, after_ns: None, category }
    }

    #[test]
    fn what_the_hung_worker_had_taken_is_its_own_and_what_it_took_later_is_not() {
        let records = vec![
            record(2_100, Some(1), Some(10)),
            record(4_900_000, Some(1), Some(999)),
            record(4_000_000, Some(1), Some(1_001)),
            record(1_000_001, Some(2), Some(500)),
            record(1_000_000, Some(2), Some(500)),
            record(9_000_000, None, None),
        ];
        let trace = Trace { records, ..Trace::default() };
        let seen = count(How::Stopped, &trace, Hang { slot: 1, held_until_us: 1_000 });
        assert_eq!((seen.requests, seen.delayed, seen.held, seen.beside()), (6, 4, 1, 3));
    }

    #[test]
    fn who_looped_is_read_from_its_answer() {
        let (arrivals, fault) = plan(How::Looping, Duration::from_secs(10), 1).unwrap();
        assert_eq!(fault, Fault::None);
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at_us));
        let index = arrivals.iter().position(|arrival| arrival.handler == Handler::Hangs).unwrap();
        let mut records = vec![record(2_000, Some(0), Some(5)); arrivals.len()];
        records[index] =
            Record { service_us: Some(5_000_000), ..record(5_000_100, Some(3), Some(2_000_050)) };
        let trace = Trace { start_us: 1_000, records, ..Trace::default() };
        let hang = looped(&arrivals, &trace).unwrap();
        assert_eq!(hang, Hang { slot: 3, held_until_us: 1_000 + 2_000_000 + 2_500_100 });
    }
}
