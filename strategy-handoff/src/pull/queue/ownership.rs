//! Who owns a connection where all receive from one channel: the queue, its channel and sockets as they are,
//! and a model of workers that receive, count, lose, finish, die, stop, get full, go on and leave in any order.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use forkherd_core::{Peer, SlotId, queue_len};
use proptest::prelude::*;
use proptest::test_runner::Config;
use rustix::net::{RecvFlags, recv};

use super::*;
use crate::channel::{Note, Wait, receive};

const SLOTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Dispatch,
    /// It receives, and has not counted it yet.
    Receive(u32),
    Count(u32),
    Finish(u32),
    /// Its table of descriptors is full: a message comes without them.
    Lose(u32),
    /// It has no room for a message, and looks before it receives one; or it has room again.
    Full(u32, bool),
    Kill(u32),
    Stop(u32),
    Continue(u32),
    Retire(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    prop_oneof![
        8 => Just(Step::Connect),
        5 => Just(Step::Dispatch),
        4 => slot().prop_map(Step::Receive),
        4 => slot().prop_map(Step::Count),
        4 => slot().prop_map(Step::Finish),
        1 => slot().prop_map(Step::Lose),
        1 => (slot(), any::<bool>()).prop_map(|(slot, on)| Step::Full(slot, on)),
        1 => slot().prop_map(Step::Kill),
        1 => slot().prop_map(Step::Stop),
        1 => slot().prop_map(Step::Continue),
        1 => slot().prop_map(Step::Retire),
    ]
}

/// What a worker counts.
#[derive(Clone, Default, Debug)]
struct Taken(Rc<Cell<u64>>);

impl Taken {
    fn count(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }
}

impl Board for Taken {
    fn taken(&self) -> u64 {
        self.0.get()
    }
    fn completed(&self) -> u64 {
        0
    }
    fn gate_is_closed(&self) -> bool {
        false
    }
    fn is_full(&self) -> bool {
        false
    }
    fn set_starving(&self, _kick: Option<Kick>) {}
}

struct Worker {
    id: WorkerId,
    taken: Taken,
    uncounted: u64,
    serving: VecDeque<Parcel>,
    is_stopped: bool,
    is_full: bool,
    is_retired: bool,
}

struct World {
    listener: TcpListener,
    queue: SharedQueue<Taken>,
    workers: Vec<Worker>,
    /// Those nobody has closed.
    clients: BTreeMap<SocketAddr, TcpStream>,
    /// Accounts of what became of the others.
    answered: usize,
    cut_off: usize,
    connected: usize,
    bound: u64,
}

impl World {
    fn new(bound: u64, is_tight: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut queue = SharedQueue::default();
        queue.prepare(&[&listener], bound, false).unwrap();
        if is_tight {
            queue.channel.as_ref().unwrap().shrink();
        }
        let (workers, clients) = (Vec::new(), BTreeMap::new());
        let (answered, cut_off, connected) = (0, 0, 0);
        let mut world =
            Self { listener, queue, workers, clients, answered, cut_off, connected, bound };
        for slot in 0..SLOTS {
            let worker = world.start(WorkerId { slot: SlotId(slot), generation: 0 });
            world.workers.push(worker);
        }
        world
    }

    fn start(&mut self, id: WorkerId) -> Worker {
        let taken = Taken::default();
        self.queue.add(id, taken.clone()).unwrap();
        self.queue.receives(id, true);
        let (uncounted, serving) = (0, VecDeque::new());
        let (is_stopped, is_full, is_retired) = (false, false, false);
        Worker { id, taken, uncounted, serving, is_stopped, is_full, is_retired }
    }

    /// What a client reads up to the end that it has to see now, because nobody else holds its connection.
    fn last_words(&mut self, peer: Peer) -> String {
        let mut client =
            self.clients.remove(&peer.address().expect("TCP")).expect("it was not closed before");
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).expect("end-of-file at once");
        text
    }

    fn cut_off(&mut self, peer: Peer) {
        assert_eq!(self.last_words(peer), "", "{peer} was answered by nobody");
        self.cut_off += 1;
    }

    fn dispatch(&mut self) {
        self.queue.arm(&mut Interest::default());
        self.queue.dispatch(&[0], 64).unwrap();
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Connect => {
                let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
                self.clients.insert(client.local_addr().unwrap(), client);
                self.connected += 1;
            }
            Step::Dispatch => self.dispatch(),
            Step::Receive(slot) => self.receive(slot as usize),
            Step::Count(slot) => {
                let worker = &mut self.workers[slot as usize];
                worker.taken.count(std::mem::take(&mut worker.uncounted));
            }
            Step::Finish(slot) => self.finish(slot as usize),
            Step::Lose(slot) => self.lose(slot as usize),
            Step::Full(slot, on) => self.workers[slot as usize].is_full = on,
            Step::Kill(slot) => self.replace(slot as usize),
            Step::Stop(slot) | Step::Continue(slot) => {
                let on = matches!(step, Step::Stop(_));
                let worker = &mut self.workers[slot as usize];
                worker.is_stopped = on;
                self.queue.receives(worker.id, !on);
            }
            Step::Retire(slot) => {
                let worker = &mut self.workers[slot as usize];
                worker.is_retired = true;
                self.queue.retire(worker.id);
            }
        }
    }

    fn receives(&self, slot: usize) -> bool {
        !self.workers[slot].is_stopped && !self.workers[slot].is_retired
    }

    fn receive(&mut self, slot: usize) {
        if !self.receives(slot) || self.workers[slot].is_full {
            return;
        }
        let Worker { serving, uncounted, .. } = &mut self.workers[slot];
        let channel = self.queue.channel.as_ref().unwrap();
        let mut count = 0;
        let _ = receive(channel.receiver(), Wait::Not, |parcel| {
            serving.push_back(parcel);
            count += 1;
        });
        assert!(count <= 1, "{count} in a message");
        *uncounted += count;
    }

    fn lose(&mut self, slot: usize) {
        if !self.receives(slot) {
            return;
        }
        let mut note = [0; Note::LENGTH];
        let channel = self.queue.channel.as_ref().unwrap();
        // Without space for descriptors the kernel closes them, as it does where there is none in the table.
        if recv(channel.receiver(), &mut note[..], RecvFlags::DONTWAIT).is_ok() {
            // As `Meter::lose` does.
            self.workers[slot].taken.count(1);
            self.cut_off(Note::decode(&note).expect("a note").peer);
        }
    }

    fn finish(&mut self, slot: usize) {
        let worker = &mut self.workers[slot];
        if worker.is_stopped {
            return;
        }
        if let Some(parcel) = worker.serving.pop_front() {
            let peer = parcel.note.peer;
            TcpStream::from(parcel.socket).write_all(b"answer").unwrap();
            assert_eq!(self.last_words(peer), "answer");
            self.answered += 1;
        } else if worker.is_retired {
            self.replace(slot);
        }
    }

    /// The worker is gone, and with it what it had received; another takes its seat.
    fn replace(&mut self, slot: usize) {
        let id = self.workers[slot].id;
        let successor = self.start(WorkerId { generation: id.generation + 1, ..id });
        let gone = std::mem::replace(&mut self.workers[slot], successor);
        self.queue.remove(id);
        for Parcel { socket, note } in gone.serving {
            drop(socket);
            self.cut_off(note.peer);
        }
    }

    /// Each connection has one owner, and the channel holds no more than its bound.
    fn look(&self) {
        let queued = self.queue.len();
        assert!(queued <= self.bound, "{queued} of {}", self.bound);
        let serving: usize = self.workers.iter().map(|worker| worker.serving.len()).sum();
        let waiting = queue_len(&self.listener).unwrap() as usize + self.queue.held.len();
        let owned = waiting + usize::try_from(queued).unwrap() + serving;
        assert_eq!(owned, self.clients.len(), "owned by somebody, and waiting");
        let all = owned + self.answered + self.cut_off;
        assert_eq!(all, self.connected, "each is somewhere, and none in two places");
    }

    /// Nobody waits for a worker that is full while another has room; and when all have, nobody at all.
    fn finish_all(&mut self) {
        for slot in 0..SLOTS {
            self.play(Step::Continue(slot));
        }
        let serves = |worker: &Worker| !worker.is_full && !worker.is_retired;
        if self.workers.iter().any(serves) {
            self.run_dry();
        }
        for slot in 0..SLOTS {
            self.play(Step::Full(slot, false));
        }
        self.run_dry();
    }

    fn run_dry(&mut self) {
        for _ in 0..2 * self.connected + 10 {
            self.dispatch();
            for slot in 0..SLOTS {
                for step in [Step::Receive(slot), Step::Count(slot), Step::Finish(slot)] {
                    self.play(step);
                }
            }
            self.look();
        }
        assert_eq!(self.clients.len(), 0, "still waiting");
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_connection_in_the_shared_channel_has_one_owner_after_any_sequence(
        bound in 1_u64..24, is_tight: bool, steps in proptest::collection::vec(step(), 1..100),
    ) {
        let mut world = World::new(bound, is_tight);
        for step in steps {
            world.play(step);
            world.look();
        }
        world.finish_all();
    }
}
