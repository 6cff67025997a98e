//! What was done, in sentences made from the specification, so that they cannot say anything else.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Context;
use super::spec::{Closed, Fault, Held, Open, Part, Rate, Slice};
use crate::cli::Runtime;
use crate::load::protocol::{Beside, Connections, Kept, Pace};
use crate::trace::{Arrivals, Handler, Work};

impl Closed {
    /// What is done, for the report.
    pub(crate) fn setting(&self, clients: u32) -> String {
        match self.slice {
            Slice::Fresh(connections) => format!(
                "Closed loop, {clients} client{s}, one request per connection; slices of \
                 {connections} connections in shuffled order, all servers up at once, servers and \
                 client pinned to one core. Figures are for cost: on one core the latency is mostly \
                 queueing, and more cores would add what one core hides (lock contention, wake-ups \
                 across cores).",
                s = if clients == 1 { "" } else { "s" },
            ),
            Slice::Kept(requests) => format!(
                "Closed loop, {clients} connections opened before each slice and kept for \
                 {requests} requests each; slices in shuffled order, all servers up at once, servers \
                 and client pinned to one core. Opening is not measured; where the connections went \
                 is (share per worker)."
            ),
        }
    }
}

impl Open {
    /// What is done, for the report.
    pub(crate) fn setting(&self, context: &Context<'_>, runtime: Runtime) -> String {
        let words = |part: &Part| part.words(context.asked.clients);
        let mut parts: Vec<String> = self.parts.iter().map(words).collect();
        parts.dedup();
        let mut text = format!(
            "{}. Whole blocks in shuffled order, the same trace for everyone in a round, one server \
             up at a time, nothing pinned.",
            parts.join("; ")
        );
        if self.has_ideal(runtime) {
            text.push_str(
                " Ideal: one queue, first come first served, simulated on the same arrivals and the \
                 work each server measured, charged with what a plain worker needs beside it.",
            );
            if self.parts.iter().any(|part| part.handler == Handler::Spins) {
                text.push_str(
                    " Of work that burns CPU the ideal of named figures is that all requests share the \
                     cores evenly.",
                );
            }
        }
        for fault in self.parts.iter().filter_map(|part| part.fault) {
            text.push(' ');
            text.push_str(&fault.words(context.workers));
        }
        if self.parts.iter().any(|part| part.may_be_late) {
            text.push_str(
                " Who is not answered within 10 s is late, which is what is counted here and no \
                 failure.",
            );
        }
        if let Some(nofile) = self.nofile {
            text.push_str(&format!(
                " Each process of a server may have {nofile} files open, so that not all who come \
                 can be served at the same time: they may wait, and nobody may be dropped."
            ));
        }
        if let Some(ms) = self.hung_after_ms {
            text.push_str(&format!(
                " Detection after {ms} ms. Counted: requests delayed by over 1 s; those that the \
                 hung worker had taken when it began to hang are its own, all others waited for \
                 nothing."
            ));
        }
        text
    }
}

impl Part {
    /// How much of what comes.
    fn words(&self, clients: Option<NonZeroU32>) -> String {
        let arrivals = match &self.arrivals {
            Arrivals::Poisson => "Poisson arrivals".to_owned(),
            Arrivals::Constant => "one arrival after the other".to_owned(),
            Arrivals::Bursts(size) => format!("bursts of {size} at once"),
            Arrivals::Recorded(path) => format!("arrivals as in {}", path.display()),
        };
        let rate = match self.rate {
            Some(Rate::Load(load)) => format!(" at load {load}"),
            Some(Rate::Cores(load)) => format!(" at load {load} of all cores"),
            Some(Rate::PerSecond(per_second)) => format!(", {per_second} requests/s"),
            None => String::new(),
        };
        let work = match &self.work {
            Work::Constant(work) => format!("{} each", milliseconds(*work)),
            Work::Exponential(mean) => format!("exponential with mean {}", milliseconds(*mean)),
            Work::Bimodal { short, times, one_in } => format!(
                "{}, and {times} times that for one in {one_in} at random",
                milliseconds(*short)
            ),
            Work::Lognormal { mean, cv } => {
                format!("lognormal with mean {} and variation {cv}", milliseconds(*mean))
            }
            Work::Pareto { mean, alpha, max } => format!(
                "Pareto with mean {}, alpha {alpha} and {} at most",
                milliseconds(*mean),
                milliseconds(*max)
            ),
            Work::Quantiles(_) => {
                let mean = self.work.mean().unwrap_or_default();
                format!("between given quantiles, with mean {}", milliseconds(mean))
            }
            Work::Recorded(path) => format!("as in {}", path.display()),
        };
        let handler = match self.handler {
            Handler::Sleeps => "the worker sleeps",
            Handler::Spins => "the worker burns CPU",
            Handler::Hangs => "the worker makes no system call",
        };
        let mut text = match self.pace(clients) {
            Pace::Open => format!(
                "Open loop: {arrivals}{rate}, work {work} ({handler}), latency from the intended time"
            ),
            Pace::Closed { clients, .. } => format!(
                "Closed loop, {clients} clients: the next request is sent when one ends, and its \
                 latency counted from there, which hides what a stall keeps from being sent; work \
                 {work} ({handler})"
            ),
        };
        match self.connections {
            Connections::Fresh => {}
            Connections::Kept(Kept { number, requests, share }) => {
                // `--clients` changes how many there are.
                let number = match self.pace(clients) {
                    Pace::Open => number,
                    Pace::Closed { clients, .. } => clients,
                };
                text.push_str(&format!(
                    "; on {number} kept connections, {requests} requests each, to the one free for \
                     longest"
                ));
                if share < 1.0 {
                    text.push_str(&format!(" (a share of {share}, the others on fresh ones)"));
                }
            }
        }
        let Beside { idle, silent, slow } = self.beside;
        for (count, what) in [(idle, "idle"), (silent, "silent"), (slow, "slow-reading")] {
            if count > 0 {
                text.push_str(&format!("; {count} {what} clients beside"));
            }
        }
        text
    }
}

impl Fault {
    /// What it does to `workers` workers.
    fn words(self, workers: u32) -> String {
        match self {
            Self::Kill { every_ms } => format!(
                "About every {every_ms} ms a random worker gets SIGKILL and its supervisor starts \
                 another. What a killed worker had in service by its board is lost under any \
                 strategy; beyond that each kill may cost one connection (taken, uncounted)."
            ),
            Self::Stop { for_ms } => {
                format!("A random one of {workers} workers gets SIGSTOP for {} s.", seconds(for_ms))
            }
            Self::Loop { for_ms } => {
                format!("A request makes its handler loop for {} s.", seconds(for_ms))
            }
            Self::Scale { cycles } => format!(
                "{cycles} times all slots but one are taken away and given back, one by one (SIGTTOU, \
                 SIGTTIN). Nobody may fail."
            ),
            Self::Restart { every_ms } => format!(
                "About every {every_ms} ms, or as soon as the last is done, all workers are replaced \
                 slot by slot (SIGHUP). Nobody may fail."
            ),
        }
    }
}

impl Held {
    /// What is done, for the report.
    pub(crate) fn setting(&self, connections: u32, burst: u32, churn: u32, steps: u32) -> String {
        format!(
            "{connections} connections from {sources} loopback addresses, each answered once and \
             kept open: one by one, each when the last was answered; then {churn} of them closed at \
             random and as many opened anew, in {steps} steps; and, on a fresh server, in bursts of \
             {burst}, each when all of the last were answered. Counted: open connections per worker.",
            sources = crate::load::SOURCES,
        )
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_secs_f64() * 1e3)
}

fn seconds(ms: NonZeroU32) -> f64 {
    f64::from(ms.get()) / 1e3
}
