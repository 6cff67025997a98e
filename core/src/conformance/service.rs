//! The service a trial is about: the same binary, told by its environment.
//!
//! The client sends one line, the worker answers with one and closes:
//!
//! | asked | answered |
//! |---|---|
//! | `serve` | at once |
//! | `sleep <ms>` | `begun`, and the answer after so long |
//! | `gate` | `begun`, and the answer when the client has sent a second line; until then the *whole worker* stands still, whatever its runtime |
//!
//! The answer is `<slot> <generation> <pid> <listener> <address> <peer>`.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
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
use crate::connection::{Connection, ListenerName};
use crate::error::Error;
use crate::id::WorkerId;
use crate::inherit::ENV_WORKER;
use crate::service::{Role, Service};
use crate::strategy::RuntimeKind;
use crate::worker::{AsyncConnection, Blocking, Tokio};

/// Longest line of a client.
const LINE: usize = 64;

/// Runs the service described by `text`, as its supervisor or as one of its workers.
pub(super) fn run(subject: &Subject, text: &str) -> ExitCode {
    match try_run(subject, text) {
        Ok(status) => status,
        Err(Trouble { message, status }) => {
            let _ = writeln!(io::stderr(), "conformance: {message}");
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
        Self { message: error.to_string(), status: if error.is_usage() { 2 } else { 1 } }
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
        .with_max_level(tracing::Level::INFO)
        .init();
    if std::env::var_os(ENV_WORKER).is_some() {
        if let Some(status) = spec.boot_exit {
            return Ok(ExitCode::from(status));
        }
        std::thread::sleep(spec.boot_delay);
    } else {
        // Whatever becomes of the test process, nothing of it stays behind.
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| failed("prctl", &e))?;
        if let Some(files) = spec.files {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            setrlimit(Resource::Nofile, limit).map_err(|e| failed("setrlimit", &e))?;
        }
    }
    let strategy = match (spec.credits, subject.queue) {
        (Some(credits), Queue::Channel { with_credits }) => with_credits(credits),
        _ => (subject.make)(),
    };
    let mut service = Service::new("conformance")
        .workers(spec.workers)
        .detect_stopped(spec.detect_stopped)
        .observe(|notice| {
            if let Some(said) = Said::of(notice) {
                // The test process is gone: its death signal is under way to us.
                let _ = writeln!(io::stdout().lock(), "{said}");
            }
        });
    for listener in spec.listeners {
        service = service.listen(listener);
    }
    let role = match spec.runtime {
        RuntimeKind::Blocking => service.run(strategy, Blocking::new(serve)),
        RuntimeKind::Tokio => service.run(strategy, Tokio::new(serve_async)),
    }?;
    debug_assert_eq!(role == Role::Worker, std::env::var_os(ENV_WORKER).is_some());
    Ok(ExitCode::SUCCESS)
}

/// What a client may ask for.
enum Request {
    Serve,
    Sleep(Duration),
    Gate,
}

impl Request {
    fn parse(line: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
        match text.split_once(' ') {
            None if text == "serve" => Ok(Self::Serve),
            None if text == "gate" => Ok(Self::Gate),
            Some(("sleep", ms)) if ms.parse::<u64>().is_ok() => {
                Ok(Self::Sleep(Duration::from_millis(ms.parse().unwrap_or(0))))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("asked for `{text}`"))),
        }
    }
}

const BEGUN: &[u8] = b"begun\n";

fn answer(worker: WorkerId, listener: &ListenerName, peer: SocketAddr) -> String {
    let (slot, generation, pid) = (worker.slot, worker.generation, std::process::id());
    format!("{slot} {generation} {pid} {} {} {peer}\n", listener.name, listener.address)
}

/// Holds up this thread, and so the worker, until the client sends or closes.
fn wait_at_gate(client: impl AsFd) -> io::Result<()> {
    let timeout = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    loop {
        let mut fds = [PollFd::new(&client, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            // A signal stopped it and let it go on.
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(|_| ()).map_err(Into::into),
        }
    }
}

fn serve(mut connection: Connection) -> io::Result<()> {
    connection.stream().set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < LINE {
        let mut buffer = [0; LINE];
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            length => line.extend_from_slice(&buffer[..length]),
        }
    }
    match Request::parse(&line)? {
        Request::Serve => {}
        Request::Sleep(duration) => {
            connection.write_all(BEGUN)?;
            std::thread::sleep(duration);
        }
        Request::Gate => {
            connection.write_all(BEGUN)?;
            wait_at_gate(&connection)?;
            // What is left unread would turn the close into a reset.
            let _ = connection.read(&mut [0; LINE])?;
        }
    }
    let answer = answer(connection.worker(), connection.listener(), connection.peer());
    connection.write_all(answer.as_bytes())
}

async fn serve_async(mut connection: AsyncConnection) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < LINE {
        let mut buffer = [0; LINE];
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            length => line.extend_from_slice(&buffer[..length]),
        }
    }
    match Request::parse(&line)? {
        Request::Serve => {}
        Request::Sleep(duration) => {
            connection.write_all(BEGUN).await?;
            tokio::time::sleep(duration).await;
        }
        Request::Gate => {
            connection.write_all(BEGUN).await?;
            wait_at_gate(connection.stream())?;
            let _ = connection.read(&mut [0; LINE]).await?;
        }
    }
    let answer = answer(connection.worker(), connection.listener(), connection.peer());
    connection.write_all(answer.as_bytes()).await
}
