//! Open loop: every arrival at its time, whether or not earlier ones were answered.
//!
//! A closed loop waits politely while a server stalls and so hides the stall; here the stall is in
//! every latency, because each is counted from the time the request was *due*.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use super::category::{Category, End, Read, categorize};
use super::connection::{Answer, Progress};
use super::cpu_ns;
use super::driver::Driver;
use super::protocol::{Arrival, Record, Trace};
use crate::clock;

/// Before the first arrival: time to be ready for it.
const LEAD: Duration = Duration::from_millis(5);

/// Plays `arrivals` against `target`.
pub(super) fn play(target: SocketAddrV4, arrivals: &[Arrival], kills: bool) -> io::Result<Trace> {
    let _priority = Priority::raise();
    let mut driver = Driver::new()?;
    let mut happened = Vec::new();
    let mut records: Vec<Option<Record>> = vec![None; arrivals.len()];
    let mut lags = vec![0; arrivals.len()];
    let mut next = 0;
    let mut done = 0;
    let cpu_before = cpu_ns()?;
    let start = Instant::now() + LEAD;
    let start_us = clock::monotonic_us() + microseconds_of(LEAD);
    let due = |index: usize| start + Duration::from_micros(arrivals[index].at_us);
    while done < arrivals.len() {
        while next < arrivals.len() && due(next) <= Instant::now() {
            lags[next] = microseconds(due(next));
            let path = arrivals[next].path();
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
            if let Err(end) = driver.open(next, target, Cow::Owned(request.into_bytes()))? {
                let category = categorize(Read::Nothing, end, kills);
                records[next] = Some(record(due(next), lags[next], None, category));
                done += 1;
            }
            next += 1;
        }
        let until = (next < arrivals.len()).then(|| due(next));
        driver.wait(until, &mut happened)?;
        for &(number, progress) in &happened {
            let Some(connection) = driver.take(number) else { continue };
            let end = if let Progress::Ended(end) = progress { end } else { End::Strange };
            let answer = connection.answer();
            let mut category = categorize(connection.read(), end, kills);
            // An answer without its measured work is not the answer to what was asked.
            if category == Category::Served && answer.is_none_or(|one| one.service_us.is_none()) {
                category = Category::Other;
            }
            records[number] = Some(record(due(number), lags[number], answer, category));
            done += 1;
        }
    }
    let cpu_ns = cpu_ns()? - cpu_before;
    Ok(Trace { cpu_ns, start_us, records: records.into_iter().flatten().collect() })
}

/// What became of the arrival that was due at `due` and ended now.
fn record(due: Instant, lag_us: u64, answer: Option<Answer>, category: Category) -> Record {
    Record {
        lag_us,
        latency_us: microseconds(due),
        service_us: answer.and_then(|answer| answer.service_us),
        worker: answer.and_then(|answer| answer.worker),
        taken_us: answer.and_then(|answer| answer.taken_us),
        after_ns: answer.and_then(|answer| answer.after_ns),
        category,
    }
}

/// Since `start`, in microseconds.
fn microseconds(start: Instant) -> u64 {
    microseconds_of(start.elapsed())
}

fn microseconds_of(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

/// The highest priority, as long as this value lives and if we may: a generator that waits for a core
/// while something else runs measures that instead. Servers stay as they are.
struct Priority;

impl Priority {
    const HIGHEST: i32 = -20;

    fn raise() -> Self {
        // Without the privilege the lag is larger, and the report says how large.
        let _ = setpriority_process(None, Self::HIGHEST);
        Self
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        // To lower it again is always allowed.
        let _ = setpriority_process(None, 0);
    }
}
