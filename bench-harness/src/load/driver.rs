//! The epoll of the load process and the connections in it, by number.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::category::End;
use super::connection::{Connection, Progress, end_of};
use super::protocol::Target;

/// Longest a connection (or a request on it) may take; then it is *late*.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// How often deadlines are looked at.
const GLANCE: Duration = Duration::from_millis(250);

/// Connections in one epoll, each under a number of the caller's choice.
pub(super) struct Driver {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Option<Box<Connection>>>,
    events: Vec<epoll::Event>,
    deadline: Duration,
    opened: u32,
    /// When deadlines were looked at.
    looked: Instant,
    /// All that had happened by then has been told.
    told: Instant,
    /// The same, when the last wait is worked off.
    telling: Instant,
}

impl Driver {
    /// An empty one in which a request is *late* after this long.
    pub(super) fn with_deadline(deadline: Duration) -> io::Result<Self> {
        Ok(Self {
            deadline,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            events: Vec::with_capacity(64),
            opened: 0,
            looked: Instant::now(),
            told: Instant::now(),
            telling: Instant::now(),
        })
    }

    /// Connects and sends; an end means that nothing was kept under `number`.
    pub(super) fn open(
        &mut self,
        number: usize,
        target: Target,
        request: Cow<'static, [u8]>,
    ) -> io::Result<Result<(), End>> {
        self.opened = self.opened.wrapping_add(1);
        let mut connection = match Connection::open(target, self.opened, request) {
            Ok(connection) => connection,
            Err(error) => return Ok(Err(end_of(&error))),
        };
        if let Progress::Ended(end) = connection.send() {
            return Ok(Err(end));
        }
        epoll::add(&self.epoll, &connection, data(number), interest(&connection))?;
        if self.connections.len() <= number {
            self.connections.resize_with(number + 1, || None);
        }
        self.connections[number] = Some(Box::new(connection));
        Ok(Ok(()))
    }

    /// Sends another request on the connection under `number`, which has none out; an end means that
    /// it is over, and it stays to be taken.
    pub(super) fn ask(
        &mut self,
        number: usize,
        request: Cow<'static, [u8]>,
    ) -> io::Result<Result<(), End>> {
        let Some(Some(connection)) = self.connections.get_mut(number) else {
            return Ok(Err(End::Strange));
        };
        if let Progress::Ended(end) = connection.ask(request) {
            return Ok(Err(end));
        }
        if connection.wants_write() {
            epoll::modify(&self.epoll, &**connection, data(number), interest(connection))?;
        }
        Ok(Ok(()))
    }

    /// The connection under `number`.
    pub(super) fn get(&mut self, number: usize) -> Option<&mut Connection> {
        self.connections.get_mut(number)?.as_deref_mut()
    }

    /// Takes the connection out; dropping it closes it, which also takes it out of the epoll.
    pub(super) fn take(&mut self, number: usize) -> Option<Box<Connection>> {
        self.connections.get_mut(number)?.take()
    }

    /// What the last wait told happened after this.
    ///
    /// A machine that is busy lets us look seldom, and a wait tells so many at once: the rest has happened,
    /// too, and is told by a later one.
    pub(super) fn told(&self) -> Instant {
        self.told
    }

    /// Waits until something happens or `until`, then says what, in `happened`.
    ///
    /// Only answers and ends are told; a connection that merely has to go on waiting is not.
    pub(super) fn wait(
        &mut self,
        until: Option<Instant>,
        happened: &mut Vec<(usize, Progress)>,
    ) -> io::Result<()> {
        happened.clear();
        let now = Instant::now();
        let left = until.map_or(GLANCE, |until| until.saturating_duration_since(now)).min(GLANCE);
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        self.events.clear();
        self.told = self.telling;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.events.len() < self.events.capacity() {
            // Not when it returned: what happened since it began to wait was not there when it looked, or
            // was told now.
            self.telling = now;
        }
        for event in &self.events {
            let Ok(number) = usize::try_from(event.data.u64()) else { continue };
            let Some(Some(connection)) = self.connections.get_mut(number) else { continue };
            let wrote = connection.wants_write();
            match connection.advance() {
                Progress::Pending if wrote && !connection.wants_write() => {
                    epoll::modify(&self.epoll, &**connection, data(number), interest(connection))?;
                }
                Progress::Pending => {}
                progress => happened.push((number, progress)),
            }
        }
        if self.looked.elapsed() >= GLANCE {
            self.looked = Instant::now();
            for (number, connection) in self.connections.iter().enumerate() {
                let late = connection
                    .as_ref()
                    .is_some_and(|one| !one.idle && one.since.elapsed() > self.deadline);
                if late && !happened.iter().any(|(other, _)| *other == number) {
                    happened.push((number, Progress::Ended(End::TimedOut)));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.connections.iter().flatten().count();
        formatter.debug_struct("Driver").field("open", &open).finish_non_exhaustive()
    }
}

/// The direction a connection waits for; hang-ups and errors are always told.
fn interest(connection: &Connection) -> epoll::EventFlags {
    if connection.wants_write() { epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}

/// A number as epoll carries it.
fn data(number: usize) -> epoll::EventData {
    epoll::EventData::new_u64(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_not_rounded_up_to_whole_milliseconds() {
        let mut driver = Driver::with_deadline(DEADLINE).unwrap();
        let mut happened = Vec::new();
        // One of many: a busy machine makes some longer, a rounded timeout makes all so.
        let is_short = (0..5_000).any(|_| {
            let start = Instant::now();
            driver.wait(Some(start + Duration::from_micros(200)), &mut happened).unwrap();
            start.elapsed() < Duration::from_micros(900)
        });
        assert!(is_short);
    }

    #[test]
    fn what_did_not_fit_into_a_wait_may_have_happened_before_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!() };
        let target = Target { address, answers: super::super::protocol::Answers::Any };
        let mut driver = Driver::with_deadline(DEADLINE).unwrap();
        let number = driver.events.capacity() + 1;
        for number in 0..number {
            driver.open(number, target, Cow::Borrowed(b"x")).unwrap().unwrap();
            drop(listener.accept().unwrap());
        }
        let ended = Instant::now();
        let mut happened = Vec::new();
        let mut told = 0;
        while told < number {
            driver.wait(Some(ended + DEADLINE), &mut happened).unwrap();
            // All had ended, the last one is told after a wait that was full.
            assert!(driver.told() <= ended, "{told}");
            told += happened.len();
            assert!(!happened.is_empty());
            happened.iter().for_each(|&(number, _)| drop(driver.take(number)));
        }
        driver.wait(Some(Instant::now()), &mut happened).unwrap();
        assert!(driver.told() >= ended);
    }
}
