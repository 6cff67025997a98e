//! Who owns a handed-off connection: the dispatcher, its channels and sockets as they are, and a model of
//! workers that take, lose, finish, die, stop, get full, go on and leave in any order.
//!
//! ```text
//!  client ─► backlog ─► supervisor ─► channel of k ─► worker k ─► closed
//!                           ▲              │ died, stopped,
//!                           └──────────────┘ is full
//! ```

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use forkherd_core::{Peer, SlotId, queue_len};
use proptest::prelude::*;
use proptest::test_runner::Config;
use rustix::net::{RecvFlags, recv};

use super::*;
use crate::channel::{Note, Received, Wait, oldest, receive};
use crate::pick::{Least, RoundRobin};
use crate::refusal::DEATHS;

const SLOTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    /// Enough to fill channels, one after the other.
    Crowd,
    Dispatch,
    Receive(u32),
    Finish(u32),
    Kill(u32),
    /// Killed between receiving a message and counting what was in it.
    KillEarly(u32),
    /// Its table of descriptors is full: a message comes without them.
    Lose(u32),
    Stop(u32),
    Continue(u32),
    Retire(u32),
    /// The worker has little room for descriptors, or enough again.
    Short(u32, bool),
    /// Its handlers leave descriptors for so many connections at a time, or for all again.
    Cramp(u32, Option<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        6 => Just(Step::Connect),
        1 => Just(Step::Crowd),
        4 => Just(Step::Dispatch),
        4 => slot().prop_map(Step::Receive),
        4 => slot().prop_map(Step::Finish),
        1 => slot().prop_map(Step::Kill),
        1 => slot().prop_map(Step::KillEarly),
        1 => slot().prop_map(Step::Lose),
        1 => slot().prop_map(Step::Stop),
        1 => slot().prop_map(Step::Continue),
        1 => slot().prop_map(Step::Retire),
        1 => (slot(), any::<bool>()).prop_map(|(slot, on)| Step::Short(slot, on)),
        1 => (slot(), proptest::option::weighted(0.7, 0_usize..4))
            .prop_map(|(slot, spare)| Step::Cramp(slot, spare)),
    ]
}

/// A worker's page.
#[derive(Clone, Default, Debug)]
struct Page(Rc<PageInner>);

#[derive(Default, Debug)]
struct PageInner {
    taken: Cell<u64>,
    completed: Cell<u64>,
    gate: Cell<bool>,
    full: Cell<bool>,
}

impl Board for Page {
    fn taken(&self) -> u64 {
        self.0.taken.get()
    }
    fn completed(&self) -> u64 {
        self.0.completed.get()
    }
    fn gate_is_closed(&self) -> bool {
        self.0.gate.get()
    }
    fn is_full(&self) -> bool {
        self.0.full.get()
    }
    fn set_starving(&self, _kick: Option<Kick>) {}
}

struct Worker {
    id: WorkerId,
    page: Page,
    channel: OwnedFd,
    serving: VecDeque<Parcel>,
    is_stopped: bool,
    /// It has descriptors for so many connections. `None`: for all.
    spare: Option<usize>,
}

impl Worker {
    /// Looks whether there is room for the next message, and says so. Who is full is short, and closes its gate
    /// before it says that it has room again; or the message would go round among all who are short.
    fn has_room(&self) -> bool {
        let next = oldest(&self.channel).unwrap_or(1);
        let is_full = self.spare.is_some_and(|spare| self.serving.len() + next > spare);
        self.page.0.gate.set(self.page.0.gate.get() || is_full);
        self.page.0.full.set(is_full);
        !is_full
    }
}

struct World {
    listener: TcpListener,
    routes: Routes<Page>,
    credit: Credit,
    /// Channels hold less than there is credit for.
    is_tight: bool,
    workers: Vec<Worker>,
    /// Those nobody has closed.
    clients: BTreeMap<SocketAddr, TcpStream>,
    /// Accounts of what became of the others.
    answered: usize,
    died: usize,
    refused: usize,
    lost: usize,
    connected: usize,
    kills: usize,
}

impl World {
    fn new(credit: Credit, policy: Box<dyn Pick>) -> Self {
        Self::start_all(credit, policy, false)
    }

    fn start_all(credit: Credit, policy: Box<dyn Pick>, is_tight: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut routes = Routes::idle(policy);
        routes.set_refusal(Refusal::new(&b"refused"[..]));
        routes.prepare(&[&listener], credit, false).unwrap();
        let mut world = Self {
            listener,
            routes,
            credit,
            is_tight,
            workers: Vec::new(),
            clients: BTreeMap::new(),
            answered: 0,
            died: 0,
            refused: 0,
            lost: 0,
            connected: 0,
            kills: 0,
        };
        for slot in 0..SLOTS {
            let worker = world.start(WorkerId { slot: SlotId(slot), generation: 0 });
            world.workers.push(worker);
        }
        world
    }

    fn start(&mut self, id: WorkerId) -> Worker {
        let page = Page::default();
        let channel = self.routes.add(id, page.clone()).unwrap().try_clone_to_owned().unwrap();
        if self.is_tight {
            self.routes.route(id).unwrap().channel.shrink();
        }
        self.routes.open(id, true);
        let serving = VecDeque::new();
        Worker { id, page, channel, serving, is_stopped: false, spare: None }
    }

    /// The worker is gone, and with it what it had received; another takes its seat.
    fn replace(&mut self, slot: usize) {
        let id = self.workers[slot].id;
        let next = WorkerId { generation: id.generation + 1, ..id };
        let successor = self.start(next);
        let gone = std::mem::replace(&mut self.workers[slot], successor);
        let received = gone.page.completed() + gone.serving.len() as u64;
        assert_eq!(self.routes.received(id), Some(received), "what {id} had received");
        self.routes.remove(id);
        for parcel in gone.serving {
            let peer = parcel.note.peer;
            drop(parcel);
            assert_eq!(self.last_words(peer), "", "{peer} was answered by nobody");
            self.died += 1;
        }
    }

    /// What a client reads up to the end that it has to see now, because nobody else holds its
    /// connection.
    fn last_words(&mut self, peer: Peer) -> String {
        let mut client =
            self.clients.remove(&peer.address().expect("TCP")).expect("it was not closed before");
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).expect("end-of-file at once");
        text
    }

    fn dispatch(&mut self) {
        // After a kick, which everybody who gets full gives.
        assert_eq!(self.routes.look(), None);
        self.routes.arm(&mut Interest::default());
        self.routes.dispatch(&[0], 64).unwrap();
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Crowd => {
                for _ in 0..12 {
                    self.play(Step::Connect);
                    self.dispatch();
                }
            }
            Step::Connect => {
                let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
                client.set_nonblocking(true).unwrap();
                self.clients.insert(client.local_addr().unwrap(), client);
                self.connected += 1;
            }
            Step::Dispatch => self.dispatch(),
            Step::Receive(slot) => self.receive(slot as usize),
            Step::Finish(slot) => self.finish(slot as usize),
            Step::Kill(slot) => {
                self.kills += 1;
                self.replace(slot as usize);
            }
            Step::KillEarly(slot) => {
                self.kills += 1;
                let worker = &mut self.workers[slot as usize];
                let serving = &mut worker.serving;
                if !worker.is_stopped {
                    let _ = receive(&worker.channel, Wait::Not, |parcel| serving.push_back(parcel));
                }
                self.replace(slot as usize);
            }
            Step::Lose(slot) => self.lose(slot as usize),
            Step::Stop(slot) | Step::Continue(slot) => {
                let on = matches!(step, Step::Stop(_));
                let worker = &mut self.workers[slot as usize];
                worker.is_stopped = on;
                self.routes.open(worker.id, !on);
                self.routes.give_back(worker.id, on);
            }
            Step::Retire(slot) => self.routes.retire(self.workers[slot as usize].id).unwrap(),
            Step::Short(slot, on) => {
                let worker = &self.workers[slot as usize];
                worker.page.0.gate.set(on || worker.spare.is_some());
            }
            Step::Cramp(slot, spare) => self.workers[slot as usize].spare = spare,
        }
    }

    fn receive(&mut self, slot: usize) {
        let worker = &mut self.workers[slot];
        if worker.is_stopped || !worker.has_room() {
            return;
        }
        let mut count = 0;
        let (serving, page) = (&mut worker.serving, &worker.page.0);
        let result = receive(&worker.channel, Wait::Not, |parcel| {
            page.taken.set(page.taken.get() + 1);
            serving.push_back(parcel);
            count += 1;
        });
        if self.credit.batched().is_none() {
            assert!(count <= 1, "{count} in a message for one that serves one at a time");
        }
        if matches!(result, Ok(Received::End)) {
            // Retired, and everything received: it serves what it has, and goes.
            while !self.workers[slot].serving.is_empty() {
                self.finish(slot);
            }
            self.replace(slot);
        }
    }

    fn lose(&mut self, slot: usize) {
        let worker = &self.workers[slot];
        if worker.is_stopped {
            return;
        }
        let mut notes = [0; BATCH * Note::LENGTH];
        // Without space for descriptors the kernel closes them, as it does where there is none in the table.
        let received = recv(&worker.channel, &mut notes[..], RecvFlags::DONTWAIT);
        let Ok((_, bytes)) = received else { return };
        for note in notes[..bytes].chunks(Note::LENGTH) {
            // As `Meter::lose` does.
            let page = &self.workers[slot].page.0;
            page.taken.set(page.taken.get() + 1);
            page.completed.set(page.completed.get() + 1);
            let peer = Note::decode(note).expect("a note").peer;
            assert_eq!(self.last_words(peer), "", "{peer} was answered by nobody");
            self.lost += 1;
        }
    }

    fn finish(&mut self, slot: usize) {
        let worker = &mut self.workers[slot];
        if worker.is_stopped {
            return;
        }
        let Some(parcel) = worker.serving.pop_front() else { return };
        let peer = parcel.note.peer;
        TcpStream::from(parcel.socket).write_all(b"answer").unwrap();
        worker.page.0.completed.set(worker.page.0.completed.get() + 1);
        assert_eq!(self.last_words(peer), "answer");
        self.answered += 1;
    }

    /// Each connection has one owner, and nobody has more than its credit.
    fn look(&mut self) {
        let mut owned = queue_len(&self.listener).unwrap() as usize + self.routes.held.len();
        let len = |channel: &Channel| usize::try_from(channel.len().unwrap()).unwrap();
        owned += self.routes.left_behind.iter().map(len).sum::<usize>();
        for route in &self.routes.routes {
            assert!(route.outgoing.is_empty());
            let queued = len(&route.channel);
            owned += queued;
            let worker = self.workers.iter().find(|worker| worker.id == route.worker).unwrap();
            let (used, most) = match self.credit {
                Credit::Unfinished(most) => (queued + worker.serving.len(), most),
                Credit::Unreceived(most) | Credit::OneByOne(most) => (queued, most),
            };
            let most = most as usize;
            assert!(used <= most, "{used} for {:?}, of {most}", route.worker);
            // No credit is lost, whatever became of what was sent on it.
            if route.is_open && !route.view.is_full() && (queued == 0 || route.full_at.is_none()) {
                assert_eq!(route.room(self.credit) as usize, most - used, "{route:?}");
            }
        }
        owned += self.workers.iter().map(|worker| worker.serving.len()).sum::<usize>();

        // Whoever was closed without being asked was refused, and told so.
        let closed: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| !matches!(client.peek(&mut [0]), Err(e) if would_block(&e)))
            .map(|(&peer, _)| peer)
            .collect();
        for peer in closed {
            assert_eq!(self.last_words(peer.into()), "refused");
            assert!(self.kills > usize::from(DEATHS), "refused after {} deaths", self.kills);
            self.refused += 1;
        }
        assert_eq!(owned, self.clients.len(), "owned by somebody, and waiting");
        let all = owned + self.answered + self.died + self.refused + self.lost;
        assert_eq!(all, self.connected, "each is somewhere, and none in two places");
    }

    /// Whoever is not stopped goes on until nothing comes any more.
    fn run_dry(&mut self) {
        for _ in 0..10 * self.connected + 20 {
            self.dispatch();
            for slot in 0..self.workers.len() {
                self.receive(slot);
                while !self.workers[slot].is_stopped && !self.workers[slot].serving.is_empty() {
                    self.finish(slot);
                }
            }
        }
        self.look();
    }

    /// Nobody may wait for a worker that is stopped or full, but those it had received; and when all go on,
    /// nobody for ever.
    fn finish_all(&mut self) {
        let is_retired = |worker: &Worker| {
            self.routes.routes.iter().any(|route| route.worker == worker.id && route.is_retired)
        };
        let serves =
            |worker: &Worker| !worker.is_stopped && worker.spare != Some(0) && !is_retired(worker);
        if self.workers.iter().any(serves) {
            self.run_dry();
            let received: usize = self.workers.iter().map(|worker| worker.serving.len()).sum();
            assert_eq!(self.clients.len(), received, "waiting for a stopped or full worker");
        }
        for slot in 0..SLOTS {
            self.play(Step::Continue(slot));
            self.play(Step::Cramp(slot, None));
        }
        self.run_dry();
        assert_eq!(self.clients.len(), 0, "still waiting");
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn credits() -> impl Strategy<Value = Credit> {
    prop_oneof![
        (1_u32..4).prop_map(Credit::Unfinished),
        (1_u32..20).prop_map(Credit::Unreceived),
        (1_u32..20).prop_map(Credit::OneByOne),
    ]
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_connection_has_one_owner_after_any_sequence(
        credit in credits(), least: bool, is_tight: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let policy: Box<dyn Pick> =
            if least { Box::new(Least::default()) } else { Box::new(RoundRobin::default()) };
        let mut world = World::start_all(credit, policy, is_tight);
        for step in steps {
            world.play(step);
            world.look();
        }
        world.finish_all();
    }
}

/// One that is full has what it cannot receive taken from it; and where nobody else has room, one that has room
/// for a few gets its message apart.
#[test]
fn a_full_worker_keeps_nobody_waiting() {
    const CROWD: usize = 9;
    for others in [None, Some(0)] {
        let mut world = World::new(Credit::Unreceived(16), Box::new(RoundRobin::default()));
        for slot in 0..SLOTS {
            world.play(Step::Cramp(slot, Some(0)));
            world.receive(slot as usize);
        }
        (0..CROWD).for_each(|_| world.play(Step::Connect));
        world.dispatch();
        world.play(Step::Cramp(0, None));
        world.play(Step::Short(0, false));
        world.receive(0);
        world.dispatch();
        assert_eq!(oldest(&world.workers[0].channel).unwrap(), CROWD, "one message");
        world.play(Step::Cramp(0, Some(2)));
        world.receive(0);
        assert!(world.workers[0].page.0.full.get());
        (1..SLOTS).for_each(|slot| world.play(Step::Cramp(slot, others)));
        world.run_dry();
        assert_eq!((world.answered, world.lost), (CROWD, 0), "{others:?}");
    }
}

/// A worker that is full and has nothing in its channel keeps no service from its end.
#[test]
fn a_service_ends_though_everybody_is_full() {
    let mut world = World::new(Credit::Unreceived(16), Box::new(RoundRobin::default()));
    for slot in 0..SLOTS {
        world.play(Step::Cramp(slot, Some(0)));
        world.receive(slot as usize);
    }
    world.dispatch();
    world.routes.close();
    world.dispatch();
    assert!(world.routes.is_done());
}

/// A worker that serves one at a time has one credit: without it, it would never be sent anything again.
#[test]
fn what_is_lost_for_want_of_a_descriptor_gives_its_credit_back() {
    let mut world = World::new(Credit::Unfinished(1), Box::new(RoundRobin::default()));
    for slot in 0..SLOTS {
        world.play(Step::Connect);
        world.dispatch();
        world.play(Step::Lose(slot));
    }
    assert_eq!(world.lost, SLOTS as usize);
    world.look();
    world.play(Step::Connect);
    world.finish_all();
    assert_eq!(world.answered, 1);
}

/// What made its channel full has been taken back, and it has received nothing since.
#[test]
fn a_channel_that_was_taken_back_is_not_full() {
    let credit = Credit::OneByOne(20);
    let mut world = World::start_all(credit, Box::new(Least::default()), true);
    (1..SLOTS).for_each(|slot| world.play(Step::Stop(slot)));
    for _ in 0..20 {
        world.play(Step::Connect);
        world.dispatch();
    }
    let sent = world.routes.routes[0].assigned;
    assert!((1..20).contains(&sent) && world.routes.routes[0].full_at.is_some(), "{sent}");
    world.play(Step::Stop(0));
    (1..SLOTS).for_each(|slot| world.play(Step::Continue(slot)));
    world.run_dry();
    assert_eq!(world.answered, 20);
    (1..SLOTS).for_each(|slot| world.play(Step::Stop(slot)));
    world.play(Step::Continue(0));
    world.play(Step::Connect);
    world.run_dry();
    assert_eq!(world.answered, 21);
}

/// What a worker says that it received ends nobody's wait but its own.
#[test]
fn a_service_does_not_end_while_something_is_queued_whatever_its_worker_says() {
    let mut world = World::new(Credit::Unfinished(1), Box::new(RoundRobin::default()));
    world.play(Step::Connect);
    world.dispatch();
    let page = &world.workers[0].page.0;
    page.taken.set(u64::MAX);
    page.completed.set(u64::MAX);
    world.routes.close();
    world.dispatch();
    assert!(!world.routes.is_done());
    let mut none = [0; BATCH * Note::LENGTH];
    recv(&world.workers[0].channel, &mut none[..], RecvFlags::DONTWAIT).unwrap();
    assert!(world.routes.is_done());
}

/// One that is queued for worker after worker, each of which dies, is refused after the third.
#[test]
fn what_nobody_survives_is_refused() {
    let mut world = World::new(Credit::Unfinished(1), Box::new(RoundRobin::default()));
    world.play(Step::Connect);
    for death in 0..=DEATHS {
        world.dispatch();
        world.look();
        assert_eq!(world.refused, 0, "after {death} deaths");
        let len = |route: &Route<Page>| route.channel.len().unwrap() > 0;
        let slot = world.routes.routes.iter().position(len).expect("queued for somebody");
        world.play(Step::Kill(u32::try_from(slot).unwrap()));
    }
    world.dispatch();
    world.look();
    assert_eq!((world.refused, world.clients.len()), (1, 0));
}

#[test]
fn a_worker_that_leaves_nothing_behind_leaves_no_descriptor() {
    let mut routes: Routes<Page> = Routes::idle(Box::new(RoundRobin::default()));
    let worker = WorkerId { slot: SlotId(0), generation: 0 };
    routes.add(worker, Page::default()).unwrap();
    routes.remove(worker);
    assert!(!routes.has_waiting(), "{routes:?}");
}

/// Whoever shuts its own channel down gets nothing more, and keeps nobody else from it.
#[test]
fn a_worker_that_shuts_its_channel_down_harms_itself() {
    let mut world = World::new(Credit::Unfinished(1), Box::new(Least::default()));
    rustix::net::shutdown(&world.workers[0].channel, rustix::net::Shutdown::Read).unwrap();
    for _ in 1..SLOTS {
        world.play(Step::Connect);
    }
    world.dispatch();
    world.dispatch();
    world.look();
    let queued = |route: &Route<Page>| route.channel.len().unwrap();
    assert_eq!(world.routes.routes.iter().map(queued).collect::<Vec<_>>(), [0, 1, 1]);
}
