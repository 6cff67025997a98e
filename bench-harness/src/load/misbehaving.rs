//! A server for tests that does to requests what servers should not.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use socket2::SockRef;

use super::category::Category;
use crate::registry::REFUSAL;

/// Late where nobody is to be, however busy the machine is, or if it sleeps meanwhile.
pub(super) const NEVER: Duration = Duration::from_secs(600);

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Answer,
    /// Answers, promises to stay, and leaves.
    AnswerAndLeave,
    /// 503.
    Shed,
    /// What handoff's supervisor sends whom it refuses, which then closes.
    Refuse,
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
    pub(super) const QUICK: [Self; 12] = [
        Self::Answer,
        Self::AnswerAndLeave,
        Self::Shed,
        Self::Refuse,
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
    pub(super) fn code(self) -> u64 {
        self as u64
    }

    fn of(code: u64) -> Self {
        let known = Self::QUICK.into_iter().find(|deed| deed.code() == code);
        known.unwrap_or(Self::Stall)
    }

    /// Where a short connection that meets it belongs, if it asks for no work.
    pub(super) fn of_closed(self) -> Category {
        if self == Self::Idle { Category::Served } else { self.category(false) }
    }

    /// Where a connection that was to stay belongs; nothing if it may stay, or who knows how long.
    pub(super) fn of_kept(self) -> Option<Category> {
        let stays = matches!(self, Self::Answer | Self::AnswerAndLeave | Self::Idle);
        (!stays).then(|| self.category(false))
    }

    /// Where a request that meets it belongs.
    pub(super) fn category(self, kills: bool) -> Category {
        let (reset, closed) = match kills {
            true => (Category::Taken, Category::Taken),
            false => (Category::Reset, Category::Other),
        };
        match self {
            Self::Answer | Self::AnswerAndLeave => Category::Served,
            Self::Shed | Self::Refuse => Category::Shed,
            Self::Reset | Self::HalfAnswerAndReset => reset,
            Self::CloseEarly | Self::HalfAnswer => closed,
            Self::Garbage | Self::WrongBody | Self::Idle | Self::Surplus => Category::Other,
            Self::Stall => Category::Late,
        }
    }
}

/// Deeds in the order of the requests that meet them; further requests are answered.
#[derive(Debug, Default)]
struct Script {
    deeds: Vec<Deed>,
    /// How many of them were done.
    done: usize,
}

impl Script {
    fn next(&mut self) -> Deed {
        let deed = self.deeds.get(self.done).copied();
        self.done += usize::from(deed.is_some());
        deed.unwrap_or(Deed::Answer)
    }
}

/// Plays with a server of this thread's making, whose deeds requests ask for as their work.
pub(super) fn with_server<T>(play: impl FnOnce(SocketAddrV4) -> T) -> T {
    with_script(&[], play).0
}

/// Plays with a server that does `deeds` to the requests as they come, and says which it did.
pub(super) fn with_script<T>(
    deeds: &[Deed],
    play: impl FnOnce(SocketAddrV4) -> T,
) -> (T, Vec<Deed>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(target) = listener.local_addr().unwrap() else { panic!("IPv4 was asked") };
    let over = AtomicBool::new(false);
    let script = Mutex::new(Script { deeds: deeds.to_vec(), done: 0 });
    let played = thread::scope(|scope| {
        let (listener, over, script) = (&listener, &over, &script);
        scope.spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                scope.spawn(move || converse(stream.unwrap(), script));
            }
        });
        let played = play(target);
        over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(target));
        played
    });
    let Script { mut deeds, done } = script.into_inner().unwrap();
    deeds.truncate(done);
    (played, deeds)
}

/// A client that goes away in the midst of its request.
pub(super) fn abort(target: SocketAddrV4) {
    let mut stream = TcpStream::connect(target).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: be").unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// One connection, to its end.
fn converse(mut stream: TcpStream, script: &Mutex<Script>) {
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
        let close = request.contains("Connection: close");
        if path.starts_with("/fill/") {
            return trickle(&mut stream);
        }
        let deed = match path.strip_prefix("/sleep/") {
            Some(code) => Deed::of(code.parse().unwrap()),
            None => script.lock().unwrap().next(),
        };
        if !perform(&mut stream, deed, close) {
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
        Deed::Refuse => String::from_utf8(REFUSAL.to_vec()).unwrap(),
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
        Deed::AnswerAndLeave
        | Deed::Refuse
        | Deed::CloseEarly
        | Deed::HalfAnswer
        | Deed::Garbage => false,
    }
}

/// One in ten of the cases that are asked for: each has a server and real connections.
pub(super) fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.div_ceil(10), failure_persistence: None, ..asked }
}
