//! One open-loop block on one server: start it, play a trace, do to its workers what is to be done, end it.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::cli::Runtime;
use crate::contestant::{Contestant, Launch};
use crate::killer::{Killer, Toll};
use crate::limits::{Given, Lowered};
use crate::load::Handle;
use crate::load::protocol::{Arrival, Order, Pace, Trace};
use crate::measure::cpu::{SETTLE, Usage};
use crate::measure::latency::{Latencies, to_f64};
use crate::measure::memory;
use crate::measure::timeline::Deed;
use crate::progress::Progress;
use crate::restarter::Restarter;
use crate::scaler::{Scaled, Scaler};
use crate::scenario::spec::{Fault, Part};
use crate::scenario::{self, Context};
use crate::server::Server;
use crate::stopper::{Hang, Stopper};
use crate::void::{Finished, Seen, Unfinished, Watch};

/// How often a block tells how far it is.
const TICK: Duration = Duration::from_millis(500);

/// One block to be played.
#[derive(Debug)]
pub struct Block<'b> {
    /// What the scenario was given.
    pub context: &'b Context<'b>,
    /// What each worker runs.
    pub runtime: Runtime,
    /// The trace.
    pub arrivals: &'b [Arrival],
    /// How long it is.
    pub length: Duration,
    /// Draws whom a fault hits.
    pub seed: u64,
    /// What is played: how requests are sent, and what is done to the workers.
    pub part: &'b Part,
    /// Most open files of each of the server's processes.
    pub nofile: Option<NonZeroU32>,
    /// Further arguments of `serve`.
    pub options: &'b [&'b str],
}

/// What a block brought.
#[derive(Debug, Default)]
pub struct Played {
    /// What became of each arrival.
    pub trace: Trace,
    /// What the server used; not with kills, where processes go, nor if [`Self::is_restless`].
    pub used: Option<Usage>,
    /// Whether processes came or went that nobody asked to: a stranger's.
    pub is_restless: bool,
    /// What kills cost.
    pub toll: Option<Toll>,
    /// What came of scaling.
    pub scaled: Option<Scaled>,
    /// Rolling restarts that replaced every worker.
    pub restarts: Option<u32>,
    /// Memory of a worker (PSS), mean, in KiB; not with faults, where processes go.
    pub pss_kib: Option<f64>,
    /// What was done to its workers, and when.
    pub deeds: Vec<Deed>,
    /// Who was stopped.
    pub hang: Option<Hang>,
    /// Whether it is void, and kept all the same.
    pub is_void: bool,
    /// What it brought each time before, when it was void and played again: of that figures are worth
    /// nothing, and losses are losses.
    pub voided: Vec<Self>,
    /// What the server's strategy wants known.
    pub remarks: Vec<String>,
    /// What the server was given.
    pub given: Option<Given>,
    /// What was wrong.
    pub failures: Vec<String>,
}

impl Played {
    /// A block that came to no end: all that it brought before.
    #[must_use]
    pub fn unfinished(voided: Vec<Self>) -> Self {
        Self { voided, ..Self::default() }
    }

    /// How late the generator was, 99th percentile, in microseconds.
    #[must_use]
    pub fn lag_p99_us(&self) -> Option<f64> {
        // However few there are: a block is void by it, and that is no figure to be printed.
        let lags = Latencies::of(self.trace.records.iter().map(|record| record.lag_us * 1_000));
        (!lags.is_empty()).then(|| to_f64(lags.at(0.99)) / 1e3)
    }

    /// What a worker needed after a service until the connection was closed: mean, in microseconds.
    #[must_use]
    pub fn after_us(&self) -> Option<f64> {
        let after: Vec<u64> =
            self.trace.records.iter().filter_map(|record| record.after_ns).collect();
        let sum = to_f64(after.iter().sum());
        (!after.is_empty()).then(|| sum / to_f64(after.len() as u64) / 1e3)
    }
}

impl From<Finished<Self>> for Played {
    fn from(Finished { last, is_void, voided }: Finished<Self>) -> Self {
        Self { is_void, voided, ..last }
    }
}

impl Block<'_> {
    /// Plays the block, and again as long as it is void and the umpire has patience.
    ///
    /// # Errors
    /// A server or the load process could not be run, or we were interrupted.
    pub fn play(
        &self,
        contestant: &Contestant,
        load: &mut Handle,
    ) -> Result<Played, Unfinished<Played>> {
        let round = self.context.umpire.play(|| {
            let watch = Watch::start()?;
            let played = self.play_once(contestant, load)?;
            let seen = Seen {
                lag_p99_us: played.lag_p99_us(),
                // Clients of a closed loop are as busy as the server lets them be.
                client: matches!(self.part.pace, Pace::Open)
                    .then(|| to_f64(played.trace.cpu_ns) / 1e9 / self.length.as_secs_f64()),
                ..watch.end()?
            };
            Ok((played, seen))
        });
        round.map(Played::from)
    }

    /// How long the trace takes with so many `workers`: its length, and a closed loop, which is played to its
    /// end, what it takes to work off all of it, one request at a time for each client, worker and core.
    fn lasts(&self, workers: u32) -> Duration {
        let Pace::Closed { clients, .. } = self.part.pace(self.context.asked.clients) else {
            return self.length;
        };
        let work = self.arrivals.iter().map(|one| Duration::from_micros(one.service_us));
        let at_a_time = clients.get().min(workers).min(scenario::cores().max(1));
        self.length.max(work.sum::<Duration>() / at_a_time)
    }

    /// Starts the server, plays the trace, ends the server.
    fn play_once(&self, contestant: &Contestant, load: &mut Handle) -> anyhow::Result<Played> {
        let Context { program, interrupt, progress, .. } = *self.context;
        let workers = self.context.workers_of(contestant);
        let options = if contestant.launch == Launch::Serve { self.options } else { &[] };
        let limit = self.nofile.map(|files| Lowered::to(files.get().into())).transpose()?;
        let mut server =
            Server::start_with(program, contestant, workers, self.runtime, options, interrupt)?;
        drop(limit);
        let target = server.target();
        let kills = matches!(self.part.fault, Some(Fault::Kill { .. }));
        let order = Order::Trace {
            target,
            arrivals: self.arrivals.to_vec(),
            pace: self.part.pace(self.context.asked.clients),
            connections: self.part.connections,
            beside: self.part.beside,
            kills,
        };
        let mut played = Played { given: Some(Given::to(&server)?), ..Played::default() };
        match self.part.fault {
            // A handler that hangs is in the trace.
            None | Some(Fault::Loop { .. }) => {
                let account = server.account()?;
                let before = account.look()?;
                played.trace =
                    load.trace(&order, self.lasts(workers), told(progress, || Ok(None)))?;
                std::thread::sleep(SETTLE);
                played.used = account.used_since(before.as_ref())?;
                played.is_restless = played.used.is_none();
                // A foreign kernel may keep the account to itself; then there is no figure.
                played.pss_kib = memory::mean_pss_kib(account.tree().workers()).ok().flatten();
                while server.try_notice()?.is_some() {}
            }
            Some(Fault::Kill { every_ms }) => {
                let interval = milliseconds(every_ms);
                let mut killer =
                    Killer::new(&mut server, workers, interval, self.length, self.seed, interrupt)?;
                played.trace =
                    load.trace(&order, self.length, told(progress, || killer.glance()))?;
                let toll = killer.finish()?;
                played.failures.extend(toll.failures.iter().cloned());
                played.deeds =
                    toll.kills.iter().map(|kill| Deed::new(kill.at_us, "killed")).collect();
                played.toll = Some(toll);
            }
            Some(Fault::Scale { cycles }) => {
                let mut scaler = Scaler::new(&mut server, workers, cycles.get(), self.length);
                played.trace =
                    load.trace(&order, self.length, told(progress, || scaler.glance()))?;
                let scaled = scaler.finish();
                played.failures.extend(scaled.failures.iter().cloned());
                played.deeds.clone_from(&scaled.deeds);
                played.scaled = Some(scaled);
            }
            Some(Fault::Restart { every_ms }) => {
                let interval = milliseconds(every_ms);
                let mut restarter = Restarter::new(&mut server, interval, self.length);
                let glance = told(progress, || restarter.glance());
                played.trace = load.trace(&order, self.length, glance)?;
                let restarted = restarter.finish(interrupt)?;
                played.failures.extend(restarted.failures);
                played.deeds = restarted.deeds;
                played.restarts = Some(restarted.restarts);
            }
            Some(Fault::Stop { for_ms }) => {
                let (at, length) = (self.length / 5, milliseconds(for_ms));
                let mut stopper =
                    Stopper::new(&mut server, workers, at, length, self.seed, interrupt)?;
                played.trace =
                    load.trace(&order, self.length, told(progress, || stopper.glance()))?;
                played.hang = stopper.finish()?;
                if let Some(hang) = played.hang {
                    played.deeds.push(Deed::new(hang.since_us, "stopped"));
                    played.deeds.push(Deed::new(hang.held_until_us, "goes on"));
                }
            }
        }
        played.remarks = server.remarks().to_vec();
        if let Err(error) = server.end() {
            played.failures.push(format!("{error:#}"));
        }
        Ok(played)
    }
}

/// `glance`, more often than it wishes: somebody may want to see how far we are.
fn told(
    progress: &Progress,
    mut glance: impl FnMut() -> anyhow::Result<Option<Instant>>,
) -> impl FnMut() -> anyhow::Result<Option<Instant>> {
    move || {
        progress.tick();
        let soon = Instant::now() + TICK;
        Ok(Some(glance()?.map_or(soon, |next| next.min(soon))))
    }
}

fn milliseconds(ms: NonZeroU32) -> Duration {
    Duration::from_millis(ms.get().into())
}

/// The seed of a round's trace: six digits, so that it can be read and told.
#[must_use]
pub fn trace_seed(scenario: u64, round: u32) -> u64 {
    scenario.wrapping_add(u64::from(round) + 1) % 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::category::Category;
    use crate::load::protocol::Record;

    #[test]
    fn what_workers_needed_afterwards_is_averaged_over_those_that_told() {
        let record = |after_ns| Record {
            lag_us: 7_000,
            unseen_us: 0,
            latency_us: 1,
            service_us: None,
            worker: None,
            taken_us: None,
            after_ns,
            category: Category::Served,
        };
        let records = vec![record(None), record(Some(50_000)), record(Some(70_000))];
        let played = Played { trace: Trace { records, ..Trace::default() }, ..Played::default() };
        assert_eq!(played.after_us(), Some(60.0));
        assert_eq!(Played::default().after_us(), None);
        let lag_us = played.lag_p99_us().expect("three requests tell whether the client was late");
        assert!((lag_us / 7_000.0 - 1.0).abs() < 0.01, "{lag_us}");
    }

    #[test]
    fn seeds_have_six_digits_at_most_and_differ_by_round() {
        assert_eq!(trace_seed(1_999_998, 0), 999_999);
        assert_eq!(trace_seed(1_999_998, 1), 0);
    }
}
