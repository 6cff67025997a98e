//! Every connection is accounted for, whatever the server does and whoever else is connected.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::load::protocol::{Handler, Kept};

/// Late in these tests, where somebody is to be: soon, or they would take long.
const DEADLINE: Duration = Duration::from_secs(1);

/// Late where nobody is to be, however busy the machine is, or if it sleeps meanwhile.
const NEVER: Duration = Duration::from_secs(600);

/// How often a trace is played with twice the deadline, since the machine may have made others late.
const TRIES: u32 = 6;

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Answer,
    /// Answers, promises to stay, and leaves.
    AnswerAndLeave,
    /// 503.
    Shed,
    Reset,
    CloseEarly,
    HalfAnswer,
    HalfAnswerAndReset,
    Garbage,
    WrongBody,
    /// Answers without having worked.
    Idle,
    /// Two answers to one request.
    Surplus,
    /// Never answers.
    Stall,
}

impl Deed {
    /// All that end soon.
    const QUICK: [Self; 11] = [
        Self::Answer,
        Self::AnswerAndLeave,
        Self::Shed,
        Self::Reset,
        Self::CloseEarly,
        Self::HalfAnswer,
        Self::HalfAnswerAndReset,
        Self::Garbage,
        Self::WrongBody,
        Self::Idle,
        Self::Surplus,
    ];

    /// As the work that a request asks for.
    fn code(self) -> u64 {
        self as u64
    }

    fn of(code: u64) -> Self {
        let known = Self::QUICK.into_iter().find(|deed| deed.code() == code);
        known.unwrap_or(Self::Stall)
    }

    /// Where a request that meets it belongs.
    fn category(self, kills: bool) -> Category {
        let (reset, closed) = match kills {
            true => (Category::Taken, Category::Taken),
            false => (Category::Reset, Category::Other),
        };
        match self {
            Self::Answer | Self::AnswerAndLeave => Category::Served,
            Self::Shed => Category::Shed,
            Self::Reset | Self::HalfAnswerAndReset => reset,
            Self::CloseEarly | Self::HalfAnswer => closed,
            Self::Garbage | Self::WrongBody | Self::Idle | Self::Surplus => Category::Other,
            Self::Stall => Category::Late,
        }
    }
}

/// Plays with a server of this thread's making.
fn with_server<T>(play: impl FnOnce(SocketAddrV4) -> T) -> T {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(target) = listener.local_addr().unwrap() else { panic!("IPv4 was asked") };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (listener, over) = (&listener, &over);
        scope.spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                scope.spawn(move || converse(stream.unwrap()));
            }
        });
        let played = play(target);
        over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(target));
        played
    })
}

/// One connection, to its end.
fn converse(mut stream: TcpStream) {
    stream.set_read_timeout(Some(NEVER)).unwrap();
    loop {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap();
        let code =
            path.strip_prefix("/sleep/").map_or(Deed::Answer.code(), |code| code.parse().unwrap());
        let close = request.contains("Connection: close");
        if path.starts_with("/fill/") {
            return trickle(&mut stream);
        }
        if !perform(&mut stream, Deed::of(code), close) {
            return;
        }
    }
}

/// An answer that comes to no end before its reader leaves.
fn trickle(stream: &mut TcpStream) {
    let mut piece = &b"HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n"[..];
    while stream.write_all(piece).is_ok() {
        piece = b".";
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the connection goes on. Errors are the client's leaving.
fn perform(stream: &mut TcpStream, deed: Deed, close: bool) -> bool {
    let last = if close { "close" } else { "keep-alive" };
    let answer = |status: &str, fields: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}Connection: {last}\r\n\r\n{body}"
        )
    };
    let worked = "X-Worker: 1\r\nX-Service-Us: 5\r\n";
    let good = answer("200 OK", worked, "Hello, world!");
    let text = match deed {
        Deed::Answer | Deed::AnswerAndLeave => good,
        Deed::Shed => answer("503 Service Unavailable", "", ""),
        Deed::HalfAnswer | Deed::HalfAnswerAndReset => good[..good.len() / 2].to_owned(),
        Deed::Garbage => "SSH-2.0-nobody\r\n\r\n".to_owned(),
        Deed::WrongBody => answer("200 OK", worked, "Hello, World!"),
        Deed::Idle => answer("200 OK", "X-Worker: 1\r\n", "Hello, world!"),
        Deed::Surplus => format!("{good}{good}"),
        Deed::Reset | Deed::CloseEarly | Deed::Stall => String::new(),
    };
    if stream.write_all(text.as_bytes()).is_err() {
        return false;
    }
    match deed {
        Deed::Reset | Deed::HalfAnswerAndReset => {
            if deed == Deed::HalfAnswerAndReset {
                // What was sent must have been read, or the reset overtakes it.
                thread::sleep(Duration::from_millis(20));
            }
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
            false
        }
        // Until the client has had enough.
        Deed::Stall => {
            let _ = stream.read(&mut [0]);
            false
        }
        Deed::Answer | Deed::Shed | Deed::WrongBody | Deed::Idle | Deed::Surplus => !close,
        Deed::AnswerAndLeave | Deed::CloseEarly | Deed::HalfAnswer | Deed::Garbage => false,
    }
}

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

/// One in ten of the cases that are asked for: each has a server and real connections.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.div_ceil(10), failure_persistence: None, ..asked }
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
        // Failures are those of requests, one each; nobody who is beside fails.
        for category in Category::ALL.into_iter().filter(|category| category.is_failure()) {
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
