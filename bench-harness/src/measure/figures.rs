//! What is read from the requests of a trace, and of the ideals on the same trace.
//!
//! All latencies; those of the short class ([`short_us`]), which wait behind the long; the slowdown,
//! latency over own work, in which every request counts alike; and the same of what would have been
//! ideal. The first tenth is warm-up and left out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve;
use super::latency::{Latencies, Latency};
use crate::ideal::{self, sharing};
use crate::load::category::Category;
use crate::load::protocol::{Arrival, Handler, Record, Trace};
use crate::report::{Ideal, Row};
use crate::trace::short_us;

/// The first requests of a trace are not measured: one in so many.
pub const WARM_UP: usize = 10;

/// A slowdown of 1 as a histogram counts it: three digits behind the point.
const ONE: u64 = 1_000;

impl Record {
    /// Longer than any answer is waited for: a minute.
    pub const NEVER_NS: u64 = 60_000_000_000;

    /// Its latency, in nanoseconds: of who was answered, and of who was given up as late, who waited so
    /// long at least. Who was refused or reset has none.
    #[must_use]
    pub fn latency_ns(&self) -> Option<u64> {
        let waited = matches!(self.category, Category::Served | Category::Late);
        waited.then_some(self.latency_us * 1_000)
    }

    /// How long somebody waited who wants an answer: who got none waits for ever ([`Self::NEVER_NS`]).
    #[must_use]
    pub fn waited_ns(&self) -> u64 {
        match self.category {
            Category::Served => self.latency_us * 1_000,
            _ => Self::NEVER_NS,
        }
    }
}

/// Percentiles of latency over own work; `None` where too few samples lie beyond.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slowdown {
    /// Half were below.
    pub p50: Option<f64>,
    /// One in a hundred was above.
    pub p99: Option<f64>,
    /// One in a thousand was above.
    pub p999: Option<f64>,
}

/// What the ideals make of a trace: latencies in nanoseconds, request by request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ideals {
    /// One queue, first come, first served.
    pub queue_ns: Vec<u64>,
    /// All that are there share the cores; for work that burns CPU.
    pub sharing_ns: Option<Vec<u64>>,
}

impl Ideals {
    /// On this trace, with the work that was measured (asked for, where nobody answered) and
    /// `charge_us` more each.
    ///
    /// As many servers as workers; but work that burns CPU has no more than there are `cores`.
    #[must_use]
    pub fn of(
        arrivals: &[Arrival],
        trace: &Trace,
        charge_us: f64,
        workers: u32,
        cores: u32,
    ) -> Self {
        let charge_ns = ideal::to_u64(charge_us.max(0.0) * 1e3);
        let work = |(arrival, record): (&Arrival, &Record)| {
            let service_us = record.service_us.unwrap_or(arrival.service_us);
            (arrival.at_us * 1_000, service_us * 1_000 + charge_ns)
        };
        let works: Vec<(u64, u64)> = arrivals.iter().zip(&trace.records).map(work).collect();
        let spins = arrivals.iter().any(|arrival| arrival.handler == Handler::Spins);
        let servers = if spins { workers.min(cores) } else { workers };
        Self {
            queue_ns: ideal::latencies(&works, servers),
            sharing_ns: spins.then(|| sharing::latencies(&works, servers)),
        }
    }
}

/// Latencies of requests, and what they have in common with the ideals'.
#[derive(Clone, Debug, Default)]
struct Class {
    own: Latencies,
    queue: Latencies,
    sharing: Latencies,
}

/// What the requests of one contestant came to, over all its traces.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    all: Class,
    short: Class,
    slowdown: Latencies,
    /// Whether some work was not short.
    has_long: bool,
}

impl Figures {
    /// Adds a trace.
    pub fn add(&mut self, arrivals: &[Arrival], trace: &Trace, ideals: &Ideals) {
        let limit = short_us(arrivals);
        self.has_long |= arrivals.iter().any(|arrival| arrival.service_us > limit);
        let requests = arrivals.iter().zip(&trace.records).enumerate();
        for (index, (arrival, record)) in requests.skip(trace.records.len() / WARM_UP) {
            let is_short = arrival.service_us <= limit;
            let classes = [Some(&mut self.all), is_short.then_some(&mut self.short)];
            for class in classes.into_iter().flatten() {
                class.queue.add(ideals.queue_ns[index]);
                if let Some(sharing_ns) = &ideals.sharing_ns {
                    class.sharing.add(sharing_ns[index]);
                }
                if let Some(latency_ns) = record.latency_ns() {
                    class.own.add(latency_ns);
                }
            }
            let own_us = record.service_us.filter(|&own| own > 0);
            if let Some(own_us) = own_us.filter(|_| record.category == Category::Served) {
                self.slowdown.add(record.latency_us * ONE / own_us);
            }
        }
    }

    /// Writes them to a row; what the ideals say only if they are a yardstick (`ideal`): they know no
    /// faults.
    pub fn fill(&self, row: &mut Row, ideal: bool) {
        row.latency = self.all.own.summary();
        row.curve = curve::points(&self.all.own);
        row.short = self.has_long.then(|| self.short.own.summary());
        row.slowdown = (!self.slowdown.is_empty()).then(|| self.slowdown());
        if !ideal {
            return;
        }
        row.ideal = over(&self.all.own, &self.all.queue);
        row.ideal_short = over(&self.short.own, &self.short.queue).filter(|_| self.has_long);
        row.ideal_curve = curve::points(&self.all.queue);
        row.sharing = over(&self.all.own, &self.all.sharing);
        row.sharing_short = over(&self.short.own, &self.short.sharing).filter(|_| self.has_long);
        row.sharing_curve = curve::points(&self.all.sharing);
    }

    fn slowdown(&self) -> Slowdown {
        // The summary divides by a thousand, as it makes microseconds of nanoseconds.
        let Latency { p50_us: p50, p99_us: p99, p999_us: p999, .. } = self.slowdown.summary();
        Slowdown { p50, p99, p999 }
    }
}

/// Percentiles over those of an ideal; nothing if there is none.
fn over(own: &Latencies, ideal: &Latencies) -> Option<Ideal> {
    let (own, best) = (own.summary(), ideal.summary());
    let over = |own: Option<f64>, best: Option<f64>| Some(own? / best?);
    (!ideal.is_empty()).then(|| Ideal {
        p50: over(own.p50_us, best.p50_us),
        p99: over(own.p99_us, best.p99_us),
        p999: over(own.p999_us, best.p999_us),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::{Shape, Work};

    /// What a server that is `ideal` twice as late would have measured.
    fn played(arrivals: &[Arrival], ideal: impl Fn(&Ideals) -> Vec<u64>) -> (Trace, Ideals) {
        let records = arrivals.iter().map(Record::served).collect();
        let mut trace = Trace { records, ..Trace::default() };
        let ideals = Ideals::of(arrivals, &trace, 0.0, 8, 2);
        for (record, best_ns) in trace.records.iter_mut().zip(ideal(&ideals)) {
            record.latency_us = best_ns * 2 / 1_000;
        }
        (trace, ideals)
    }

    fn shape(handler: Handler) -> Shape {
        let work = Work::Bimodal { short: Duration::from_millis(1), times: 100, one_in: 20 };
        let servers = if handler == Handler::Spins { 2 } else { 8 };
        let shape = Shape::at_load(0.5, servers, work, Duration::from_secs(60)).unwrap();
        Shape { handler, ..shape }
    }

    #[test]
    fn twice_as_late_as_the_ideal_is_twice_for_all_and_for_the_short() {
        let arrivals = shape(Handler::Sleeps).draw(1).unwrap();
        let (trace, ideals) = played(&arrivals, |ideals| ideals.queue_ns.clone());
        let mut figures = Figures::default();
        figures.add(&arrivals, &trace, &ideals);
        let mut row = Row::default();
        figures.fill(&mut row, true);
        for ideal in [row.ideal.as_ref(), row.ideal_short.as_ref()] {
            let ratio = ideal.and_then(|ideal| ideal.p99).unwrap();
            assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
        }
        assert!(row.short.as_ref().unwrap().p99_us < row.latency.p99_us);
        assert_eq!(row.curve.len(), row.ideal_curve.len());
        // Alone at half the time: twice its own work.
        assert!((row.slowdown.as_ref().unwrap().p50.unwrap() - 2.0).abs() < 0.01, "{row:?}");
        assert_eq!((row.sharing, row.sharing_curve), (None, Vec::new()));

        let mut row = Row::default();
        figures.fill(&mut row, false);
        assert_eq!((row.ideal, row.ideal_short, row.ideal_curve), (None, None, Vec::new()));
        assert!(row.latency.p50_us.is_some());
    }

    #[test]
    fn work_that_burns_is_set_against_sharing_the_cores_too() {
        let arrivals = shape(Handler::Spins).draw(1).unwrap();
        let shared = |ideals: &Ideals| ideals.sharing_ns.clone().unwrap();
        let (trace, ideals) = played(&arrivals, shared);
        let mut figures = Figures::default();
        figures.add(&arrivals, &trace, &ideals);
        let mut row = Row::default();
        figures.fill(&mut row, true);
        let p99 = |ideal: &Option<Ideal>| ideal.as_ref().and_then(|ideal| ideal.p99).unwrap();
        assert!((p99(&row.sharing) - 2.0).abs() < 0.01);
        assert!((p99(&row.sharing_short) - 2.0).abs() < 0.01);
        // One queue lets the short ones wait behind the long ones.
        assert!(p99(&row.ideal_short) < 0.5, "{:?}", row.ideal_short);
    }

    #[test]
    fn whoever_is_given_up_as_late_is_in_the_tail() {
        let work = Work::Constant(Duration::from_millis(1));
        let arrivals = Shape::poisson(1_000.0, work, Duration::from_secs(10)).draw(1).unwrap();
        let (mut trace, ideals) = played(&arrivals, |ideals| ideals.queue_ns.clone());
        for record in trace.records.iter_mut().step_by(50) {
            (record.category, record.latency_us) = (Category::Late, 10_000_000);
        }
        let mut figures = Figures::default();
        figures.add(&arrivals, &trace, &ideals);
        let mut row = Row::default();
        figures.fill(&mut row, false);
        assert!(row.latency.p99_us.unwrap() > 9_900_000.0, "{:?}", row.latency);
        assert!(row.latency.p50_us.unwrap() < 10_000.0, "{:?}", row.latency);
    }

    #[test]
    fn work_of_one_size_has_no_class_of_its_own_and_what_failed_has_no_latency() {
        let work = Work::Constant(Duration::from_millis(1));
        let arrivals = Shape::poisson(1_000.0, work, Duration::from_secs(1)).draw(1).unwrap();
        let (mut trace, ideals) = played(&arrivals, |ideals| ideals.queue_ns.clone());
        trace.records.iter_mut().for_each(|record| record.category = Category::Reset);
        let mut figures = Figures::default();
        figures.add(&arrivals, &trace, &ideals);
        let mut row = Row::default();
        figures.fill(&mut row, true);
        assert_eq!((row.short, row.slowdown, row.latency.samples), (None, None, 0));
    }
}
