//! What orchestrator and load process say to each other: one JSON value per line.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use super::category::{Category, Tally};

/// Orchestrator → load process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Closed loop, one request per connection.
    Short {
        /// The server.
        target: SocketAddrV4,
        /// Connections outstanding at any time.
        clients: u32,
        /// Connections in all.
        connections: u32,
    },
    /// Opens connections and sends one request on each, to be measured by the next order.
    Open {
        /// The server.
        target: SocketAddrV4,
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
        target: SocketAddrV4,
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
    /// Open loop: each arrival at its time, come what may.
    Trace {
        /// The server.
        target: SocketAddrV4,
        /// In order of time.
        arrivals: Vec<Arrival>,
        /// Whether workers are killed meanwhile: an end without an answer then is *taken*.
        kills: bool,
    },
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

/// An open-loop block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// CPU time of the load process.
    pub cpu_ns: u64,
    /// When it began, in microseconds of the clock that all processes share.
    pub start_us: u64,
    /// One per arrival, in order of arrival.
    pub records: Vec<Record>,
}

/// What became of one arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How late the generator sent it.
    pub lag_us: u64,
    /// From the *intended* time to the end.
    pub latency_us: u64,
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
