//! `serve`: one strategy and one app in the foreground, for anyone's own client.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, bail};
use forkherd_core::{
    AsyncConnection, Blocking, Connection, Notice, Program, RuntimeKind, Service, Start, Threads,
    Tokio, WorkerId,
};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::apps::conversation::{self, Buffers};
use crate::apps::echo;
use crate::apps::files::Files;
use crate::apps::hello::Hello;
use crate::cli::{self, App, Serve};
use crate::clock;
use crate::process;
use crate::registry::Registry;
use crate::server;

/// How often a blocking worker that waits for a silent client looks up.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Supervisor and worker: runs the service until it ends.
///
/// # Errors
/// No such strategy, or one that the runtime does not fit; a directory that is not there; whatever
/// keeps the service from starting.
pub fn run(arguments: &Serve, registry: &Registry) -> anyhow::Result<()> {
    let is_supervisor = std::env::var_os(forkherd_core::ENV_WORKER).is_none();
    // Only in the supervisor: a worker's parent is the supervisor, and core sees to its end.
    if let Some(parent) = arguments.parent
        && is_supervisor
    {
        process::die_with(parent, Signal::SIGTERM)?;
    }
    let events = arguments.events && is_supervisor;
    let out = if events { take_stdout() } else { Ok(OwnStdout::Shared) };
    let out = out.context("cannot keep standard output for events")?;
    let entry = registry.find(&arguments.strategy).map_err(Usage)?;
    // 1 ns instead of 50 µs: a sleep stands for work and should last as long as was asked. Inherited.
    prctl::set_timerslack(1).context("prctl")?;
    let app = arguments.app.clone();
    let files = match &app {
        App::Files(directory) => Some(Files::open(directory)?),
        App::Hello | App::Echo | App::Program(_) => None,
    };
    let service = Service::new("forkherd-bench")
        .listen(arguments.listen.clone())
        .workers(arguments.workers.get())
        .observe(announcer(out));
    let service = match arguments.hung_after {
        Some(ms) => service.hung_after(Duration::from_millis(ms.get().into())),
        None => service,
    };
    let service = match arguments.max_workers {
        Some(workers) => service.max_workers(workers.get()),
        None => service,
    };
    let service = service.start(match arguments.start {
        cli::Start::Again => Start::Again,
        cli::Start::Fork => Start::Fork,
    });
    let burn = Duration::from_nanos(arguments.burn);
    if let App::Program(command) = &app {
        if arguments.runtime != RuntimeKind::Blocking {
            let wrong = "--runtime is for apps of ours; a program brings its own";
            bail!(Usage(wrong.to_owned()));
        }
        let [path, words @ ..] = command.words() else { bail!("the command is empty") };
        let program = words.iter().fold(Program::new(path), Program::arg);
        let outcome = service.run_program((entry.make)(), program);
        return outcome.map_err(as_usage);
    }
    let role = match arguments.runtime {
        RuntimeKind::Blocking => {
            let service = service.read_timeout(READ_TIMEOUT);
            let mut buffers = Buffers::default();
            let serve = move |connection| {
                clock::burn(burn);
                blocking(connection, files.as_ref(), &app, &mut buffers)
            };
            service.run((entry.make)(), Blocking::new(serve))
        }
        RuntimeKind::Threads(threads) => {
            let service = service.read_timeout(READ_TIMEOUT);
            let serve = move |connection| {
                clock::burn(burn);
                blocking(connection, files.as_ref(), &app, &mut Buffers::default())
            };
            service.run((entry.make)(), Threads::new(threads.get(), serve))
        }
        RuntimeKind::Tokio => {
            let serve = async move |connection| {
                clock::burn(burn);
                on_tokio(connection, files.as_ref(), &app).await
            };
            service.run((entry.make)(), Tokio::new(serve))
        }
        other => bail!("`serve` has no handler for the runtime {other}"),
    };
    role.map(drop).map_err(as_usage)
}

/// What was asked for cannot be, or what was done failed.
fn as_usage(error: forkherd_core::Error) -> anyhow::Error {
    if error.is_usage() { Usage(error.to_string()).into() } else { error.into() }
}

/// Worker: one connection, with blocking calls.
fn blocking(
    mut connection: Connection,
    files: Option<&Files>,
    app: &App,
    buffers: &mut Buffers,
) -> io::Result<()> {
    let worker = connection.worker_handle();
    let go_on = || !worker.is_draining() && !worker.others_wait();
    let outcome = match (app, files) {
        (App::Echo, _) => echo::blocking(&mut connection, || !worker.is_draining()),
        (_, Some(files)) => conversation::blocking(&mut connection, files, go_on, buffers),
        (_, None) => {
            let hello = Hello { slot: worker.id().slot.0 };
            conversation::blocking(&mut connection, &hello, go_on, buffers)
        }
    };
    drop(connection);
    buffers.closed();
    outcome
}

/// Worker: one connection, on tokio.
async fn on_tokio(
    mut connection: AsyncConnection,
    files: Option<&Files>,
    app: &App,
) -> io::Result<()> {
    let (taken, leave) = (connection.taken(), connection.draining());
    match (app, files) {
        (App::Echo, _) => echo::on_tokio(&mut connection, leave).await,
        (_, Some(files)) => conversation::on_tokio(&mut connection, files, taken, leave).await,
        (_, None) => {
            let hello = Hello { slot: connection.worker().slot.0 };
            conversation::on_tokio(&mut connection, &hello, taken, leave).await
        }
    }
}

/// Where notices are printed.
enum OwnStdout {
    /// Standard output, which the workers have, too.
    Shared,
    /// What was standard output, for events alone; no worker gets it.
    Kept(File),
}

/// Keeps standard output for events, and puts `/dev/null` in its place: what a program prints would be taken for
/// an event, or for a service that is up. It is not passed on to standard error, where a line per request would
/// drown the progress and have the terminal measured.
///
/// Supervisor · before any worker is started: they inherit what is in its place.
///
/// # Errors
/// Standard output is closed, or there is no `/dev/null`.
fn take_stdout() -> io::Result<OwnStdout> {
    let kept: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(OpenOptions::new().write(true).open("/dev/null")?)?;
    Ok(OwnStdout::Kept(kept.into()))
}

impl OwnStdout {
    fn print(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Shared => {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush())
            }
            // In one piece: nothing is between it and the descriptor.
            Self::Kept(out) => out.write_all(format!("{line}\n").as_bytes()),
        }
    }
}

/// Prints `listening on ADDR` once the service serves and, where `out` is kept for them, every notice as a line
/// of JSON.
fn announcer(mut out: OwnStdout) -> impl FnMut(&Notice<'_>) {
    let events = matches!(out, OwnStdout::Kept(_));
    let mut pids: BTreeMap<WorkerId, i32> = BTreeMap::new();
    move |notice| {
        if let Notice::Started { worker, pid } = notice {
            pids.insert(*worker, i32::try_from(*pid).unwrap_or(0));
        }
        let line = match notice {
            Notice::Serving { listeners } => {
                listeners.first().map(|listener| format!("listening on {}", listener.address))
            }
            _ if events => {
                as_event(notice, &pids).and_then(|event| serde_json::to_string(&event).ok())
            }
            _ => None,
        };
        if let Notice::Exited { worker, .. } = notice {
            pids.remove(worker);
        }
        if let Some(line) = line {
            // Whoever read it may have gone; the service goes on.
            let _ = out.print(&line);
        }
    }
}

fn as_event(notice: &Notice<'_>, pids: &BTreeMap<WorkerId, i32>) -> Option<server::Notice> {
    let who = |worker: &WorkerId| {
        let pid = pids.get(worker).copied().unwrap_or(0);
        (worker.slot.0, u64::from(worker.generation), pid)
    };
    Some(match notice {
        Notice::Started { worker, .. } => {
            let (slot, generation, pid) = who(worker);
            server::Notice::Started { slot, generation, pid }
        }
        Notice::Ready { worker } => {
            let (slot, generation, pid) = who(worker);
            server::Notice::Ready { slot, generation, pid }
        }
        Notice::Stopped { worker } => {
            let (slot, generation, pid) = who(worker);
            server::Notice::Stopped { slot, generation, pid }
        }
        Notice::Continued { worker } => {
            let (slot, generation, pid) = who(worker);
            server::Notice::Continued { slot, generation, pid }
        }
        Notice::Hung { worker } => {
            let (slot, generation, pid) = who(worker);
            server::Notice::Hung { slot, generation, pid }
        }
        Notice::Recovered { worker } => {
            let (slot, generation, pid) = who(worker);
            server::Notice::Recovered { slot, generation, pid }
        }
        Notice::Scaled { workers } => server::Notice::Scaled { workers: *workers },
        Notice::RestartDone => server::Notice::Restarted,
        Notice::RestartAborted { worker } => server::Notice::RestartAborted { slot: worker.slot.0 },
        Notice::Remark { text } => server::Notice::Remark { text: (*text).to_owned() },
        Notice::Exited { worker, counts, status, .. } => {
            let (slot, generation, pid) = who(worker);
            let (taken, completed) = (counts.taken, counts.completed);
            let status = status.to_string();
            let at_us = clock::monotonic_us();
            server::Notice::Exited { slot, generation, pid, taken, completed, status, at_us }
        }
        _ => return None,
    })
}

/// The call was wrong, rather than the world: exit status 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
