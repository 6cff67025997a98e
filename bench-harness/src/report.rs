//! The result of a comparison: one versioned structure, from which every output is made.

pub mod advice;
pub mod caution;
pub mod csv;
pub mod diff;
pub mod flat;
pub mod grid;
pub mod html;
pub mod machine;
pub mod markdown;
pub mod outputs;
pub mod reading;
pub mod saved;
pub mod schema;
pub mod self_check;
pub mod tables;
pub mod terminal;
pub mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::Runtime;
use crate::contestant::BASELINE;
use crate::load::category::Tally;
use crate::measure::figures::Slowdown;
use crate::measure::generator::Generator;
use crate::measure::latency::Latency;
use crate::measure::ratio::{ROUNDS_MIN, Ratio};
use crate::measure::share::Share;
use crate::void::Voids;
pub use caution::Caution;
use machine::{Build, Machine};
use self_check::SelfCheck;

/// The name and version of this structure as JSON.
pub const SCHEMA: &str = "forkherd-bench/2";

/// A whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The name and version of this structure: `forkherd-bench/2`.
    pub schema: String,
    /// The version of this program.
    pub version: String,
    /// When it began, UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// What measured, and was measured.
    #[serde(default)]
    pub build: Build,
    /// Processes that wanted to run in the minute before it began, on average.
    #[serde(default)]
    pub load_average: Option<f64>,
    /// What a reader should know about all figures.
    #[serde(default)]
    pub cautions: Vec<Caution>,
    /// What was drawn from it: orders, arrivals, work, kills, resamples.
    pub seed: u64,
    /// The contestant that ratios are taken to.
    #[serde(default = "baseline")]
    pub against: String,
    /// Worker processes per contestant.
    pub workers: u32,
    /// How long it took, in seconds.
    pub wall_s: f64,
    /// In the order they ran.
    pub scenarios: Vec<Scenario>,
    /// What the harness found out about itself, if that was asked for.
    #[serde(default)]
    pub self_check: Option<SelfCheck>,
    /// The scenario during which somebody interrupted the run: its finished rounds are here, if there are any,
    /// and what was to follow is missing.
    #[serde(default)]
    pub interrupted: Option<String>,
}

/// The yardstick of reports that name none.
fn baseline() -> String {
    BASELINE.to_owned()
}

impl Report {
    /// Everything that makes the run a failure.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let interrupted = self.interrupted.iter().map(|name| {
            match self.scenarios.iter().find(|scenario| scenario.name == *name) {
                Some(scenario) => format!(
                    "interrupted during {name}: it has {}, and what was to follow is missing",
                    scenario.finished()
                ),
                None => format!("interrupted during {name}: it and what was to follow is missing"),
            }
        });
        let failed = self.scenarios.iter().flat_map(|scenario| {
            scenario.failures.iter().map(|failure| format!("{}: {failure}", scenario.name))
        });
        let check = self.self_check.iter().flat_map(SelfCheck::failures);
        interrupted.chain(failed).chain(check.map(|failure| format!("self-check: {failure}")))
    }
}

/// One scenario and everyone who took part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: String,
    /// What was done, in a sentence or two.
    pub setting: String,
    /// The contestant that ratios are taken to, where it has another label than in the report's head.
    #[serde(default)]
    pub against: Option<String>,
    /// What each worker ran.
    pub runtime: Runtime,
    /// One thing that is counted and timed: `connection` or `request`.
    pub unit: String,
    /// Rounds measured, warm-up not counted.
    pub rounds: u32,
    /// If somebody interrupted the last of them, and something of it is kept: how many kinds of block everybody
    /// played in it; 0 if only some did, and only the first.
    #[serde(default)]
    pub unfinished: Option<u32>,
    /// All rounds that were played, those included that were void.
    #[serde(default)]
    pub voids: Voids,
    /// The seeds of open-loop traces, one per round.
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// How long a block lasts, in seconds, for each kind of block in a round; empty where there are none,
    /// and in older reports.
    #[serde(default)]
    pub block_s: Vec<f64>,
    /// What the spread over workers is counted in; empty in older reports: requests.
    #[serde(default)]
    pub spread: String,
    /// One per contestant, the yardstick first, those that did not take part last.
    pub rows: Vec<Row>,
    /// What else there is to say.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What a reader should know before believing.
    pub cautions: Vec<Caution>,
    /// What was wrong; any makes the run a failure.
    pub failures: Vec<String>,
}

impl Scenario {
    /// Whether it was played in whole blocks, each on a server that was started for it.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        // Older reports do not tell how long they were.
        let is_of_blocks = |row: &Row| row.generator.is_some() || row.lag_p99_us.is_some();
        !self.block_s.is_empty() || self.rows.iter().any(is_of_blocks)
    }

    /// Whether what differs from one start of a server to the next is in intervals of latency. With few blocks
    /// they come from within each, and do not say how another run would have ended.
    #[must_use]
    pub fn knows_starts(&self) -> bool {
        !self.has_blocks() || self.rounds >= ROUNDS_MIN
    }

    /// A ratio of latencies for whoever asks whether another run would say the same: without its interval if that
    /// does not know of starts.
    #[must_use]
    pub fn across_starts(&self, latency: Option<Ratio>) -> Option<Ratio> {
        let Ratio { value, interval } = latency?;
        Some(Ratio { value, interval: interval.filter(|_| self.knows_starts()) })
    }

    /// How much of it was finished: rounds or, where only some contestants had their turn, contestants.
    #[must_use]
    pub fn finished(&self) -> String {
        let contestants =
            |has_finished: fn(&&Row) -> bool| match self.rows.iter().filter(has_finished).count() {
                1 => "1 contestant".to_owned(),
                many => format!("{many} contestants"),
            };
        match self.unfinished {
            Some(0) => contestants(|row| row.skipped.is_none()),
            Some(parts) => {
                let parts = format!("{parts} of the {} kinds of block", self.block_s.len());
                match self.rounds.saturating_sub(1) {
                    0 => format!("{parts} of the first round"),
                    whole => format!("{} and {parts} of the next", text::rounds(whole)),
                }
            }
            None if self.rows.iter().any(|row| !row.held.is_empty()) => {
                contestants(|row| !row.held.is_empty())
            }
            None => text::rounds(self.rounds),
        }
    }
}

/// One contestant in one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Its label.
    pub contestant: String,
    /// Why it did not take part; everything else is then empty, but for connections and void rounds of who
    /// was interrupted.
    pub skipped: Option<String>,
    /// Units served per second, median over rounds; absent in open loop, where the trace decides it.
    pub throughput: Option<f64>,
    /// From connect to end-of-file, from send to last byte, or from the intended time. Who was not
    /// answered in time and was given up counts with the time waited; other failures have no latency.
    pub latency: Latency,
    /// The same of requests whose work is not above the mean: those that wait behind the long ones.
    #[serde(default)]
    pub short: Option<Latency>,
    /// Latency over own work.
    #[serde(default)]
    pub slowdown: Option<Slowdown>,
    /// Latency over that of the ideal central queue on the same trace.
    pub ideal: Option<Ideal>,
    /// The same of the short requests.
    #[serde(default)]
    pub ideal_short: Option<Ideal>,
    /// Latency over that of requests that share the cores evenly, on the same trace; for work that
    /// burns CPU.
    #[serde(default)]
    pub sharing: Option<Ideal>,
    /// The same of the short requests.
    #[serde(default)]
    pub sharing_short: Option<Ideal>,
    /// CPU time of the server's processes per unit, in microseconds, median over rounds.
    pub cpu_server_us: Option<f64>,
    /// The same plus the client's: on loopback part of a handshake is billed to the client.
    pub cpu_both_us: Option<f64>,
    /// Context switches of the server's processes per unit, median over rounds.
    #[serde(default)]
    pub switches: Option<f64>,
    /// System calls of the server's processes per unit, counted in a pass of its own.
    #[serde(default)]
    pub syscalls: Option<f64>,
    /// What a one-at-a-time worker needed after a service until the connection was closed: mean in
    /// microseconds, median over rounds.
    #[serde(default)]
    pub after_us: Option<f64>,
    /// How evenly its workers were used.
    pub share: Share,
    /// Every connection made, by how it ended; those of the warm-up and of void rounds included.
    pub connections: Tally,
    /// Ratios to the baseline.
    pub ratios: Ratios,
    /// What killing its workers did.
    pub kills: Option<Kills>,
    /// Percentiles over those of the ideal, trace by trace.
    #[serde(default)]
    pub tails: Vec<Tail>,
    /// Its blocks that were void.
    #[serde(default)]
    pub void: u32,
    /// Listening sockets of the server: each has a queue and a backlog of its own.
    #[serde(default)]
    pub listeners: Option<u32>,
    /// The least backlog of them: how many connections may wait to be accepted.
    #[serde(default)]
    pub backlog: Option<u32>,
    /// Files that a worker may have open.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Open connections over workers, at the end of each way of opening them.
    #[serde(default)]
    pub held: Vec<Held>,
    /// Who waited while a worker hung, for each way to hang.
    #[serde(default)]
    pub hung: Vec<Hung>,
    /// Times that all slots but one were taken away and given back.
    #[serde(default)]
    pub cycles: Option<u32>,
    /// Rolling restarts that replaced every worker.
    #[serde(default)]
    pub restarts: Option<u32>,
    /// How late the generator was, 99th percentile, in microseconds (open loop).
    pub lag_p99_us: Option<f64>,
    /// How late it was and what it cost, in more detail.
    #[serde(default)]
    pub generator: Option<Generator>,
    /// Requests that were sent again because the server had just ended their idle connection.
    #[serde(default)]
    pub retried: u64,
    /// What its figures were made of, for whoever decides by them; not saved.
    #[serde(skip)]
    pub samples: Samples,
    /// Latency by percentile, for a curve: pairs of percentile and microseconds.
    #[serde(default)]
    pub curve: Vec<(f64, f64)>,
    /// The same of the ideal on the same trace.
    #[serde(default)]
    pub ideal_curve: Vec<(f64, f64)>,
    /// The same of requests that share the cores.
    #[serde(default)]
    pub sharing_curve: Vec<(f64, f64)>,
    /// What happened when, in runs with faults: the first block of each kind that has one, one after the
    /// other.
    #[serde(default)]
    pub timeline: Vec<Moment>,
    /// Memory of a worker, what it shares with others in equal parts (PSS), mean over workers, in KiB.
    #[serde(default)]
    pub pss_kib: Option<f64>,
}

/// The ideal for work that burns CPU, in words.
pub const SHARED_CORES: &str = "evenly shared cores";

/// What figures were made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Latencies in nanoseconds, by chunk of the trace; who was not served waits for ever.
    pub chunks: Vec<Vec<u64>>,
    /// CPU of the server's processes per unit, in microseconds, by round.
    pub cpu_server_us: Vec<f64>,
    /// The busiest worker over the mean, by round.
    pub max_over_mean: Vec<f64>,
}

/// A stretch of a run with faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// When it began, in seconds from the start of the first block.
    pub at_s: f64,
    /// Requests that were due in it.
    pub due: u64,
    /// Those of them that were not answered.
    pub failed: u64,
    /// The longest latency among the others, in milliseconds.
    pub worst_ms: Option<f64>,
    /// What was done to the workers in it, if anything.
    pub done: Option<String>,
}

/// One percentile over that of the ideal: a central queue, or cores that are shared evenly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tail {
    /// Which: work, load, percentile.
    pub figure: String,
    /// Whether the ideal is that all requests share the cores evenly (work that burns CPU).
    #[serde(default)]
    pub shared: bool,
    /// By trace; traces with too few samples are left out.
    pub over_ideal: Vec<f64>,
    /// The fewest samples that lay beyond it in a trace.
    pub beyond: u64,
}

impl Tail {
    /// A figure without samples, whose ideal is that all share the cores (`shared`) or a central queue.
    #[must_use]
    pub fn new(figure: &str, shared: bool) -> Self {
        Self { figure: figure.to_owned(), shared, over_ideal: Vec::new(), beyond: u64::MAX }
    }

    /// The ideal, in words.
    #[must_use]
    pub fn ideal(&self) -> &'static str {
        if self.shared { SHARED_CORES } else { "the ideal queue" }
    }

    /// Adds what a trace gave.
    pub fn add(&mut self, over_ideal: Option<f64>, beyond: u64) {
        self.over_ideal.extend(over_ideal);
        self.beyond = self.beyond.min(beyond);
    }

    /// The worst trace's.
    #[must_use]
    pub fn worst(&self) -> Option<f64> {
        self.over_ideal.iter().copied().max_by(f64::total_cmp)
    }
}

/// Open connections over workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// How they were opened.
    pub how: String,
    /// How they spread.
    pub share: Share,
}

/// Who waited while a worker hung.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hung {
    /// How it hung.
    pub how: String,
    /// Requests in all.
    pub requests: u64,
    /// Those delayed by over a second.
    pub delayed: u64,
    /// Those of them that the hung worker had taken when it began to hang.
    pub held: u64,
}

impl Hung {
    /// Delayed, and not held by the hung worker.
    #[must_use]
    pub fn beside(&self) -> u64 {
        self.delayed.saturating_sub(self.held)
    }

    /// Adds another block of the same kind.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.delayed += other.delayed;
        self.held += other.held;
    }
}

/// Latency percentiles over those of the ideal central queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ideal {
    /// At the median.
    pub p50: Option<f64>,
    /// At the 99th percentile.
    pub p99: Option<f64>,
    /// At the 99.9th percentile.
    pub p999: Option<f64>,
}

/// Ratios to the baseline; absent where there is none or too few samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratios {
    /// Of units per second.
    pub throughput: Option<Ratio>,
    /// Of the median latency.
    pub p50: Option<Ratio>,
    /// Of the 99th percentile.
    pub p99: Option<Ratio>,
    /// Of the 99.9th percentile.
    pub p999: Option<Ratio>,
    /// Of server CPU per unit.
    pub cpu_server: Option<Ratio>,
    /// Of server and client CPU per unit.
    pub cpu_both: Option<Ratio>,
}

/// Kills and what they cost, each kill having an account of its own
/// ([`accounts`](crate::accounts)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kills {
    /// Workers killed.
    pub kills: u64,
    /// Connections the killed workers had in service, by their boards.
    pub in_service: u64,
    /// Connections that failed beyond those, each explained by a kill: taken by a worker that died
    /// before it could count them (*taken, uncounted*), at most one per kill and lane.
    pub beyond: u64,
    /// What was seen kill by kill; absent in older reports.
    #[serde(default)]
    pub each: Option<EachKill>,
}

/// What was seen kill by kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EachKill {
    /// Connections that failed and that no kill explains: lost.
    pub unexplained: u64,
    /// The most that one kill has to answer for.
    pub most: u64,
    /// Connections that waited in accept queues at the kills: their sum over kills.
    pub queued: u64,
    /// The most that waited at one kill.
    pub queued_most: u64,
    /// Kills at which some waited.
    pub with_queue: u64,
}
