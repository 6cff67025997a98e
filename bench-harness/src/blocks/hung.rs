//! Blocks in which a worker does nothing for a while: who had to wait for it?

use std::time::Duration;

use crate::load::protocol::{Arrival, Trace};
use crate::report::Hung;
use crate::scenario::spec::Fault;
use crate::stopper::Hang;
use crate::trace::Handler;

/// Later than this is *delayed*.
const DELAYED: Duration = Duration::from_secs(1);

/// The word for how a worker hangs; none if it does not.
pub(super) fn word(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Stop { .. } => Some("stopped"),
        Fault::Loop { .. } => Some("looping"),
        Fault::Kill { .. } | Fault::Scale { .. } | Fault::Restart { .. } => None,
    }
}

/// Adds the request whose handler hangs.
pub(super) fn insert(arrivals: &mut Vec<Arrival>, at: Duration, length: Duration) {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let hangs = Arrival { at_us: us(at), service_us: us(length), handler: Handler::Hangs };
    let index = arrivals.partition_point(|arrival| arrival.at_us <= hangs.at_us);
    arrivals.insert(index, hangs);
}

/// Who looped; nobody if the request was not answered.
pub(super) fn looped(arrivals: &[Arrival], trace: &Trace) -> Option<Hang> {
    let hangs = |arrival: &Arrival| arrival.handler == Handler::Hangs;
    let (arrival, record) = arrivals.iter().zip(&trace.records).find(|(one, _)| hangs(one))?;
    let end_us = trace.start_us + arrival.at_us + record.latency_us;
    let service_us = record.service_us?;
    let since_us = end_us.checked_sub(service_us)?;
    // In the midst of it, so that no lateness of the client matters.
    Some(Hang { slot: record.worker?, since_us, held_until_us: since_us + service_us / 2 })
}

/// Counts the delayed requests, and those of them that the hung worker held.
pub(super) fn count(how: &str, trace: &Trace, hang: Hang) -> Hung {
    let mut hung = Hung { how: how.to_owned(), ..Hung::default() };
    for record in &trace.records {
        hung.requests += 1;
        if u128::from(record.latency_us) <= DELAYED.as_micros() {
            continue;
        }
        hung.delayed += 1;
        let its_own = record.worker == Some(hang.slot)
            && record.taken_us.is_some_and(|taken| taken <= hang.held_until_us);
        hung.held += u64::from(its_own);
    }
    hung
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::category::Category;
    use crate::load::protocol::Record;

    fn record(latency_us: u64, worker: Option<u32>, taken_us: Option<u64>) -> Record {
        let (service_us, category) = (Some(2_000), Category::Served);
        Record {
            lag_us: 0,
            latency_us,
            unseen_us: 0,
            service_us,
            worker,
            taken_us,
            after_ns: None,
            category,
        }
    }

    #[test]
    fn what_the_hung_worker_had_taken_is_its_own_and_what_it_took_later_is_not() {
        let records = vec![
            record(2_100, Some(1), Some(10)),
            record(4_900_000, Some(1), Some(999)),
            record(4_000_000, Some(1), Some(1_001)),
            record(1_000_001, Some(2), Some(500)),
            record(1_000_000, Some(2), Some(500)),
            record(9_000_000, None, None),
        ];
        let trace = Trace { records, ..Trace::default() };
        let seen = count("stopped", &trace, Hang { slot: 1, since_us: 0, held_until_us: 1_000 });
        assert_eq!((seen.requests, seen.delayed, seen.held, seen.beside()), (6, 4, 1, 3));
    }

    #[test]
    fn who_looped_is_read_from_its_answer() {
        let usual = |at_us| Arrival { at_us, service_us: 2_000, handler: Handler::Sleeps };
        let mut arrivals: Vec<Arrival> = (0..8).map(|n| usual(n * 500_000)).collect();
        insert(&mut arrivals, Duration::from_secs(2), Duration::from_secs(5));
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at_us));
        assert_eq!(arrivals[5].handler, Handler::Hangs);
        let mut records = vec![record(2_000, Some(0), Some(5)); arrivals.len()];
        records[5] =
            Record { service_us: Some(5_000_000), ..record(5_000_100, Some(3), Some(2_000_050)) };
        let trace = Trace { start_us: 1_000, records, ..Trace::default() };
        let hang = looped(&arrivals, &trace).unwrap();
        let since_us = 1_000 + 2_000_000 + 100;
        assert_eq!(hang, Hang { slot: 3, since_us, held_until_us: since_us + 2_500_000 });
    }
}
