//! Plays a trace: each request at its time (open loop), or the next when one ends (closed loop).
//!
//! A closed loop waits politely while a server stalls and so hides the stall; in an open loop the
//! stall is in every latency, because each is counted from the time the request was *due*, be it that
//! the server was late, a kept connection was not free, or this process did not run.
//!
//! Every connection that is made ends in one category, and every request in one.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::beside::Company;
use super::carriers::{Carriers, Errand};
use super::category::{Category, End, Read, Tally, categorize};
use super::connection::Progress;
use super::cpu_ns;
use super::driver::Driver;
use super::priority::Priority;
use super::protocol::{Answers, Arrival, Beside, Connections, Pace, Record, Target, Trace};
use crate::clock;
use crate::measure::latency::to_f64;

/// Before the first arrival: time to be ready for it.
const LEAD: Duration = Duration::from_millis(5);

/// After a connection could not even begin: nobody listens, and asking at once again is no load.
const PAUSE: Duration = Duration::from_millis(1);

/// What is to be played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score<'a> {
    pub(super) target: Target,
    /// In order of time.
    pub(super) arrivals: &'a [Arrival],
    pub(super) pace: Pace,
    pub(super) connections: Connections,
    pub(super) beside: Beside,
    /// Whether workers are killed meanwhile.
    pub(super) kills: bool,
    /// How late is *late*.
    pub(super) deadline: Duration,
}

impl Score<'_> {
    /// Plays it.
    pub(super) fn play(&self) -> io::Result<Trace> {
        // In a closed loop the server is measured as it is beside its clients.
        let _priority = matches!(self.pace, Pace::Open).then(Priority::raise);
        let mut beside = Company::gather(self.target, self.beside, self.deadline, self.kills)?;
        let mut player = Player::new(self)?;
        let cpu_before = cpu_ns()?;
        player.play(&mut beside)?;
        let cpu_ns = cpu_ns()? - cpu_before;
        let wall_us = microseconds(player.start);
        beside.dismiss(&mut player.connections, &mut player.made)?;
        Ok(Trace {
            cpu_ns,
            wall_us,
            start_us: player.start_us,
            records: player.records.into_iter().flatten().collect(),
            connections: player.connections,
            made: player.made,
            retried: player.retried,
        })
    }
}

/// A trace while it is played.
struct Player<'a> {
    score: &'a Score<'a>,
    start: Instant,
    start_us: u64,
    driver: Driver,
    carriers: Carriers,
    /// When each request was due, as far as it has come.
    due: Vec<Instant>,
    lags: Vec<u64>,
    records: Vec<Option<Record>>,
    done: usize,
    /// Nobody listened just now; in an open loop that is no reason to wait.
    refused: bool,
    connections: Tally,
    made: u64,
    retried: u64,
}

impl<'a> Player<'a> {
    fn new(score: &'a Score<'a>) -> io::Result<Self> {
        let (number, requests) = match (score.pace, score.connections) {
            (Pace::Open, Connections::Fresh) => (0, 1),
            (Pace::Open, Connections::Kept(kept)) => (kept.number.get(), kept.requests.get()),
            (Pace::Closed { clients, .. }, Connections::Fresh) => (clients.get(), 1),
            (Pace::Closed { clients, .. }, Connections::Kept(kept)) => {
                (clients.get(), kept.requests.get())
            }
        };
        Ok(Self {
            score,
            driver: Driver::with_deadline(score.deadline)?,
            carriers: Carriers::new(number, requests),
            due: Vec::with_capacity(score.arrivals.len()),
            lags: Vec::with_capacity(score.arrivals.len()),
            records: Vec::with_capacity(score.arrivals.len()),
            done: 0,
            refused: false,
            connections: Tally::default(),
            made: 0,
            retried: 0,
            start: Instant::now() + LEAD,
            start_us: clock::monotonic_us() + microseconds_of(LEAD),
        })
    }

    fn play(&mut self, beside: &mut Company) -> io::Result<()> {
        let mut happened = Vec::new();
        loop {
            self.refused = false;
            while !self.refused
                && let Some(due) = self.next_due().filter(|&due| due <= Instant::now())
            {
                self.begin(due)?;
            }
            let next = self.next_due();
            if next.is_none() && self.done == self.due.len() && !self.goes_on() {
                break;
            }
            let next = if self.refused { Some(Instant::now() + PAUSE) } else { next };
            let until = next.into_iter().chain(beside.next()).min();
            self.driver.wait(until, &mut happened)?;
            self.give_up();
            for &(number, progress) in &happened {
                if number < self.carriers.len() {
                    self.kept(number, progress)?;
                } else {
                    self.fresh(number - self.carriers.len(), progress);
                }
            }
            beside.look()?;
        }
        for _ in 0..self.carriers.open() {
            self.connections.count(Category::Served);
        }
        Ok(())
    }

    /// Whether a closed loop sends further requests.
    fn goes_on(&self) -> bool {
        match self.score.pace {
            _ if self.score.arrivals.is_empty() => false,
            Pace::Open | Pace::Closed { length_us: None, .. } => {
                self.due.len() < self.score.arrivals.len()
            }
            Pace::Closed { length_us: Some(length_us), .. } => microseconds(self.start) < length_us,
        }
    }

    /// When the next request is due: as the trace says, or now if a client is free.
    fn next_due(&self) -> Option<Instant> {
        if !self.goes_on() {
            return None;
        }
        match self.score.pace {
            Pace::Open => {
                let at_us = self.score.arrivals[self.due.len()].at_us;
                Some(self.start + Duration::from_micros(at_us))
            }
            Pace::Closed { .. } if self.carriers.has_free() => Some(Instant::now().max(self.start)),
            Pace::Closed { .. } => None,
        }
    }

    /// The next request is due now: it goes out, or waits for a kept connection.
    fn begin(&mut self, due: Instant) -> io::Result<()> {
        let request = self.due.len();
        self.due.push(due);
        self.lags.push(microseconds(due));
        self.records.push(None);
        if self.is_carried(request) {
            match self.carriers.offer(request) {
                Some(errand) => self.send(errand),
                None => Ok(()),
            }
        } else {
            let number = self.carriers.len() + request;
            self.made += 1;
            let text = self.text(request, true);
            if let Err(end) = self.driver.open(number, self.score.target, text)? {
                let category = categorize(Read::Nothing, end, self.score.kills);
                self.connections.count(category);
                self.record(request, None, category);
            }
            Ok(())
        }
    }

    /// Whether a kept connection carries it: evenly so many of all.
    fn is_carried(&self, request: usize) -> bool {
        match (self.score.pace, self.score.connections) {
            (Pace::Closed { .. }, _) => true,
            (Pace::Open, Connections::Fresh) => false,
            (Pace::Open, Connections::Kept(kept)) => is_part(request, kept.share),
        }
    }

    /// Sends on a kept connection; where that fails, what waits takes its place.
    fn send(&mut self, errand: Errand) -> io::Result<()> {
        let mut next = Some(errand);
        while let Some(Errand { slot, request, fresh, last }) = next {
            let text = self.text(request, last);
            let sent = if fresh {
                self.made += 1;
                self.driver.open(slot, self.score.target, text)?
            } else {
                self.driver.ask(slot, text)?
            };
            let Err(end) = sent else { return Ok(()) };
            self.driver.take(slot);
            self.refused |= fresh && self.score.pace != Pace::Open;
            next = self.broke(slot, request, Read::Nothing, end, !fresh);
        }
        Ok(())
    }

    /// Something happened on a connection that is kept.
    fn kept(&mut self, slot: usize, progress: Progress) -> io::Result<()> {
        let Some(connection) = self.driver.get(slot) else { return Ok(()) };
        let (read, answer) = (connection.read(), connection.answer());
        let next = match (self.carriers.request(slot), progress) {
            // Nothing was out on it.
            (None, progress) => {
                let end = if let Progress::Ended(end) = progress { end } else { End::Strange };
                self.driver.take(slot);
                self.connections.count(match end {
                    End::Closed | End::Reset => Category::Dismissed,
                    end => categorize(Read::Nothing, end, self.score.kills),
                });
                self.carriers.gone(slot);
                None
            }
            (Some(request), Progress::Answered) if !self.carriers.is_last(slot) => {
                let category = self.checked(categorize(read, End::Closed, false), answer);
                self.record(request, answer, category);
                // Also who was refused: that the server keeps the connection is no merit then.
                if category != Category::Served {
                    self.driver.take(slot);
                    self.connections.count(category);
                    self.carriers.gone(slot);
                } else if let Some(connection) = self.driver.get(slot) {
                    connection.idle = true;
                }
                self.carriers.done(slot)
            }
            (Some(request), progress) => {
                let end = progress.end_of_single(self.score.target);
                let was_used = self.driver.take(slot).is_some_and(|one| one.asked() > 1);
                if answer.is_some() {
                    let category = categorize(read, end, self.score.kills);
                    let category = self.checked(category, answer);
                    self.connections.count(category);
                    self.record(request, answer, category);
                    self.carriers.gone(slot);
                    self.carriers.done(slot)
                } else {
                    self.broke(slot, request, read, end, was_used)
                }
            }
        };
        match next {
            Some(errand) => self.send(errand),
            None => Ok(()),
        }
    }

    /// A kept connection ended without a whole answer. If it had answered before, and not a byte of
    /// this answer came, its server had ended it while it was idle and the request came too late: it
    /// goes out once more, as clients do (RFC 9112, 9.3.1). Not while workers are killed: it may have
    /// been taken by one.
    fn broke(
        &mut self,
        slot: usize,
        request: usize,
        read: Read,
        end: End,
        was_used: bool,
    ) -> Option<Errand> {
        let was_idle = was_used
            && !self.score.kills
            && read == Read::Nothing
            && matches!(end, End::Closed | End::Reset);
        if was_idle {
            self.connections.count(Category::Dismissed);
            self.retried += 1;
            return self.carriers.again(slot);
        }
        let category = categorize(read, end, self.score.kills);
        self.connections.count(category);
        self.record(request, None, category);
        self.carriers.gone(slot);
        self.carriers.done(slot)
    }

    /// Something happened on a connection of one request.
    fn fresh(&mut self, request: usize, progress: Progress) {
        let number = self.carriers.len() + request;
        let Some(connection) = self.driver.take(number) else { return };
        let end = progress.end_of_single(self.score.target);
        let (read, answer) = (connection.read(), connection.answer());
        let category = self.checked(categorize(read, end, self.score.kills), answer);
        self.connections.count(category);
        self.record(request, answer, category);
    }

    /// An answer of ours without its measured work is not the answer to what was asked.
    fn checked(&self, category: Category, answer: Option<Answer>) -> Category {
        let worked = self.score.target.answers == Answers::Any
            || answer.is_some_and(|answer| answer.service_us.is_some());
        if category == Category::Served && !worked { Category::Other } else { category }
    }

    /// Requests for which no connection became free in time.
    fn give_up(&mut self) {
        let (due, deadline) = (&self.due, self.score.deadline);
        let is_overdue = |request: usize| due[request].elapsed() > deadline;
        let mut overdue = Vec::new();
        while let Some(request) = self.carriers.give_up(is_overdue) {
            overdue.push(request);
        }
        for request in overdue {
            self.record(request, None, Category::Late);
        }
    }

    fn arrival(&self, request: usize) -> Arrival {
        self.score.arrivals[request % self.score.arrivals.len()]
    }

    fn text(&self, request: usize, last: bool) -> Cow<'static, [u8]> {
        let path = self.arrival(request).path();
        let close = if last { "Connection: close\r\n" } else { "" };
        Cow::Owned(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{close}\r\n").into_bytes())
    }

    /// The request has ended now.
    fn record(&mut self, request: usize, answer: Option<Answer>, category: Category) {
        self.done += 1;
        self.records[request] = Some(Record {
            lag_us: self.lags[request],
            latency_us: microseconds(self.due[request]),
            unseen_us: microseconds(self.driver.told()),
            service_us: answer.and_then(|answer| answer.service_us),
            worker: answer.and_then(|answer| answer.worker),
            taken_us: answer.and_then(|answer| answer.taken_us),
            after_ns: answer.and_then(|answer| answer.after_ns),
            category,
        });
    }
}

/// Whether the `index`-th belongs to the part `share` of all, spread evenly.
fn is_part(index: usize, share: f64) -> bool {
    let whole = |index: usize| (to_f64(index as u64) * share).floor();
    whole(index + 1) > whole(index)
}

/// Since `start`, in microseconds.
fn microseconds(start: Instant) -> u64 {
    microseconds_of(start.elapsed())
}

fn microseconds_of(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
