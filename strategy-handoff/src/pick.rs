//! Whom the next connection goes to. Pure: what may be picked comes in, an index goes out.

use std::fmt;
use std::net::IpAddr;

use forkherd_core::{Peer, SlotId};

/// A worker that has room for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Its seat.
    pub slot: SlotId,
    /// Connections it was given and has not finished.
    pub load: u64,
}

impl Candidate {
    /// For tests of a policy.
    #[must_use]
    pub fn new(slot: SlotId, load: u64) -> Self {
        Self { slot, load }
    }
}

/// A policy: which of the workers that have room gets the next connection.
///
/// Supervisor · once per connection. It is given facts and keeps what it needs to remember; it has no
/// clock, no descriptor and no way to wait, so it can be tested by calling it.
pub trait Pick: fmt::Debug {
    /// The index in `candidates`, which are in slot order and never empty. An index that is out of
    /// range counts as the first.
    fn pick(&mut self, candidates: &[Candidate], client: Peer) -> usize;
}

/// Each slot in turn. A slot that is no candidate now is skipped, and does not get its turn later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoundRobin {
    last: Option<SlotId>,
}

impl Pick for RoundRobin {
    fn pick(&mut self, candidates: &[Candidate], _client: Peer) -> usize {
        let index = first_behind(self.last, candidates);
        self.last = candidates.get(index).map(|c| c.slot);
        index
    }
}

/// The first candidate behind `last`, going round.
fn first_behind(last: Option<SlotId>, candidates: &[Candidate]) -> usize {
    last.and_then(|last| candidates.iter().position(|c| c.slot > last)).unwrap_or(0)
}

/// The worker with the fewest connections. Among equals each in turn: always taking the first would
/// give it more than its share (1.44 to 1.54 times, in systems that did).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Least {
    last: Option<SlotId>,
}

impl Pick for Least {
    fn pick(&mut self, candidates: &[Candidate], _client: Peer) -> usize {
        let start = first_behind(self.last, candidates);
        let order = (start..candidates.len()).chain(0..start);
        // The first of the least loaded ones in that order: `min_by_key` keeps the first it meets.
        let index = order.min_by_key(|&index| candidates[index].load).unwrap_or(0);
        self.last = candidates.get(index).map(|c| c.slot);
        index
    }
}

/// The less loaded of two drawn at random: nearly as even as [`Least`], in no order. Two are compared,
/// however many there are; everybody's counters are read all the same, to know who has room.
/// (Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, 2001.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerOfTwo {
    state: u64,
}

impl PowerOfTwo {
    /// Draws from this seed on.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Below `bound`, which is at least 1.
    fn draw(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bound = u128::try_from(bound).unwrap_or(1);
        // The high half of the product is the draw scaled to the bound: below it, so it fits.
        usize::try_from((u128::from(mix(self.state)) * bound) >> 64).unwrap_or(0)
    }
}

impl Pick for PowerOfTwo {
    fn pick(&mut self, candidates: &[Candidate], _client: Peer) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        let one = self.draw(candidates.len());
        // Another one: drawn from the rest, so that the two always differ.
        let other = (one + 1 + self.draw(candidates.len() - 1)) % candidates.len();
        if candidates[other].load < candidates[one].load { other } else { one }
    }
}

/// The same worker for the same client address, whatever its port, while that worker has room.
///
/// By rendezvous hashing: each slot gets a score from the client and itself, the highest wins. When a
/// slot leaves, only its own clients move; when it comes back, only they come back. A worker without room
/// is no candidate, and one that serves one at a time has none while it is busy: stickiness yields to
/// progress. (Thaler and Ravishankar, 1998.)
///
/// A client of a Unix socket has no address: there, each slot in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientHash {
    without_address: RoundRobin,
}

impl Pick for ClientHash {
    fn pick(&mut self, candidates: &[Candidate], client: Peer) -> usize {
        let Some(address) = client.address() else {
            return self.without_address.pick(candidates, client);
        };
        let client = match address.ip() {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                // Both halves count.
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the halves are what is wanted"
                )]
                let (high, low) = ((bits >> 64) as u64, bits as u64);
                mix(high) ^ low
            }
        };
        let score = |candidate: &Candidate| mix(mix(client) ^ u64::from(candidate.slot.0));
        let best = (0..candidates.len()).max_by_key(|&index| score(&candidates[index]));
        best.unwrap_or(0)
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, 2014): every input bit moves half the output bits.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod models;
