//! The supervisor accepts and passes the descriptor to a worker it picks, as a [Forkherd](forkherd_core)
//! strategy.
//!
//! ```no_run
//! use std::io::Write;
//! use forkherd_core::{Blocking, Connection, ListenSpec, Service};
//! use forkherd_handoff::Handoff;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Service::new("hello")
//!         .listen("127.0.0.1:8080".parse::<ListenSpec>()?)
//!         .workers(4)
//!         .run(Handoff::round_robin(), Blocking::new(|mut client: Connection| {
//!             client.write_all(b"hello\n")
//!         }))?;
//!     Ok(())
//! }
//! ```
//!
//! # How it works
//!
//! ```text
//!                                     ┌─ channel 0 ─► worker 0
//!  clients ─► listener ─► supervisor ─┼─ channel 1 ─► worker 1
//!           (the queue)    (picks)    └─ channel 2 ─► worker 2
//! ```
//!
//! A channel is a pair of seqpacket sockets. A message carries descriptors (`SCM_RIGHTS`) and for each a note
//! of the client's address and the listener. The supervisor keeps *both* ends and closes its copy of a
//! connection as soon as it is sent: what a dead or stopped worker has not received is taken back and
//! goes to others, in order; and the client sees the worker's close at once, because nobody else holds the
//! connection.
//!
//! A worker gets only what it has [credit](Handoff::credits) for. When nobody has any, connections wait
//! in the listener's backlog, first come first served, where waiting costs nothing. Event loops, which have
//! several credits, are sent several connections in one message where several came at once.
//!
//! [`Handoff::pull`] has one channel for all. Nobody picks; a worker that has nothing to do receives:
//!
//! ```text
//!                                                 ┌─► worker 0
//!  clients ─► listener ─► supervisor ─► channel ──┼─► worker 1    each when it is free
//!           (the rest)   (accepts)    (the queue) └─► worker 2
//! ```
//!
//! | variant | who gets the next connection | for |
//! |---|---|---|
//! | [`round_robin`](Handoff::round_robin) | the next slot with room | an exactly even count |
//! | [`least`](Handoff::least) | who has the fewest | connections that stay |
//! | [`power_of_two`](Handoff::power_of_two) | the better of two at random | the same, in no order; nearly as even |
//! | [`client_hash`](Handoff::client_hash) | the client's own worker while that has room, else another | caches in workers |
//! | [`idle`](Handoff::idle) | who has nothing to do | uneven work on event loops, which then have one connection; others do so anyway |
//! | [`pull`](Handoff::pull) | who asks first | uneven work, blocking workers |
//! | [`with`](Handoff::with) | whom your [`Pick`] says | |
//! | [`one_by_one`](Handoff::one_by_one) | the next slot, without batches | nothing: shows what batches save |
//! | [`eager`](Handoff::eager) | the next slot, busy or not | nothing: the bad example |
//!
//! | variant | blocking | threads:n | tokio | Linux | privilege |
//! |---|---|---|---|---|---|
//! | all but `pull` | waits in `recvmsg(2)` | threads share their worker's channel | batches of up to 16 (`idle`, `one_by_one`: none) | 4.5 with threads, else 2.6.14 | none |
//! | `pull` | waits in `recvmsg(2)`, longest wait first | waits exclusively, in turn | waits exclusively, in turn, by a thread | 4.5, blocking 2.6.32 | none |
//!
//! (Forkherd as a whole needs 5.11.) Workers that are another program and know `LISTEN_FDS` alone are refused:
//! they are handed connections here.
//!
//! # When to choose it
//!
//! When *you* want to decide who serves whom: exact round robin, fewest connections, stickiness, a policy of
//! your own; and when workers must never hold the listener. It is the only strategy whose workers cannot
//! touch the listening socket. `pull` decides nothing, but keeps the latter with the ideal queue's tail.
//!
//! # What it costs, and its limits
//!
//! * One process more on every connection's way. Eight system calls per connection with one client:
//!   `epoll_wait`, `accept4`, `sendmsg`, `close` in the supervisor, `recvmsg`, `recv`, `send`, `close` in
//!   the worker; under load about 7 + 1/n with `pull`, where n is how many one wake-up finds. A worker
//!   without credit left adds two for the kick: about 8.7 with 16 clients of 8 blocking workers.
//! * The wake-up is what costs, not the passing. CPU per short connection, as ratio to `prefork:blocking` (8
//!   blocking workers, one core, Linux 6.18): with one client 1.38, with 16 about 1.3, `pull` 1.37 and 1.0.
//! * The supervisor is on the data path: while it is stopped, nothing new is served.
//! * A connection that a worker has received dies with that worker, as in every strategy. What was queued
//!   for more than [`DEATHS`] workers that died is [refused](Handoff::refusal).
//! * What a killed worker had received is known exactly, counted by it or not: what it was sent, less what is
//!   still in its channel. Of `pull`'s channel anybody may have received: there a worker that is killed between
//!   receiving and counting loses one connection per lane that no counter shows.
//! * A worker without a free descriptor does not receive: at the limit of open files `recvmsg(2)` succeeds *without*
//!   the connection, which is lost. What else is open is measured once, when the worker starts, and 8 more are
//!   reserved. For what handlers open beyond that (a cache of files) it looks every 64 connections whether the last
//!   144 numbers below the limit are free (where the limit is above 1,024, every sixteenth of it, at most 1,024, and
//!   two numbers for each of these); if they are not, it looks at each message before it receives it, and costs
//!   three calls more per connection. So a handler may keep two files for each connection and nothing is lost. Who opens
//!   more than is left between two looks loses the message that comes then, 1 connection, or on an event loop up
//!   to 16; and where threads receive or open files at the same time, one for each of them. It is logged as a
//!   warning, counted as failed, its credit comes back, and no more is lost until these were free again.
//! * A worker that has no descriptor for the next message is *full*: it is sent nothing more, and what is in its channel
//!   goes to others as soon as they have room. Where nobody has, it waits there, and comes one by one. In `pull`'s
//!   channel nothing waits for one worker alone.
//! * What a worker has received and finished, it says itself. One that says too much looks idle: `least`, `power_of_two`
//!   and `idle` send it more than its share, as they would if it closed everything at once. It can neither end a service
//!   while something is queued, nor keep what it has not received.
//! * Whoever is not root may have no more descriptors under way than `RLIMIT_NOFILE` (`ETOOMANYREFS`): the
//!   supervisor keeps what it could not send, and pauses.

mod acceptor;
mod channel;
mod descriptors;
mod dispatcher;
mod gate;
mod inbox;
mod pace;
mod pick;
mod pull;
mod refusal;

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use forkherd_core::{
    Acceptor, Dispatcher, Inherit, Inherited, Needs, Plan, RuntimeKind, Setup, Strategy,
    Unsupported, WorkerId,
};

use crate::acceptor::HandoffAcceptor;
use crate::channel::BATCH;
use crate::dispatcher::{Credit, Routes};
pub use crate::pick::{Candidate, ClientHash, Least, Pick, PowerOfTwo, RoundRobin};
use crate::pull::{PullAcceptor, SharedQueue};
pub use crate::refusal::DEATHS;
use crate::refusal::Refusal;

/// The supervisor accepts every connection and hands it to a worker of its choice, or to whoever asks.
#[derive(Debug)]
pub struct Handoff {
    /// How many were asked for.
    credits: Option<u32>,
    rule: Rule,
    way: Way,
}

/// How connections go from the supervisor to workers.
#[derive(Debug)]
enum Way {
    /// A channel to each worker.
    Routes(Routes),
    /// One channel from which all receive.
    Pull(SharedQueue),
}

/// What credits bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// As the runtime is.
    ByRuntime,
    /// What a worker has not finished, whatever the runtime.
    Idle,
    /// As the runtime is, and one at a time on the way.
    OneByOne,
}

impl Handoff {
    /// Each worker in turn; one that has no credit left is skipped.
    #[must_use]
    pub fn round_robin() -> Self {
        Self::with(RoundRobin::default())
    }

    /// The worker with the fewest connections; equals in turn.
    ///
    /// For connections that stay: 10,000 of them are spread exactly.
    #[must_use]
    pub fn least() -> Self {
        Self::with(Least::default())
    }

    /// The less loaded of two workers drawn at random.
    #[must_use]
    pub fn power_of_two() -> Self {
        // The supervisor's process id: another order in every run, and nothing that could be relied on.
        Self::with(PowerOfTwo::seeded(std::process::id().into()))
    }

    /// The same worker for the same client address while that has room, else another; when a worker leaves,
    /// only its clients move.
    ///
    /// One that serves one at a time has room while it is idle, since it has one credit: a client that comes
    /// while its worker is busy goes elsewhere. With more [`credits`](Self::credits) it waits there, as long as
    /// these last.
    #[must_use]
    pub fn client_hash() -> Self {
        Self::with(ClientHash::default())
    }

    /// Only to a worker that has nothing to do; the rest waits in the kernel's backlog, first come first
    /// served. For event loops: one connection at a time each. Those that serve one at a time have one credit
    /// anyway, and there this is [`round_robin`](Self::round_robin).
    #[must_use]
    pub fn idle() -> Self {
        Self { rule: Rule::Idle, ..Self::round_robin() }
    }

    /// A policy of your own.
    ///
    /// ```
    /// use forkherd_core::{Peer, SlotId};
    /// use forkherd_handoff::{Candidate, Handoff, Pick};
    ///
    /// /// Fills one worker after the other, so that the last ones sleep.
    /// #[derive(Debug)]
    /// struct Fullest;
    ///
    /// impl Pick for Fullest {
    ///     fn pick(&mut self, candidates: &[Candidate], _client: Peer) -> usize {
    ///         let all = 0..candidates.len();
    ///         all.max_by_key(|&index| candidates[index].load).unwrap_or(0)
    ///     }
    /// }
    ///
    /// let workers = [(0, 3), (1, 7), (2, 0)].map(|(slot, load)| Candidate::new(SlotId(slot), load));
    /// assert_eq!(Fullest.pick(&workers, Peer::Unix), 1);
    /// let strategy = Handoff::with(Fullest).credits(64);
    /// ```
    #[must_use]
    pub fn with(policy: impl Pick + 'static) -> Self {
        Self {
            credits: None,
            rule: Rule::ByRuntime,
            way: Way::Routes(Routes::idle(Box::new(policy))),
        }
    }

    /// One channel for all: a worker that has nothing to do takes the oldest connection from it. Nobody
    /// picks, so nobody has to know who is busy.
    ///
    /// For workers that serve one connection at a time this is the ideal queue. They wait in `recvmsg(2)`
    /// itself, in which the kernel wakes who has waited longest, and are called away by a signal (SIGURG:
    /// see [`Interruptible`](forkherd_core::Interruptible)). Event loops wait exclusively (Linux 4.5) and
    /// in turn.
    ///
    /// [`credits`](Self::credits) bound what is in the channel, for each slot (default
    /// [`CREDITS_PULL`]); what does not fit waits in the listener's backlog.
    #[must_use]
    pub fn pull() -> Self {
        Self { credits: None, rule: Rule::ByRuntime, way: Way::Pull(SharedQueue::default()) }
    }

    /// Each worker in turn, whether it has room or not: the bad example. A connection waits behind a busy
    /// worker while others idle, as with any balancer that does not look.
    #[must_use]
    pub fn eager() -> Self {
        Self::round_robin().credits(CREDITS_EAGER)
    }

    /// Each worker in turn, one connection per wake-up and message even if more wait: shows beside
    /// [`round_robin`](Self::round_robin) what batches save event loops. Others are sent no batches anyway.
    #[must_use]
    pub fn one_by_one() -> Self {
        Self { rule: Rule::OneByOne, ..Self::round_robin() }
    }

    /// How many connections may be on their way to a worker; at least 1.
    ///
    /// For a worker that serves one at a time it bounds what it has not *finished*: 1 (the default,
    /// [`CREDITS_ONE_AT_A_TIME`]) means that nothing is queued behind the one in service, 2 that one
    /// waits there. For an event loop it bounds what it has not *received* (default
    /// [`CREDITS_EVENT_LOOP`]): how many it serves at once is bounded by its descriptors alone.
    ///
    /// Under [`idle`](Self::idle) it bounds for event loops, too, what they have not finished (default 1): with
    /// more, a connection goes only to a worker that has fewer than so many.
    #[must_use]
    pub fn credits(mut self, credits: u32) -> Self {
        self.credits = Some(credits.max(1));
        self
    }

    /// What a client is sent whose connection was queued for [`DEATHS`] workers that died, and for one
    /// more: then it is closed. Without this it is closed without a word.
    ///
    /// The supervisor sends what can be sent at once, and never reads: the bytes have to fit whatever the
    /// client asked. Nothing queued in [`pull`](Self::pull)'s channel is lost with a worker, so nothing is
    /// refused there.
    #[must_use]
    pub fn refusal(mut self, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        if let Way::Routes(routes) = &mut self.way {
            routes.set_refusal(Refusal::new(bytes));
        }
        self
    }
}

/// Credits of a worker that serves one connection at a time.
pub const CREDITS_ONE_AT_A_TIME: u32 = 1;
/// Credits of [`Handoff::pull`], for each slot, whatever the runtime.
pub const CREDITS_PULL: u32 = 8;
/// Credits of [`Handoff::eager`]: more than a channel holds.
pub const CREDITS_EAGER: u32 = 1 << 16;
/// Credits of a worker that serves many at a time: enough that it is never idle while the supervisor is
/// busy elsewhere, few enough that a stopped one keeps few waiting.
pub const CREDITS_EVENT_LOOP: u32 = 16;

/// For a worker as a whole: each of its lanes has as many.
fn credit(credits: Option<u32>, rule: Rule, runtime: RuntimeKind) -> Credit {
    let all = |default| credits.unwrap_or(default).saturating_mul(runtime.lanes());
    match rule {
        _ if runtime.is_one_at_a_time() => Credit::Unfinished(all(CREDITS_ONE_AT_A_TIME)),
        Rule::Idle => Credit::Unfinished(all(CREDITS_ONE_AT_A_TIME)),
        Rule::OneByOne => Credit::OneByOne(all(CREDITS_EVENT_LOOP)),
        Rule::ByRuntime => Credit::Unreceived(all(CREDITS_EVENT_LOOP)),
    }
}

impl Strategy for Handoff {
    fn name(&self) -> &'static str {
        "handoff"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        if plan.is_foreign {
            return Err(Unsupported(
                "a program that knows LISTEN_FDS takes listeners, and here workers are handed connections; \
                 use prefork"
                    .to_owned(),
            ));
        }
        let listeners = plan.listeners.len() as u64;
        let (slots, lanes) = (u64::from(plan.slots), u64::from(plan.runtime.lanes()));
        // A worker holds its channel as inherited until all lanes are open, and as each watches it.
        let (channels, waiting) = match self.way {
            // One more during a rolling restart; and for each slot that of a dead worker, until somebody has room
            // for what was queued there.
            Way::Routes(_) => (2 * slots + 1, 0),
            // Waited on, kept, and what takes its place.
            Way::Pull(_) if plan.runtime.is_one_at_a_time() && lanes == 1 => (1, 3),
            Way::Pull(_) => (1, 0),
        };
        let worker_descriptors = 1 + lanes + waiting;
        // Each listener as bound and as watched; both ends of a channel; what was accepted, or taken back, and not
        // sent yet.
        let supervisor_descriptors = 2 * listeners + 2 * channels + BATCH as u64;
        Ok(Needs { supervisor_descriptors, worker_descriptors, ..Needs::default() })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        setup.listen()?;
        let plan = setup.plan();
        let nonblocking = plan.runtime.wants_nonblocking();
        match &mut self.way {
            Way::Routes(routes) => {
                let credit = credit(self.credits, self.rule, plan.runtime);
                routes.prepare(setup.listeners(), credit, nonblocking)
            }
            Way::Pull(queue) => {
                let each = self.credits.unwrap_or(CREDITS_PULL);
                let lanes = u64::from(plan.runtime.lanes());
                let bound = u64::from(each) * u64::from(plan.slots) * lanes;
                queue.prepare(setup.listeners(), bound, nonblocking)
            }
        }
    }

    fn provision(&mut self, setup: &mut Setup<'_>, worker: WorkerId) -> io::Result<Inherit> {
        let view = setup.view().ok_or_else(|| io::Error::other("no board to count by"))?;
        let mut inherit = Inherit::new();
        match &mut self.way {
            Way::Routes(routes) => inherit.add(CHANNEL, routes.add(worker, view)?)?,
            Way::Pull(queue) => inherit.add(CHANNEL, queue.add(worker, view)?)?,
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        Ok(match self.way {
            Way::Routes(_) => {
                let credit = credit(self.credits, self.rule, inherited.runtime());
                Box::new(HandoffAcceptor::open(inherited, credit.batched())?)
            }
            Way::Pull(_) => Box::new(PullAcceptor::open(inherited)?),
        })
    }

    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        match &mut self.way {
            Way::Routes(routes) => routes.open(worker, true),
            Way::Pull(queue) => queue.receives(worker, true),
        }
        Ok(())
    }

    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        match &mut self.way {
            Way::Routes(routes) => {
                routes.open(worker, !on);
                routes.give_back(worker, on);
            }
            // Nothing waits for it. While all are stopped, the rest waits in the backlog.
            Way::Pull(queue) => queue.receives(worker, !on),
        }
        Ok(())
    }

    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        match &mut self.way {
            Way::Routes(routes) => routes.retire(worker),
            Way::Pull(queue) => {
                queue.retire(worker);
                Ok(())
            }
        }
    }

    fn taken(&self, worker: WorkerId) -> Option<u64> {
        match &self.way {
            Way::Routes(routes) => routes.received(worker),
            // Whoever receives takes one, and nobody can say who took what is not counted yet.
            Way::Pull(_) => None,
        }
    }

    fn waiting_for(&self, _setup: &Setup<'_>, worker: WorkerId) -> u64 {
        match &self.way {
            Way::Routes(routes) => routes.waiting_for(worker),
            // Whoever is free receives.
            Way::Pull(_) => 0,
        }
    }

    fn release(&mut self, worker: WorkerId) {
        match &mut self.way {
            Way::Routes(routes) => routes.remove(worker),
            Way::Pull(queue) => queue.remove(worker),
        }
    }

    fn upkeep(&mut self, _pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        match &mut self.way {
            Way::Routes(routes) => routes.look(),
            // Nothing waits there for one worker alone.
            Way::Pull(_) => None,
        }
    }

    fn dispatcher(&mut self) -> Option<&mut dyn Dispatcher> {
        Some(match &mut self.way {
            Way::Routes(routes) => routes,
            Way::Pull(queue) => queue,
        })
    }
}

/// What a worker's channel is called among the inherited descriptors.
const CHANNEL: &str = "channel";

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn credits_that_are_asked_for_change_no_rule() {
        let runtimes = [
            RuntimeKind::Blocking,
            RuntimeKind::Threads(NonZeroU32::new(2).unwrap()),
            RuntimeKind::Tokio,
        ];
        let of = |handoff: Handoff| {
            runtimes.map(|runtime| credit(handoff.credits, handoff.rule, runtime))
        };
        use Credit::{OneByOne, Unfinished, Unreceived};
        assert_eq!(of(Handoff::least()), [Unfinished(1), Unfinished(2), Unreceived(16)]);
        assert_eq!(of(Handoff::least().credits(3)), [Unfinished(3), Unfinished(6), Unreceived(3)]);
        assert_eq!(of(Handoff::idle()), [Unfinished(1), Unfinished(2), Unfinished(1)]);
        assert_eq!(of(Handoff::idle().credits(3)), [Unfinished(3), Unfinished(6), Unfinished(3)]);
        assert_eq!(of(Handoff::one_by_one()), [Unfinished(1), Unfinished(2), OneByOne(16)]);
        let one_by_one = of(Handoff::one_by_one().credits(3));
        assert_eq!(one_by_one, [Unfinished(3), Unfinished(6), OneByOne(3)]);
    }
}
