//! One accepting lane of a worker: what it watches, and the order of its steps.
//!
//! The order is what makes leaving lossless and waiting cheap:
//!
//! 1. `arm`: ask the acceptor for its wishes, change the epoll set where they differ. A shared source
//!    that was left is an *owed* wake-up: the kernel may just have spent one on us.
//! 2. wait (the runtime's part), not at all if there is anything left to look at.
//! 3. `turn`: control first. If it says *leave*, leave before anything is taken. Then tell the acceptor
//!    what may be ready, and take one connection.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Resource, getrlimit};
use rustix::time::Timespec;

use super::{NEWS, READY, Turn};
use crate::acceptor::{AcceptFault, Acceptor, Interest, Load, SourceId, Streak, Wake};
use crate::connection::{Connection, Meter};
use crate::id::SlotId;
use crate::sys::signal_on_input;

/// Token of the control channel; sources have their index.
const CONTROL: u64 = u64::MAX;

/// How often a worker without room looks whether it has some again: handlers may keep connections, or give them
/// away, and nothing tells when those end.
///
/// 50 ms: at the limit of descriptors clients wait anyway, and 20 looks a second cost nothing.
const RECHECK: Duration = Duration::from_millis(50);

/// How long to wait for an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    Not,
    For(Duration),
    ForEver,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    epoll: Arc<OwnedFd>,
    control: OwnedFd,
    acceptor: Box<dyn Acceptor>,
    meter: Meter,
    interest: Interest,
    /// Which sources the epoll set holds.
    joined: Vec<bool>,
    /// Sources to be told to the acceptor as perhaps ready.
    ready: Vec<SourceId>,
    cover: Vec<SlotId>,
    poked: bool,
    draining: bool,
    /// The last attempt found nothing.
    blocked: bool,
    pause_until: Option<Instant>,
    /// The last attempt found no descriptor or memory. A source that others wait for is not joined again before
    /// an attempt went otherwise: the wake-ups that came meanwhile would be spent on us.
    is_short: bool,
    /// A source could not be watched, and when that is tried again.
    unwatched_until: Option<Instant>,
    streak: Streak,
    /// Measured by the first `arm`, when the runtime has what it needs for itself.
    room: Option<Room>,
    /// There was room at the last `arm`.
    has_room: bool,
    /// The acceptor waits by itself.
    waits: bool,
}

impl Lane {
    pub(crate) fn new(
        acceptor: Box<dyn Acceptor>,
        control: OwnedFd,
        meter: Meter,
    ) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(CreateFlags::CLOEXEC)?);
        epoll::add(&*epoll, &control, EventData::new_u64(CONTROL), EventFlags::IN)?;
        let sources = acceptor.sources().len();
        let mut cover = Vec::new();
        meter.board().cover(&mut cover);
        Ok(Self {
            epoll,
            control,
            acceptor,
            meter,
            interest: Interest::all(sources),
            joined: vec![false; sources],
            ready: Vec::new(),
            cover,
            poked: false,
            draining: false,
            blocked: false,
            pause_until: None,
            is_short: false,
            unwatched_until: None,
            streak: Streak::default(),
            room: None,
            has_room: true,
            waits: false,
        })
    }

    /// For one-at-a-time runtimes: lets the acceptor wait by itself, if it can. From then on
    /// [`turn_waiting`](Self::turn_waiting) takes the place of `arm`, `wait` and `turn`, for as long as
    /// this is what [`waits`](Self::waits) says.
    pub(crate) fn wait_in_acceptor(&mut self) -> io::Result<()> {
        self.waits = self.acceptor.waiter().is_some();
        if self.waits {
            signal_on_input(&self.control)?;
            // What was said before no signal told.
            self.poked = true;
        }
        Ok(())
    }

    /// Whether the acceptor waits by itself.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// One wait of the acceptor, and what it brought.
    pub(crate) fn turn_waiting(&mut self) -> io::Result<Turn> {
        if std::mem::take(&mut self.poked)
            && let Some(turn) = self.control()?
        {
            // A poke is answered by the wait itself, which looks first. Read once more before that: its signal
            // is spent, and behind the poke there may be the end.
            self.poked = !self.draining;
            self.waits &= !self.draining;
            return Ok(turn);
        }
        let Some(waiter) = self.acceptor.waiter() else {
            self.waits = false;
            return Ok(Turn::Again);
        };
        match waiter.accept_waiting() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.poked = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.waits = false,
            taken => {
                let turn = self.taken(taken)?;
                // There is nothing else to do meanwhile, and a control message ends it early.
                if let Some(pause) = self.pause() {
                    self.wait(Wait::For(pause))?;
                    self.pause_until = None;
                    self.poked = true;
                }
                return Ok(turn);
            }
        }
        Ok(Turn::Again)
    }

    /// What a runtime with a reactor of its own watches.
    #[cfg(feature = "tokio")]
    pub(crate) fn epoll(&self) -> &Arc<OwnedFd> {
        &self.epoll
    }

    /// Whether others wait for the same sources, so that a thread should do it for us.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_contested(&self) -> bool {
        self.acceptor.is_contested()
    }

    /// Tells the supervisor that this worker serves. After the first [`arm`](Self::arm), so that it is
    /// true.
    pub(crate) fn report_ready(&self) -> io::Result<()> {
        // What waits for this worker shows where it is waited for.
        self.meter.set_waiting(match self.acceptor.sources().first() {
            Some(source) if self.waits => Arc::new(source.fd.try_clone()?),
            _ => Arc::clone(&self.epoll),
        });
        self.say(READY)
    }

    /// Tells whoever holds the other end of the control channel.
    pub(crate) fn say(&self, word: u8) -> io::Result<()> {
        match send(&self.control, &[word], SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            // The supervisor is gone: the next wait sees end-of-file.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Step 1: applies the acceptor's wishes and says how long to wait.
    pub(crate) fn arm(&mut self) -> io::Result<Wait> {
        let in_service = self.meter.board().in_service();
        let room = match self.room {
            Some(room) => room,
            None => *self.room.insert(Room::measure()?),
        };
        let room = room.left(in_service);
        self.has_room = room > 0;
        self.interest.begin();
        let load = Load { in_service, room, is_short: self.is_short, cover: &self.cover };
        self.acceptor.arm(load, &mut self.interest);
        let pause = self.pause();
        self.apply(pause.is_some())?;
        let unwatched = self.unwatched_until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            left.max(Duration::from_millis(1))
        });
        if let Some(pause) = pause {
            return Ok(Wait::For(pause));
        }
        // Without room only owed wake-ups count: they have been spent on us. A poke or a drain that took
        // more would have a handed-off connection lose its descriptor (`MSG_CTRUNC`).
        let work = self.interest.wants_now()
            || !self.ready.is_empty()
            || (self.has_room && (self.poked || (self.draining && !self.blocked)));
        if work {
            return Ok(Wait::Not);
        }
        let recheck = self.interest.wants_recheck().or((!self.has_room).then_some(RECHECK));
        let soonest = recheck.into_iter().chain(unwatched).min();
        Ok(soonest.map_or(Wait::ForEver, Wait::For))
    }

    /// What is left of a pause after resources ran out.
    fn pause(&mut self) -> Option<Duration> {
        let left = self.pause_until?.checked_duration_since(Instant::now());
        if left.is_none() {
            self.pause_until = None;
        }
        left
    }

    fn apply(&mut self, paused: bool) -> io::Result<()> {
        let waits = self.unwatched_until.is_some_and(|until| Instant::now() < until);
        if !waits {
            self.unwatched_until = None;
        }
        let mut failed = None;
        for (id, source) in self.acceptor.sources().iter().enumerate() {
            let mut wanted = self.interest.wants(id) && !paused;
            if wanted && self.is_short && source.wake == Wake::SharedExclusive {
                owe(&mut self.ready, id);
                wanted = false;
            }
            let rejoins = self.joined[id] && wanted && self.interest.wants_rejoin(id);
            if (wanted == self.joined[id] && !rejoins) || (wanted && waits) {
                continue;
            }
            if self.joined[id] {
                epoll::delete(&*self.epoll, &source.fd)?;
                if source.wake == Wake::SharedExclusive {
                    owe(&mut self.ready, id);
                }
            }
            self.joined[id] = false;
            if wanted {
                let mut flags = EventFlags::IN;
                if source.wake == Wake::SharedExclusive {
                    flags |= EventFlags::EXCLUSIVE;
                }
                match add(&self.epoll, &source.fd, EventData::new_u64(id as u64), flags) {
                    Ok(()) => self.joined[id] = true,
                    // Its user may watch no more (`fs.epoll.max_user_watches`), maybe because of somebody else.
                    Err(error @ (Errno::NOSPC | Errno::NOMEM)) => {
                        failed = Some(error);
                        owe(&mut self.ready, id);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if let Some(error) = failed {
            self.meter.board().count_accept_error();
            self.unwatched_until = Some(Instant::now() + AcceptFault::PAUSE);
            let slot = self.meter.worker().slot.0;
            tracing::warn!(slot, %error, "cannot watch: looking from time to time");
        }
        Ok(())
    }

    /// Step 2 for runtimes that may block: waits for one event. More than one would be hoarded: the
    /// wake-up is spent on this worker, which then serves another connection first.
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<Option<u64>> {
        let timeout = match wait {
            Wait::Not => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::For(duration) => Timespec::try_from(duration).ok(),
            Wait::ForEver => None,
        };
        wait_for_one(&self.epoll, timeout.as_ref())
    }

    /// Step 3: what the event, and all that is owed, bring.
    pub(crate) fn turn(&mut self, event: Option<u64>) -> io::Result<Turn> {
        match event {
            Some(CONTROL) => {
                if let Some(turn) = self.control()? {
                    return Ok(turn);
                }
            }
            Some(source) => owe(&mut self.ready, usize::try_from(source).unwrap_or(usize::MAX)),
            None => {}
        }
        if self.pause_until.is_some() {
            return Ok(Turn::Again);
        }
        let poked = self.poked && self.has_room;
        let draining = self.draining && self.has_room;
        if poked {
            self.acceptor.woken(&[]);
        }
        if !self.ready.is_empty() {
            self.acceptor.woken(&self.ready);
            self.ready.clear();
        } else if !poked && !draining && !self.interest.wants_now() {
            return Ok(Turn::Again);
        }
        self.take()
    }

    /// Reads the control channel and the board. `Some`: the turn ends here.
    fn control(&mut self) -> io::Result<Option<Turn>> {
        let mut words = [0_u8; 64];
        match recv(&self.control, &mut words[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(Some(Turn::Orphaned)),
            // As many as fit: what did not fit, here or into the channel, may have been a poke.
            Ok((_, length)) => {
                let poked =
                    length == words.len() || words[..length].iter().any(|&word| word != NEWS);
                self.poked |= poked && !self.draining;
            }
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        self.meter.board().cover(&mut self.cover);
        if !self.draining
            && let Some(leaving) = self.meter.board().leaving()
        {
            self.draining = true;
            self.poked = false;
            // Whether anything is left is asked anew: nothing may ever come to wake us for it.
            self.blocked = false;
            self.acceptor.close(leaving);
        }
        // Leave, or join, first; what was ready stays owed.
        Ok(Some(Turn::Again))
    }

    fn take(&mut self) -> io::Result<Turn> {
        self.blocked = false;
        let taken = self.acceptor.try_accept();
        self.taken(taken)
    }

    /// A connection that was taken cannot be served: it is lost, and the next ones wait for a while.
    #[cfg(feature = "tokio")]
    pub(crate) fn cannot_serve(&mut self, error: &io::Error) {
        self.pause_for(error, "cannot serve a connection that was taken: pausing");
    }

    /// Resources ran out. The wake-up that may have been spent on us goes to somebody else.
    fn pause_for(&mut self, error: &io::Error, what: &str) {
        self.meter.board().count_accept_error();
        if !std::mem::replace(&mut self.is_short, true) {
            self.meter.pass_wake_up_on();
        }
        self.pause_until = Some(Instant::now() + AcceptFault::PAUSE);
        let slot = self.meter.worker().slot.0;
        tracing::warn!(slot, %error, "{what}");
    }

    /// What is left when it has drained: the life-line, for whoever still serves.
    #[cfg(feature = "tokio")]
    pub(crate) fn into_life_line(self) -> OwnedFd {
        self.control
    }

    fn taken(&mut self, taken: io::Result<Option<Connection>>) -> io::Result<Turn> {
        let was_short = std::mem::take(&mut self.is_short);
        match taken {
            Ok(Some(connection)) => {
                self.streak.end();
                Ok(Turn::Serve(connection))
            }
            Ok(None) => Ok(Turn::Drained),
            Err(error) => match self.streak.fault(&error) {
                AcceptFault::NotNow => {
                    self.poked = false;
                    self.blocked = true;
                    Ok(Turn::Again)
                }
                AcceptFault::ThisConnection => {
                    self.meter.board().count_accept_error();
                    Ok(Turn::Again)
                }
                AcceptFault::Resources => {
                    self.is_short = was_short;
                    self.pause_for(&error, "cannot accept now: pausing");
                    Ok(Turn::Again)
                }
                AcceptFault::Listener => Err(error),
            },
        }
    }

    /// Whether this worker was told to leave.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// A connection ended, and with it a descriptor came free: a pause is over.
    #[cfg(feature = "tokio")]
    pub(crate) fn resume(&mut self) {
        self.pause_until = None;
    }
}

#[cfg(not(test))]
use epoll::add;
#[cfg(test)]
use tests::add;

/// One event of a lane's epoll, if one comes in time and no signal before it.
pub(crate) fn wait_for_one(epoll: &OwnedFd, timeout: Option<&Timespec>) -> io::Result<Option<u64>> {
    let mut buffer = [MaybeUninit::<Event>::uninit(); 1];
    match epoll::wait(epoll, &mut buffer, timeout) {
        Ok((events, _)) => Ok(events.first().map(|event| event.data.u64())),
        Err(Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn owe(ready: &mut Vec<SourceId>, id: SourceId) {
    if !ready.contains(&id) {
        ready.push(id);
    }
}

/// How many connections this process has descriptors for.
#[derive(Clone, Copy, Debug)]
struct Room {
    most: u32,
}

impl Room {
    /// Kept free for what handlers open beside the connection: files, pipes, a name service.
    const RESERVE: u64 = 8;

    fn measure() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let open = Self::count_open().unwrap_or(16);
        let most = limit.saturating_sub(open + Self::RESERVE).max(1);
        Ok(Self { most: u32::try_from(most).unwrap_or(u32::MAX) })
    }

    /// Since Linux 6.2 the size of this directory is how many descriptors are open; before, it is 0, and to
    /// list them makes the kernel an inode for each (Documentation/filesystems/proc.rst).
    fn count_open() -> io::Result<u64> {
        const OPEN: &str = "/proc/self/fd";
        match std::fs::metadata(OPEN)?.len() {
            0 => Ok(std::fs::read_dir(OPEN)?.count() as u64),
            count => Ok(count),
        }
    }

    fn left(&self, in_service: u32) -> u32 {
        self.most.saturating_sub(in_service)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::acceptor::{Source, Waiter};
    use crate::board::Leaving;
    use crate::connection::Peer;

    #[test]
    fn the_descriptors_that_are_open_are_counted() {
        // Other tests open and close theirs meanwhile, but not so many.
        let before = Room::count_open().unwrap();
        let many: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let after = Room::count_open().unwrap();
        drop(many);
        assert!((before + 100..before + 300).contains(&after), "{before}, {after}");
    }

    /// Has no source, and waits by itself.
    #[derive(Debug)]
    struct Nobody;

    impl Acceptor for Nobody {
        fn sources(&self) -> &[Source] {
            &[]
        }

        fn woken(&mut self, _ready: &[SourceId]) {}

        fn try_accept(&mut self) -> io::Result<Option<Connection>> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn close(&mut self, _leaving: Leaving) {}

        fn waiter(&mut self) -> Option<&mut dyn Waiter> {
            Some(self)
        }
    }

    impl Waiter for Nobody {
        fn accept_waiting(&mut self) -> io::Result<Option<Connection>> {
            panic!("it would wait for ever");
        }
    }

    /// Waits with others for one source, and finds no descriptor as often as it is told to.
    #[derive(Debug)]
    struct Short {
        sources: [Source; 1],
        tries: u32,
    }

    impl Acceptor for Short {
        fn sources(&self) -> &[Source] {
            &self.sources
        }

        fn woken(&mut self, _ready: &[SourceId]) {}

        fn try_accept(&mut self) -> io::Result<Option<Connection>> {
            match self.tries.checked_sub(1) {
                Some(left) => {
                    self.tries = left;
                    Err(Errno::MFILE.into())
                }
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        }

        fn close(&mut self, _leaving: Leaving) {}
    }

    /// Nobody else would be woken for what comes while the table is full.
    #[test]
    fn who_has_no_descriptor_passes_the_wake_up_on_and_stays_away_until_it_has() {
        let (bell, source) = UnixStream::pair().unwrap();
        rustix::io::write(&bell, b"x").unwrap();
        let (_supervisor, control) = UnixStream::pair().unwrap();
        let sources = [Source { fd: source.into(), wake: Wake::SharedExclusive }];
        let (tries, meter) = (2, Meter::alone(None));
        let acceptor = Box::new(Short { sources, tries });
        let mut lane = Lane::new(acceptor, control.into(), meter).unwrap();
        assert_eq!(lane.arm().unwrap(), Wait::ForEver);
        let event = lane.wait(Wait::Not).unwrap();
        assert_eq!(event, Some(0));
        lane.turn(event).unwrap();
        for _ in 0..tries {
            assert_eq!(lane.meter.board().hoarded(), 1, "passed on, and once only");
            assert!(matches!(lane.arm().unwrap(), Wait::For(_)));
            assert_eq!(lane.wait(Wait::Not).unwrap(), None, "it is away");
            // The pause is over: it tries, and is still away.
            lane.pause_until = None;
            assert_eq!(lane.arm().unwrap(), Wait::Not);
            assert_eq!(lane.wait(Wait::Not).unwrap(), None, "away until it has tried");
            lane.turn(None).unwrap();
        }
        assert_eq!(lane.arm().unwrap(), Wait::ForEver);
        assert_eq!(lane.wait(Wait::Not).unwrap(), Some(0), "it waits again");
    }

    thread_local! {
        /// How often this thread is refused to watch anything.
        static REFUSALS: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn add(
        epoll: &OwnedFd,
        source: &OwnedFd,
        data: EventData,
        flags: EventFlags,
    ) -> Result<(), Errno> {
        match REFUSALS.get().checked_sub(1) {
            Some(left) => {
                REFUSALS.set(left);
                Err(Errno::NOSPC)
            }
            None => epoll::add(epoll, source, data, flags),
        }
    }

    /// The limit is its user's, and somebody else's doing.
    #[test]
    fn what_cannot_be_watched_is_looked_at_from_time_to_time_until_it_can() {
        let (_bell, source) = UnixStream::pair().unwrap();
        let (_supervisor, control) = UnixStream::pair().unwrap();
        let sources = [Source { fd: source.into(), wake: Wake::Private }];
        let acceptor = Box::new(Short { sources, tries: 0 });
        let mut lane = Lane::new(acceptor, control.into(), Meter::alone(None)).unwrap();
        REFUSALS.set(2);
        for _ in 0..2 {
            assert_eq!(lane.arm().unwrap(), Wait::Not, "it looks");
            lane.turn(None).unwrap();
            assert!(matches!(lane.arm().unwrap(), Wait::For(_)), "and then it waits");
            assert!(!lane.joined[0]);
            lane.unwatched_until = Some(Instant::now());
        }
        assert_eq!(lane.arm().unwrap(), Wait::ForEver);
        assert!(lane.joined[0]);
    }

    /// A lane, and the supervisor's end of its control channel.
    fn lane() -> (Lane, UnixStream) {
        let (ours, control) = UnixStream::pair().unwrap();
        (Lane::new(Box::new(Nobody), control.into(), Meter::alone(None)).unwrap(), ours)
    }

    #[test]
    fn who_has_no_room_looks_again_by_itself() {
        let (mut lane, _control) = lane();
        lane.room = Some(Room { most: 1 });
        assert_eq!(lane.arm().unwrap(), Wait::ForEver);
        // A handler may keep it, and end it whenever it likes.
        let (socket, _client) = UnixStream::pair().unwrap();
        let kept = lane.meter.begin(socket.into(), Peer::Unix, 0);
        assert_eq!(lane.arm().unwrap(), Wait::For(RECHECK));
        drop(kept);
        assert_eq!(lane.arm().unwrap(), Wait::ForEver);
    }

    /// The signal that both were told by has come and gone before the worker waits.
    #[test]
    fn the_end_behind_a_poke_is_read_before_anything_is_waited_for() {
        let (mut lane, control) = lane();
        rustix::io::write(&control, &[crate::worker::POKE]).unwrap();
        drop(control);
        lane.poked = true;
        assert!(matches!(lane.turn_waiting().unwrap(), Turn::Again));
        assert!(matches!(lane.turn_waiting().unwrap(), Turn::Orphaned));
    }
}
