//! Every connection is accounted for, whatever the server does and whoever else is connected.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::load::misbehaving::{Deed, NEVER, config, with_server};
use crate::load::protocol::{Handler, Kept};

/// Late in these tests, where somebody is to be: soon, or they would take long.
const DEADLINE: Duration = Duration::from_secs(1);

/// How often a trace is played with twice the deadline, since the machine may have made others late.
const TRIES: u32 = 6;

/// An open loop with a connection for each request.
fn open(address: SocketAddrV4, arrivals: &[Arrival]) -> Score<'_> {
    let target = Target { address, answers: Answers::Ours };
    let (pace, connections, beside) = Default::default();
    Score { target, arrivals, pace, connections, beside, kills: false, deadline: NEVER }
}

/// Plays a trace in which so many requests are to be late, and no other.
fn with_late(late: u64, play: impl Fn(Duration) -> Trace) -> Trace {
    if late == 0 {
        return play(NEVER);
    }
    let mut trace = play(DEADLINE);
    for again in 1..TRIES {
        if trace.requests().of(Category::Late) <= late {
            break;
        }
        trace = play(DEADLINE * 2_u32.pow(again));
    }
    trace
}

fn arrivals(deeds: &[(Deed, u64)]) -> Vec<Arrival> {
    let mut at_us = 0;
    let arrival = |&(deed, gap_us): &(Deed, u64)| {
        at_us += gap_us;
        Arrival { at_us, service_us: deed.code(), handler: Handler::Sleeps }
    };
    deeds.iter().map(arrival).collect()
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn connections() -> impl Strategy<Value = Connections> {
    let share = select(vec![0.0, 0.5, 1.0]);
    let kept = (1_u32..4, 1_u32..5, share).prop_map(|(places, requests, share)| {
        let (number, requests) = (number(places), number(requests));
        Connections::Kept(Kept { number, requests, share })
    });
    prop_oneof![Just(Connections::Fresh), kept]
}

fn pace() -> impl Strategy<Value = Pace> {
    let closed =
        (1_u32..5).prop_map(|clients| Pace::Closed { clients: number(clients), length_us: None });
    prop_oneof![Just(Pace::Open), closed]
}

fn beside() -> impl Strategy<Value = Beside> {
    (0_u32..3, 0_u32..3, 0_u32..3).prop_map(|(idle, silent, slow)| Beside { idle, silent, slow })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_connection_is_accounted_for(
        deeds in prop::collection::vec((select(&Deed::QUICK[..]), 0_u64..3_000), 1..30),
        stalls in prop::bool::weighted(0.2),
        connections in connections(),
        pace in pace(),
        beside in beside(),
        kills in any::<bool>(),
    ) {
        let mut deeds = deeds;
        // In an open loop requests that wait for the stalled connection would be late with it.
        if stalls && (connections == Connections::Fresh || pace != Pace::Open) {
            deeds[0].0 = Deed::Stall;
        }
        // While workers are killed nobody knows whether the next request came too late or was taken.
        if kills {
            deeds.iter_mut().filter(|one| one.0 == Deed::AnswerAndLeave).for_each(|one| one.0 = Deed::Answer);
        }
        let arrivals = arrivals(&deeds);
        let late = deeds.iter().filter(|(deed, _)| *deed == Deed::Stall).count() as u64;
        let trace = with_late(late, |deadline| with_server(|target| {
            let score = Score { pace, connections, beside, kills, deadline, ..open(target, &arrivals) };
            score.play().unwrap()
        }));

        let seen: Vec<Category> = trace.records.iter().map(|record| record.category).collect();
        let expected: Vec<Category> = deeds.iter().map(|(deed, _)| deed.category(kills)).collect();
        prop_assert_eq!(&seen, &expected);

        prop_assert_eq!(trace.connections.sum(), trace.made);
        // Failures are those of requests, one each; nobody who is beside fails, or is refused.
        let is_unserved = |category: &Category| category.is_failure() || *category == Category::Shed;
        for category in Category::ALL.into_iter().filter(is_unserved) {
            let (seen, expected) = (trace.connections.of(category), trace.requests().of(category));
            prop_assert_eq!(seen, expected, "{:?} of {:?}", category, &trace);
        }
        prop_assert_eq!(trace.connections.of(Category::Held), u64::from(beside.silent + beside.slow));
        if connections == Connections::Fresh {
            let mut expected = trace.requests();
            (0..beside.idle).for_each(|_| expected.count(Category::Served));
            (0..beside.silent + beside.slow).for_each(|_| expected.count(Category::Held));
            prop_assert_eq!(trace.connections, expected);
            prop_assert_eq!(trace.retried, 0);
        } else {
            prop_assert!(trace.connections.of(Category::Dismissed) >= trace.retried);
        }
    }
}

#[test]
fn who_finds_no_connection_free_in_time_is_late_without_one() {
    let deeds = [(Deed::Stall, 0), (Deed::Answer, 10), (Deed::Answer, 10)];
    let arrivals = arrivals(&deeds);
    let kept = Kept { number: number(1), requests: number(100), share: 1.0 };
    let trace = with_server(|target| {
        let connections = Connections::Kept(kept);
        let deadline = Duration::from_millis(300);
        Score { connections, deadline, ..open(target, &arrivals) }.play().unwrap()
    });
    assert_eq!(trace.requests().of(Category::Late), 3, "{trace:?}");
    assert_eq!((trace.made, trace.connections.of(Category::Late)), (1, 1), "{trace:?}");
}

#[test]
fn latency_is_counted_from_when_a_request_was_due() {
    // There is one connection, and it stalls for the first.
    let arrivals = arrivals(&[(Deed::Stall, 0), (Deed::Answer, 600_000)]);
    let kept = Kept { number: number(1), requests: number(100), share: 1.0 };
    let trace = with_late(1, |deadline| {
        with_server(|target| {
            let connections = Connections::Kept(kept);
            Score { connections, deadline, ..open(target, &arrivals) }.play().unwrap()
        })
    });
    let [stalled, waited] = trace.records[..] else { panic!("two were sent: {trace:?}") };
    assert_eq!((stalled.category, waited.category), (Category::Late, Category::Served));
    let expected = stalled.latency_us - 600_000;
    assert!(waited.latency_us >= expected, "{stalled:?} {waited:?}");
    assert!(stalled.latency_us >= 1_000_000, "{stalled:?} {waited:?}");
}

#[test]
fn kept_connections_are_replaced_after_their_requests() {
    let arrivals = arrivals(&[(Deed::Answer, 3_000); 12]);
    let kept = Kept { number: number(1), requests: number(3), share: 1.0 };
    let trace = with_server(|target| {
        let connections = Connections::Kept(kept);
        Score { connections, ..open(target, &arrivals) }.play().unwrap()
    });
    assert_eq!((trace.requests().of(Category::Served), trace.made), (12, 4), "{trace:?}");
    assert_eq!(trace.connections.of(Category::Served), 4);
}

#[test]
fn a_closed_loop_of_a_given_length_begins_again_and_ends() {
    let arrivals = arrivals(&[(Deed::Answer, 0), (Deed::Shed, 0)]);
    let play = |length_us| {
        let pace = Pace::Closed { clients: number(2), length_us: Some(length_us) };
        let trace = with_server(|target| Score { pace, ..open(target, &arrivals) }.play().unwrap());
        assert!(trace.wall_us >= length_us, "{}", trace.wall_us);
        trace
    };
    // A machine that was busy elsewhere so long has more time.
    let long_enough = (0..TRIES).map(|again| play(50_000 << again));
    let trace = long_enough.into_iter().find(|trace| trace.records.len() > 2).unwrap();
    assert_eq!(trace.records[1].category, Category::Shed);
    assert_eq!(trace.connections, trace.requests());
}

#[test]
fn where_nobody_listens_all_are_refused() {
    // Its port is taken, so that no test beside this one gets it, and nobody listens there.
    let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    holder.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let target = holder.local_addr().unwrap().as_socket_ipv4().unwrap();
    let arrivals = arrivals(&[(Deed::Answer, 100); 20]);
    let beside = Beside { idle: 1, silent: 1, slow: 1 };
    let kept = Kept { number: number(2), requests: number(3), share: 0.5 };
    for connections in [Connections::Fresh, Connections::Kept(kept)] {
        let score = Score { connections, beside, ..open(target, &arrivals) };
        let trace = score.play().unwrap();
        assert_eq!(trace.requests().of(Category::Refused), 20, "{trace:?}");
        assert_eq!(trace.connections.of(Category::Refused), trace.made, "{trace:?}");
        assert!(trace.made >= 23, "{trace:?}");
    }
}
