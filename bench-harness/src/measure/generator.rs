//! How honest the generator was: what its own lateness and cost may have added.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::latency::{Latencies, to_f64};
use crate::load::protocol::Trace;

/// How late the generator sent requests, and what it took of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// Half of the requests were sent less late than this, in microseconds.
    pub lag_p50_us: f64,
    /// One in a hundred was sent later.
    pub lag_p99_us: f64,
    /// The latest.
    pub lag_max_us: f64,
    /// Its CPU time over the time that passed: the part of a core it needed.
    pub cores: f64,
}

/// The same while traces are added up.
#[derive(Clone, Debug, Default)]
pub struct Lags {
    lags: Latencies,
    most_us: u64,
    cpu_ns: u64,
    wall_us: u64,
}

impl Lags {
    /// Adds a trace.
    pub fn add(&mut self, trace: &Trace) {
        for record in &trace.records {
            self.lags.add(record.lag_us * 1_000);
            self.most_us = self.most_us.max(record.lag_us);
        }
        self.cpu_ns += trace.cpu_ns;
        self.wall_us += trace.wall_us;
    }

    /// What a report says; nothing of nothing.
    #[must_use]
    pub fn summary(&self) -> Option<Generator> {
        (self.wall_us > 0).then(|| Generator {
            lag_p50_us: to_f64(self.lags.at(0.5)) / 1e3,
            lag_p99_us: to_f64(self.lags.at(0.99)) / 1e3,
            lag_max_us: to_f64(self.most_us),
            cores: to_f64(self.cpu_ns) / 1e3 / to_f64(self.wall_us),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::category::Category;
    use crate::load::protocol::Record;

    #[test]
    fn lags_and_cost_are_added_up() {
        let record = |lag_us| Record {
            lag_us,
            unseen_us: 0,
            latency_us: 1,
            service_us: None,
            worker: None,
            taken_us: None,
            after_ns: None,
            category: Category::Served,
        };
        let trace = |from, to| Trace {
            records: (from..to).map(record).collect(),
            cpu_ns: 250_000_000,
            wall_us: 1_000_000,
            ..Trace::default()
        };
        let mut lags = Lags::default();
        assert_eq!(lags.summary(), None);
        lags.add(&trace(0, 500));
        lags.add(&trace(500, 1_000));
        let seen = lags.summary().unwrap();
        assert!((seen.lag_p50_us - 500.0).abs() <= 1.0 && (seen.lag_p99_us - 990.0).abs() <= 1.0);
        assert_eq!((seen.lag_max_us, seen.cores), (999.0, 0.25));
    }
}
