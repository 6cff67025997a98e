//! What happened when in a run with faults: who was due, who failed, who waited, what was done.

use crate::load::category::Category;
use crate::load::protocol::{Arrival, Trace};
use crate::measure::latency::to_f64;
use crate::report::Moment;

/// Moments of a run: enough to see a stall of a hundredth of it, few enough to draw.
const MOMENTS: u64 = 150;

/// What is said of a moment with which another block begins.
pub const NEXT: &str = "the next block";

/// Something that was done to the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// When, in microseconds of the clock that all processes share.
    pub at_us: u64,
    /// What, in a word or two.
    pub what: String,
}

impl Deed {
    /// `what` was done at this time.
    #[must_use]
    pub fn new(at_us: u64, what: impl Into<String>) -> Self {
        Self { at_us, what: what.into() }
    }
}

/// A run in moments of the same length. Requests belong to the moment in which they were
/// due, deeds to the one in which they were done; several at once are counted.
#[must_use]
pub fn moments(arrivals: &[Arrival], trace: &Trace, deeds: &[Deed]) -> Vec<Moment> {
    let last_us = arrivals.last().map_or(0, |arrival| arrival.at_us);
    let each_us = last_us / MOMENTS + 1;
    let mut moments: Vec<Moment> = (0..MOMENTS)
        .map(|index| Moment { at_s: to_f64(index * each_us) / 1e6, ..Moment::default() })
        .collect();
    let index = |at_us: u64| usize::try_from(at_us / each_us).unwrap_or(usize::MAX);
    for (arrival, record) in arrivals.iter().zip(&trace.records) {
        let Some(moment) = moments.get_mut(index(arrival.at_us)) else { continue };
        moment.due += 1;
        if record.category == Category::Served {
            let latency_ms = to_f64(record.latency_us) / 1e3;
            moment.worst_ms = Some(moment.worst_ms.map_or(latency_ms, |ms| ms.max(latency_ms)));
        } else {
            moment.failed += u64::from(record.category.is_failure());
        }
    }
    let mut done: Vec<Vec<(&str, u32)>> = vec![Vec::new(); moments.len()];
    for deed in deeds {
        let Some(at_us) = deed.at_us.checked_sub(trace.start_us) else { continue };
        let Some(done) = done.get_mut(index(at_us)) else { continue };
        match done.iter_mut().find(|(what, _)| *what == deed.what) {
            Some((_, times)) => *times += 1,
            None => done.push((&deed.what, 1)),
        }
    }
    for (moment, done) in moments.iter_mut().zip(done) {
        let words = done.iter().map(|&(what, times)| match times {
            1 => what.to_owned(),
            times => format!("{times} × {what}"),
        });
        let words = words.collect::<Vec<_>>().join(", ");
        moment.done = (!words.is_empty()).then_some(words);
    }
    moments
}

/// Puts another block behind `timeline`, which says so where it begins.
pub fn follow(timeline: &mut Vec<Moment>, mut next: Vec<Moment>) {
    if let (Some(end_s), Some(first)) = (end_s(timeline), next.first_mut()) {
        let words = [NEXT.to_owned()].into_iter().chain(first.done.take());
        first.done = Some(words.collect::<Vec<_>>().join(", "));
        next.iter_mut().for_each(|moment| moment.at_s += end_s);
    }
    timeline.append(&mut next);
}

/// When the last moment ends, if it is as long as the one before.
#[must_use]
pub fn end_s(timeline: &[Moment]) -> Option<f64> {
    let last = timeline.last()?.at_s;
    let before = timeline.iter().rev().nth(1).map_or(last - 1.0, |moment| moment.at_s);
    Some(last + (last - before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::protocol::{Handler, Record};

    #[test]
    fn a_timeline_ends_as_long_after_its_last_moment_as_that_is_after_the_one_before() {
        let moment = |at_s| Moment { at_s, ..Moment::default() };
        let timeline = [moment(0.0), moment(0.5), moment(1.0)];
        assert_eq!(end_s(&timeline), Some(1.5));
        assert_eq!((end_s(&timeline[..1]), end_s(&[])), (Some(1.0), None));
    }

    #[test]
    fn requests_and_deeds_are_in_their_moments() {
        let arrival = |at_us| Arrival { at_us, service_us: 1, handler: Handler::Sleeps };
        let record = |latency_us, category| Record {
            lag_us: 0,
            unseen_us: 0,
            latency_us,
            service_us: None,
            worker: None,
            taken_us: None,
            after_ns: None,
            category,
        };
        let arrivals = [0, 99_999, 100_000, 250_000, 14_999_999].map(arrival);
        let records = vec![
            record(7_000, Category::Served),
            record(9_000, Category::Served),
            record(5_000_000, Category::Taken),
            record(8_000, Category::Shed),
            record(1, Category::Served),
        ];
        let trace = Trace { start_us: 1_000, records, ..Trace::default() };
        let deeds = [
            Deed::new(500, "before it began"),
            Deed::new(101_000, "killed"),
            Deed::new(111_000, "killed"),
            Deed::new(121_000, "stopped"),
        ];
        let moments = moments(&arrivals, &trace, &deeds);
        assert_eq!(moments.len(), 150);
        let seen: Vec<_> = moments[..3]
            .iter()
            .map(|one| (one.at_s, one.due, one.failed, one.worst_ms, one.done.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                (0.0, 2, 0, Some(9.0), None),
                (0.1, 1, 1, None, Some("2 × killed, stopped")),
                (0.2, 1, 0, None, None),
            ]
        );
        assert_eq!(moments[3..149].iter().map(|one| one.due).sum::<u64>(), 0);
        assert_eq!((moments[149].due, moments[149].failed), (1, 0));
    }
}
