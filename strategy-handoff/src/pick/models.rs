//! Every policy against its model: named properties, each with a bug planted that it has to catch.
//!
//! ```text
//! PROPTEST_CASES=100000 cargo test -p forkherd-handoff --lib models     (1.4 million cases, 80 s)
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestError, TestRunner};

use super::*;

/// Slots in all models.
const SLOTS: u32 = 16;

fn client(ip: u32, port: u16) -> Peer {
    SocketAddr::from((ip.to_be_bytes(), port)).into()
}

fn candidates(loads: impl IntoIterator<Item = (u32, u64)>) -> Vec<Candidate> {
    loads.into_iter().map(|(slot, load)| Candidate::new(SlotId(slot), load)).collect()
}

/// So many slots or more, each with a load.
fn at_least(slots: usize) -> impl Strategy<Value = Vec<Candidate>> {
    proptest::collection::btree_map(0..SLOTS, 0_u64..5, slots..16).prop_map(candidates)
}

/// Never none.
fn some() -> impl Strategy<Value = Vec<Candidate>> {
    at_least(1)
}

fn rounds() -> impl Strategy<Value = Vec<Vec<Candidate>>> {
    proptest::collection::vec(some(), 1..12)
}

fn spread(counts: &[u64]) -> u64 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

type Found<T> = Result<(), TestError<T>>;

/// Plays a property on as many random inputs as `PROPTEST_CASES` says.
fn play<I: Strategy>(inputs: I, property: impl Fn(I::Value) -> TestCaseResult) -> Found<I::Value> {
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&inputs, property)
}

/// The property holds for the policy, and does not for the one with the bug; both are made of a seed.
fn check<I: Strategy>(
    inputs: impl Fn() -> I,
    property: impl Fn(&mut dyn Pick, I::Value) -> TestCaseResult,
    policy: impl Fn(u64) -> Box<dyn Pick>,
    bug: impl Fn(u64) -> Box<dyn Pick>,
) {
    let seeded = || (any::<u64>(), inputs());
    play(seeded(), |(seed, input)| property(&mut *policy(seed), input))
        .unwrap_or_else(|e| panic!("{e}"));
    let found = play(seeded(), |(seed, input)| property(&mut *bug(seed), input));
    assert!(matches!(found, Err(TestError::Fail(..))), "{:?} was not caught", bug(0));
}

/// A policy with a bug.
struct Bug<F>(&'static str, F);

impl<F> fmt::Debug for Bug<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<F: FnMut(&[Candidate], Peer) -> usize> Pick for Bug<F> {
    fn pick(&mut self, candidates: &[Candidate], client: Peer) -> usize {
        (self.1)(candidates, client)
    }
}

fn bug(
    name: &'static str,
    pick: impl FnMut(&[Candidate], Peer) -> usize + 'static,
) -> Box<dyn Pick> {
    Box::new(Bug(name, pick))
}

fn least_of(all: &[Candidate]) -> u64 {
    all.iter().map(|c| c.load).min().unwrap()
}

fn first_least(all: &[Candidate]) -> usize {
    all.iter().position(|c| c.load == least_of(all)).unwrap()
}

// ---- All -------------------------------------------------------------------------------------------

#[test]
fn every_policy_picks_one_of_those_that_may_be_picked() {
    let policies: [fn(u64) -> Box<dyn Pick>; 4] = [
        |_| Box::new(RoundRobin::default()),
        |_| Box::new(Least::default()),
        |seed| Box::new(PowerOfTwo::seeded(seed)),
        |_| Box::new(ClientHash::default()),
    ];
    for policy in policies {
        check(
            || (rounds(), any::<u32>()),
            |policy, (rounds, ip)| {
                for all in rounds {
                    prop_assert!(policy.pick(&all, client(ip, 1)) < all.len());
                }
                Ok(())
            },
            policy,
            |_| {
                let mut turn = 0;
                // Counts turns and forgets that there may be fewer to choose from than last time.
                bug("an index kept from one pick to the next", move |all, _| {
                    turn = if turn >= SLOTS as usize { 0 } else { turn + 1 };
                    if all.len() > turn { turn } else { turn.saturating_sub(1) }
                })
            },
        );
    }
}

// ---- Round robin -----------------------------------------------------------------------------------

#[test]
fn round_robin_is_the_next_slot_that_has_room() {
    check(
        rounds,
        |policy, rounds| {
            let mut last = None;
            for all in rounds {
                let picked = all[policy.pick(&all, client(0, 1))].slot.0;
                // Walk round the table from the seat behind the last one, until somebody has room.
                let start = last.map_or(0, |last| last + 1);
                let has_room = |slot: &u32| all.iter().any(|c| c.slot.0 == *slot);
                let expected = (0..SLOTS).map(|step| (start + step) % SLOTS).find(has_room);
                prop_assert_eq!(Some(picked), expected);
                last = Some(picked);
            }
            Ok(())
        },
        |_| Box::new(RoundRobin::default()),
        |_| {
            let mut next = 0;
            bug("turns by index instead of by slot", move |all, _| {
                let index = next % all.len();
                next = index + 1;
                index
            })
        },
    );
}

#[test]
fn round_robin_with_room_everywhere_differs_by_at_most_one() {
    check(
        || (1..SLOTS, 1_usize..200),
        |policy, (slots, picks)| {
            let all = candidates((0..slots).map(|slot| (slot, 0)));
            let mut counts = vec![0_u64; slots as usize];
            for _ in 0..picks {
                counts[policy.pick(&all, client(0, 1))] += 1;
            }
            prop_assert!(spread(&counts) <= 1, "{:?}", counts);
            Ok(())
        },
        |_| Box::new(RoundRobin::default()),
        |_| {
            let mut last = 0;
            bug("never comes back to the first", move |all, _| {
                last = if last + 1 < all.len() { last + 1 } else { 1.min(all.len() - 1) };
                last
            })
        },
    );
}

// ---- Least -----------------------------------------------------------------------------------------

#[test]
fn least_never_passes_by_a_less_loaded_one() {
    check(
        rounds,
        |policy, rounds| {
            for all in rounds {
                let picked = all[policy.pick(&all, client(0, 1))].load;
                prop_assert_eq!(picked, least_of(&all));
            }
            Ok(())
        },
        |_| Box::new(Least::default()),
        |_| {
            let mut last = None;
            bug("does not go round: looks behind the last one only", move |all, _| {
                let start = first_behind(last, all);
                let index = (start..all.len()).min_by_key(|&i| all[i].load).unwrap_or(0);
                last = Some(all[index].slot);
                index
            })
        },
    );
}

#[test]
fn least_rotates_among_equals() {
    check(
        || (1..SLOTS, 1_usize..6),
        |policy, (slots, rounds)| {
            let all = candidates((0..slots).map(|slot| (slot, 7)));
            let mut counts = vec![0_u64; slots as usize];
            for _ in 0..rounds * slots as usize {
                counts[policy.pick(&all, client(0, 1))] += 1;
            }
            prop_assert_eq!(spread(&counts), 0);
            Ok(())
        },
        |_| Box::new(Least::default()),
        |_| bug("the first among equals", |all, _| first_least(all)),
    );
}

#[test]
fn least_keeps_loads_of_connections_that_stay_within_one() {
    check(
        || (1..SLOTS, 1_usize..200),
        |policy, (slots, arrivals)| {
            let mut loads = vec![0_u64; slots as usize];
            for _ in 0..arrivals {
                let all = candidates((0..slots).zip(loads.iter().copied()));
                loads[policy.pick(&all, client(0, 1))] += 1;
            }
            prop_assert!(spread(&loads) <= 1, "{:?}", loads);
            Ok(())
        },
        |_| Box::new(Least::default()),
        |_| {
            let (mut old, mut age) = (BTreeMap::new(), 0);
            bug("counts that are four picks old", move |all, _| {
                if age % 4 == 0 {
                    old = all.iter().map(|c| (c.slot, c.load)).collect();
                }
                age += 1;
                (0..all.len()).min_by_key(|&i| old.get(&all[i].slot).copied()).unwrap_or(0)
            })
        },
    );
}

// ---- Power of two ----------------------------------------------------------------------------------

#[test]
fn power_of_two_never_takes_the_single_most_loaded_of_two_or_more() {
    check(
        || (2..SLOTS, any::<prop::sample::Index>()),
        |policy, (slots, worst)| {
            let worst = worst.index(slots as usize);
            let all = candidates((0..slots).map(|slot| (slot, u64::from(slot as usize == worst))));
            for _ in 0..50 {
                prop_assert_ne!(policy.pick(&all, client(0, 1)), worst);
            }
            Ok(())
        },
        |seed| Box::new(PowerOfTwo::seeded(seed)),
        |seed| {
            let mut dice = PowerOfTwo::seeded(seed);
            bug("may draw the same one twice", move |all, _| {
                let (one, other) = (dice.draw(all.len()), dice.draw(all.len()));
                if all[other].load < all[one].load { other } else { one }
            })
        },
    );
}

#[test]
fn power_of_two_draws_everybody() {
    check(
        || (1..SLOTS, any::<u32>()),
        |policy, (slots, ip)| {
            let all = candidates((0..slots).map(|slot| (slot, 0)));
            let mut counts = vec![0_u64; slots as usize];
            // Missed by a fair draw once in 10^12.
            for _ in 0..slots * 32 {
                counts[policy.pick(&all, client(ip, 1))] += 1;
            }
            prop_assert!(counts.iter().all(|&count| count > 0), "{:?}", counts);
            Ok(())
        },
        |seed| Box::new(PowerOfTwo::seeded(seed)),
        |seed| {
            let mut dice = PowerOfTwo::seeded(seed);
            bug("never draws the last", move |all, _| dice.draw((all.len() - 1).max(1)))
        },
    );
}

// ---- Hash ------------------------------------------------------------------------------------------

#[test]
fn a_hashed_client_moves_only_if_its_worker_leaves() {
    check(
        || (at_least(2), any::<prop::sample::Index>(), any::<u32>()),
        |policy, (all, gone, ip)| {
            let before = all[policy.pick(&all, client(ip, 1))].slot;
            let left = all[gone.index(all.len())].slot;
            let rest: Vec<_> = all.iter().copied().filter(|c| c.slot != left).collect();
            let after = rest[policy.pick(&rest, client(ip, 1))].slot;
            if before != left {
                prop_assert_eq!(after, before);
            }
            Ok(())
        },
        |_| Box::new(ClientHash::default()),
        |_| {
            bug("the remainder by how many there are", |all, client| {
                match client.address().unwrap().ip() {
                    IpAddr::V4(ip) => u32::from(ip) as usize % all.len(),
                    IpAddr::V6(_) => 0,
                }
            })
        },
    );
}

#[test]
fn a_hashed_client_stays_whatever_its_port_and_the_loads() {
    let inputs =
        || (some(), any::<u32>(), any::<[u16; 2]>(), proptest::collection::vec(0_u64..9, 16));
    let property = |policy: &mut dyn Pick,
                    (all, ip, ports, loads): (Vec<_>, _, [u16; 2], Vec<_>)| {
        let before = all[policy.pick(&all, client(ip, ports[0]))].slot;
        let pairs = all.iter().zip(loads).map(|(c, load): (&Candidate, u64)| (c.slot.0, load));
        let later = candidates(pairs);
        prop_assert_eq!(later[policy.pick(&later, client(ip, ports[1]))].slot, before);
        Ok(())
    };
    let policy = |_| -> Box<dyn Pick> { Box::new(ClientHash::default()) };
    check(inputs, property, policy, |_| {
        bug("hashes the port, too", |all, from| {
            ClientHash::default().pick(all, client(u32::from(from.address().unwrap().port()), 1))
        })
    });
    check(inputs, property, policy, |_| {
        bug("spares who has the most", |all, from| {
            let most = all.iter().map(|c| c.load).max().unwrap();
            let spared: Vec<_> = all.iter().copied().filter(|c| c.load < most).collect();
            let among = if spared.is_empty() { all.to_vec() } else { spared };
            let slot = among[ClientHash::default().pick(&among, from)].slot;
            all.iter().position(|c| c.slot == slot).unwrap()
        })
    });
}

/// χ² of the picks of 4,000 clients in a row, from some address on, over eight equal slots.
fn chi_square(policy: &mut dyn Pick, from: u32) -> f64 {
    let all = candidates((0..8).map(|slot| (slot, 0)));
    let mut counts = [0_f64; 8];
    for step in 0..4_000 {
        counts[policy.pick(&all, client(from.wrapping_add(step), 1))] += 1.0;
    }
    counts.iter().map(|count| (count - 500.0).powi(2) / 500.0).sum()
}

#[test]
fn hashing_and_drawing_spread_evenly() {
    // χ² with 7 degrees of freedom: 24.3 at p = 0.001. Seeded, so it holds or it does not.
    assert!(chi_square(&mut ClientHash::default(), 0x0a00_0000) < 24.3);
    assert!(chi_square(&mut PowerOfTwo::seeded(1), 0) < 24.3);
    let mut bug = bug("only the last bits of the address", |all, client| {
        match client.address().unwrap().ip() {
            IpAddr::V4(ip) => (u32::from(ip) % 6) as usize % all.len(),
            IpAddr::V6(_) => 0,
        }
    });
    assert!(chi_square(&mut *bug, 0x0a00_0000) > 24.3);
}
