//! One listener per slot in one `SO_REUSEPORT` group: the kernel steers. A [Forkherd](forkherd_core)
//! strategy.
//!
//! ```no_run
//! use std::io::Write;
//! use forkherd_core::{Blocking, Connection, ListenSpec, Service};
//! use forkherd_reuseport::Reuseport;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Service::new("hello")
//!         .listen("127.0.0.1:8080".parse::<ListenSpec>()?)
//!         .workers(4)
//!         .run(Reuseport::hash(), Blocking::new(|mut client: Connection| {
//!             client.write_all(b"hello\n")
//!         }))?;
//!     Ok(())
//! }
//! ```
//!
//! # How it works
//!
//! ```text
//!             ┌─ listener of slot 0 ─► worker 0 ┄┄┐
//!  clients ─┬─┼─ listener of slot 1 ─► worker 1 ┄┄┤ a slot without a worker is *covered*:
//!    (hash) └─┴─ listener of slot 2    (dead)  ◄┄┄┘ its siblings watch its listener too
//! ```
//!
//! The supervisor binds one listener per slot, in slot order, and keeps them all for life; the kernel
//! chooses one for each connection by a hash of both addresses and ports. A worker watches its own slot's
//! listener. When a slot has no worker that serves (dead, stopped, not ready yet, leaving), the supervisor
//! tells all others to watch that listener too, until there is one again. So what is queued there is
//! neither reset nor left waiting.
//!
//! On event loops siblings cover for one that is *late*, too: somebody is in its queue and it does not turn,
//! because a handler keeps it busy, or it has no descriptor for another connection. The supervisor looks ten
//! times a second; so who waits there waits for 0.1 to 0.2 s, or until that loop comes to it, if that is
//! sooner. Where nobody has a connection it looks once a second: then up to 1.2 s. And as long as no sibling
//! keeps up, nobody is relieved.
//!
//! Two variants place connections by load: in place of the hash, an eBPF program chooses the slot.
//!
//! ```text
//!             handshake ─► program: the open slot with the least (waiting + serving), counted at once
//!                             │ reads and counts up                  ▲ counts down
//!                          counts (shared memory) ◄── supervisor ────┤ repairs drift
//!                             ▲ gates: dead, stopped, leaving, not ready: closed
//!   balanced: a free worker looks there for who has waited longest, in its own queue or a neighbour's
//! ```
//!
//! # Which variant
//!
//! | variant | runtime | steered by | who takes what waits | Linux | privilege |
//! |---|---|---|---|---|---|
//! | [`hash`](Reuseport::hash) | blocking, threads, tokio | the kernel's hash | its worker; siblings, while it has none, or its event loop is late | 3.9 (exclusive wake-ups 4.5) | none |
//! | [`random`](Reuseport::random), [`cpu`](Reuseport::cpu) | the same | classic BPF | as `hash` | 4.6 | none |
//! | [`steered`](Reuseport::steered) | the same | classic BPF, over who serves now | as `hash` | 4.6 | none |
//! | [`steal`](Reuseport::steal) | blocking, threads | the kernel's hash | any free worker | 4.5 | none |
//! | [`least`](Reuseport::least) | blocking, threads, tokio | eBPF, least load of who serves now | as `hash` | 5.8 | `CAP_BPF` |
//! | [`balanced`](Reuseport::balanced) | blocking, threads | the same | any free one of 16 neighbours, longest wait first | 5.8 | `CAP_BPF` |
//! | | tokio | the same as `least` | as `hash` | 5.8 | `CAP_BPF` |
//! | [`hash_bare`](Reuseport::hash_bare) | blocking, threads, tokio | the kernel's hash | its worker, or nobody | 3.9 | none |
//!
//! `CAP_BPF` is needed once, by the supervisor while it prepares, and by nobody afterwards; from Linux 5.5,
//! where BPF arrays can be mapped, to 5.8 it is called `CAP_SYS_ADMIN`, and before 5.11 what is mapped counts
//! against `RLIMIT_MEMLOCK`. Without it, or on an older kernel, `least` and `balanced` are `steal` for
//! workers that serve one at a time and `steered` for event loops, and say so once.
//!
//! # When to choose it
//!
//! Many cores and very many short connections, where one listener's lock is the bottleneck: `balanced`, if
//! the supervisor may have `CAP_BPF`. Event loops whose connections stay and should be spread evenly
//! without anybody's effort: `least` (exact), `hash` (by chance, ± the root of the mean).
//!
//! # What it costs, and its limits
//!
//! * Five system calls per short connection in the worker, none in the supervisor, and no shared queue. CPU per
//!   short connection, as ratio to plain accept loops (8 blocking workers, 16 clients, two cores, Linux 6.18, 95 %
//!   interval): `hash` 1.05 [1.03 1.07], `balanced` 1.08 [1.06 1.11]; `balanced` over `hash` 1.02 [1.01 1.03].
//! * The hash does not look at load: a connection may wait behind a long request while other workers are
//!   free. With one-at-a-time workers and uneven work the tail is several times that of a shared queue. p99 over the
//!   ideal queue's, of three traces the median (and the worst):
//!
//!   | work, load | `balanced` | a bare hash |
//!   |---|---|---|
//!   | exponential, 0.7 | 1.01 (1.02) | 3.7 (3.7) |
//!   | exponential, 0.9 | 1.01 (1.08) | 7.2 (15.7) |
//!   | bimodal, its short requests, 0.7 | 1.02 (1.05) | 18 (22) |
//!
//! * `least` and `balanced` choose when the handshake *begins*. `balanced` does not depend on that: whoever is
//!   free takes what waits. `least` alone goes by what was true a round trip ago.
//! * An event loop steals only from one that is late: it is never too busy to accept, so whoever wakes first
//!   would take everybody's connections, and the counts would follow instead of lead. With counts (`least`,
//!   `balanced`) who has more connections than the mean lets others go first. Where all are behind (each is full,
//!   or somebody waits for it from one look to the next) nobody is late. What a loop had accepted before it was
//!   busy waits with it.
//! * On event loops the supervisor looks at all queues every 100 ms while connections come or are served, and
//!   once a second where for 100 ms there was none. The first one then calls it, which is a call more in its worker,
//!   ten times a second at most.
//! * An event loop that runs out of descriptors says so, and says when it has some again, each with a call in it and a
//!   wake-up of the supervisor; at its limit that is both for each connection that takes the place of one that ended.
//! * What the counts say is a hint: every worker can write them. One that lies draws connections to
//!   itself or to others; it cannot open a closed gate or take a connection out of a queue that it
//!   does not hold.
//! * Every worker holds every slot's listeners, so that it can cover any: `max_workers` × addresses descriptors,
//!   twice as many while it opens, checked against `RLIMIT_NOFILE` at the start. And one that is hostile can shut
//!   them down for all.
//! * Workers that are another program and know `LISTEN_FDS` alone are refused: they would cover for nobody.
//! * A second instance on the same port is refused, which `SO_REUSEPORT` alone would not do; another
//!   program of the same user that sets the option itself can still join the group while we run.

mod acceptor;
mod counts;
mod cover;
mod drift;
mod late;
mod looks;
mod steering;
mod sys;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, RuntimeKind, Setup, SlotId, Strategy, Unsupported,
    View, WorkerId,
};
use nix::libc;

use crate::acceptor::ReuseportAcceptor;
use crate::counts::Counts;
use crate::cover::Seats;
use crate::late::{Late, Loop};
use crate::looks::{Looks, Sight};
use crate::steering::{Idle, Steered, Steering};

/// Each slot has a listener of its own; the kernel chooses among them.
#[derive(Debug)]
pub struct Reuseport {
    wanted: Way,
    /// In the supervisor: what it came to.
    taken: Way,
    seats: Seats,
    /// Where there is anything to look after.
    looks: Option<Looks>,
    /// Whose event loop is late; nobody's where workers serve one at a time.
    late: Late,
    steered: Steered,
    remarks: Vec<String>,
}

/// Who chooses the slot, and who takes what waits there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    steering: Steering,
    watch: Watch,
}

/// Which listeners a worker watches beside its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// None, whatever happens.
    Own,
    /// Those of slots that nobody serves now.
    Uncovered,
    /// Those of its neighbours always, and of slots that nobody serves now.
    Group,
    /// All of them, always.
    All,
}

impl Reuseport {
    /// The kernel's hash, plus *cover*: a slot whose worker is dead, stopped or not ready yet is served
    /// by its siblings.
    #[must_use]
    pub fn hash() -> Self {
        Self::new(Steering::Hash, Watch::Uncovered)
    }

    /// The kernel's hash and nothing else: the bad example. What is hashed to a worker that is stopped or
    /// restarting waits for it.
    #[must_use]
    pub fn hash_bare() -> Self {
        Self::new(Steering::Hash, Watch::Own)
    }

    /// A slot drawn at random for each connection, by classic BPF (Linux 4.6, no privilege); with cover.
    /// Unlike the hash it does not depend on what addresses and ports clients have.
    #[must_use]
    pub fn random() -> Self {
        Self::new(Steering::Random, Watch::Uncovered)
    }

    /// The slot with the number of the processor that handled the handshake, by classic BPF (Linux 4.6, no
    /// privilege); with cover.
    ///
    /// For network cards with a queue per processor and workers pinned to them. On loopback the processor
    /// is the client's, so few slots get anything.
    #[must_use]
    pub fn cpu() -> Self {
        Self::new(Steering::Cpu, Watch::Uncovered)
    }

    /// A hash over the slots that serve *now*, by classic BPF (Linux 4.6, no privilege): a dead, stopped
    /// or leaving worker gets nothing new, and what it has queued is covered.
    ///
    /// The hash is the one that the device, or RPS, has noted in the packet; where neither does, the slot is
    /// drawn at random.
    ///
    /// The program is replaced whenever a worker comes, goes or is late, which moves clients between slots.
    #[must_use]
    pub fn steered() -> Self {
        Self::new(Steering::Serving, Watch::Uncovered)
    }

    /// The kernel's hash, and every worker also watches its siblings' listeners: whoever is free takes
    /// what waits, so no connection waits while a worker is free. No privilege. Refused for event loops,
    /// which are never too busy to accept.
    ///
    /// Each worker's epoll holds the listeners of all slots: choose it for up to a few dozen workers.
    #[must_use]
    pub fn steal() -> Self {
        Self::new(Steering::Hash, Watch::All)
    }

    /// The slot with the fewest connections, waiting or served, of those that serve now: by an eBPF
    /// program that counts (Linux 5.8, `CAP_BPF` in the supervisor when it starts). With cover.
    ///
    /// Made for connections that stay, on event loops. Without the right it says so once, and is
    /// [`steered`](Self::steered), for workers that serve one at a time [`steal`](Self::steal).
    #[must_use]
    pub fn least() -> Self {
        Self::new(Steering::Least(Idle::InTurn), Watch::Uncovered)
    }

    /// As [`least`](Self::least), and a worker that serves one at a time and is free takes what waits for its
    /// neighbours: within each 16 slots no connection waits while a worker is free. On event loops it is `least`.
    ///
    /// Without the right to load a program it is what `least` is then.
    #[must_use]
    pub fn balanced() -> Self {
        Self::new(Steering::Least(Idle::First), Watch::Group)
    }

    fn new(steering: Steering, watch: Watch) -> Self {
        let way = Way { steering, watch };
        Self {
            wanted: way,
            taken: way,
            seats: Seats::default(),
            looks: None,
            late: Late::default(),
            steered: Steered::new(Steering::Hash),
            remarks: Vec::new(),
        }
    }

    fn steer(&mut self) -> io::Result<()> {
        let mut slots = self.seats.serving();
        slots.retain(|slot| self.late.slots().all(|late| late != *slot));
        self.steered.to(slots)
    }

    /// Looks whose event loop is late: nothing goes there, and siblings take what waits.
    fn look_for_late(&mut self, looks: &Looks, seen: &[Sight]) {
        let slots = (0..).map(SlotId).zip(seen);
        let loops = slots.map(|(slot, sight)| {
            let views = || self.seats.on(slot).filter_map(|worker| looks.of(worker));
            Loop {
                queued: sight.queued.unsigned_abs(),
                taken: views().map(View::taken).fold(0, u64::wrapping_add),
                turns: views().map(View::turns).reduce(u64::wrapping_add),
                is_full: views().all(View::is_full),
            }
        });
        let loops: Vec<_> = loops.collect();
        if !self.late.look(&loops) {
            return;
        }
        tracing::debug!(slots = ?self.late.slots().collect::<Vec<_>>(), "event loops that are late");
        if let Err(error) = self.steer() {
            // As before, only that siblings take more of it.
            tracing::warn!(%error, "cannot steer away from event loops that are late");
        }
    }
}

impl Way {
    /// What is done on this runtime, with or without the right to load a program.
    fn on(self, runtime: RuntimeKind, may_load: bool) -> Self {
        match (self.steering, runtime.is_one_at_a_time()) {
            (Steering::Least(_), true) if !may_load => {
                Self { steering: Steering::Hash, watch: Watch::All }
            }
            (Steering::Least(_), false) if !may_load => {
                Self { steering: Steering::Serving, watch: Watch::Uncovered }
            }
            // An event loop is never too busy to accept: who wakes first would take everybody's.
            (Steering::Least(_), false) => {
                Self { steering: Steering::Least(Idle::InTurn), watch: Watch::Uncovered }
            }
            _ => self,
        }
    }

    /// Whether siblings take over from an event loop that is late. One that serves one at a time is late as
    /// soon as it serves.
    fn relieves(self, runtime: RuntimeKind) -> bool {
        !runtime.is_one_at_a_time() && self.watch != Watch::Own
    }

    /// Whether the supervisor looks at queues.
    fn looks(self, runtime: RuntimeKind) -> bool {
        matches!(self.steering, Steering::Least(_)) || self.relieves(runtime)
    }
}

impl Default for Reuseport {
    /// [`hash`](Self::hash).
    fn default() -> Self {
        Self::hash()
    }
}

impl Strategy for Reuseport {
    fn name(&self) -> &'static str {
        "reuseport"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        if self.wanted.watch == Watch::All && !plan.runtime.is_one_at_a_time() {
            return Err(Unsupported(format!(
                "`steal` serves workers that take one connection at a time: on the {} runtime, where a \
                 worker is never too busy to accept, whoever wakes first would take everybody's; use \
                 `hash`",
                plan.runtime
            )));
        }
        if plan.is_foreign {
            return Err(Unsupported(
                "a program that knows LISTEN_FDS covers no slot but its own, so what waits in a slot without a \
                 worker would wait for ever; use prefork"
                    .to_owned(),
            ));
        }
        if let Some(spec) = plan.listeners.iter().find(|spec| spec.address().path().is_some()) {
            return Err(Unsupported(format!(
                "listener `{}` is a Unix socket, of which no two can share a path: SO_REUSEPORT is for TCP; \
                 use prefork or handoff",
                spec.name()
            )));
        }
        // Every worker holds every slot's listeners, so that it can cover any of them; twice, as inherited
        // until it is open, and as watched. The supervisor holds one of each group for its steering, all of
        // them if it looks at their queues, and if it counts, while it loads the program, its maps.
        let addresses = plan.listeners.len() as u64;
        let listeners = addresses * u64::from(plan.slots);
        let (steering, counting) = match self.wanted.steering {
            Steering::Least(_) => (addresses + 3, 2),
            _ => (addresses, 0),
        };
        let looks = if self.wanted.looks(plan.runtime) { listeners } else { 0 };
        Ok(Needs {
            supervisor_descriptors: listeners + looks + steering,
            worker_descriptors: 2 * listeners + counting,
            ..Needs::default()
        })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        let (slots, runtime) = (setup.plan().slots, setup.plan().runtime);
        self.seats = Seats::new(slots);
        setup.listen_per_slot()?;
        let groups: Vec<Vec<_>> = (0..setup.plan().listeners.len())
            .map(|index| {
                let slots = (0..slots).map(SlotId);
                slots.filter_map(|slot| setup.slot_listeners(slot).get(index)).collect()
            })
            .collect();
        self.taken = self.wanted.on(runtime, true);
        match self.steered.prepare(self.taken.steering, &groups) {
            Err(error)
                if matches!(self.taken.steering, Steering::Least(_)) && is_refusal(&error) =>
            {
                self.taken = self.wanted.on(runtime, false);
                self.remarks.push(explain_fallback(&error, self.taken));
                self.steered.prepare(self.taken.steering, &groups)
            }
            result => result,
        }?;
        // With a single slot there is nobody to take over, and nothing to steer.
        if slots >= 2 && self.taken.looks(runtime) {
            let relieves = self.taken.relieves(runtime);
            self.looks = Some(Looks::new(&groups, relieves)?);
            self.late = Late::new(if relieves { slots as usize } else { 0 });
        }
        Ok(())
    }

    fn provision(&mut self, setup: &mut Setup<'_>, worker: WorkerId) -> io::Result<Inherit> {
        let mut inherit = Inherit::new();
        for slot in (0..setup.plan().slots).map(SlotId) {
            for (index, listener) in setup.slot_listeners(slot).iter().enumerate() {
                inherit.add(listener_name(slot, index), listener)?;
            }
        }
        if let Some(loads) = self.steered.loads() {
            inherit.add(COUNTS, loads.map())?;
        }
        if let (Some(looks), Some(view)) = (&mut self.looks, setup.view()) {
            looks.begin(worker, view);
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        let counts = match inherited.descriptor(COUNTS) {
            Ok(map) => Some(Arc::new(Counts::map(&map, inherited.slots())?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let way = self.wanted.on(inherited.runtime(), counts.is_some());
        Ok(Box::new(ReuseportAcceptor::open(inherited, way.watch, counts)?))
    }

    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        self.seats.admit(worker);
        self.steer()
    }

    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        self.seats.avoid(worker, on);
        self.steer()
    }

    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        self.seats.remove(worker);
        self.steer()
    }

    fn release(&mut self, worker: WorkerId) {
        self.seats.remove(worker);
        let view = self.looks.as_mut().and_then(|looks| looks.end(worker));
        if let (Some(loads), Some(view)) = (self.steered.loads(), view) {
            loads.end(worker, &view);
        }
        if let Err(error) = self.steer() {
            // The program of before goes on, and the slot is covered: nothing is lost by it.
            tracing::warn!(slot = worker.slot.0, %error, "cannot steer away from a slot");
        }
    }

    fn uncovered(&self) -> Vec<SlotId> {
        match self.taken.watch {
            Watch::Uncovered | Watch::Group => {
                let mut slots = self.seats.uncovered();
                slots.extend(self.late.slots());
                slots
            }
            // Nobody would look, or everybody looks anyway.
            Watch::Own | Watch::All => Vec::new(),
        }
    }

    fn upkeep(&mut self, _pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        let mut looks = self.looks.take()?;
        let now = Instant::now();
        let wait = looks.early(now).unwrap_or_else(|| {
            let seen = looks.look();
            let mut quiet = seen.iter().all(|&sight| sight == Sight::default());
            if let Some(loads) = self.steered.loads() {
                quiet &= loads.correct(&seen);
            }
            self.look_for_late(&looks, &seen);
            quiet &= self.late.slots().next().is_none();
            looks.again(now, quiet)
        });
        self.looks = Some(looks);
        Some(wait)
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}

/// Whether the system will not have our program, whatever we do: no right, a kernel that is too old, or the
/// verifier.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), PermissionDenied | InvalidInput | Unsupported)
}

fn explain_fallback(error: &io::Error, taken: Way) -> String {
    let instead = match taken.watch {
        Watch::All => "the kernel hashes, and free workers take what waits elsewhere (`steal`)",
        _ => "a hash over the workers that serve (`steered`)",
    };
    let help = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "the supervisor has no right to load an eBPF program; grant it CAP_BPF"
        }
        Some(libc::EACCES) => "a security module forbids the supervisor eBPF programs",
        Some(_) => "this kernel lacks what the eBPF program needs; it needs Linux 5.8",
        None => "the kernel refuses the eBPF program; from Linux 5.8 on that is a bug of ours",
    };
    format!("connections are not placed by load: {help} ({error}). Instead: {instead}")
}

/// What the map of loads is called among the inherited descriptors.
const COUNTS: &str = "counts";

/// What a slot's listener is called among the inherited descriptors.
fn listener_name(slot: SlotId, index: usize) -> String {
    format!("listener.{slot}.{index}")
}

#[cfg(test)]
mod tests {
    use forkherd_core::{ListenSpec, Service};

    use super::*;
    use crate::sys::Instruction;

    #[test]
    fn without_the_right_there_is_the_next_best_way_and_a_remark() {
        let refusal = io::Error::from_raw_os_error(libc::EPERM);
        assert!(is_refusal(&refusal));
        for strategy in [Reuseport::least(), Reuseport::balanced()] {
            let way = strategy.wanted;
            let blocking = way.on(RuntimeKind::Blocking, false);
            assert_eq!(blocking, Reuseport::steal().wanted);
            assert_eq!(way.on(RuntimeKind::Tokio, false), Reuseport::steered().wanted);
            let remark = explain_fallback(&refusal, blocking);
            assert!(remark.contains("CAP_BPF") && remark.contains("`steal`"), "{remark}");
        }
        // Used up for the moment, which is no reason to be something else.
        assert!(!is_refusal(&io::Error::from_raw_os_error(libc::EMFILE)));
    }

    /// A bug of ours would hide as one of the system's.
    #[test]
    fn what_the_verifier_says_is_told_and_not_taken_for_a_lack_of_rights() {
        let steal = Reuseport::steal().wanted;
        let remark = |error: &io::Error| {
            assert!(is_refusal(error), "{error}");
            explain_fallback(error, steal)
        };
        for (code, help) in [
            (libc::EPERM, "CAP_BPF"),
            (libc::EACCES, "security"),
            (libc::EINVAL, "needs Linux 5.8"),
        ] {
            let remark = remark(&io::Error::from_raw_os_error(code));
            assert!(remark.contains(help) && !remark.contains("verifier"), "{remark}");
        }
        // `exit`, and nothing in register 0 to exit with: EACCES.
        let exit = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
        let error = sys::load("forkherd_wrong", &[exit]).unwrap_err();
        if error.raw_os_error() == Some(libc::EPERM) {
            return eprintln!("skipped: no right to load eBPF programs ({error})");
        }
        let remark = remark(&error);
        assert!(remark.contains("the verifier said: ") && remark.contains("R0"), "{remark}");
        assert!(!remark.contains("CAP_BPF") && !remark.contains("needs Linux"), "{remark}");
    }

    #[test]
    fn programs_that_would_cover_for_nobody_are_refused() {
        let address: ListenSpec = "127.0.0.1:0".parse().unwrap();
        let service = Service::new("any").listen(address).workers(2);
        for strategy in [Reuseport::hash(), Reuseport::steered(), Reuseport::balanced()] {
            let reason = service.fits_program(&strategy).unwrap_err().to_string();
            assert!(reason.contains("use prefork"), "{reason}");
            assert!(service.fits(&strategy, RuntimeKind::Blocking).is_ok());
        }
    }

    #[test]
    fn event_loops_do_not_steal() {
        let way = Reuseport::balanced().wanted.on(RuntimeKind::Tokio, true);
        assert_eq!(way, Reuseport::least().wanted);
    }

    #[test]
    fn event_loops_that_are_late_are_relieved_and_nobody_else() {
        use Reuseport as R;
        for make in [R::hash, R::random, R::cpu, R::steered, R::least, R::balanced] {
            let way = make().wanted;
            for may_load in [true, false] {
                assert!(way.on(RuntimeKind::Tokio, may_load).relieves(RuntimeKind::Tokio));
                assert!(!way.on(RuntimeKind::Blocking, may_load).relieves(RuntimeKind::Blocking));
            }
            assert!(way.looks(RuntimeKind::Tokio));
        }
        assert!(!R::hash_bare().wanted.looks(RuntimeKind::Tokio));
    }
}
