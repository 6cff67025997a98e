//! Who chooses the slot of a connection.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use forkherd_core::{SlotId, View, WorkerId, queue_len};

use self::classic::Program;
pub(crate) use self::ebpf::Idle;
use self::ebpf::Least;
use crate::counts::Count;
use crate::drift::Drift;

mod classic;
mod ebpf;

/// How the kernel chooses among the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Steering {
    /// By its own hash.
    Hash,
    /// At random.
    Random,
    /// By the processor that handles the packet.
    Cpu,
    /// By a hash over the slots that serve now.
    Serving,
    /// The slot with the least load of those that serve now.
    Least(Idle),
}

/// The groups that are steered, one per address, and the slots they were last steered to.
#[derive(Debug)]
pub(crate) struct Steered {
    steering: Steering,
    /// One member of each group: a classic program belongs to the whole group.
    members: Vec<OwnedFd>,
    slots: Option<Vec<SlotId>>,
    loads: Option<Loads>,
}

impl Steered {
    pub(crate) fn new(steering: Steering) -> Self {
        Self { steering, members: Vec::new(), slots: None, loads: None }
    }

    /// Attaches what is to be attached; afterwards it is steered like this. `groups`: per address its
    /// listeners, in slot order. With a single slot there is no group and nothing to steer.
    ///
    /// # Errors
    /// `EPERM` without the right to load a program; nothing has changed then.
    pub(crate) fn prepare<F: AsFd>(
        &mut self,
        steering: Steering,
        groups: &[Vec<F>],
    ) -> io::Result<()> {
        let slots = groups.iter().map(Vec::len).max().unwrap_or(0);
        if slots >= 2 {
            match steering {
                Steering::Hash => {}
                Steering::Least(idle) => self.loads = Some(Loads::new(groups, idle)?),
                Steering::Random | Steering::Cpu | Steering::Serving => {
                    let members = groups.iter().filter_map(|group| group.first());
                    let members = members.map(|member| member.as_fd().try_clone_to_owned());
                    self.members = members.collect::<io::Result<_>>()?;
                }
            }
            let slots = u32::try_from(slots).map_err(io::Error::other)?;
            match steering {
                Steering::Random => self.attach(&Program::random(slots))?,
                Steering::Cpu => self.attach(&Program::cpu(slots))?,
                Steering::Hash | Steering::Serving | Steering::Least(_) => {}
            }
        }
        self.steering = steering;
        Ok(())
    }

    /// Steers to these slots only, if that is how it is steered and they are others than before.
    pub(crate) fn to(&mut self, slots: Vec<SlotId>) -> io::Result<()> {
        if self.slots.as_ref() == Some(&slots) {
            return Ok(());
        }
        if let Some(loads) = &self.loads {
            loads.open_only(&slots);
        } else if self.steering == Steering::Serving {
            self.attach(&Program::hash_over(&slots))?;
        }
        self.slots = Some(slots);
        Ok(())
    }

    pub(crate) fn loads(&mut self) -> Option<&mut Loads> {
        self.loads.as_mut()
    }

    fn attach(&self, program: &Program) -> io::Result<()> {
        self.members.iter().try_for_each(|member| program.attach(member))
    }
}

/// The loads that an eBPF program goes by, and who keeps them true.
#[derive(Debug)]
pub(crate) struct Loads {
    least: Least,
    /// Per slot its listeners, whose queues are part of its load.
    queues: Vec<Vec<OwnedFd>>,
    workers: BTreeMap<WorkerId, View>,
    waiting: Drift,
    serving: Drift,
    next_look: Option<Instant>,
}

impl Loads {
    /// How often counts are compared with the truth while there is anything to count.
    ///
    /// 100 ms: three looks agree within 0.3 s, and a look at 128 slots costs 60 µs.
    const LOOK: Duration = Duration::from_millis(100);
    /// And while there is nothing.
    const SELDOM: Duration = Duration::from_secs(1);

    fn new<F: AsFd>(groups: &[Vec<F>], idle: Idle) -> io::Result<Self> {
        let least = Least::attach(groups, idle)?;
        let slots = groups.iter().map(Vec::len).max().unwrap_or(0);
        let queue_of = |slot: usize| {
            let listeners = groups.iter().filter_map(|group| group.get(slot));
            listeners.map(|listener| listener.as_fd().try_clone_to_owned()).collect()
        };
        let queues = (0..slots).map(queue_of).collect::<io::Result<Vec<Vec<OwnedFd>>>>()?;
        let (waiting, serving) = (Drift::new(slots), Drift::new(slots));
        Ok(Self { least, queues, workers: BTreeMap::new(), waiting, serving, next_look: None })
    }

    /// What workers inherit, to count in.
    pub(crate) fn map(&self) -> &OwnedFd {
        &self.least.map
    }

    fn open_only(&self, open: &[SlotId]) {
        for slot in (0..).map(SlotId).take(self.queues.len()) {
            self.least.open(slot, open.contains(&slot));
        }
    }

    pub(crate) fn begin(&mut self, worker: WorkerId, view: View) {
        self.workers.insert(worker, view);
    }

    /// It is gone, and with it what it served.
    pub(crate) fn end(&mut self, worker: WorkerId) {
        if let Some(view) = self.workers.remove(&worker) {
            // What it took without counting shows as drift.
            let lost = i64::try_from(view.in_service()).unwrap_or(0);
            self.least.counts.add(Count::Serving, worker.slot, -lost);
        }
    }

    /// Compares counts with the truth, if it is time, and says when it will be again.
    pub(crate) fn look(&mut self, now: Instant) -> Duration {
        if let Some(wait) = self.next_look.and_then(|next| next.checked_duration_since(now))
            && !wait.is_zero()
        {
            return wait;
        }
        let mut in_service = vec![0_i64; self.queues.len()];
        for (worker, view) in &self.workers {
            if let Some(sum) = in_service.get_mut(worker.slot.index()) {
                // A worker writes this, so it may be anything.
                *sum += i64::from(u32::try_from(view.in_service()).unwrap_or(u32::MAX));
            }
        }
        let mut quiet = true;
        let counts = &self.least.counts;
        for ((index, queues), in_service) in self.queues.iter().enumerate().zip(in_service) {
            let queued = queues.iter().map(|queue| i64::from(queue_len(queue).unwrap_or(0))).sum();
            let both = [
                (Count::Waiting, queued, &mut self.waiting),
                (Count::Serving, in_service, &mut self.serving),
            ];
            for (count, truth, drift) in both {
                // Slots are few: see `SLOTS_LIMIT`.
                let slot = SlotId(u32::try_from(index).unwrap_or(u32::MAX));
                let counted = counts.get(count, slot);
                let correction = drift.correction(index, counted.saturating_sub(truth));
                if correction != 0 {
                    counts.add(count, slot, correction);
                }
                quiet &= counted == 0 && truth == 0;
            }
        }
        let wait = if quiet { Self::SELDOM } else { Self::LOOK };
        self.next_look = Some(now + wait);
        wait
    }
}

/// A `SO_REUSEPORT` group of non-blocking listeners on loopback, for tests by real handshakes.
#[cfg(test)]
fn group(members: usize) -> (Vec<socket2::Socket>, std::net::SocketAddr) {
    use socket2::{Domain, Socket, Type};

    let mut address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let sockets = (0..members)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(1024).unwrap();
            address = socket.local_addr().unwrap().as_socket().unwrap();
            socket
        })
        .collect();
    (sockets, address)
}

#[cfg(test)]
mod tests {
    use forkherd_core::conformance::Alone;
    use nix::libc;
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    /// Slots of a stage.
    const SLOTS: usize = 2;

    /// A steered group whose slots are all open; `None`, said aloud, where this machine does not let us.
    fn stage() -> Option<(Vec<Socket>, SockAddr, Loads)> {
        let (sockets, address) = group(SLOTS);
        match Loads::new(&[sockets.iter().collect::<Vec<_>>()], Idle::InTurn) {
            Ok(loads) => {
                loads.open_only(&[SlotId(0), SlotId(1)]);
                Some((sockets, address.into(), loads))
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: no right to load eBPF programs ({error})");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Begins a connection; whether it comes through the caller may wait for.
    fn connect(address: &SockAddr, waits: bool) -> Socket {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(!waits).unwrap();
        // Closed by a reset: no port of the loopback is left waiting.
        client.set_linger(Some(Duration::ZERO)).unwrap();
        match client.connect(address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            result => result.unwrap(),
        }
        client
    }

    /// Per slot, what is counted as waiting, and what waits.
    fn waiting(sockets: &[Socket], loads: &Loads) -> ([i64; SLOTS], [i64; SLOTS]) {
        let counted = [0, 1].map(|slot| loads.least.counts.get(Count::Waiting, SlotId(slot)));
        (counted, [0, 1].map(|slot| queue_len(&sockets[slot]).unwrap().into()))
    }

    /// As often as it takes to call a difference drift.
    fn look(loads: &mut Loads) {
        let now = Instant::now();
        for look in 0..3 {
            loads.next_look = None;
            loads.look(now + look * Loads::LOOK);
        }
    }

    #[test]
    fn what_was_counted_and_does_not_wait_is_found_by_the_length_of_the_queue() {
        let Some((sockets, address, mut loads)) = stage() else { return };
        let clients: Vec<_> = (0..10).map(|_| connect(&address, true)).collect();
        assert_eq!(waiting(&sockets, &loads), ([5, 5], [5, 5]));
        // Reset while they wait: they do, until somebody accepts them.
        drop(clients);
        look(&mut loads);
        assert_eq!(waiting(&sockets, &loads), ([5, 5], [5, 5]), "nothing was wrong");

        // A full queue takes no more, but the program has chosen it.
        sockets.iter().for_each(|socket| socket.listen(1).unwrap());
        let late: Vec<_> = (0..6).map(|_| connect(&address, false)).collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        while waiting(&sockets, &loads).0.iter().sum::<i64>() < 16 {
            assert!(Instant::now() < deadline, "{:?}", waiting(&sockets, &loads));
            std::thread::yield_now();
        }
        // Before they try again, and are counted again.
        drop(late);
        look(&mut loads);
        assert_eq!(waiting(&sockets, &loads), ([5, 5], [5, 5]), "after a full queue");

        // A worker takes one and dies before it counts.
        sockets[1].accept().unwrap();
        look(&mut loads);
        assert_eq!(waiting(&sockets, &loads), ([5, 4], [5, 4]), "after a death");
    }

    #[test]
    fn what_a_worker_serves_is_what_its_board_says_and_nothing_when_it_is_gone() {
        let Some((_sockets, _address, mut loads)) = stage() else { return };
        let worker = WorkerId { slot: SlotId(1), generation: 0 };
        let alone = Alone::new(worker).unwrap();
        loads.begin(worker, alone.view.clone());
        let _served: Vec<_> = (0..3).map(|_| alone.take().unwrap()).collect();
        let serving = |loads: &Loads| loads.least.counts.get(Count::Serving, worker.slot);
        // Two were counted, and one it had no time to count.
        loads.least.counts.add(Count::Serving, worker.slot, 2);
        look(&mut loads);
        assert_eq!(serving(&loads), 3);
        loads.end(worker);
        assert_eq!(serving(&loads), 0);
        // It is not looked at any more.
        look(&mut loads);
        assert_eq!(serving(&loads), 0);
    }
}
