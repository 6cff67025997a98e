//! Whom the next connection goes to. Pure: what may be picked comes in, an index goes out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use forkherd_core::SlotId;

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
    fn pick(&mut self, candidates: &[Candidate], client: SocketAddr) -> usize;
}

/// Each slot in turn. A slot that is no candidate now is skipped, and does not get its turn later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RoundRobin {
    last: Option<SlotId>,
}

impl Pick for RoundRobin {
    fn pick(&mut self, candidates: &[Candidate], _client: SocketAddr) -> usize {
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
    fn pick(&mut self, candidates: &[Candidate], _client: SocketAddr) -> usize {
        let start = first_behind(self.last, candidates);
        let order = (start..candidates.len()).chain(0..start);
        // The first of the least loaded ones in that order: `min_by_key` keeps the first it meets.
        let index = order.min_by_key(|&index| candidates[index].load).unwrap_or(0);
        self.last = candidates.get(index).map(|c| c.slot);
        index
    }
}

/// The less loaded of two drawn at random: nearly as even as [`Least`], without looking at everybody.
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
    fn pick(&mut self, candidates: &[Candidate], _client: SocketAddr) -> usize {
        if candidates.len() < 2 {
            return 0;
        }
        let one = self.draw(candidates.len());
        // Another one: drawn from the rest, so that the two always differ.
        let other = (one + 1 + self.draw(candidates.len() - 1)) % candidates.len();
        if candidates[other].load < candidates[one].load { other } else { one }
    }
}

/// The same worker for the same client address, whatever its port.
///
/// By rendezvous hashing: each slot gets a score from the client and itself, the highest wins. When a
/// slot leaves, only its own clients move; when it comes back, only they come back. A worker without room
/// is no candidate: stickiness yields to progress. (Thaler and Ravishankar, 1998.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientHash;

impl Pick for ClientHash {
    fn pick(&mut self, candidates: &[Candidate], client: SocketAddr) -> usize {
        let client = match client.ip() {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(last: u32) -> SocketAddr {
        SocketAddr::from((last.to_be_bytes(), 1))
    }

    fn candidates(loads: impl IntoIterator<Item = (u32, u64)>) -> Vec<Candidate> {
        loads.into_iter().map(|(slot, load)| Candidate::new(SlotId(slot), load)).collect()
    }

    /// Some slots of 16, each with a load; never none.
    fn some() -> impl Strategy<Value = Vec<Candidate>> {
        proptest::collection::btree_map(0_u32..16, 0_u64..5, 1..16).prop_map(candidates)
    }

    fn spread(counts: &[u64]) -> u64 {
        counts.iter().max().unwrap() - counts.iter().min().unwrap()
    }

    proptest! {
        #[test]
        fn every_policy_picks_one_of_those_that_may_be_picked(
            rounds in proptest::collection::vec((some(), any::<u32>()), 1..40),
            seed: u64,
        ) {
            let policies: [Box<dyn Pick>; 4] = [
                Box::new(RoundRobin::default()),
                Box::new(Least::default()),
                Box::new(PowerOfTwo::seeded(seed)),
                Box::new(ClientHash),
            ];
            for mut policy in policies {
                for (all, from) in &rounds {
                    prop_assert!(policy.pick(all, client(*from)) < all.len(), "{policy:?}");
                }
            }
        }

        #[test]
        fn round_robin_with_room_everywhere_differs_by_at_most_one(slots in 1_u32..40, picks in 1_usize..400) {
            let all = candidates((0..slots).map(|slot| (slot, 0)));
            let mut counts = vec![0_u64; slots as usize];
            let mut policy = RoundRobin::default();
            for _ in 0..picks {
                counts[policy.pick(&all, client(0))] += 1;
            }
            prop_assert!(spread(&counts) <= 1, "{counts:?}");
        }

        #[test]
        fn round_robin_is_the_next_slot_that_has_room(rounds in proptest::collection::vec(some(), 1..50)) {
            let mut policy = RoundRobin::default();
            let mut last = None;
            for all in rounds {
                let picked = all[policy.pick(&all, client(0))].slot.0;
                // Walk round the table from the seat behind the last one, until somebody has room.
                let start = last.map_or(0, |last| last + 1);
                let has_room = |slot: &u32| all.iter().any(|c| c.slot.0 == *slot);
                prop_assert_eq!(Some(picked), (0..16).map(|step| (start + step) % 16).find(has_room));
                last = Some(picked);
            }
        }

        #[test]
        fn least_never_passes_by_a_less_loaded_one(rounds in proptest::collection::vec(some(), 1..50)) {
            let mut policy = Least::default();
            for all in rounds {
                let picked = all[policy.pick(&all, client(0))].load;
                prop_assert_eq!(picked, all.iter().map(|c| c.load).min().unwrap());
            }
        }

        #[test]
        fn least_rotates_among_equals(slots in 1_u32..32, rounds in 1_usize..8) {
            let all = candidates((0..slots).map(|slot| (slot, 7)));
            let mut counts = vec![0_u64; slots as usize];
            let mut policy = Least::default();
            for _ in 0..rounds * slots as usize {
                counts[policy.pick(&all, client(0))] += 1;
            }
            prop_assert_eq!(spread(&counts), 0);
        }

        #[test]
        fn least_keeps_loads_of_connections_that_stay_within_one(slots in 1_u32..32, arrivals in 1_usize..500) {
            let mut loads = vec![0_u64; slots as usize];
            let mut policy = Least::default();
            for _ in 0..arrivals {
                let all = candidates((0..slots).zip(loads.iter().copied()));
                loads[policy.pick(&all, client(0))] += 1;
            }
            prop_assert!(spread(&loads) <= 1, "{loads:?}");
        }

        #[test]
        fn power_of_two_never_takes_the_single_most_loaded_of_two_or_more(
            seed: u64, slots in 2_u32..16, worst in 0_u32..16,
        ) {
            let worst = worst % slots;
            let all = candidates((0..slots).map(|slot| (slot, u64::from(slot == worst))));
            let mut policy = PowerOfTwo::seeded(seed);
            for _ in 0..50 {
                prop_assert_ne!(all[policy.pick(&all, client(0))].slot.0, worst);
            }
        }

        #[test]
        fn a_hashed_client_moves_only_if_its_worker_leaves(
            all in some(), gone in any::<prop::sample::Index>(), from: u32,
        ) {
            prop_assume!(all.len() > 1);
            let before = all[ClientHash.pick(&all, client(from))].slot;
            let left = all[gone.index(all.len())].slot;
            let rest: Vec<_> = all.iter().copied().filter(|c| c.slot != left).collect();
            let after = rest[ClientHash.pick(&rest, client(from))].slot;
            if before == left {
                prop_assert_ne!(after, left);
            } else {
                prop_assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn hashing_and_drawing_spread_evenly() {
        let all = candidates((0..8).map(|slot| (slot, 0)));
        let mut policies: [Box<dyn Pick>; 2] =
            [Box::new(ClientHash), Box::new(PowerOfTwo::seeded(1))];
        for policy in &mut policies {
            let mut counts = [0_u64; 8];
            for from in 0..80_000 {
                counts[policy.pick(&all, client(from))] += 1;
            }
            // χ² with 7 degrees of freedom: 24.3 at p = 0.001. Seeded, so it holds or it does not.
            let chi: f64 = counts.iter().map(|&n| (n as f64 - 1e4).powi(2) / 1e4).sum();
            assert!(chi < 24.3, "{policy:?}: {counts:?} χ² = {chi}");
        }
    }
}
