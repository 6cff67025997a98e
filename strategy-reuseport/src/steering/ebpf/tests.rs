//! The program against a model of it, by real handshakes: the kernel cannot test-run this type.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

use forkherd_core::queue_len;
use nix::libc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use socket2::Socket;

use super::super::group;
use super::*;

/// What the program does, said once more: the chosen slot, and where the next look begins.
fn choose(idle: Idle, loads: &[i64], closed: &[bool], turn: usize) -> Option<usize> {
    if idle == Idle::First {
        let first = (0..loads.len()).find(|&slot| !closed[slot] && loads[slot] <= 0);
        if first.is_some() {
            return first;
        }
    }
    let places = loads.len().next_power_of_two();
    let in_turn = (0..places).map(|step| (turn + step) % places);
    let open = in_turn.filter(|&slot| slot < loads.len() && !closed[slot]);
    // Whatever is at or below zero has nothing to do; the first in turn among equals.
    open.min_by_key(|&slot| loads[slot].max(0))
}

/// A steered group; `None`, said aloud, where this machine does not let us.
struct Stage {
    sockets: Vec<Socket>,
    address: SocketAddr,
    least: Least,
}

impl Stage {
    fn new(slots: usize) -> Option<Self> {
        Self::with(slots, Idle::InTurn)
    }

    fn with(slots: usize, idle: Idle) -> Option<Self> {
        let (sockets, address) = group(slots);
        match Least::attach(&[sockets.iter().map(AsFd::as_fd).collect()], idle) {
            Ok(least) => Some(Self { sockets, address, least }),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: no right to load eBPF programs ({error})");
                None
            }
            Err(error) => panic!("{slots} slots: {error}"),
        }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        // Closed by a reset: no port of the loopback is left waiting.
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        client
    }

    /// Makes one connection and says on which slot's listener it came out.
    fn one(&self) -> usize {
        let _client = self.connect();
        let mut taken =
            self.sockets.iter().enumerate().filter(|(_, socket)| socket.accept().is_ok());
        let (slot, _) = taken.next().expect("it came out somewhere");
        assert!(taken.next().is_none());
        slot
    }

    fn waiting(&self) -> Vec<i64> {
        let slots = (0..).map(SlotId).take(self.sockets.len());
        slots.map(|slot| self.least.counts.get(Count::Waiting, slot)).collect()
    }

    fn turn(&self) -> usize {
        usize::try_from(self.least.counts.turn().load(Ordering::Relaxed)).unwrap()
    }

    fn set(&self, waiting: &[i64], serving: &[i64], closed: &[bool], turn: usize) {
        let counts = &self.least.counts;
        for (index, slot) in (0..).map(SlotId).take(self.sockets.len()).enumerate() {
            let loads = [(Count::Waiting, waiting[index]), (Count::Serving, serving[index])];
            for (count, value) in loads {
                counts.add(count, slot, value - counts.get(count, slot));
            }
            self.least.open(slot, !closed[index]);
        }
        counts.turn().store(turn as u64, Ordering::Relaxed);
    }
}

#[test]
fn each_choice_is_that_of_the_model() {
    let cases = [2, 3, 8, 13].map(|slots| [(slots, Idle::InTurn), (slots, Idle::First)]);
    for (slots, idle) in cases.into_iter().flatten() {
        let Some(stage) = Stage::with(slots, idle) else { return };
        let counts = || prop::collection::vec(-1..4_i64, slots);
        let closed = prop::collection::vec(prop::bool::weighted(0.3), slots);
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&(counts(), counts(), closed, 0..2 * slots), |case| {
            let (waiting, serving, closed, turn) = case;
            stage.set(&waiting, &serving, &closed, turn);
            let loads: Vec<_> = waiting.iter().zip(&serving).map(|(w, s)| w + s).collect();
            let came = stage.one();
            match choose(idle, &loads, &closed, turn) {
                Some(chosen) => {
                    prop_assert_eq!(came, chosen);
                    let mut expected = waiting;
                    expected[chosen] += 1;
                    prop_assert_eq!(stage.waiting(), expected);
                    let first = idle == Idle::First && loads[chosen] <= 0;
                    prop_assert_eq!(stage.turn(), if first { turn } else { chosen + 1 });
                }
                // The kernel hashed, and nothing was counted.
                None => prop_assert_eq!(stage.waiting(), waiting),
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{slots} slots, {idle:?}: {error}"));
    }
}

#[test]
fn a_burst_is_even_though_nobody_has_accepted() {
    let Some(stage) = Stage::new(8) else { return };
    stage.set(&[0; 8], &[0; 8], &[false; 8], 5);
    let _clients: Vec<_> = (0..64).map(|_| stage.connect()).collect();
    assert_eq!(stage.waiting(), [8; 8]);
    for socket in &stage.sockets {
        assert_eq!(queue_len(socket).unwrap(), 8);
    }
}

#[test]
fn equals_take_turns_even_with_a_crowd_between_them() {
    let Some(stage) = Stage::new(8) else { return };
    let mut counts = [0; 8];
    for round in 0..30 {
        // 0, 6 and 7 are equal; a look that begins one further each time would give 0 most of it.
        let turn = if round == 0 { 0 } else { stage.turn() };
        stage.set(&[0; 8], &[0, 9, 9, 9, 9, 9, 0, 0], &[false; 8], turn);
        counts[stage.one()] += 1;
    }
    assert_eq!(counts, [10, 0, 0, 0, 0, 0, 10, 10]);
}

#[test]
fn who_waits_longest_is_found() {
    let Some(stage) = Stage::new(4) else { return };
    let counts = &stage.least.counts;
    // All busy: every connection waits, and is found in the order in which it came.
    stage.set(&[0; 4], &[1; 4], &[false; 4], 3);
    let _clients: Vec<_> = (0..10).map(|_| stage.connect()).collect();
    let found: Vec<_> = std::iter::from_fn(|| {
        let slot = counts.longest_waiting(0..4)?;
        counts.take(slot, SlotId(0));
        Some(slot.0)
    })
    .collect();
    assert_eq!(found, [3, 0, 1, 2, 3, 0, 1, 2, 3, 0]);
    assert_eq!(counts.get(Count::Serving, SlotId(0)), 11);

    stage.set(&[7, 2, 3, 3], &[0; 4], &[false; 4], 0);
    assert_eq!(counts.longest_waiting(1..4), Some(SlotId(2)));
    stage.set(&[0, -3, 0, 0], &[0; 4], &[false; 4], 0);
    assert_eq!(counts.longest_waiting(0..4), None);
}

#[test]
fn closed_slots_get_nothing() {
    let Some(stage) = Stage::new(4) else { return };
    stage.set(&[9, 0, 0, 9], &[0; 4], &[false, true, true, false], 0);
    let slots: Vec<_> = (0..20).map(|_| stage.one()).collect();
    assert!(slots.iter().all(|slot| [0, 3].contains(slot)), "{slots:?}");
    assert_eq!(stage.waiting(), [19, 0, 0, 19]);
}

#[test]
fn with_all_closed_the_kernel_chooses() {
    let Some(stage) = Stage::new(4) else { return };
    let mut counts = [0; 4];
    for _ in 0..200 {
        counts[stage.one()] += 1;
    }
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    assert_eq!(stage.waiting(), [0; 4]);
}

#[test]
fn a_choice_that_the_kernel_cannot_make_is_not_counted() {
    let Some(mut stage) = Stage::new(4) else { return };
    stage.set(&[0; 4], &[0; 4], &[false; 4], 2);
    // It leaves the array of members with its last descriptor, and nobody closed its gate.
    stage.sockets.remove(2);
    let _client = stage.connect();
    let waiting = (0..4).map(|slot| stage.least.counts.get(Count::Waiting, SlotId(slot)));
    assert_eq!(waiting.sum::<i64>(), 0);
}

#[test]
fn every_size_loads() {
    for slots in [2, 3, 16, 64, 128, 256] {
        let begun = Instant::now();
        let Some(_stage) = Stage::with(slots, Idle::First) else { return };
        eprintln!("{slots} slots: group, maps and program in {:?}", begun.elapsed());
    }
}

#[test]
fn two_addresses_share_the_counts() {
    let (first, first_address) = group(2);
    let (second, second_address) = group(2);
    let groups = [&first, &second].map(|group| group.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    let Ok(least) = Least::attach(&groups, Idle::InTurn) else {
        return eprintln!("skipped: no right to load eBPF programs");
    };
    for slot in [0, 1].map(SlotId) {
        least.open(slot, true);
    }
    let _to_first = TcpStream::connect(first_address).unwrap();
    let _to_second = TcpStream::connect(second_address).unwrap();
    assert_eq!([0, 1].map(|slot| least.counts.get(Count::Waiting, SlotId(slot))), [1, 1]);
    assert_eq!(first.iter().filter(|socket| socket.accept().is_ok()).count(), 1);
    assert_eq!(second.iter().filter(|socket| socket.accept().is_ok()).count(), 1);
}

#[test]
fn a_socket_without_a_group_is_refused() {
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    let Err(error) = Least::attach(&[vec![&alone]], Idle::First) else { panic!("it was taken") };
    assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)), "{error}");
}

/// Runs another test of this binary with no more than these capabilities; `None` if that cannot be done.
fn with_capabilities(set: &str, test: &str) -> Option<(bool, String)> {
    let binary = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args([&format!("--bounding-set={set}"), "--inh-caps=-all", "--ambient-caps=-all", "--"])
        .arg(binary)
        .args(["--exact", &format!("steering::ebpf::tests::{test}"), "--nocapture"])
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: setpriv is not there");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("setpriv:") {
        eprintln!("skipped: {said}");
        return None;
    }
    Some((output.status.success(), said))
}

#[test]
fn cap_bpf_alone_is_enough_and_without_it_the_error_is_known() {
    if Stage::new(2).is_none() || !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: not allowed to try");
    }
    if let Some((passed, said)) = with_capabilities("-all,+bpf", "every_size_loads") {
        assert!(passed && !said.contains("skipped"), "{said}");
    }
    if let Some((passed, said)) = with_capabilities("-all", "every_size_loads") {
        assert!(passed && said.contains("skipped: no right"), "{said}");
    }
}
