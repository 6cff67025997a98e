//! What a scenario is: a small TOML file, read into plain data and checked before anything starts.
//!
//! The built-in ones are in `bench-harness/scenarios`, and say by example what can be written. Who runs
//! a specification is its engine: [`crate::slices`], [`crate::blocks`] or [`crate::held`].

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use forkherd_core::SLOTS_LIMIT;
use serde::Deserialize;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::load::protocol::{Beside, Connections, Pace};
use crate::trace::arrivals::RATE_MAX;
use crate::trace::{Arrivals, Handler, Shape, Work};
use crate::void::Rules;

/// Twice what the workers can do: a block must end.
const LOAD_MAX: f64 = 2.0;

/// More connections than one load process can have open.
pub(crate) const CONNECTIONS_MAX: u32 = 100_000;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Its name on the command line and in reports.
    pub name: String,
    /// One honest line about it, for `list`.
    pub line: String,
    /// The question it answers.
    pub question: String,
    /// What its workers can run, the usual one first.
    pub runtimes: Vec<Runtime>,
    /// Its share of the time. Without one it takes as long as its parts do.
    pub budget: Option<Budget>,
    /// Each contestant takes part once with each of these numbers of workers per core, as
    /// `LABEL@WORKERS`. Without any, once, with the number that was asked for.
    #[serde(default)]
    pub workers_per_core: Vec<NonZeroU32>,
    /// What makes a round void.
    #[serde(default)]
    pub void: Rules,
    /// How it is run, and on what.
    pub engine: Engine,
}

/// Time a scenario may take, server starts included, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// As a rule.
    pub full_s: f64,
    /// With `--quick`.
    pub quick_s: f64,
}

/// The ways to run a scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Engine {
    /// Closed loop in paired slices: what a connection or a request costs.
    Closed(Closed),
    /// Open loop (unless a part says otherwise) in whole blocks: tails, and what faults do.
    Open(Open),
    /// Connections that are opened and kept: how they spread.
    Held(Held),
}

/// A closed loop.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Connections outstanding, or kept open.
    pub clients: NonZeroU32,
    /// What a slice is.
    pub slice: Slice,
}

/// One visit at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Slice {
    /// So many connections, one request each.
    Fresh(NonZeroU32),
    /// So many requests on each of the clients' connections, which are opened before.
    Kept(NonZeroU32),
}

/// An open loop.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Independent traces, if their number is not given by the time.
    pub seeds: Option<NonZeroU32>,
    /// A worker that gets nothing done for so long, in milliseconds, counts as hung. [default: core's]
    pub hung_after_ms: Option<NonZeroU32>,
    /// Most open files of each of the server's processes. [default: what there is]
    pub nofile: Option<NonZeroU32>,
    /// What is played to each contestant, block by block.
    pub parts: Vec<Part>,
}

/// One kind of block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How requests come.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// How many; recorded arrivals say so themselves.
    pub rate: Option<Rate>,
    /// What each asks for.
    pub work: Work,
    /// What is done with it.
    #[serde(default)]
    pub handler: Handler,
    /// When requests are sent: at their time, or the next when one ends.
    #[serde(default)]
    pub pace: Pace,
    /// What carries them.
    #[serde(default)]
    pub connections: Connections,
    /// Who else is connected.
    #[serde(default)]
    pub beside: Beside,
    /// Whether a request that is not answered in time is what is counted here, and no failure.
    #[serde(default)]
    pub may_be_late: bool,
    /// Length of a block, in seconds. Without one it is what fits the budget.
    pub length_s: Option<NonZeroU32>,
    /// What is done to the workers meanwhile.
    pub fault: Option<Fault>,
    /// Percentiles that are set against the ideal, trace by trace.
    #[serde(default)]
    pub figures: Vec<Figure>,
}

/// How many requests come.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rate {
    /// So much that the workers are busy for this fraction of the time.
    Load(f64),
    /// So much that work which burns CPU keeps the machine's cores busy for this fraction of the time,
    /// however many workers there are.
    Cores(f64),
    /// So many requests a second, however many workers there are.
    PerSecond(f64),
}

/// What is done to the workers of a server during a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A random one is killed about so often.
    Kill {
        /// The mean time between kills, in milliseconds.
        every_ms: NonZeroU32,
    },
    /// A random one gets SIGSTOP after a fifth of the block.
    Stop {
        /// How long it stays stopped, in milliseconds.
        for_ms: NonZeroU32,
    },
    /// A request makes its handler go round without a system call, after a fifth of the block.
    Loop {
        /// How long it goes round, in milliseconds.
        for_ms: NonZeroU32,
    },
    /// All slots but one are taken away and given back, one by one.
    Scale {
        /// How many times.
        cycles: NonZeroU32,
    },
    /// Rolling restarts, one after the other.
    Restart {
        /// From the beginning of one to that of the next, in milliseconds, or as long as one takes.
        every_ms: NonZeroU32,
    },
}

/// A percentile that is set against that of the ideal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What it is called in the report.
    pub name: String,
    /// Which: 0.99 is the 99th percentile.
    pub quantile: f64,
    /// Of the requests with the shortest work only, which wait behind the long ones.
    #[serde(default)]
    pub short_only: bool,
}

/// Connections that are opened, answered once and kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// How many.
    pub connections: NonZeroU32,
    /// Of all connections, one in so many is a burst.
    pub bursts: NonZeroU32,
    /// Of all connections, one in so many is closed at random and opened anew.
    pub churn: NonZeroU32,
}

impl Spec {
    /// Reads the text of the file called `file`, beside which recorded traces are looked for.
    ///
    /// # Errors
    /// One sentence: the file, the line and column if the text is to blame, and what is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, String> {
        let spec: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
            // What it expected may come on lines of their own.
            format!("{file}{place}: {}", error.message().replace('\n', ", "))
        })?;
        let spec = spec.within(Path::new(file).parent().unwrap_or(Path::new("")));
        spec.check().map_err(|what| format!("{file}: {what}"))?;
        Ok(spec)
    }

    /// What the types do not say.
    fn check(&self) -> Result<(), String> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(is_name) {
            return Err("name: use small letters, digits and hyphens".to_owned());
        }
        if self.runtimes.is_empty() {
            return Err("runtimes: name one at least".to_owned());
        }
        let seconds = |budget: Budget| [budget.full_s, budget.quick_s];
        if self.budget.is_some_and(|one| seconds(one).iter().any(|s| !(1.0..=36e3).contains(s))) {
            return Err("budget: full_s and quick_s are 1 to 36000 seconds".to_owned());
        }
        let has_lengths = |open: &Open| open.parts.iter().all(|part| part.length_s.is_some());
        match &self.engine {
            Engine::Closed(_) if self.budget.is_none() => {
                Err("budget: a closed loop needs one, for it has no length".to_owned())
            }
            Engine::Held(_) if self.budget.is_some() => {
                Err("budget: connections that are held take as long as they take".to_owned())
            }
            Engine::Open(open) if self.budget.is_some() && has_lengths(open) => {
                Err("budget: each part has its length_s; leave one of them out".to_owned())
            }
            Engine::Closed(closed) => few("engine.closed.clients", closed.clients.get().into()),
            Engine::Held(held) => few("engine.held.connections", held.connections.get().into()),
            Engine::Open(open) => open.check(self.budget.is_some()),
        }
    }

    /// Those who take part, out of `contestants`, on so many cores. Who has a number of workers of his own
    /// keeps it.
    #[must_use]
    pub fn lineup(&self, contestants: &[Contestant], cores: u32) -> Vec<Contestant> {
        let (own, others): (Vec<&Contestant>, Vec<_>) =
            contestants.iter().partition(|one| one.workers.is_some());
        let with = |count: &NonZeroU32| {
            let workers = NonZeroU32::new(count.get().saturating_mul(cores).min(SLOTS_LIMIT));
            others.iter().map(move |&one| Contestant { workers, ..one.clone() })
        };
        if self.workers_per_core.is_empty() {
            return contestants.to_vec();
        }
        let counted = self.workers_per_core.iter().flat_map(with);
        counted.chain(own.into_iter().cloned()).collect()
    }

    /// Paths of recorded traces taken from `folder`, where they are relative.
    fn within(mut self, folder: &Path) -> Self {
        if let Engine::Open(open) = &mut self.engine {
            for part in &mut open.parts {
                part.arrivals = std::mem::take(&mut part.arrivals).within(folder);
                part.work = part.work.clone().within(folder);
            }
        }
        self
    }

    /// Whether it has a number of clients that can be asked for: those of a closed loop, or connections
    /// that stay.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        match &self.engine {
            Engine::Closed(_) | Engine::Held(_) => true,
            Engine::Open(open) => open.parts.iter().any(Part::is_closed),
        }
    }

    /// Whether it has a time of its own, of which there can be less.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Whether it has rounds, whose number can be asked for.
    #[must_use]
    pub fn has_rounds(&self) -> bool {
        !matches!(self.engine, Engine::Held(_))
    }

    /// Whether it has blocks, whose length and number can be asked for.
    #[must_use]
    pub fn has_blocks(&self) -> bool {
        matches!(self.engine, Engine::Open(_))
    }
}

impl Open {
    fn check(&self, has_budget: bool) -> Result<(), String> {
        if self.parts.is_empty() {
            return Err("engine.open.parts: name one at least".to_owned());
        }
        for (index, part) in self.parts.iter().enumerate() {
            part.check(has_budget).map_err(|what| format!("part {}, {what}", index + 1))?;
        }
        Ok(())
    }
}

impl Open {
    /// Whether the ideal is a yardstick: it knows no faults and nobody beside, sends at the intended
    /// time, and its servers serve one at a time, or share cores.
    #[must_use]
    pub fn has_ideal(&self, runtime: Runtime) -> bool {
        self.parts.iter().all(|part| {
            let one_at_a_time = runtime == Runtime::Blocking || part.handler == Handler::Spins;
            let plain = part.fault.is_none() && part.beside == Beside::default();
            one_at_a_time && plain && !part.is_closed()
        })
    }
}

impl Part {
    fn check(&self, has_budget: bool) -> Result<(), String> {
        if self.length_s.is_none() && !has_budget {
            return Err("length_s: give one, or a budget".to_owned());
        }
        let mean = self.work.mean().map_err(|error| format!("work: {error:#}"))?;
        match (self.rate, &self.arrivals) {
            (None, Arrivals::Recorded(_)) => {}
            (Some(_), Arrivals::Recorded(_)) => {
                return Err("rate: recorded arrivals have their own".to_owned());
            }
            (None, _) => return Err("rate: say { load = 0.7 } or { per_second = 800 }".to_owned()),
            (Some(Rate::Load(load) | Rate::Cores(load)), _)
                if !(load > 0.0 && load <= LOAD_MAX) =>
            {
                return Err(format!("rate: a load is above 0, and {LOAD_MAX} at most"));
            }
            (Some(Rate::Load(_) | Rate::Cores(_)), _) if mean.is_zero() => {
                return Err("rate: work of 0 µs makes no load; say { per_second = 800 }".to_owned());
            }
            (Some(Rate::PerSecond(rate)), _) if !(rate > 0.0 && rate <= RATE_MAX) => {
                return Err(format!("rate.per_second: above 0, and {RATE_MAX} at most"));
            }
            (Some(_), _) => {}
        }
        if let Pace::Closed { length_us: Some(_), .. } = self.pace {
            return Err("pace: a closed loop plays its trace once, and has no length_us".to_owned());
        }
        if let Connections::Kept(kept) = self.connections
            && !(kept.share > 0.0 && kept.share <= 1.0)
        {
            return Err("connections.kept.share: above 0, and 1 at most".to_owned());
        }
        let Beside { idle, silent, slow } = self.beside;
        let beside = u64::from(idle) + u64::from(silent) + u64::from(slow);
        few("beside", beside)?;
        if let Connections::Kept(kept) = self.connections {
            few("connections.kept.number", kept.number.get().into())?;
        }
        if let Pace::Closed { clients, .. } = self.pace {
            few("pace.closed.clients", clients.get().into())?;
        }
        if self.figures.iter().any(|figure| !(0.0..1.0).contains(&figure.quantile)) {
            return Err("figures: a quantile is below 1, as 0.99".to_owned());
        }
        Ok(())
    }

    /// What a block of this length is drawn from, with so many workers on so many cores.
    ///
    /// # Errors
    /// The work cannot be drawn.
    pub(crate) fn shape(
        &self,
        workers: u32,
        cores: u32,
        length: Duration,
    ) -> anyhow::Result<Shape> {
        let work = self.work.clone();
        let shape = match self.rate {
            Some(Rate::Load(load)) => Shape::at_load(load, workers, work, length)?,
            Some(Rate::Cores(load)) => Shape::at_load(load, cores, work, length)?,
            Some(Rate::PerSecond(per_second)) => Shape::poisson(per_second, work, length),
            None => Shape::poisson(0.0, work, length),
        };
        Ok(Shape { arrivals: self.arrivals.clone(), handler: self.handler, ..shape })
    }

    /// Whether the next request is sent when one ends.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    /// The same with so many clients, if it is a closed loop and they are asked for.
    pub(crate) fn pace(&self, clients: Option<NonZeroU32>) -> Pace {
        match (self.pace, clients) {
            (Pace::Closed { length_us, .. }, Some(clients)) => Pace::Closed { clients, length_us },
            (pace, _) => pace,
        }
    }

    /// The shortest block that leaves time before and after its fault.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        match self.fault {
            Some(Fault::Stop { for_ms } | Fault::Loop { for_ms }) => {
                Duration::from_millis(for_ms.get().into()) * 8 / 5
            }
            _ => Duration::ZERO,
        }
    }

    /// The length of its blocks: what was asked for, or its own, or what fits the time.
    #[must_use]
    pub fn length(&self, asked: Option<Duration>) -> Option<Duration> {
        let own = self.length_s.map(|s| Duration::from_secs(s.get().into()));
        asked.or(own).map(|length| length.max(self.shortest()))
    }
}

/// Whether so many connections can be open at a time.
fn few(what: &str, connections: u64) -> Result<(), String> {
    if connections <= CONNECTIONS_MAX.into() {
        return Ok(());
    }
    Err(format!("{what}: {connections} connections, and {CONNECTIONS_MAX} at most can be open"))
}

/// `:LINE:COLUMN` of a byte of `text`.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "mine"
line = "what it is"
question = "What is it?"
runtimes = ["tokio"]

[[engine.open.parts]]
rate = { load = 0.5 }
work = { constant_us = 1000 }
length_s = 5
fault = { stop = { for_ms = 1000 } }
"#;

    #[test]
    fn a_file_says_what_it_says() {
        let spec = Spec::parse("mine.toml", GOOD).unwrap();
        assert_eq!((&*spec.name, spec.has_blocks(), spec.has_clients()), ("mine", true, false));
        assert_eq!(spec.budget, None);
        let Engine::Open(open) = &spec.engine else { panic!("{spec:?}") };
        let part = &open.parts[0];
        assert_eq!(part.rate, Some(Rate::Load(0.5)));
        assert_eq!(part.work.mean().unwrap(), Duration::from_millis(1));
        assert_eq!(part.length(None), Some(Duration::from_secs(5)));
        let asked = |ms| part.length(Some(Duration::from_millis(ms)));
        assert_eq!(asked(9_000), Some(Duration::from_secs(9)));
        assert_eq!(asked(1_000), Some(Duration::from_millis(1_600)), "too short for its fault");
    }

    #[test]
    fn each_contestant_takes_part_with_each_number_of_workers() {
        let workers = NonZeroU32::new(3);
        let own = Contestant { workers, ..Contestant::baseline() };
        let labels = |text: &str| {
            let spec = Spec::parse("mine.toml", text).unwrap();
            let lineup = spec.lineup(&[Contestant::baseline(), own.clone()], 2);
            lineup.iter().map(Contestant::label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(GOOD), "baseline baseline@3");
        let counts = format!("workers_per_core = [1, 8, 1000]\n{GOOD}");
        assert_eq!(labels(&counts), "baseline@2 baseline@16 baseline@256 baseline@3");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_its_place() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(GOOD.contains(from), "{from}");
            let said = Spec::parse("mine.toml", &GOOD.replace(from, to)).unwrap_err();
            assert!(said.starts_with(expected), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        };
        check("length_s", "lenght_s", "mine.toml:10:1: unknown field `lenght_s`, expected one of");
        check(
            "stop = ",
            "stip = ",
            "mine.toml:11:11: unknown variant `stip`, expected one of `kill`",
        );
        check("0.5", "\"half\"", "mine.toml:8:17: invalid type: string \"half\", expected f64");
        check("0.5 }", "0.5", "mine.toml:9:1: missing comma between key-value pairs");
        check("[\"tokio\"]", "[\"rayon\"]", "mine.toml:5:13: unknown variant `rayon`, expected");
        check("line = ", "# ", "mine.toml:1:1: missing field `line`");
        check("[\"tokio\"]", "[]", "mine.toml: runtimes: name one at least");
        check("\"mine\"", "\"Mine\"", "mine.toml: name: use small letters");
        check("0.5", "-0.5", "mine.toml: part 1, rate: a load is above 0, and 2 at most");
        check(
            "length_s",
            "beside = { idle = 4294967295, silent = 1 }\nlength_s",
            "mine.toml: part 1, beside: 4294967296 connections, and 100000 at most can be open",
        );
        check("length_s = 5\n", "", "mine.toml: part 1, length_s: give one, or a budget");
        check(
            "runtimes = [\"tokio\"]\n",
            "runtimes = [\"tokio\"]\nbudget = { full_s = 9, quick_s = 2 }\n",
            "mine.toml: budget: each part has its length_s",
        );
        check(
            "1000 }\nlength",
            "0 }\nlength",
            "mine.toml: part 1, rate: work of 0 µs makes no load",
        );
        check(
            "constant_us = 1000",
            "recorded = \"no.csv\"",
            "mine.toml: part 1, work: cannot read",
        );
        check(
            "rate = ",
            "arrivals = { recorded = \"a\" }\nrate = ",
            "mine.toml: part 1, rate: recorded",
        );
    }
}
