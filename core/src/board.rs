//! The board: what a worker and its supervisor tell each other through memory.
//!
//! Each [`WorkerId`](crate::WorkerId) has two sealed pages of its own. One is written by the worker and
//! mapped read-only in the supervisor, the other the other way round. So no worker can touch what
//! another worker or the supervisor wrote. Everything is a counter or a flag, nothing is a pointer, an
//! index or a length; no lock lives here; what a worker wrote is clamped before it is used.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::id::SlotId;
use crate::sys::{ReadOnlyPage, SharedPage};

/// Most slots a service may have: what the cover set of a page holds.
pub const SLOTS_LIMIT: u32 = 256;

/// Words of the page that one worker writes; they share one cache line, which has one writer.
mod worker_word {
    pub(super) const TAKEN: usize = 0;
    pub(super) const COMPLETED: usize = 1;
    pub(super) const FAILED: usize = 2;
    pub(super) const ACCEPT_ERRORS: usize = 3;
    /// What it says of itself, a bit each: [`CLOSED`](super::CLOSED), [`FULL`](super::FULL).
    pub(super) const GATE: usize = 4;
    /// Counted up as long as its event loop turns: by its heart, and by each turn of its lane.
    pub(super) const BEAT: usize = 5;
    /// Wake-ups that were spent on it while it was busy.
    pub(super) const HOARDED: usize = 6;
    /// Calls of the handler where one lane serves one at a time: how many are not over, and, from
    /// [`CALL`](super::CALL) on, how many have begun. One word: there is none left on this line.
    pub(super) const CALLS: usize = 7;
}

/// Words of the page that the supervisor writes for one worker.
mod supervisor_word {
    pub(super) const DRAIN: usize = 0;
    pub(super) const STARVING: usize = 1;
    /// The fewest connections that any worker has.
    pub(super) const LEAST: usize = 2;
    /// One bit per slot, from here on.
    pub(super) const COVER: usize = 8;
}

/// Its gate is closed.
const CLOSED: u64 = 1;
/// It has no descriptor left for another connection.
const FULL: u64 = 2;

/// One call in the upper half of the word that counts them.
const CALL: u64 = 1 << 32;

const COVER_WORDS: usize = crate::board::SLOTS_LIMIT as usize / 64;

/// What a worker has done since it was started, as its own page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections it accepted or received.
    pub taken: u64,
    /// Connections it finished, well or badly.
    pub completed: u64,
    /// Connections whose handler returned an error, or that came without their descriptor.
    pub failed: u64,
    /// Failed calls of `accept4(2)` or `recvmsg(2)`, `EAGAIN` apart.
    pub accept_errors: u64,
}

impl Counts {
    /// Connections being served. 0 if the page says something impossible.
    #[must_use]
    pub fn in_service(&self) -> u64 {
        self.taken.saturating_sub(self.completed)
    }
}

/// Why a worker has to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// Others go on serving the same listeners: what is queued there is theirs.
    OthersStay,
    /// The whole service ends: what is queued now will be answered by nobody else.
    ServiceEnds,
}

/// Supervisor's half of the board of one worker.
pub(crate) struct Board {
    worker: ReadOnlyPage,
    own: SharedPage,
}

impl Board {
    /// A fresh board, and the two descriptors the worker inherits: its own page and ours.
    pub(crate) fn create() -> io::Result<(Arc<Self>, OwnedFd, OwnedFd)> {
        let (worker, worker_fd) = ReadOnlyPage::create_for_writer("forkherd-worker")?;
        let (own, own_fd) = SharedPage::create_own("forkherd-supervisor")?;
        Ok((Arc::new(Self { worker, own }), worker_fd, own_fd))
    }

    pub(crate) fn counts(&self) -> Counts {
        // `completed` first: read the other way round a connection could end in between, and the
        // difference would be wrong by more than what is in service.
        let completed = self.completed();
        Counts {
            completed,
            taken: self.worker.load(worker_word::TAKEN),
            failed: self.worker.load(worker_word::FAILED),
            accept_errors: self.worker.load(worker_word::ACCEPT_ERRORS),
        }
    }

    fn completed(&self) -> u64 {
        self.worker.load(worker_word::COMPLETED)
    }

    pub(crate) fn hoarded(&self) -> u64 {
        self.worker.load(worker_word::HOARDED)
    }

    pub(crate) fn beat(&self) -> u64 {
        self.worker.load(worker_word::BEAT)
    }

    /// Calls of the handler that have begun, from 2³² on again from 0; and lanes that are in one.
    pub(crate) fn calls(&self) -> (u64, u64) {
        let calls = self.worker.load(worker_word::CALLS);
        (calls / CALL, calls % CALL)
    }

    pub(crate) fn set_drain(&self, leaving: Leaving) {
        let word = match leaving {
            Leaving::OthersStay => 1,
            Leaving::ServiceEnds => 2,
        };
        self.own[supervisor_word::DRAIN].store(word, Ordering::SeqCst);
    }

    /// True if that is new.
    pub(crate) fn set_cover(&self, slots: &[SlotId]) -> bool {
        let mut words = [0_u64; COVER_WORDS];
        for slot in slots {
            words[slot.index() / 64] |= 1 << (slot.index() % 64);
        }
        let mut is_new = false;
        for (shared, word) in self.own[supervisor_word::COVER..].iter().zip(words) {
            is_new |= shared.swap(word, Ordering::SeqCst) != word;
        }
        is_new
    }
}

/// What a dispatcher may know of one worker, and the one flag it may set.
///
/// Supervisor · from `provision` on; may be held as long as one likes, also after the worker is gone.
#[derive(Clone)]
pub struct View(pub(crate) Arc<Board>);

impl View {
    /// Connections the worker has finished. Written by the worker: clamp it to what you know.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.0.completed()
    }

    /// Connections the worker has accepted or received. Written by the worker, too.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.worker.load(worker_word::TAKEN)
    }

    /// Connections it is serving, by its own account.
    #[must_use]
    pub fn in_service(&self) -> u64 {
        self.0.counts().in_service()
    }

    /// How often its event loop has turned, at least: counted with each turn of its accepting lane, and with each
    /// heartbeat. 0 where there is no event loop.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.0.beat()
    }

    /// Whether the worker has closed its gate: see [`Meter::close_gate`](crate::Meter::close_gate).
    #[must_use]
    pub fn gate_is_closed(&self) -> bool {
        self.0.worker.load(worker_word::GATE) & CLOSED != 0
    }

    /// Whether the worker can take nothing now: see [`Meter::say_full`](crate::Meter::say_full).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.worker.load(worker_word::GATE) & FULL != 0
    }

    /// Tells the worker the fewest connections that any worker has.
    pub fn set_least(&self, connections: u64) {
        self.0.own[supervisor_word::LEAST].store(connections, Ordering::SeqCst);
    }

    /// Asks the worker to kick the supervisor whenever it takes, or finishes, a connection. All but
    /// [`Kick::OnNews`] also say that connections wait.
    ///
    /// Set it, *look again* at the counter, and only then wait: the worker counts first and looks at
    /// this flag second, so one of the two sides always sees the other.
    pub fn set_starving(&self, kick: Option<Kick>) {
        let word = match kick {
            None => 0,
            Some(Kick::OnTaken) => 1,
            Some(Kick::OnCompleted) => 2,
            Some(Kick::OnNews) => 3,
        };
        self.0.own[supervisor_word::STARVING].store(word, Ordering::SeqCst);
    }
}

/// When a worker kicks the supervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kick {
    /// It took a connection.
    OnTaken,
    /// It finished one.
    OnCompleted,
    /// It took one, though none waits for anybody: the supervisor sleeps until something happens.
    OnNews,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("View").field(&self.0.counts()).finish()
    }
}

/// Worker's half of its board.
pub(crate) struct OwnBoard {
    own: SharedPage,
    supervisor: ReadOnlyPage,
}

impl OwnBoard {
    pub(crate) fn map(own: &OwnedFd, supervisor: &OwnedFd) -> io::Result<Self> {
        Ok(Self { own: SharedPage::map(own)?, supervisor: ReadOnlyPage::map(supervisor)? })
    }

    /// Counts a connection; true if the supervisor waits to hear of it.
    pub(crate) fn count_taken(&self) -> bool {
        self.own[worker_word::TAKEN].fetch_add(1, Ordering::SeqCst);
        matches!(self.supervisor.load(supervisor_word::STARVING), 1 | 3)
    }

    /// Counts a finished connection; true if the supervisor waits to hear of it.
    pub(crate) fn count_completed(&self) -> bool {
        self.own[worker_word::COMPLETED].fetch_add(1, Ordering::SeqCst);
        self.supervisor.load(supervisor_word::STARVING) == 2
    }

    /// Whether the supervisor has connections that nobody has room for.
    pub(crate) fn is_starving(&self) -> bool {
        matches!(self.supervisor.load(supervisor_word::STARVING), 1 | 2)
    }

    /// The fewest connections that any worker has, as the supervisor saw it last.
    pub(crate) fn least(&self) -> u64 {
        self.supervisor.load(supervisor_word::LEAST)
    }

    /// True if that is a change.
    pub(crate) fn close_gate(&self, closed: bool) -> bool {
        self.say(CLOSED, closed)
    }

    /// True if that is a change.
    pub(crate) fn say_full(&self, full: bool) -> bool {
        self.say(FULL, full)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.own[worker_word::GATE].load(Ordering::Relaxed) & FULL != 0
    }

    fn say(&self, bit: u64, on: bool) -> bool {
        let word = &self.own[worker_word::GATE];
        let before = if on {
            word.fetch_or(bit, Ordering::SeqCst)
        } else {
            word.fetch_and(!bit, Ordering::SeqCst)
        };
        (before & bit != 0) != on
    }

    #[cfg(test)]
    pub(crate) fn hoarded(&self) -> u64 {
        self.own[worker_word::HOARDED].load(Ordering::SeqCst)
    }

    pub(crate) fn count_hoarded(&self) {
        self.own[worker_word::HOARDED].fetch_add(1, Ordering::SeqCst);
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn beat(&self) {
        self.own[worker_word::BEAT].fetch_add(1, Ordering::Relaxed);
    }

    /// A lane enters the handler.
    pub(crate) fn count_call(&self) {
        self.own[worker_word::CALLS].fetch_add(CALL + 1, Ordering::Relaxed);
    }

    /// It is back.
    pub(crate) fn count_return(&self) {
        self.own[worker_word::CALLS].fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed(&self) {
        self.own[worker_word::FAILED].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_accept_error(&self) {
        self.own[worker_word::ACCEPT_ERRORS].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn in_service(&self) -> u32 {
        let completed = self.own[worker_word::COMPLETED].load(Ordering::Relaxed);
        let taken = self.own[worker_word::TAKEN].load(Ordering::Relaxed);
        u32::try_from(taken.saturating_sub(completed)).unwrap_or(u32::MAX)
    }

    pub(crate) fn leaving(&self) -> Option<Leaving> {
        match self.supervisor.load(supervisor_word::DRAIN) {
            0 => None,
            1 => Some(Leaving::OthersStay),
            _ => Some(Leaving::ServiceEnds),
        }
    }

    /// Writes the slots this worker has to cover into `slots`.
    pub(crate) fn cover(&self, slots: &mut Vec<SlotId>) {
        slots.clear();
        for index in 0..COVER_WORDS {
            let mut left = self.supervisor.load(supervisor_word::COVER + index);
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                // Below SLOTS_LIMIT, so it fits.
                slots.push(SlotId(u32::try_from(index).unwrap_or(0) * 64 + bit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Arc<Board>, OwnBoard) {
        let (board, worker, supervisor) = Board::create().unwrap();
        (board, OwnBoard::map(&worker, &supervisor).unwrap())
    }

    #[test]
    fn each_side_sees_what_the_other_wrote() {
        let (board, own) = pair();
        assert!(!own.count_taken());
        assert!(!own.count_taken());
        assert!(!own.count_completed());
        let view = View(Arc::clone(&board));
        view.set_starving(Some(Kick::OnCompleted));
        assert!(own.count_completed());
        assert!(!own.count_taken());
        view.set_starving(Some(Kick::OnTaken));
        assert!(own.count_taken() && own.is_starving());
        assert!(!own.count_completed());
        view.set_starving(Some(Kick::OnNews));
        assert!(own.count_taken() && !own.is_starving());
        assert!(!own.count_completed());
        assert_eq!(board.counts().in_service(), 1);
        assert_eq!(own.in_service(), 1);

        // Each says one thing, and leaves the other.
        let said = || (view.gate_is_closed(), view.is_full());
        assert!(own.close_gate(true) && !own.close_gate(true));
        assert_eq!(said(), (true, false));
        assert!(own.say_full(true) && !own.say_full(true) && own.is_full());
        assert_eq!(said(), (true, true));
        assert!(own.close_gate(false));
        assert_eq!(said(), (false, true));
        assert!(own.say_full(false) && !own.is_full());
        assert_eq!(said(), (false, false));

        own.count_call();
        own.count_call();
        own.count_return();
        assert_eq!(board.calls(), (2, 1));

        let mut cover = vec![];
        board.set_cover(&[SlotId(0), SlotId(63), SlotId(64), SlotId(255)]);
        own.cover(&mut cover);
        assert_eq!(cover, [SlotId(0), SlotId(63), SlotId(64), SlotId(255)]);
        board.set_cover(&[]);
        own.cover(&mut cover);
        assert!(cover.is_empty());

        assert_eq!(own.leaving(), None);
        board.set_drain(Leaving::ServiceEnds);
        assert_eq!(own.leaving(), Some(Leaving::ServiceEnds));
    }

    #[test]
    fn a_worker_can_neither_shrink_its_page_nor_write_ours() {
        let (_board, worker, supervisor) = Board::create().unwrap();
        assert!(rustix::fs::ftruncate(&worker, 0).is_err());
        assert!(rustix::fs::ftruncate(&supervisor, 0).is_err());
        assert!(SharedPage::map(&supervisor).is_err());
        assert!(SharedPage::map(&worker).is_ok());
    }

    #[test]
    fn an_impossible_page_has_nothing_in_service() {
        let counts = Counts { taken: 1, completed: u64::MAX, ..Counts::default() };
        assert_eq!(counts.in_service(), 0);
    }
}
