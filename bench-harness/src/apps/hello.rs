//! App `hello`: the answer every contestant gives, and how long it takes to give it.
//!
//! `GET /` answers at once; `GET /sleep/<microseconds>` waits first, `GET /spin/<microseconds>`
//! burns so much CPU time first, `GET /loop/<milliseconds>` goes round without a system call first,
//! even on tokio; `GET /fill/<bytes>` has an answer of that size, for clients that read slowly. The
//! middle three tell the client in `X-Service-Us` how long that really took, in `X-Taken-Us`
//! when the worker took the connection (`CLOCK_MONOTONIC`), and in `X-After-Ns` what the worker
//! needed after its last service until that connection was closed.
//! [`task`] and [`answer`] are pure; a blocking server calls [`perform`] between them, a tokio
//! server waits in its own way.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::conversation::{Answer, Site};
use crate::clock;
use crate::http::{Field, Method, Request, Response, Status};

/// The body of every good answer.
pub const BODY: &[u8] = b"Hello, world!";

/// Longest work a request may ask for.
pub const WORK_MAX: Duration = Duration::from_secs(60);

/// Largest answer a request may ask for, in bytes.
///
/// 8 MiB: twice what a socket buffers by default (`net.ipv4.tcp_wmem`), so that a worker feels it if
/// its client does not read.
pub const FILL_MAX: usize = 8 * 1024 * 1024;

/// What a request asks the worker to do before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Answer at once.
    Greet,
    /// Wait so long, then answer.
    Sleep(Duration),
    /// Burn so much CPU time, then answer.
    Spin(Duration),
    /// Go round so long and never enter the kernel, then answer: a handler that hangs.
    Loop(Duration),
    /// Answer at once, with so many bytes.
    Fill(usize),
    /// No such target.
    Unknown,
    /// Work that is no number of microseconds, or more than [`WORK_MAX`]; bytes beyond [`FILL_MAX`].
    Refused,
}

/// Whether the connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Close once the answer is written.
    Close,
    /// Read the next request.
    KeepAlive,
}

/// What `request` asks for.
#[must_use]
pub fn task(request: &Request<'_>) -> Task {
    let path = request.path();
    if path == "/" {
        Task::Greet
    } else if let Some(text) = path.strip_prefix("/sleep/") {
        duration(text).map_or(Task::Refused, Task::Sleep)
    } else if let Some(text) = path.strip_prefix("/spin/") {
        duration(text).map_or(Task::Refused, Task::Spin)
    } else if let Some(text) = path.strip_prefix("/loop/") {
        let work = duration(text).map(|work| work * 1_000).filter(|&work| work <= WORK_MAX);
        work.map_or(Task::Refused, Task::Loop)
    } else if let Some(text) = path.strip_prefix("/fill/") {
        number(text).filter(|&bytes| bytes <= FILL_MAX).map_or(Task::Refused, Task::Fill)
    } else {
        Task::Unknown
    }
}

/// Microseconds, at most [`WORK_MAX`].
fn duration(text: &str) -> Option<Duration> {
    number(text).map(Duration::from_micros).filter(|&work| work <= WORK_MAX)
}

/// Plain digits.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Does the work on this thread and says how long it took (work that burns CPU: how much it burnt);
/// nothing to do takes no time.
#[must_use]
pub fn perform(task: Task) -> Option<Duration> {
    let start = Instant::now();
    match task {
        Task::Sleep(work) => clock::sleep(work),
        // What others do on this core meanwhile is no work of this request.
        Task::Spin(work) => return Some(clock::spin(work)),
        Task::Loop(work) => go_round(work),
        Task::Greet | Task::Fill(_) | Task::Unknown | Task::Refused => return None,
    }
    Some(start.elapsed())
}

/// Goes round for `work`. Another thread knows the time: reading the clock may be a system call, and
/// this thread makes none.
fn go_round(work: Duration) {
    let over = Arc::new(AtomicBool::new(false));
    let bell = Arc::clone(&over);
    let thread = std::thread::spawn(move || {
        clock::sleep(work);
        bell.store(true, Ordering::Relaxed);
    });
    while !over.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    // It has nothing left to do.
    let _ = thread.join();
}

/// What a worker tells with the answer to a request that asked for work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How long the work took.
    pub work: Duration,
    /// When the connection was taken, in microseconds of the clock all processes share.
    pub taken_us: u64,
    /// What the worker needed after its last service until that connection was closed; not known on
    /// tokio, where a worker serves many at a time.
    pub after: Option<Duration>,
}

/// Appends the answer of worker `slot` to `out`.
///
/// `told` is what was measured, if there was work; `keep_alive` is the server's own wish, granted if the
/// client wants it too.
pub fn answer(
    request: &Request<'_>,
    task: Task,
    slot: u32,
    told: Option<Told>,
    keep_alive: bool,
    out: &mut Vec<u8>,
) -> After {
    let (status, body) = match task {
        Task::Greet | Task::Sleep(_) | Task::Spin(_) | Task::Loop(_) | Task::Fill(_) => {
            (Status::OK, BODY)
        }
        Task::Unknown => (Status::NOT_FOUND, Status::NOT_FOUND.reason().as_bytes()),
        Task::Refused => (Status::BAD_REQUEST, Status::BAD_REQUEST.reason().as_bytes()),
    };
    let keep_alive = keep_alive && request.keep_alive && task != Task::Refused;
    let worker: (&str, &dyn Field) = ("X-Worker", &slot);
    let response = |fields: &[(&str, &dyn Field)], out: &mut Vec<u8>| {
        let method = request.method;
        let response =
            Response { status, content_type: "text/plain", fields, body, method, keep_alive };
        match task {
            Task::Fill(bytes) => {
                response.write_head(bytes as u64, out);
                if method == Method::Get {
                    out.resize(out.len() + bytes, b'.');
                }
            }
            _ => response.write(out),
        }
    };
    match told {
        None => response(&[worker], out),
        Some(Told { work, taken_us, after }) => {
            let work: (&str, &dyn Field) = ("X-Service-Us", &work.as_micros());
            let taken: (&str, &dyn Field) = ("X-Taken-Us", &taken_us);
            match after.map(|after| after.as_nanos()) {
                Some(after) => response(&[worker, work, taken, ("X-After-Ns", &after)], out),
                None => response(&[worker, work, taken], out),
            }
        }
    }
    if keep_alive { After::KeepAlive } else { After::Close }
}

/// App `hello` of one worker.
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// The worker's slot, sent as `X-Worker`.
    pub slot: u32,
}

impl Site for Hello {
    fn task(&self, request: &Request<'_>) -> Task {
        task(request)
    }

    fn answer(
        &self,
        request: &Request<'_>,
        task: Task,
        told: Option<Told>,
        keep_alive: bool,
        out: &mut Vec<u8>,
    ) -> Answer {
        answer(request, task, self.slot, told, keep_alive, out).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Parsed, parse};

    fn ask(path: &str, told: Option<Told>) -> (Task, After, String) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let Parsed::Request(request) = parse(text.as_bytes()) else { panic!("{text:?} is valid") };
        let task = task(&request);
        let mut out = Vec::new();
        let after = answer(&request, task, 7, told, true, &mut out);
        (task, after, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_root_greets_and_names_the_worker() {
        let (task, after, text) = ask("/", None);
        assert_eq!((task, after), (Task::Greet, After::KeepAlive));
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\
             X-Worker: 7\r\nConnection: keep-alive\r\n\r\nHello, world!"
        );
    }

    #[test]
    fn work_is_measured_and_told() {
        let work = Duration::from_micros(1540);
        let told = Told { work, taken_us: 77, after: Some(Duration::from_nanos(61_500)) };
        let (task, _, text) = ask("/sleep/1500", Some(told));
        assert_eq!(task, Task::Sleep(Duration::from_micros(1500)));
        let fields = "\r\nX-Service-Us: 1540\r\nX-Taken-Us: 77\r\nX-After-Ns: 61500\r\n";
        assert!(text.contains(fields), "{text}");
        let (_, _, text) = ask("/sleep/1500", Some(Told { after: None, ..told }));
        assert!(text.contains("X-Taken-Us: 77") && !text.contains("X-After-Ns"), "{text}");
        assert_eq!(ask("/spin/20", None).0, Task::Spin(Duration::from_micros(20)));
        assert!(
            perform(Task::Spin(Duration::from_micros(50))).unwrap() >= Duration::from_micros(50)
        );
        assert_eq!(ask("/loop/5000", None).0, Task::Loop(Duration::from_secs(5)));
        let round = Duration::from_millis(2);
        assert!(perform(Task::Loop(round)).unwrap() >= round);
        assert_eq!(perform(Task::Greet), None);
    }

    #[test]
    fn a_large_answer_is_as_large_as_was_asked() {
        let (task, after, text) = ask("/fill/3000", None);
        assert_eq!((task, after), (Task::Fill(3_000), After::KeepAlive));
        assert!(text.contains("\r\nContent-Length: 3000\r\n"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, ".".repeat(3_000));
    }

    #[test]
    fn strange_work_is_refused_and_strange_paths_are_not_found() {
        for path in [
            "/sleep/",
            "/sleep/x",
            "/spin/-1",
            "/spin/+1",
            "/sleep/60000001",
            "/loop/60001",
            "/fill/8388609",
        ] {
            let (task, after, text) = ask(path, None);
            assert_eq!((task, after), (Task::Refused, After::Close), "{path}");
            assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        }
        assert_eq!(ask("/nothing", None).0, Task::Unknown);
    }
}
