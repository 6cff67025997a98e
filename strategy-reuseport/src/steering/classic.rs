//! Classic BPF programs that choose a member of a reuseport group. No privilege (Linux 4.6 for TCP).
//!
//! A program returns the place of a socket in its group. Places follow the order of `listen(2)` and move
//! when a member is closed; the pool creates listeners in slot order and closes none, so place and slot
//! are the same. A place that does not exist falls back to the kernel's own hash.

use std::io;
use std::os::fd::AsFd;

use forkherd_core::SlotId;
use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

/// A classic BPF program.
#[derive(Clone, Debug)]
pub(crate) struct Program(Vec<sock_filter>);

// linux/bpf_common.h and linux/filter.h.
const LOAD_WORD_ABSOLUTE: u16 = 0x20;
const MODULO: u16 = 0x94;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;
/// Loads from here on are not packet bytes but what the kernel knows beside them: `SKF_AD_OFF`, −0x1000.
const ANCILLARY: u32 = 0_u32.wrapping_sub(0x1000);
/// `SKF_AD_RXHASH`: a hash of addresses and ports.
const FLOW_HASH: u32 = ANCILLARY + 32;
/// `SKF_AD_CPU`: the processor that handles the packet.
const CPU: u32 = ANCILLARY + 36;
/// `SKF_AD_RANDOM`.
const RANDOM: u32 = ANCILLARY + 56;
/// No group has so many members: the kernel hashes.
const NOBODY: u32 = u32::MAX;

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

impl Program {
    /// A slot drawn at random.
    pub(crate) fn random(slots: u32) -> Self {
        Self::modulo(RANDOM, slots)
    }

    /// The slot with the number of the processor that handles the packet.
    pub(crate) fn cpu(slots: u32) -> Self {
        Self::modulo(CPU, slots)
    }

    fn modulo(what: u32, slots: u32) -> Self {
        Self(vec![
            step(LOAD_WORD_ABSOLUTE, what),
            step(MODULO, slots.max(1)),
            step(RETURN_ACCUMULATOR, 0),
        ])
    }

    /// One of `slots` by the hash of the client's address and port that came with the packet, or, if none
    /// did, at random; if there are no slots, whom the kernel chooses.
    pub(crate) fn hash_over(slots: &[SlotId]) -> Self {
        let Ok(count @ 1..) = u32::try_from(slots.len()) else {
            return Self(vec![step(RETURN_CONSTANT, NOBODY)]);
        };
        let mut steps = vec![
            step(LOAD_WORD_ABSOLUTE, FLOW_HASH),
            // The kernel reads what is noted in the packet and computes nothing: 0 where neither the device nor
            // RPS has hashed it. All of those would go to one slot.
            sock_filter { jf: 1, ..step(JUMP_IF_EQUAL, 0) },
            step(LOAD_WORD_ABSOLUTE, RANDOM),
            step(MODULO, count),
        ];
        for (index, slot) in (0..).zip(slots) {
            // Not this one: skip its answer.
            steps.push(sock_filter { jf: 1, ..step(JUMP_IF_EQUAL, index) });
            steps.push(step(RETURN_CONSTANT, slot.0));
        }
        // Never reached: the remainder was one of the above. The verifier wants an end.
        steps.push(step(RETURN_CONSTANT, NOBODY));
        Self(steps)
    }

    /// Makes this the program of the whole group that `member` is in; it replaces the one before.
    ///
    /// Corresponds to `setsockopt(2)` with `SO_ATTACH_REUSEPORT_CBPF`. The kernel copies the program.
    ///
    /// # Errors
    /// `EINVAL` if the socket is in no group.
    pub(crate) fn attach(&self, member: impl AsFd) -> io::Result<()> {
        let mut steps = self.0.clone();
        let program = sock_fprog {
            // At most 2 × 256 + 5.
            len: u16::try_from(steps.len()).unwrap_or(u16::MAX),
            filter: steps.as_mut_ptr(),
        };
        Ok(setsockopt(&member, AttachReusePortCbpf, &program)?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use nix::libc;
    use socket2::{Domain, Socket, Type};

    use super::super::group;
    use super::*;

    /// How many of `count` connections each member of a group of 4 gets, by real handshakes.
    fn steer(program: &Program, count: usize) -> Vec<usize> {
        let (sockets, address) = group(4);
        program.attach(&sockets[0]).unwrap();
        let _clients: Vec<_> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
        let counts: Vec<_> = sockets
            .iter()
            .map(|socket| std::iter::from_fn(|| socket.accept().ok()).count())
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), count, "{counts:?}");
        counts
    }

    #[test]
    fn only_the_slots_named_get_connections() {
        for slots in [vec![2], vec![1, 3], vec![0, 1, 2], vec![0, 1, 2, 3]] {
            let named: Vec<_> = slots.iter().map(|&slot| SlotId(slot)).collect();
            let counts = steer(&Program::hash_over(&named), 100);
            for (slot, &count) in (0..).zip(&counts) {
                // Nobody named: none. Named: far from none (p < 10⁻⁸ for less than 5 of 25).
                assert_eq!(count >= 5, slots.contains(&slot), "{slots:?}: {counts:?}");
                assert_eq!(count == 0, !slots.contains(&slot), "{slots:?}: {counts:?}");
            }
        }
    }

    /// What the program returns for a packet with this hash, if this is what is drawn.
    fn interpret(program: &Program, hash: u32, drawn: u32) -> u32 {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program.0[at];
            at += 1;
            match code {
                LOAD_WORD_ABSOLUTE => accumulator = if k == FLOW_HASH { hash } else { drawn },
                MODULO => accumulator %= k,
                JUMP_IF_EQUAL => at += usize::from(if accumulator == k { jt } else { jf }),
                RETURN_CONSTANT => return k,
                _ => return accumulator,
            }
        }
    }

    /// On loopback every packet has a hash, so no handshake shows this.
    #[test]
    fn packets_that_nobody_has_hashed_are_spread_at_random() {
        let program = Program::hash_over(&[SlotId(1), SlotId(3)]);
        let slot = |hash, drawn| interpret(&program, hash, drawn);
        assert_eq!([slot(6, 0), slot(7, 0)], [1, 3], "the hash decides");
        assert_eq!([slot(0, 6), slot(0, 7)], [1, 3], "there is none");
    }

    #[test]
    fn with_nobody_named_the_kernel_chooses() {
        let counts = steer(&Program::hash_over(&[]), 200);
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    }

    #[test]
    fn random_spreads_and_cpu_follows_the_processor() {
        let counts = steer(&Program::random(4), 200);
        assert!(counts.iter().all(|&count| count >= 20), "{counts:?}");
        // On loopback a handshake is handled on the client's processor: never more slots than those.
        let processors = std::thread::available_parallelism().unwrap().get();
        let used = steer(&Program::cpu(4), 200).iter().filter(|&&count| count > 0).count();
        assert!(used <= processors, "{used} slots for {processors} processors");
    }

    #[test]
    fn a_socket_without_a_group_is_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = Program::random(2).attach(&socket).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
