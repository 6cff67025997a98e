//! Connections that are there beside the requests: idle, silent, or slow to read.
//!
//! They are gathered before the first request and dismissed after the last; one that the server ends
//! meanwhile is counted and replaced. They are looked at every [`PACE`], in between the requests.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, Instant};

use super::category::{Category, End, Read, Tally, categorize};
use super::connection::Progress;
use super::driver::Driver;
use super::protocol::{Beside, Target};
use super::reader::{Reader, Reading};

/// How often they are looked at.
const PACE: Duration = Duration::from_millis(20);

/// What an idle one asks before it is idle.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// Those who are there beside the requests. Dropping them resets their connections.
#[derive(Debug)]
pub(super) struct Company {
    target: Target,
    wanted: Beside,
    deadline: Duration,
    /// Whether workers are killed meanwhile.
    kills: bool,
    /// The idle ones first, then the silent ones.
    driver: Driver,
    /// Of the idle ones, who was answered; of the silent ones nobody.
    answered: Vec<bool>,
    readers: Vec<Option<Reader>>,
    connections: Tally,
    made: u64,
    looked: Instant,
}

impl Company {
    /// Connects them all and waits until the idle ones are answered, or late.
    pub(super) fn gather(
        target: Target,
        wanted: Beside,
        deadline: Duration,
        kills: bool,
    ) -> io::Result<Self> {
        let mut company = Self {
            target,
            wanted,
            deadline,
            kills,
            driver: Driver::with_deadline(deadline)?,
            answered: vec![false; (wanted.idle + wanted.silent) as usize],
            readers: (0..wanted.slow).map(|_| None).collect(),
            connections: Tally::default(),
            made: 0,
            looked: Instant::now(),
        };
        for number in 0..company.idle() {
            company.connect(number)?;
        }
        company.await_answers()?;
        for number in company.idle()..company.answered.len() {
            company.connect(number)?;
        }
        company.replace()?;
        Ok(company)
    }

    /// When they are to be looked at next.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.wanted != Beside::default()).then(|| self.looked + PACE)
    }

    /// Sees who was ended and replaces them, and reads a piece of what is read slowly; nothing before
    /// it is time.
    pub(super) fn look(&mut self) -> io::Result<()> {
        if self.next().is_none_or(|next| Instant::now() < next) {
            return Ok(());
        }
        self.looked = Instant::now();
        self.heed(Some(self.looked))?;
        self.read();
        self.replace()
    }

    /// They go, each into its category; who asked and was not answered yet has its time until it is
    /// late.
    pub(super) fn dismiss(mut self, connections: &mut Tally, made: &mut u64) -> io::Result<()> {
        self.heed(Some(Instant::now()))?;
        self.await_answers()?;
        for number in 0..self.answered.len() {
            if self.driver.take(number).is_some() {
                let idle = number < self.idle();
                self.connections.count(if idle { Category::Served } else { Category::Held });
            }
        }
        for _ in self.readers.iter().flatten() {
            self.connections.count(Category::Held);
        }
        connections.add(&self.connections);
        *made += self.made;
        Ok(())
    }

    /// How many are idle: their numbers are below this.
    fn idle(&self) -> usize {
        self.wanted.idle as usize
    }

    /// Connects an idle or a silent one.
    fn connect(&mut self, number: usize) -> io::Result<()> {
        let idle = number < self.idle();
        let request = if idle { REQUEST } else { &[] };
        self.made += 1;
        self.answered[number] = false;
        match self.driver.open(number, self.target, Cow::Borrowed(request))? {
            Err(end) => self.connections.count(categorize(Read::Nothing, end, self.kills)),
            Ok(()) => {
                if let Some(connection) = self.driver.get(number).filter(|_| !idle) {
                    connection.idle = true;
                }
            }
        }
        Ok(())
    }

    /// Waits until every idle one was answered, or is late.
    fn await_answers(&mut self) -> io::Result<()> {
        loop {
            let waits = (0..self.idle())
                .any(|number| !self.answered[number] && self.driver.get(number).is_some());
            if !waits {
                return Ok(());
            }
            self.heed(None)?;
        }
    }

    /// What happened until `until` to those who are idle or silent.
    fn heed(&mut self, until: Option<Instant>) -> io::Result<()> {
        let mut happened = Vec::new();
        self.driver.wait(until, &mut happened)?;
        for (number, progress) in happened {
            let Some(connection) = self.driver.get(number) else { continue };
            let as_expected = connection.answer().is_some_and(|answer| answer.as_expected);
            let end = match progress {
                Progress::Answered if as_expected && !self.answered[number] => {
                    connection.idle = true;
                    self.answered[number] = number < self.wanted.idle as usize;
                    continue;
                }
                Progress::Ended(end) => end,
                Progress::Answered | Progress::Pending => End::Strange,
            };
            let asked_nothing = self.answered[number] || number >= self.idle();
            let read = if self.answered[number] {
                Read::Nothing
            } else {
                self.driver.get(number).map_or(Read::Nothing, |connection| connection.read())
            };
            self.driver.take(number);
            self.answered[number] = false;
            self.connections.count(match end {
                End::Closed | End::Reset if asked_nothing => Category::Dismissed,
                end => categorize(read, end, self.kills),
            });
        }
        Ok(())
    }

    /// A piece for each that reads slowly.
    fn read(&mut self) {
        for place in &mut self.readers {
            if let Some(reader) = place
                && let Reading::Over(category) = reader.read(self.deadline)
            {
                self.connections.count(category);
                *place = None;
            }
        }
    }

    /// Everybody who is not there is connected anew.
    fn replace(&mut self) -> io::Result<()> {
        for number in 0..self.answered.len() {
            if self.driver.get(number).is_none() {
                self.connect(number)?;
            }
        }
        for place in self.readers.iter_mut().filter(|place| place.is_none()) {
            self.made += 1;
            let number = u32::try_from(self.made).unwrap_or(u32::MAX);
            match Reader::open(self.target.address, number, self.kills) {
                Ok(reader) => *place = Some(reader),
                Err(category) => self.connections.count(category),
            }
        }
        Ok(())
    }
}
