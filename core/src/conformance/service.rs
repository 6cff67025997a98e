//! The service a trial is about: the same binary, told by its environment.
//!
//! The client sends one line, the worker answers with one and closes:
//!
//! | asked | answered |
//! |---|---|
//! | `serve` | at once |
//! | `hold` | `begun <worker>`, and the answer when the client has sent a second line |
//! | `gate` | the same; but until then the *whole worker* stands still, whatever its runtime |
//! | `spin` | `begun <worker>`, and then the worker loops for ever |
//! | `keep` | `begun <worker>`, and nothing more: the handler returns and leaves the connection open |
//! | `panic` | `begun <worker>`, and then the handler panics |
//! | `linger` | as `hold`, but an event loop closes when it is told to leave |
//! | `hoard` | as `hold`, but an event loop has no descriptor left from before `begun` to the second line |
//!
//! The answer is `<slot> <generation> <pid> <listener> <address> <peer>`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::Timespec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::herd::PATIENCE;
use super::journal::Said;
use super::spec::Spec;
use super::{Queue, Subject};
use crate::connection::{Connection, ListenerName, Peer, Serving};
use crate::error::Error;
use crate::id::WorkerId;
use crate::inherit::ENV_WORKER;
use crate::service::{Role, Service};
use crate::start::Start;
use crate::strategy::RuntimeKind;
use crate::stream::Stream;
use crate::worker::{AsyncConnection, Blocking, Threads, Tokio};

/// Longest a worker waits for its client, and a supervisor for its workers: longer than a trial waits
/// for either, so that it is the trial that fails.
const LONGER: Duration = PATIENCE.saturating_mul(4);
/// Read at once; longer than any line of a client.
const LINE: usize = 64;

/// Runs the service described by `text`, as its supervisor or as one of its workers.
pub(super) fn run(subject: &Subject, text: &str) -> ExitCode {
    match try_run(subject, text) {
        Ok(status) => status,
        Err(Trouble { message, status }) => {
            // One write: others write lines there, too.
            let _ = io::stderr().write_all(format!("conformance: {message}\n").as_bytes());
            ExitCode::from(status)
        }
    }
}

struct Trouble {
    message: String,
    status: u8,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let status = if error.is_usage() { 2 } else { 1 };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message += &format!(": {error}");
            cause = error.source();
        }
        Self { message, status }
    }
}

impl From<String> for Trouble {
    fn from(message: String) -> Self {
        Self { message, status: 2 }
    }
}

fn try_run(subject: &Subject, text: &str) -> Result<ExitCode, Trouble> {
    let spec: Spec = text.parse()?;
    // A line, a write: the lines of several processes do not mix.
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .log_internal_errors(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    if std::env::var_os(ENV_WORKER).is_some() {
        if let Some(status) = spec.boot_exit {
            return Ok(ExitCode::from(status));
        }
        std::thread::sleep(spec.boot_delay);
        if let Some(files) = spec.files {
            limit_files(files)?;
        }
    } else {
        // Whatever becomes of the test process, nothing of it stays behind.
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        if let Some(user) = spec.user {
            let group = nix::unistd::Gid::from_raw(user);
            nix::unistd::setgroups(&[]).map_err(|e| failed("setgroups", &e))?;
            nix::unistd::setgid(group).map_err(|e| failed("setgid", &e))?;
            nix::unistd::setuid(user.into()).map_err(|e| failed("setuid", &e))?;
        }
        // After another user, which clears it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| failed("prctl", &e))?;
        if !spec.fork {
            // A program may have threads before it runs a service, and signals may be given to those.
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
        // What a supervisor needs for its slots, and for what waits in its hands.
        let needed = |files| files + 16 * u64::from(spec.workers);
        if let Some(files) = spec.supervisor_files.or(spec.files.map(needed)) {
            limit_files(files)?;
        }
        if let Some(bytes) = spec.file_size {
            limit(Resource::Fsize, bytes)?;
        }
    }
    let strategy = match (spec.credits, subject.queue) {
        (
            Some(credits),
            Queue::Channel { with_credits }
            | Queue::UnfinishedChannel { with_credits }
            | Queue::SharedChannel { with_credits },
        ) => with_credits(credits),
        _ => (subject.make)(),
    };
    let mut service = Service::new("conformance")
        .workers(spec.workers)
        .detect_stopped(spec.detect_stopped)
        .drain_timeout(spec.drain_ms.map_or(LONGER, Duration::from_millis))
        .start(if spec.fork { Start::Fork } else { Start::Again })
        .observe(|notice| {
            if let Some(said) = Said::of(notice) {
                // The test process is gone: its death signal is under way to us.
                let _ = writeln!(io::stdout().lock(), "{said}");
            }
        });
    if let Some(hung_ms) = spec.hung_ms {
        service = service.hung_after(Duration::from_millis(hung_ms));
    }
    for listener in spec.listeners {
        service = service.listen(listener);
    }
    let role = match spec.runtime {
        RuntimeKind::Blocking => service.run(strategy, Blocking::new(serve)),
        RuntimeKind::Threads(threads) => service.run(strategy, Threads::new(threads.get(), serve)),
        RuntimeKind::Tokio => service.run(strategy, Tokio::new(serve_async)),
    }?;
    // A forked worker never comes back here.
    debug_assert_eq!(role == Role::Worker, std::env::var_os(ENV_WORKER).is_some());
    Ok(ExitCode::SUCCESS)
}

fn limit_files(files: u64) -> Result<(), String> {
    limit(Resource::Nofile, files)
}

fn limit(resource: Resource, most: u64) -> Result<(), String> {
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(|e| format!("setrlimit: {e}"))
}

/// What a client may ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    Serve,
    Hold,
    Gate,
    /// The worker loops for ever.
    Spin,
    /// Blocking and threads: the connection outlives its handler's call.
    Keep,
    /// The handler panics.
    Panic,
    /// Tokio: as [`Hold`](Self::Hold), but meanwhile the worker has no descriptor left.
    Hoard,
    /// Tokio: as [`Hold`](Self::Hold), but the worker closes when it is told to leave.
    Linger,
}

impl Request {
    fn parse(line: &str) -> io::Result<Self> {
        match line {
            "serve" => Ok(Self::Serve),
            "hold" => Ok(Self::Hold),
            "gate" => Ok(Self::Gate),
            "spin" => Ok(Self::Spin),
            "keep" => Ok(Self::Keep),
            "panic" => Ok(Self::Panic),
            "hoard" => Ok(Self::Hoard),
            "linger" => Ok(Self::Linger),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("asked for `{line}`"))),
        }
    }
}

/// What a client has sent and nobody has looked at.
#[derive(Default)]
struct Inbox(Vec<u8>);

impl Inbox {
    fn take_line(&mut self) -> Option<String> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.0.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}

fn begun(worker: WorkerId) -> String {
    format!("begun {worker}\n")
}

fn answer(worker: WorkerId, listener: &ListenerName, peer: Peer) -> String {
    let (slot, generation, pid) = (worker.slot, worker.generation, std::process::id());
    format!("{slot} {generation} {pid} {} {} {peer}\n", listener.name, listener.address)
}

/// Holds up this thread, and so the worker, until the client sends or closes.
fn wait_at_gate(client: impl AsFd) -> io::Result<()> {
    let timeout = Timespec::try_from(LONGER).map_err(io::Error::other)?;
    loop {
        let mut fds = [PollFd::new(&client, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            // A signal stopped it and let it go on.
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(|_| ()).map_err(Into::into),
        }
    }
}

/// Its trial kills it.
fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// As many as there are: its trial has set a limit.
fn all_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// What handlers have kept, until the worker ends.
static KEPT: Mutex<Vec<(Stream, Serving)>> = Mutex::new(Vec::new());

fn keep(connection: Connection) {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(connection.into_parts());
}

/// Without a line in the log, which a backtrace would make many.
fn panic_silently() -> ! {
    std::panic::resume_unwind(Box::new("its client asked for it"))
}

fn serve(mut connection: Connection) -> io::Result<()> {
    connection.stream().set_read_timeout(Some(LONGER))?;
    let mut inbox = Inbox::default();
    let request = Request::parse(&next_line(&mut connection, &mut inbox)?)?;
    if request != Request::Serve {
        connection.write_all(begun(connection.worker()).as_bytes())?;
        match request {
            Request::Gate => wait_at_gate(&connection)?,
            Request::Spin => spin(),
            Request::Panic => panic_silently(),
            Request::Keep => {
                keep(connection);
                return Ok(());
            }
            _ => {}
        }
        next_line(&mut connection, &mut inbox)?;
    }
    let answer = answer(connection.worker(), connection.listener(), connection.peer());
    connection.write_all(answer.as_bytes())
}

fn next_line(connection: &mut Connection, inbox: &mut Inbox) -> io::Result<String> {
    loop {
        if let Some(line) = inbox.take_line() {
            return Ok(line);
        }
        let mut buffer = [0; LINE];
        match connection.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => inbox.0.extend_from_slice(&buffer[..length]),
        }
    }
}

async fn serve_async(mut connection: AsyncConnection) -> io::Result<()> {
    let mut inbox = Inbox::default();
    let request = Request::parse(&next_line_async(&mut connection, &mut inbox).await?)?;
    if request != Request::Serve {
        let _hoard = if request == Request::Hoard { all_descriptors() } else { Vec::new() };
        connection.write_all(begun(connection.worker()).as_bytes()).await?;
        match request {
            Request::Gate => wait_at_gate(connection.stream())?,
            Request::Spin => spin(),
            Request::Panic => panic_silently(),
            _ => {}
        }
        let leave = connection.draining();
        tokio::select! {
            line = next_line_async(&mut connection, &mut inbox) => drop(line?),
            () = leave, if request == Request::Linger => return Ok(()),
        }
    }
    let answer = answer(connection.worker(), connection.listener(), connection.peer());
    connection.write_all(answer.as_bytes()).await
}

async fn next_line_async(
    connection: &mut AsyncConnection,
    inbox: &mut Inbox,
) -> io::Result<String> {
    loop {
        if let Some(line) = inbox.take_line() {
            return Ok(line);
        }
        let mut buffer = [0; LINE];
        match connection.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => inbox.0.extend_from_slice(&buffer[..length]),
        }
    }
}
