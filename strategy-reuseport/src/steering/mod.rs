//! Who chooses the slot of a connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use forkherd_core::{SlotId, View, WorkerId};

use self::classic::Program;
pub(crate) use self::ebpf::Idle;
use self::ebpf::Least;
use crate::counts::Count;
use crate::drift::Drift;
use crate::looks::Sight;

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
    slots: usize,
    waiting: Drift,
    serving: Drift,
}

impl Loads {
    fn new<F: AsFd>(groups: &[Vec<F>], idle: Idle) -> io::Result<Self> {
        let least = Least::attach(groups, idle)?;
        let slots = groups.iter().map(Vec::len).max().unwrap_or(0);
        let (waiting, serving) = (Drift::new(slots), Drift::new(slots));
        Ok(Self { least, slots, waiting, serving })
    }

    /// What workers inherit, to count in.
    pub(crate) fn map(&self) -> &OwnedFd {
        &self.least.map
    }

    fn open_only(&self, open: &[SlotId]) {
        for slot in (0..).map(SlotId).take(self.slots) {
            self.least.open(slot, open.contains(&slot));
        }
    }

    /// A worker is gone, and with it what it served.
    pub(crate) fn end(&mut self, worker: WorkerId, view: &View) {
        // What it took without counting shows as drift.
        let lost = i64::try_from(view.in_service()).unwrap_or(0);
        self.least.counts.add(Count::Serving, worker.slot, -lost);
    }

    /// Compares counts with the truth, and corrects them; true if nothing is counted.
    pub(crate) fn correct(&mut self, truth: &[Sight]) -> bool {
        let mut quiet = true;
        let counts = &self.least.counts;
        for (slot, sight) in (0..).map(SlotId).zip(truth) {
            let both = [
                (Count::Waiting, sight.queued, &mut self.waiting),
                (Count::Serving, sight.in_service, &mut self.serving),
            ];
            for (count, truth, drift) in both {
                let counted = counts.get(count, slot);
                let correction = drift.correction(slot.index(), counted.saturating_sub(truth));
                if correction != 0 {
                    counts.add(count, slot, correction);
                }
                quiet &= counted == 0;
            }
        }
        quiet
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
    use std::time::{Duration, Instant};

    use forkherd_core::conformance::Alone;
    use forkherd_core::queue_len;
    use nix::libc;
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;
    use crate::looks::Looks;

    /// Slots of a stage.
    const SLOTS: usize = 2;

    /// A steered group whose slots are all open; `None`, said aloud, where this machine does not let us.
    fn stage() -> Option<(Vec<Socket>, SockAddr, Loads, Looks)> {
        let (sockets, address) = group(SLOTS);
        let groups = [sockets.iter().collect::<Vec<_>>()];
        match Loads::new(&groups, Idle::InTurn) {
            Ok(loads) => {
                loads.open_only(&[SlotId(0), SlotId(1)]);
                let looks = Looks::new(&groups, false).unwrap();
                Some((sockets, address.into(), loads, looks))
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
    fn look(loads: &mut Loads, looks: &Looks) {
        for _ in 0..3 {
            loads.correct(&looks.look());
        }
    }

    #[test]
    fn what_was_counted_and_does_not_wait_is_found_by_the_length_of_the_queue() {
        let Some((sockets, address, mut loads, looks)) = stage() else { return };
        let clients: Vec<_> = (0..10).map(|_| connect(&address, true)).collect();
        assert_eq!(waiting(&sockets, &loads), ([5, 5], [5, 5]));
        // Reset while they wait: they do, until somebody accepts them.
        drop(clients);
        look(&mut loads, &looks);
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
        look(&mut loads, &looks);
        assert_eq!(waiting(&sockets, &loads), ([5, 5], [5, 5]), "after a full queue");

        // A worker takes one and dies before it counts.
        sockets[1].accept().unwrap();
        look(&mut loads, &looks);
        assert_eq!(waiting(&sockets, &loads), ([5, 4], [5, 4]), "after a death");
    }

    #[test]
    fn what_a_worker_serves_is_what_its_board_says_and_nothing_when_it_is_gone() {
        let Some((_sockets, _address, mut loads, mut looks)) = stage() else { return };
        let worker = WorkerId { slot: SlotId(1), generation: 0 };
        let alone = Alone::new(worker).unwrap();
        looks.begin(worker, alone.view.clone());
        let _served: Vec<_> = (0..3).map(|_| alone.take().unwrap()).collect();
        let serving = |loads: &Loads| loads.least.counts.get(Count::Serving, worker.slot);
        // Two were counted, and one it had no time to count.
        loads.least.counts.add(Count::Serving, worker.slot, 2);
        look(&mut loads, &looks);
        assert_eq!(serving(&loads), 3);
        loads.end(worker, &looks.end(worker).unwrap());
        assert_eq!(serving(&loads), 0);
        // It is not looked at any more.
        look(&mut loads, &looks);
        assert_eq!(serving(&loads), 0);
    }
}
