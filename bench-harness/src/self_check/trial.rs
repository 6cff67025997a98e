//! One trial: pairs of servers, one pair after the other, visited in paired slices.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::interrupt::Interrupt;
use crate::load::Handle;
use crate::load::protocol::Order;
use crate::measure::cpu::Account;
use crate::measure::latency::{Latencies, to_f64};
use crate::measure::ratio::{self, Ratio, median};
use crate::process::Program;
use crate::progress::Progress;
use crate::report::self_check::Side;
use crate::server::Server;
use crate::slice::Sample;
use crate::void::{Umpire, Watch};

/// Connections outstanding, as in *short-connections*.
const CLIENTS: u32 = 16;

/// Connections in a slice: about 25 ms.
pub(super) const CONNECTIONS: u32 = 400;

/// Fewest rounds with a pair, however long they take.
const ROUNDS_MIN: u32 = 2;

/// What a trial needs.
pub(super) struct Trial<'t> {
    pub(super) program: &'t Program,
    pub(super) contestant: &'t Contestant,
    pub(super) workers: u32,
    pub(super) runtime: Runtime,
    /// Pairs of servers.
    pub(super) pairs: u32,
    /// How long it may take.
    pub(super) length: Duration,
    pub(super) umpire: &'t Umpire,
    pub(super) interrupt: &'t Interrupt,
    pub(super) progress: &'t Progress,
}

/// A running server of a pair.
struct Runner {
    server: Server,
    account: Account,
}

/// What was measured with one pair: by round, the first and the second.
type Pair = Vec<[Sample; 2]>;

/// What a trial brought.
pub(super) struct Seen(Vec<Pair>);

impl Trial<'_> {
    /// Measures pairs whose servers get the further `arguments` of their side.
    ///
    /// # Errors
    /// A server or the load process could not be run, or we were interrupted.
    pub(super) fn run(
        &self,
        name: &str,
        arguments: impl Fn(Side) -> Vec<String>,
        random: &mut SmallRng,
    ) -> anyhow::Result<Seen> {
        self.progress.begin(name, self.length, None);
        let start = Instant::now();
        let mut load = Handle::start(self.program, self.interrupt)?;
        let mut pairs = Vec::new();
        for pair in 0..self.pairs {
            let until = start + self.length * (pair + 1) / self.pairs;
            // In random order, too: who starts first may get the better pages.
            let mut order = [Side::First, Side::Second];
            order.shuffle(random);
            let [one, other] =
                order.map(|side| self.start(&arguments(side)).context(name.to_owned()));
            let mut runners = [one?, other?];
            if order[0] == Side::Second {
                runners.swap(0, 1);
            }
            pairs.push(self.visit(&mut load, &runners, until, random)?);
            for runner in runners {
                runner.server.end()?;
            }
        }
        self.progress.end();
        Ok(Seen(pairs))
    }

    fn start(&self, arguments: &[String]) -> anyhow::Result<Runner> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Server::start_with(
            self.program,
            self.contestant,
            self.workers,
            self.runtime,
            &arguments,
            self.interrupt,
        )?;
        let account = server.account()?;
        Ok(Runner { server, account })
    }

    /// Rounds with one pair until it is time for the next.
    fn visit(
        &self,
        load: &mut Handle,
        runners: &[Runner; 2],
        until: Instant,
        random: &mut SmallRng,
    ) -> anyhow::Result<Pair> {
        let mut rounds = Pair::new();
        let mut order = [0, 1];
        // Round 0 is the warm-up.
        for round in 0_u32.. {
            order.shuffle(random);
            let watch = Watch::start()?;
            let mut samples = [None, None];
            for index in order {
                samples[index] = Some(runners[index].slice(load)?);
            }
            self.progress.tick();
            let [Some(first), Some(second)] = samples else { bail!("a slice was left out") };
            let is_void = round > 0 && self.umpire.voids(&watch.end()?);
            if round > 0 && (!is_void || self.umpire.keeps()) {
                rounds.push([first, second]);
            }
            if Instant::now() >= until && round >= ROUNDS_MIN {
                break;
            }
        }
        Ok(rounds)
    }
}

impl Runner {
    fn slice(&self, load: &mut Handle) -> anyhow::Result<Sample> {
        let target = self.server.target();
        let order = Order::Short { target, clients: CLIENTS, connections: CONNECTIONS };
        let sample = Sample::take(load, &self.account, None, &order)?;
        let served = sample.slice.latency_ns.len();
        if served != CONNECTIONS as usize {
            bail!("{served} of {CONNECTIONS} connections were served");
        }
        Ok(sample)
    }
}

impl Seen {
    /// Rounds that count.
    pub(super) fn rounds(&self) -> u32 {
        self.0.iter().map(|pair| u32::try_from(pair.len()).unwrap_or(u32::MAX)).sum()
    }

    /// Server CPU per connection, in microseconds: median over all slices.
    pub(super) fn cpu_us(&self) -> Option<f64> {
        let samples = self.0.iter().flatten().flatten();
        median(&mut samples.filter_map(Sample::cpu_server_us).collect::<Vec<_>>())
    }

    /// Server CPU per connection of the first over that of the second.
    pub(super) fn cpu(&self, random: &mut SmallRng) -> Option<Ratio> {
        ratio::grouped(&self.ratios(Sample::cpu_server_us), random)
    }

    /// The 99th percentile of latency in a slice, of the first over the second. Slice by slice, and not of
    /// all latencies together, so that one stall of the machine is one observation.
    pub(super) fn p99(&self, random: &mut SmallRng) -> Option<Ratio> {
        let p99 = |sample: &Sample| {
            Some(to_f64(Latencies::of(sample.slice.latency_ns.iter().copied()).at(0.99)))
        };
        ratio::grouped(&self.ratios(p99), random)
    }

    /// A figure of the first over that of the second: by pair and round.
    fn ratios(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Vec<Vec<f64>> {
        let ratio = |[first, second]: &[Sample; 2]| Some(figure(first)? / figure(second)?);
        self.0.iter().map(|pair| pair.iter().filter_map(ratio).collect()).collect()
    }
}
