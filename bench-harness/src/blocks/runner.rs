//! What one contestant did over all blocks, and what is reported of it.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;

use super::{hung, tails};
use crate::accounts;
use crate::block::Played;
use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::killer::Toll;
use crate::limits::Given;
use crate::load::category::{Category, Tally};
use crate::load::protocol::{Arrival, Record, Trace};
use crate::measure::cpu::in_no_account;
use crate::measure::figures::{Figures, Ideals, WARM_UP};
use crate::measure::generator::Lags;
use crate::measure::latency::to_f64;
use crate::measure::ratio::{self, median};
use crate::measure::share::Share;
use crate::measure::timeline::{self, Deed};
use crate::report::{Caution, Hung, Kills, Moment, Ratios, Row, Samples, Tail};
use crate::scenario::spec::{Fault, Open, Part};
use crate::scenario::{self, Context, INTERRUPTED, ended, unaccounted};

/// Consecutive requests that are resampled together: they queued behind each other.
const CHUNK: usize = 100;

/// More than so many times the work that was asked for is another load,
const STRETCH_MAX: f64 = 1.1;
/// if more than this part of all that workers have was added.
const ADDED_MAX: f64 = 0.05;

/// Accepting loops of a worker.
const LANES: u64 = 1;

/// What one contestant did over all blocks.
#[derive(Default)]
pub(super) struct Runner {
    pub(super) label: String,
    workers: u32,
    /// Whether it has a block whose figures count.
    has_played: bool,
    /// Cores of this machine.
    cores: u32,
    /// Whether all blocks are of one kind, so that their latencies may be pooled.
    of_one_kind: bool,
    /// Whether the ideal, which has no faults, is a yardstick.
    has_ideal: bool,
    /// Whether late requests are what is counted.
    may_be_late: bool,
    kills: Option<Kills>,
    /// Those of void blocks, too, as is [`Self::made`].
    connections: Tally,
    made: u64,
    /// The same without those that were late in a block that was played again: there the machine kept
    /// nobody's time.
    judged: Tally,
    /// Measured work by worker, in microseconds.
    busy_us: BTreeMap<u32, u64>,
    /// Work as it was asked for, and as it was measured, in microseconds.
    asked_us: u64,
    worked_us: u64,
    /// What its workers had, in microseconds.
    had_us: u64,
    /// Latencies of the measured part, by chunk of the trace, in nanoseconds.
    chunks: Vec<Vec<u64>>,
    /// How many chunks each block brought.
    chunks_of: Vec<usize>,
    figures: Figures,
    /// Of its first block of each kind with a fault, one after the other.
    timeline: Vec<Moment>,
    /// Kinds that are not on it yet.
    untold: usize,
    pss_kib: Vec<f64>,
    retried: u64,
    /// Those of all blocks, whoever was not served included.
    samples: Samples,
    tails: Vec<Tail>,
    hung: Vec<Hung>,
    /// Requests served per second, by block; of closed loops only, elsewhere the trace decides it.
    throughput: Vec<f64>,
    cpu_server_us: Vec<f64>,
    cpu_both_us: Vec<f64>,
    switches: Vec<f64>,
    /// Whether there is no account of what was used in some block.
    is_restless: bool,
    after_us: Vec<f64>,
    lags: Lags,
    /// How late the generator was: the 99th percentile of its worst block.
    lag_us: Option<f64>,
    void: u32,
    given: Option<Given>,
    cycles: u32,
    restarts: u32,
    remarks: Vec<String>,
    failures: Vec<String>,
}

impl Runner {
    pub(super) fn new(
        contestant: &Contestant,
        context: &Context<'_>,
        runtime: Runtime,
        open: &Open,
    ) -> Self {
        Self::of(contestant.label(), context.workers_of(contestant), runtime, open)
    }

    fn of(label: String, workers: u32, runtime: Runtime, open: &Open) -> Self {
        let mut faults = open.parts.iter().filter_map(|part| part.fault);
        let kills = faults.any(|fault| matches!(fault, Fault::Kill { .. }));
        let untold = open.parts.iter().filter(|part| part.fault.is_some()).count();
        Self {
            label,
            workers,
            cores: scenario::cores(),
            of_one_kind: open.parts.len() == 1,
            has_ideal: open.has_ideal(runtime),
            may_be_late: open.parts.iter().any(|part| part.may_be_late),
            kills: kills.then(Kills::default),
            untold,
            ..Self::default()
        }
    }

    /// Whether it has a block whose figures count.
    pub(super) fn has_played(&self) -> bool {
        self.has_played
    }

    /// Its row if it has not: somebody interrupted us.
    pub(super) fn left_out(&self) -> Row {
        Row {
            contestant: self.label.clone(),
            skipped: Some(INTERRUPTED.to_owned()),
            connections: self.connections.clone(),
            void: self.void,
            ..Row::default()
        }
    }

    /// Adds what a block brought; the ideal is charged `charge_us` per request.
    pub(super) fn add(
        &mut self,
        part: &Part,
        arrivals: &[Arrival],
        played: Played,
        charge_us: f64,
    ) {
        self.account(arrivals, &played);
        self.has_played = true;
        let records = &played.trace.records;
        self.lags.add(&played.trace);
        self.pss_kib.extend(played.pss_kib);
        for record in records {
            if let (Some(worker), Some(service_us)) = (record.worker, record.service_us) {
                *self.busy_us.entry(worker).or_default() += service_us;
            }
        }
        // A worker that hangs is meant to take longer.
        if part.fault.and_then(hung::word).is_none() {
            self.had_us += u64::from(self.workers) * played.trace.wall_us;
            for (arrival, record) in arrivals.iter().zip(records) {
                if let Some(service_us) = record.service_us {
                    self.asked_us += arrival.service_us;
                    self.worked_us += service_us;
                }
            }
        }
        let warm = records.len() / WARM_UP;
        for chunk in records[warm..].chunks(CHUNK) {
            self.samples.chunks.push(chunk.iter().map(Record::waited_ns).collect());
        }
        let ideals = Ideals::of(arrivals, &played.trace, charge_us, self.workers, self.cores);
        for figure in &part.figures {
            tails::add(&mut self.tails, figure, arrivals, records, &ideals, warm);
        }
        if self.of_one_kind {
            let before = self.chunks.len();
            for chunk in records[warm..].chunks(CHUNK) {
                self.chunks.push(chunk.iter().filter_map(Record::latency_ns).collect());
            }
            self.chunks_of.push(self.chunks.len() - before);
            self.figures.add(arrivals, &played.trace, &ideals);
            self.is_restless |= played.is_restless;
            if let Some(used) = &played.used {
                // Who was not served cost something, too.
                let requests = to_f64(records.len() as u64);
                let client_ns = played.trace.cpu_ns;
                self.switches.push(to_f64(used.switches) / requests);
                self.cpu_server_us.push(to_f64(used.total_ns()) / 1e3 / requests);
                self.cpu_both_us.push(to_f64(used.total_ns() + client_ns) / 1e3 / requests);
            }
            if part.is_closed() && played.trace.wall_us > 0 {
                let served = to_f64(played.trace.requests().of(Category::Served));
                self.throughput.push(served * 1e6 / to_f64(played.trace.wall_us));
            }
        }
        self.after_us.extend(played.after_us());
        self.lag_us = self.lag_us.into_iter().chain(played.lag_p99_us()).max_by(f64::total_cmp);
        self.given = played.given;
        self.cycles += played.scaled.as_ref().map_or(0, |scaled| scaled.cycles);
        self.restarts += played.restarts.unwrap_or_default();
        if let Some(how) = part.fault.and_then(hung::word) {
            self.add_hung(how, arrivals, &played);
        }
        // Parts come in turn: these are the blocks of the first round.
        if part.fault.is_some() && self.untold > 0 {
            self.untold -= 1;
            let looped = hung::looped(arrivals, &played.trace);
            let looped = looped.map(|hang| Deed::new(hang.since_us, "looping"));
            let deeds: Vec<Deed> = played.deeds.iter().cloned().chain(looped).collect();
            let moments = timeline::moments(arrivals, &played.trace, &deeds);
            timeline::follow(&mut self.timeline, moments);
        }
        for remark in played.remarks {
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
    }

    /// Adds what was lost, and what became of every connection of a block, each time that it was played.
    /// This is all that is kept of a block of a part that not everybody has played.
    pub(super) fn account(&mut self, arrivals: &[Arrival], played: &Played) {
        for void in &played.voided {
            self.count(arrivals, void);
            self.judged.add(&void.trace.connections.without(Category::Late));
        }
        self.count(arrivals, played);
        self.judged.add(&played.trace.connections);
        self.failures.extend(without_connection(&played.trace));
        self.void += u32::try_from(played.voided.len()).unwrap_or(u32::MAX);
        self.void += u32::from(played.is_void);
    }

    /// Adds what became of every connection, one time that a block was played.
    fn count(&mut self, arrivals: &[Arrival], played: &Played) {
        self.failures.extend(played.failures.iter().cloned());
        let trace = &played.trace;
        self.made += trace.made;
        self.retried += trace.retried;
        self.connections.add(&trace.connections);
        if let (Some(kills), Some(toll)) = (&mut self.kills, &played.toll) {
            settle(toll, arrivals, played, kills);
        }
    }

    /// Adds who waited for the worker that hung.
    fn add_hung(&mut self, how: &str, arrivals: &[Arrival], played: &Played) {
        let Some(hang) = played.hang.or_else(|| hung::looped(arrivals, &played.trace)) else {
            self.failures.push(format!("no worker was {how}"));
            return;
        };
        let seen = hung::count(how, &played.trace, hang);
        match self.hung.iter_mut().find(|hung| hung.how == seen.how) {
            Some(hung) => hung.add(&seen),
            None => self.hung.push(seen),
        }
    }

    /// Its row; everything as ratio to the yardstick on the same traces, too, if there is one.
    pub(super) fn row(&self, yardstick: Option<&Self>, random: &mut SmallRng) -> Row {
        let ratios = match yardstick {
            Some(other) if !std::ptr::eq(self, other) => self.ratios(other, random),
            _ => Ratios::default(),
        };
        let mut row = Row {
            contestant: self.label.clone(),
            throughput: median(&mut self.throughput.clone()),
            cpu_server_us: median(&mut self.of_all(&self.cpu_server_us).to_vec()),
            cpu_both_us: median(&mut self.of_all(&self.cpu_both_us).to_vec()),
            after_us: median(&mut self.after_us.clone()),
            switches: median(&mut self.of_all(&self.switches).to_vec()),
            share: Share::of(&self.busy_us, self.workers),
            connections: self.connections.clone(),
            ratios,
            kills: self.kills,
            tails: self.tails.clone(),
            void: self.void,
            listeners: self.given.map(|given| given.listeners),
            backlog: self.given.and_then(|given| given.backlog),
            open_files: self.given.map(|given| given.open_files),
            hung: self.hung.clone(),
            cycles: (self.cycles > 0).then_some(self.cycles),
            restarts: (self.restarts > 0).then_some(self.restarts),
            lag_p99_us: self.lag_us,
            generator: self.lags.summary(),
            retried: self.retried,
            timeline: self.timeline.clone(),
            pss_kib: median(&mut self.pss_kib.clone()),
            samples: self.samples.clone(),
            ..Row::default()
        };
        if self.of_one_kind {
            self.figures.fill(&mut row, self.has_ideal);
        }
        row
    }

    /// Everything as ratio to the yardstick, block by block, and percentiles chunk by chunk.
    fn ratios(&self, yardstick: &Self, random: &mut SmallRng) -> Ratios {
        let (own, other) = (&self.chunks, &yardstick.chunks);
        let mut at =
            |quantile| ratio::percentile_of_blocks(own, other, &self.chunks_of, quantile, random);
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        let mut paired = |own: &[f64], other: &[f64]| ratio::paired(own, other, random);
        Ratios {
            throughput: paired(&self.throughput, &yardstick.throughput),
            p50,
            p99,
            p999,
            cpu_server: paired(
                self.of_all(&self.cpu_server_us),
                yardstick.of_all(&yardstick.cpu_server_us),
            ),
            cpu_both: paired(
                self.of_all(&self.cpu_both_us),
                yardstick.of_all(&yardstick.cpu_both_us),
            ),
        }
    }

    /// Figures of what was used if every block has one: they are compared block by block.
    fn of_all<'f>(&self, figures: &'f [f64]) -> &'f [f64] {
        if figures.len() == self.chunks_of.len() { figures } else { &[] }
    }

    /// Whether its workers told what they needed after each service.
    pub(super) fn told_after(&self) -> bool {
        !self.after_us.is_empty()
    }

    /// What is to be known before its figures are believed.
    pub(super) fn cautions(&self) -> impl Iterator<Item = Caution> {
        let restless = self.is_restless.then(|| in_no_account(&self.label));
        let stretch = to_f64(self.worked_us) / to_f64(self.asked_us).max(1.0);
        // Where work is short all of it is: what is added to it is no load.
        let added =
            to_f64(self.worked_us.saturating_sub(self.asked_us)) / to_f64(self.had_us).max(1.0);
        let is_other = self.asked_us > 0 && stretch > STRETCH_MAX && added > ADDED_MAX;
        let slow = is_other.then(|| too_much(&self.label, stretch));
        restless.into_iter().chain(slow)
    }

    /// What its strategy wants known.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        self.remarks.iter().map(|text| format!("{}: {text}", self.label))
    }

    /// What may not be: an unaccounted connection, a failure without a kill, more of them than kills
    /// explain.
    pub(super) fn failures(&self, row: &Row) -> Vec<String> {
        let label = &self.label;
        let own = self.failures.iter().map(|failure| format!("{label}: {failure}"));
        let mut failures: Vec<String> = own.collect();
        let never = |category: Category| match category {
            Category::Late => !self.may_be_late,
            Category::Shed => row.kills.is_none(),
            _ if row.kills.is_some() && category.may_come_of_a_kill() => false,
            _ => category.is_failure(),
        };
        failures.extend(unaccounted(label, &self.connections, self.made));
        failures.extend(ended(label, &self.judged, never));
        let unexplained = row.kills.and_then(|kills| kills.each).map_or(0, |each| each.unexplained);
        if unexplained > 0 {
            failures.push(format!(
                "{label}: {unexplained} connections failed that no kill explains: beyond what the \
                 workers killed just before had in service, and one more each that was not counted \
                 yet"
            ));
        }
        failures
    }
}

/// Requests that failed though no connection did, as none of the kept ones was free in time; and those that were
/// refused though no connection was, which may not be.
fn without_connection(trace: &Trace) -> impl Iterator<Item = String> {
    let (requests, connections) = (trace.requests(), &trace.connections);
    let shed = |tally: &Tally| tally.of(Category::Shed);
    [
        (requests.failed(), connections.failed(), "found no kept connection free in time"),
        (
            shed(&requests),
            shed(connections),
            "were shed on connections that are not counted as shed",
        ),
    ]
    .into_iter()
    .filter(|(requests, connections, _)| requests > connections)
    .map(|(requests, connections, what)| format!("{} requests {what}", requests - connections))
}

/// Adds the kills of a block, each with its account.
fn settle(toll: &Toll, arrivals: &[Arrival], played: &Played, sum: &mut Kills) {
    let trace = &played.trace;
    let ends = arrivals
        .iter()
        .zip(&trace.records)
        .filter(|(_, record)| record.category.may_come_of_a_kill())
        .map(|(arrival, record)| {
            let seen_us = trace.start_us + arrival.at_us + record.latency_us;
            seen_us.saturating_sub(record.unseen_us)..=seen_us
        })
        .collect();
    let settled = accounts::settle(&toll.kills, ends, accounts::MARGIN_US, LANES);
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

/// What is to be known of `label`, which worked `stretch` times as long as it was asked to.
fn too_much(label: &str, stretch: f64) -> Caution {
    Caution::new(
        format!("{label} worked {stretch:.2} times as long as it was asked to."),
        "So much higher was its load than the scenario says, and ratios to the ideal are those at that load.",
        "Run where nothing else does, or ask for longer work: each sleep ends late by the same time.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupted;
    use crate::measure::cpu::Usage;
    use crate::report::EachKill;
    use crate::scenario::builtin;
    use crate::scenario::spec::Engine;
    use crate::void::{Rules, Seen, Umpire, until_unfinished};

    fn open(name: &str) -> Open {
        match builtin::find(name).unwrap().engine {
            Engine::Open(open) => open,
            other => panic!("{name} is no open loop: {other:?}"),
        }
    }

    /// What a server would have measured that is the ideal, but answers everything half as late again.
    fn played(arrivals: &[Arrival]) -> Played {
        let records = arrivals.iter().map(Record::served).collect();
        let mut trace = Trace { records, ..Trace::default() };
        let ideals = Ideals::of(arrivals, &trace, 50.0, 8, 1);
        for (record, ideal) in trace.records.iter_mut().zip(ideals.queue_ns) {
            record.latency_us = ideal / 1_000 * 3 / 2;
        }
        Played { trace, ..Played::default() }
    }

    #[test]
    fn a_server_half_as_slow_again_is_one_and_a_half_times_the_ideal() {
        let open = open("tail");
        let part = &open.parts[2];
        let length = part.length(None).unwrap();
        let arrivals = part.shape(8, 2, length).unwrap().draw(1).unwrap();
        let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
        runner.add(part, &arrivals, played(&arrivals), 50.0);
        assert_eq!(runner.tails.len(), 2);
        for tail in &runner.tails {
            let ratio = tail.over_ideal[0];
            assert!((ratio - 1.5).abs() < 0.001, "{tail:?}");
        }
        let row = Row::default();
        assert_eq!(runner.failures(&row), Vec::<String>::new());
    }

    #[test]
    fn work_that_takes_longer_than_was_asked_for_is_said_where_nobody_hangs() {
        let seen = |name: &str, stretch: u64, wall_s: u64| {
            let open = open(name);
            let part = &open.parts[0];
            let shape = part.shape(8, 2, std::time::Duration::from_secs(2)).unwrap();
            let arrivals = shape.draw(1).unwrap();
            let mut slow = played(&arrivals);
            slow.trace.wall_us = wall_s * 1_000_000;
            for record in &mut slow.trace.records {
                record.service_us = record.service_us.map(|us| us * stretch / 100);
            }
            let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
            runner.add(part, &arrivals, slow, 50.0);
            runner.cautions().map(|caution| caution.seen).collect::<Vec<String>>()
        };
        assert_eq!(
            seen("worker-killed", 152, 2),
            ["it worked 1.52 times as long as it was asked to."]
        );
        assert_eq!(seen("worker-killed", 105, 2), [""; 0]);
        assert_eq!(seen("worker-hung", 152, 2), [""; 0]);
        // As much of each, but hardly any work.
        assert_eq!(seen("worker-killed", 152, 60), [""; 0]);
    }

    #[test]
    fn a_quick_reset_is_no_short_latency() {
        let open = open("tail");
        let part = &open.parts[0];
        let arrivals = part.shape(8, 2, part.length(None).unwrap()).unwrap().draw(1).unwrap();
        let mut played = played(&arrivals);
        for record in played.trace.records.iter_mut().step_by(20) {
            (record.category, record.latency_us) = (Category::Reset, 10);
        }
        let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
        runner.add(part, &arrivals, played, 50.0);
        assert!(runner.tails[0].over_ideal[0] > 1_000.0, "{:?}", runner.tails);
        assert!(!runner.tails[0].shared);
    }

    #[test]
    fn blocks_of_one_kind_have_curves_and_those_with_faults_a_timeline() {
        let mut random = rand::SeedableRng::seed_from_u64(1);
        let mut row = |name: &str, deeds: Vec<Deed>| {
            let open = open(name);
            let part = &open.parts[0];
            let shape = part.shape(8, 2, std::time::Duration::from_secs(20)).unwrap();
            let arrivals = shape.draw(1).unwrap();
            let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
            let played = Played { deeds, pss_kib: Some(900.0), ..played(&arrivals) };
            runner.add(part, &arrivals, played, 50.0);
            runner.row(None, &mut random)
        };
        let calm = row("uneven-work", Vec::new());
        assert!(calm.curve.len() > 40 && calm.ideal_curve.len() == calm.curve.len(), "{calm:?}");
        assert!(calm.short.is_some() && calm.slowdown.is_some() && calm.timeline.is_empty());
        assert_eq!(calm.pss_kib, Some(900.0));

        let killed = row("worker-killed", vec![Deed::new(10_000_000, "killed")]);
        assert_eq!((killed.ideal, killed.ideal_curve), (None, Vec::new()));
        let when = killed.timeline.iter().find(|moment| moment.done.is_some()).unwrap();
        assert!((when.at_s - 10.0).abs() < 0.15, "{when:?}");
        assert!(killed.timeline.iter().all(|moment| moment.due > 0 && moment.failed == 0));
    }

    #[test]
    fn a_closed_loop_has_a_throughput_of_what_was_served() {
        let row = |name: &str| {
            let open = open(name);
            let part = &open.parts[0];
            let shape = part.shape(8, 2, std::time::Duration::from_secs(20)).unwrap();
            let arrivals = shape.draw(1).unwrap();
            let mut block = played(&arrivals);
            block.trace.records.truncate(1_000);
            block.trace.wall_us = 2_000_000;
            block.trace.records[0].category = Category::Reset;
            let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
            let mut faster = Runner::of("other".to_owned(), 8, Runtime::Blocking, &open);
            let mut half = block.trace.clone();
            half.wall_us /= 2;
            faster.add(part, &arrivals, Played { trace: half, ..Played::default() }, 50.0);
            runner.add(part, &arrivals, block, 50.0);
            runner.row(Some(&faster), &mut rand::SeedableRng::seed_from_u64(1))
        };
        let closed = row("closed-loop");
        assert_eq!(closed.throughput, Some(499.5));
        assert_eq!(closed.ratios.throughput.map(|ratio| ratio.value), Some(0.5));
        let open = row("uneven-work");
        assert_eq!((open.throughput, open.ratios.throughput), (None, None));
    }

    #[test]
    fn who_has_no_account_of_one_block_has_no_figure_of_cpu() {
        let open = open("uneven-work");
        let part = &open.parts[0];
        let shape = part.shape(8, 2, std::time::Duration::from_secs(2)).unwrap();
        let arrivals = shape.draw(1).unwrap();
        let runner = |label: &str, blocks: &[Option<u64>]| {
            let mut runner = Runner::of(label.to_owned(), 8, Runtime::Blocking, &open);
            for ns in blocks {
                let used = ns.map(|ns| Usage { cpu_ns: vec![ns], switches: ns });
                let is_restless = used.is_none();
                let block = Played { used, is_restless, ..played(&arrivals) };
                runner.add(part, &arrivals, block, 50.0);
            }
            runner
        };
        let steady = runner("steady", &[Some(1_000), Some(8_000), Some(4_000)]);
        let mut random = rand::SeedableRng::seed_from_u64(1);
        let mut row = |one: &Runner, other| {
            let Row { cpu_server_us, cpu_both_us, switches, ratios, .. } =
                one.row(Some(other), &mut random);
            let ratios = [ratios.cpu_server, ratios.cpu_both];
            let figures = [cpu_server_us, cpu_both_us, switches];
            (figures.map(|figure| figure.is_some()), ratios.map(|ratio| ratio.map(|it| it.value)))
        };
        let half = runner("half", &[Some(500), Some(4_000), Some(2_000)]);
        assert_eq!(row(&half, &steady), ([true; 3], [Some(0.5); 2]));
        assert_eq!(half.cautions().count(), 0);
        // Without its first block the others would be set against those of another trace.
        let unsteady = runner("unsteady", &[None, Some(4_000), Some(2_000)]);
        assert_eq!(row(&unsteady, &steady), ([false; 3], [None; 2]));
        assert_eq!(row(&steady, &unsteady), ([true; 3], [None; 2]));
        let seen: Vec<String> = unsteady.cautions().map(|caution| caution.seen).collect();
        assert_eq!(seen, ["unsteady started or ended processes under load."]);
    }

    #[test]
    fn every_kind_of_fault_has_its_stretch_of_the_timeline() {
        let open = open("worker-hung");
        let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
        for _round in 0..2 {
            for (part, word) in open.parts.iter().zip(["stopped", "looping"]) {
                let length = part.length(None).unwrap();
                let arrivals = part.shape(8, 2, length).unwrap().draw(1).unwrap();
                let deeds = vec![Deed::new(2_000_000, word)];
                runner.add(part, &arrivals, Played { deeds, ..played(&arrivals) }, 50.0);
            }
        }
        let done = runner.timeline.iter().filter_map(|moment| {
            let done = moment.done.as_deref()?;
            Some(format!("{:.0} s {done}", moment.at_s))
        });
        let done = done.collect::<Vec<_>>().join(", ");
        assert_eq!(done, "2 s stopped, 10 s the next block, 12 s looping");
        assert!(runner.timeline.is_sorted_by(|one, next| one.at_s < next.at_s));
    }

    #[test]
    fn what_was_lost_in_a_block_that_was_played_again_is_lost() {
        let open = open("uneven-work");
        let part = &open.parts[0];
        let arrivals =
            part.shape(8, 2, std::time::Duration::from_secs(2)).unwrap().draw(1).unwrap();
        let block = |ends: &[Category], failures: &[&str]| {
            let mut block = played(&arrivals);
            block.trace.made = 3;
            ends.iter().for_each(|&end| block.trace.connections.count(end));
            block.failures = failures.iter().map(|&failure| failure.to_owned()).collect();
            block
        };
        use Category::{Late, Reset, Served};
        let voided = vec![block(&[Served, Late, Reset], &[]), block(&[Served, Served], &["ill"])];
        let last = Played { voided, ..block(&[Served, Served, Served], &[]) };
        let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open);
        runner.add(part, &arrivals, last, 50.0);
        let row = runner.row(None, &mut rand::SeedableRng::seed_from_u64(1));
        assert_eq!((row.void, row.connections.sum()), (2, 8));
        // Who is late there may blame the machine; nobody else.
        assert_eq!(
            runner.failures(&row),
            ["it: ill", "it: 9 connections made, but 8 accounted for", "it: 1 connections reset"]
        );
    }

    #[test]
    fn what_was_lost_before_a_block_was_interrupted_is_lost() {
        let umpire = Umpire::new(Rules::default(), false);
        let mut lost = Played::default();
        lost.trace.made = 1;
        lost.trace.connections.count(Category::Reset);
        let void = Seen { overflows: 1, ..Seen::default() };
        let mut plays = [Ok((lost, void)), Err(Interrupted.into())].into_iter();
        let block = umpire.play(|| plays.next().unwrap()).map(Played::from);
        let (brought, ended) = until_unfinished([block], Played::unfinished);
        assert!(ended.is_err() && plays.next().is_none());
        let mut runner = Runner::of("it".to_owned(), 8, Runtime::Blocking, &open("uneven-work"));
        brought.iter().for_each(|played| runner.account(&[], played));
        let row = runner.left_out();
        assert_eq!((row.void, row.connections.of(Category::Reset)), (1, 1));
        assert_eq!(runner.failures(&row), ["it: 1 connections reset"]);
    }

    #[test]
    fn who_was_refused_on_a_connection_that_counts_as_served_makes_the_run_a_failure() {
        let open = open("uneven-keep-alive");
        let part = &open.parts[0];
        let arrivals =
            part.shape(8, 2, std::time::Duration::from_secs(2)).unwrap().draw(1).unwrap();
        for (refused, expected) in [
            (
                Category::Served,
                &["it: 1 requests were shed on connections that are not counted as shed"][..],
            ),
            (Category::Shed, &["it: 1 connections shed"]),
        ] {
            let mut block = played(&arrivals);
            block.trace.records[0].category = Category::Shed;
            block.trace.made = 2;
            block.trace.connections.count(Category::Served);
            block.trace.connections.count(refused);
            let mut runner = Runner::of("it".to_owned(), 8, Runtime::Tokio, &open);
            runner.add(part, &arrivals, block, 50.0);
            assert_eq!(runner.failures(&Row::default()), expected);
        }
    }

    #[test]
    fn what_may_not_be_makes_the_run_a_failure() {
        let check = |kills: Option<Kills>, categories: &[Category], expected: &[&str]| {
            let mut runner = Runner { label: "it".to_owned(), made: 3, ..Runner::default() };
            categories.iter().for_each(|&category| runner.connections.count(category));
            runner.judged = runner.connections.clone();
            let row = Row { kills, ..Row::default() };
            assert_eq!(runner.failures(&row), expected, "{categories:?}");
        };
        use Category::{Late, Other, Refused, Reset, Served, Taken};
        let kills = |kills, unexplained| {
            let each = Some(EachKill { unexplained, ..EachKill::default() });
            Some(Kills { kills, each, ..Kills::default() })
        };
        check(None, &[Served, Served, Served], &[]);
        check(None, &[Served, Served], &["it: 3 connections made, but 2 accounted for"]);
        check(None, &[Served, Served, Reset], &["it: 1 connections reset"]);
        check(kills(1, 0), &[Served, Served, Taken], &[]);
        check(kills(1, 0), &[Served, Served, Other], &["it: 1 connections other"]);
        // No kill makes a queue long, nor takes a listener away.
        let expected = ["it: 1 connections refused", "it: 1 connections late"];
        check(kills(9, 0), &[Served, Late, Refused], &expected);
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
