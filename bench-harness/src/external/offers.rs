//! What a server offers to scenarios: found out by asking it, where it is not ours.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::request::Client;
use crate::interrupt::Interrupt;
use crate::measure::cpu::Tree;

/// The work asked for to see whether it is done: far more than any server takes for nothing.
const WORK: Duration = Duration::from_millis(20);

/// So little that it takes no time; not 0, which somebody may call no work.
const LITTLE: Duration = Duration::from_micros(1);

/// How often each is asked for: one answer may be late by chance, the least of three is not. A server that is
/// slow whatever it is asked for takes as long for little work as for much, and does none.
const LOOKS: u32 = 3;

/// Kept connections at the same time, as many as our scenarios have: more than there are workers or their
/// threads, most likely.
const TOGETHER: usize = 64;

/// Longest a single answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest it may take from accepting to a good answer.
const WARM_UP: Duration = Duration::from_secs(15);

/// What a server can be asked to do, beside answering `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// A supervisor of ours: it tells who its workers are and replaces them.
    pub supervisor: bool,
    /// Its answers name the worker that gave them.
    pub names_worker: bool,
    /// `/sleep/N` waits N microseconds.
    pub sleep: bool,
    /// `/spin/N` burns N microseconds of CPU.
    pub spin: bool,
    /// Many requests on one connection.
    pub keep_alive: bool,
    /// Kept connections at the same time, more than there are workers: none keeps others from being served.
    pub keeps_many: bool,
    /// `/fill/N` answers N bytes.
    pub fill: bool,
}

impl Offers {
    /// All there is: our apps under a supervisor of ours.
    pub const ALL: Self = Self {
        supervisor: true,
        names_worker: true,
        sleep: true,
        spin: true,
        keep_alive: true,
        keeps_many: true,
        fill: true,
    };

    /// Nothing but an answer to `/`.
    pub const NONE: Self = Self {
        supervisor: false,
        names_worker: false,
        sleep: false,
        spin: false,
        keep_alive: false,
        keeps_many: false,
        fill: false,
    };

    /// Why what is needed cannot be had, if it cannot: the first thing that lacks.
    #[must_use]
    pub fn lack(&self, needed: &Self) -> Option<&'static str> {
        let lacks = [
            (
                needed.supervisor,
                self.supervisor,
                "no supervisor of ours watches, replaces and counts its workers",
            ),
            (
                needed.names_worker,
                self.names_worker,
                "its answers do not name the worker that gave them",
            ),
            (needed.sleep, self.sleep, "it offers no /sleep/N that waits N microseconds"),
            (needed.spin, self.spin, "it offers no /spin/N that burns N microseconds of CPU"),
            (needed.fill, self.fill, "it offers no /fill/N with an answer of N bytes"),
            (needed.keep_alive, self.keep_alive, "it closes a connection after one answer"),
            (
                needed.keeps_many,
                self.keeps_many,
                "a kept connection keeps its worker, or a thread of it, from all others",
            ),
        ];
        let lacking = lacks.into_iter().find(|&(needed, offered, _)| needed && !offered);
        lacking.map(|(_, _, reason)| reason)
    }
}

/// Asks the server at `address`, which answers already.
///
/// # Errors
/// It does not answer any more; or we were interrupted.
pub fn ask(address: SocketAddrV4, interrupt: &Interrupt) -> anyhow::Result<Offers> {
    let connect = || Client::connect(address, PATIENCE, interrupt);
    let took = |path: &str, work: Duration| -> anyhow::Result<Option<Duration>> {
        // No answer at all to a target it does not know is an answer, too.
        let reply = heard(connect()?.get(&format!("/{path}/{}", work.as_micros())), interrupt)?;
        Ok(reply.filter(|reply| reply.status == 200).map(|reply| reply.took))
    };
    let works = |path: &str| -> anyhow::Result<bool> {
        let mut least = None;
        for _ in 0..LOOKS {
            let (Some(little), Some(much)) = (took(path, LITTLE)?, took(path, WORK)?) else {
                return Ok(false);
            };
            let (a, b) = least.unwrap_or((little, much));
            least = Some((little.min(a), much.min(b)));
        }
        Ok(least.is_some_and(|(little, much)| much >= WORK && much - WORK / 2 >= little))
    };
    let mut client = connect()?;
    let first = client.get("/")?;
    let keep_alive = first.stays_open
        && heard(client.get("/"), interrupt)?.is_some_and(|again| again.status == 200);
    drop(client);
    let keeps_many = keep_alive && keeps_many(address, interrupt)?;
    let (sleep, spin) = (works("sleep")?, works("spin")?);
    Ok(Offers { sleep, spin, keep_alive, keeps_many, ..Offers::NONE })
}

/// Whether each of many connections is answered while those before it stay open.
fn keeps_many(address: SocketAddrV4, interrupt: &Interrupt) -> anyhow::Result<bool> {
    let mut open = Vec::with_capacity(TOGETHER);
    for _ in 0..TOGETHER {
        let connected = Client::connect(address, PATIENCE, interrupt);
        let Some(mut client) = heard(connected, interrupt)? else { return Ok(false) };
        match heard(client.get("/"), interrupt)? {
            Some(reply) if reply.status == 200 => open.push(client),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// What came of a request; a failure says something of the server only if nobody interrupted us.
fn heard<T>(outcome: anyhow::Result<T>, interrupt: &Interrupt) -> anyhow::Result<Option<T>> {
    interrupt.check()?;
    Ok(outcome.ok())
}

/// Waits until the server at `address` answers `/` with 200, and the processes below `pid` have done
/// what they do at their start: workers may come up long after their port accepts.
///
/// # Errors
/// It answers something else, or nothing in time; or we were interrupted.
pub fn await_answer(address: SocketAddrV4, pid: u32, interrupt: &Interrupt) -> anyhow::Result<()> {
    let deadline = Instant::now() + WARM_UP;
    loop {
        interrupt.check()?;
        let asked = Client::connect(address, PATIENCE, interrupt);
        match asked.and_then(|mut client| client.get("/")) {
            Ok(reply) if reply.status == 200 => break,
            Ok(reply) if (300..500).contains(&reply.status) => {
                bail!("it answers / with status {}, and a 200 is needed", reply.status)
            }
            Ok(reply) if Instant::now() >= deadline => {
                bail!("it answers / with status {} even after {WARM_UP:?}", reply.status)
            }
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("no good answer within {WARM_UP:?}")));
            }
            _ => interrupt.sleep_until(Instant::now() + Duration::from_millis(20))?,
        }
    }
    settle(pid, interrupt)
}

/// How long a tree has to keep still.
const STILL: Duration = Duration::from_millis(150);

/// What it may use meanwhile: a hundredth.
const STILL_NS: u64 = 1_500_000;

/// Longest to wait for that; a server that is never still is measured as it is.
const STILL_WITHIN: Duration = Duration::from_secs(5);

/// Waits until no process comes or goes below `pid`, and they hardly use CPU.
fn settle(pid: u32, interrupt: &Interrupt) -> anyhow::Result<()> {
    let deadline = Instant::now() + STILL_WITHIN;
    while Instant::now() < deadline {
        let tree = Tree::of(pid)?;
        let before = tree.usage();
        interrupt.sleep_until(Instant::now() + STILL)?;
        let now = Tree::of(pid)?;
        // A process that went away meanwhile says only that it is not still.
        if let (Ok(before), Ok(after)) = (before, tree.usage())
            && now == tree
            && after.since(&before).total_ns() <= STILL_NS
        {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// What a server offers that takes so long for the work (µs) it is asked for, if it takes any.
    fn offers(takes: impl Fn(&str, u64) -> Option<Duration> + Sync) -> Offers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let Ok(SocketAddr::V4(address)) = listener.local_addr() else { panic!("it was bound so") };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The last one is ours: it says that it is over.
                for stream in listener.incoming().take_while(|_| !over.load(Ordering::SeqCst)) {
                    let mut stream = stream.unwrap();
                    let mut line = String::new();
                    BufReader::new(&stream).read_line(&mut line).unwrap();
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let takes = match path.trim_matches('/').split_once('/') {
                        Some((word, work)) => takes(word, work.parse().unwrap()),
                        None => takes("", 0),
                    };
                    std::thread::sleep(takes.unwrap_or_default());
                    let status = if takes.is_some() { "200 OK" } else { "404 Not Found" };
                    let head = "Content-Length: 0\r\nConnection: close";
                    // A client that left does not matter.
                    let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n\r\n");
                }
            });
            let offers = ask(address, &Interrupt::default());
            over.store(true, Ordering::SeqCst);
            drop(std::net::TcpStream::connect(address));
            offers.unwrap()
        })
    }

    #[test]
    fn a_server_that_is_slow_for_everything_does_no_work_for_that() {
        let seen = |offers: Offers| (offers.sleep, offers.spin);
        assert_eq!(seen(offers(|_, _| Some(Duration::from_millis(25)))), (false, false));
        assert_eq!(seen(offers(|_, _| Some(Duration::ZERO))), (false, false));
        let slow = Duration::from_millis(30);
        let sleeps = |word: &str, us| match word {
            "" => Some(slow),
            "sleep" => Some(slow + Duration::from_micros(us)),
            _ => None,
        };
        assert_eq!(seen(offers(sleeps)), (true, false));
    }

    #[test]
    fn the_first_thing_that_lacks_is_the_reason() {
        let nothing = Offers::NONE;
        let work = Offers { sleep: true, ..nothing };
        assert_eq!(nothing.lack(&nothing), None);
        assert_eq!(Offers::ALL.lack(&Offers::ALL), None);
        assert_eq!(work.lack(&work), None);
        let reason = nothing.lack(&work).unwrap();
        assert!(reason.contains("/sleep/N"), "{reason}");
        let reason = work.lack(&Offers::ALL).unwrap();
        assert!(reason.contains("supervisor"), "{reason}");
    }
}
