//! What orchestrator and load process say to each other: one JSON value per line.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::category::{Category, Tally};

/// Orchestrator → load process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Closed loop, one request per connection.
    Short {
        /// The server.
        target: Target,
        /// Connections outstanding at any time.
        clients: u32,
        /// Connections in all.
        connections: u32,
    },
    /// Opens connections and sends one request on each, to be measured by the next order.
    Open {
        /// The server.
        target: Target,
        /// Connections to keep open.
        connections: u32,
    },
    /// Closed loop on the connections opened before; closes them afterwards.
    Requests {
        /// Requests on each of them.
        per_connection: u32,
    },
    /// Opens connections, sends one request on each, and keeps them open.
    Hold {
        /// The server.
        target: Target,
        /// Connections in all.
        connections: u32,
        /// Opened at once; the next burst when all of the last were answered.
        burst: u32,
        /// Draws what [`Order::Churn`] closes.
        seed: u64,
    },
    /// Of the connections held, closes some at random and opens as many anew.
    Churn {
        /// Connections in all.
        connections: u32,
        /// Closed and opened at a time.
        step: u32,
    },
    /// The requests of a trace.
    Trace {
        /// The server.
        target: Target,
        /// In order of time.
        arrivals: Vec<Arrival>,
        /// When each is sent.
        #[serde(default)]
        pace: Pace,
        /// What carries them.
        #[serde(default)]
        connections: Connections,
        /// Who else is connected.
        #[serde(default)]
        beside: Beside,
        /// Whether workers are killed meanwhile: an end without an answer then is *taken*.
        kills: bool,
    },
}

impl Order {
    /// A trace in open loop, with a connection for each request and nobody else connected.
    #[must_use]
    pub fn trace(target: Target, arrivals: Vec<Arrival>, kills: bool) -> Self {
        let (pace, connections, beside) = Default::default();
        Self::Trace { target, arrivals, pace, connections, beside, kills }
    }
}

/// When the requests of a trace are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Open loop: each at its time, come what may, and its latency is counted from there.
    #[default]
    Open,
    /// Closed loop: the next when one ends, whatever its time; latencies hide what a stall keeps
    /// from being sent.
    Closed {
        /// Requests outstanding at any time.
        clients: NonZeroU32,
        /// Begins the trace again until so long has passed; without it, it is played once.
        length_us: Option<u64>,
    },
}

/// What carries the requests of a trace.
///
/// In a scenario file: `connections = "fresh"` or
/// `connections = { kept = { number = 64, requests = 100 } }`, with `share = 0.5` for a mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    /// Each request has a connection of its own.
    #[default]
    Fresh,
    /// Kept connections; a request goes to the one that has been free for longest, and if none is
    /// it waits for one, which its latency tells.
    Kept(Kept),
}

/// Kept connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// How many; in a closed loop as many as it has clients.
    pub number: NonZeroU32,
    /// Requests on each; then a fresh one takes its place.
    pub requests: NonZeroU32,
    /// The part of all requests that they carry, 0 to 1; each of the others has a connection of its
    /// own. In a closed loop they carry all.
    #[serde(default = "all")]
    pub share: f64,
}

/// The share of all.
fn all() -> f64 {
    1.0
}

/// Connections that are there beside the requests, from before the first until after the last.
///
/// In a scenario file: `beside = { idle = 1000, silent = 4, slow = 2 }`. One that the server ends is
/// replaced. They are in the account of all connections, and in that of no kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Beside {
    /// Answered once, and kept without another request.
    pub idle: u32,
    /// Connected, and never a byte sent.
    pub silent: u32,
    /// Ask for a large answer, wait, and read it piece by piece; then once more.
    pub slow: u32,
}

/// A server, and what its answers have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it serves.
    pub address: SocketAddrV4,
    /// What counts as an answer.
    pub answers: Answers,
}

/// What counts as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// That of [`hello`](crate::apps::hello), to the last byte, with the worker that gave it.
    Ours,
    /// Any with status 200.
    Any,
}

/// One request of an open-loop trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// When it is due, in microseconds from the start.
    pub at_us: u64,
    /// The work it asks for, in microseconds.
    pub service_us: u64,
    /// What is done with it.
    #[serde(default)]
    pub handler: Handler,
}

/// What a worker does with the work of a request. In a scenario file: `handler = "spins"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    /// It waits, as for a disk or another server: needs no core, so that many workers work at the
    /// same time on few.
    #[default]
    Sleeps,
    /// It burns CPU.
    Spins,
    /// It goes round without a system call, even on an event loop, in whole milliseconds.
    Hangs,
}

impl Arrival {
    /// What it asks for.
    #[must_use]
    pub fn path(&self) -> String {
        match self.handler {
            Handler::Sleeps => format!("/sleep/{}", self.service_us),
            Handler::Spins => format!("/spin/{}", self.service_us),
            Handler::Hangs => format!("/loop/{}", self.service_us / 1_000),
        }
    }
}

/// Load process → orchestrator: one for each order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The connections of [`Order::Open`] are open.
    Opened,
    /// What [`Order::Short`] or [`Order::Requests`] measured.
    Slice(Slice),
    /// What is open after [`Order::Hold`] or [`Order::Churn`].
    Open(Open),
    /// What [`Order::Trace`] measured.
    Trace(Trace),
    /// The order could not be carried out.
    Failed {
        /// Why.
        message: String,
    },
}

/// A closed-loop slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// From the first connect (or request) to the last answer.
    pub wall_ns: u64,
    /// CPU time of the load process meanwhile.
    pub cpu_ns: u64,
    /// Per answered request: from connect (or send) to end-of-file (or the answer's last byte).
    pub latency_ns: Vec<u64>,
    /// Connections by how they ended.
    pub tally: Tally,
    /// Answered requests by worker.
    pub workers: BTreeMap<u32, u64>,
}

/// Connections that are held open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Open connections by worker.
    pub workers: BTreeMap<u32, u64>,
    /// All that were ever made, by how they ended; open ones, and those we closed, are *served*.
    pub tally: Tally,
    /// How many were ever made.
    pub made: u64,
}

/// A trace that was played.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// CPU time of the load process.
    pub cpu_ns: u64,
    /// How long it took, in microseconds.
    #[serde(default)]
    pub wall_us: u64,
    /// When it began, in microseconds of the clock that all processes share.
    pub start_us: u64,
    /// One per request, in the order in which they were due (or sent).
    pub records: Vec<Record>,
    /// Every connection that was made, by how it ended: those of the requests and those beside.
    #[serde(default)]
    pub connections: Tally,
    /// How many were made.
    #[serde(default)]
    pub made: u64,
    /// Requests that were sent once more, because the server had just ended the idle connection that
    /// was to carry them.
    #[serde(default)]
    pub retried: u64,
}

impl Trace {
    /// Requests by how they ended. A request that no kept connection was free for in time is *late*
    /// and has none.
    #[must_use]
    pub fn requests(&self) -> Tally {
        let mut tally = Tally::default();
        self.records.iter().for_each(|record| tally.count(record.category));
        tally
    }
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How late the generator sent it.
    pub lag_us: u64,
    /// From the *intended* time to the end; in a closed loop from when it was sent.
    pub latency_us: u64,
    /// How long before its end was seen it may have been there: this process does not look all the time.
    pub unseen_us: u64,
    /// The work as the server measured it, if it answered.
    pub service_us: Option<u64>,
    /// The worker that answered.
    pub worker: Option<u32>,
    /// When that worker took it, in microseconds of the clock that all processes share.
    pub taken_us: Option<u64>,
    /// What that worker had needed after its *last* service until that connection was closed.
    pub after_ns: Option<u64>,
    /// How it ended.
    pub category: Category,
}

#[cfg(test)]
impl Record {
    /// Answered at once, after the work that was asked for.
    pub(crate) fn served(arrival: &Arrival) -> Self {
        Self {
            lag_us: 0,
            unseen_us: 0,
            latency_us: 0,
            service_us: Some(arrival.service_us),
            worker: Some(0),
            taken_us: None,
            after_ns: None,
            category: Category::Served,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_way_over_the_pipe() {
        let mut slice = Slice { wall_ns: 1, latency_ns: vec![2, 3], ..Slice::default() };
        slice.workers.insert(4, 5);
        slice.tally.count(Category::Served);
        let text = serde_json::to_string(&Outcome::Slice(slice.clone())).unwrap();
        let Outcome::Slice(back) = serde_json::from_str(&text).unwrap() else {
            panic!("a slice was sent: {text}");
        };
        assert_eq!(back, slice);
    }
}
