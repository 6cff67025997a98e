//! What a server offers to scenarios: found out by asking it, where it is not ours.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::request::Client;
use crate::interrupt::Interrupt;
use crate::measure::cpu::Tree;

/// The work asked for to see whether it is done: far more than any server takes for nothing.
const WORK: Duration = Duration::from_millis(20);

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
    let works = |path: &str| -> anyhow::Result<bool> {
        // No answer at all to a target it does not know is an answer, too.
        let reply = heard(connect()?.get(&format!("/{path}/{}", WORK.as_micros())), interrupt)?;
        Ok(reply.is_some_and(|reply| reply.status == 200 && reply.took >= WORK))
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
    use super::*;

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
