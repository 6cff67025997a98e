//! The yardstick: N processes that accept from one shared listener, and nothing around them.
//!
//! This is what a strategy's cost is compared with: the same answer by the same code, the same
//! number of processes, but no supervisor, no board, no readiness, no drain. The parent only
//! binds, starts, waits and ends; a worker that dies ends everything.

mod blocking;
mod tokio;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use socket2::{Domain, Protocol, Socket, Type};

use crate::apps::conversation;
use crate::cli::{Baseline, BaselineWorker, Runtime};
use crate::kernel;
use crate::process::{self, Program};

/// What a worker prints once it is about to accept.
const READY: &str = "ready";

/// The workers; dropping kills and reaps those that are left.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Parent: binds, starts the workers, says `listening on ADDR`, ends them on TERM or INT.
///
/// # Errors
/// The address cannot be bound, a worker cannot be started, or one ended by itself.
pub fn run(arguments: &Baseline) -> anyhow::Result<()> {
    if let Some(parent) = arguments.parent {
        process::die_with(parent, Signal::SIGTERM)?;
    }
    let listener = listen(arguments)?;
    let address = listener.local_addr()?;
    let mut workers = Workers(Vec::new());
    for index in 0..arguments.workers.get() {
        let worker = start_worker(index, arguments, &listener)
            .with_context(|| format!("cannot start worker {index}"))?;
        workers.0.push(worker);
    }
    for (index, worker) in workers.0.iter_mut().enumerate() {
        let mut line = String::new();
        if let Some(output) = worker.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.trim_end() != READY {
            bail!("worker {index} ended before it was ready");
        }
    }
    // Blocked only now: the workers must not inherit the mask.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    writeln!(io::stdout().lock(), "listening on {address}")?;
    loop {
        // A worker that died before the mask was set left no signal: look before waiting.
        for (index, worker) in workers.0.iter_mut().enumerate() {
            if let Some(status) = worker.try_wait()? {
                bail!("worker {index} ended with {status}");
            }
        }
        let ended = signals.read_signal()?.is_some_and(|seen| {
            let number = i32::try_from(seen.ssi_signo).unwrap_or_default();
            number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32
        });
        if ended {
            return Ok(());
        }
    }
}

/// The one listener. What is set on it is inherited by what it accepts, at no call per
/// connection.
fn listen(arguments: &Baseline) -> anyhow::Result<TcpListener> {
    let address = arguments.listen;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen on {address}"))?;
    socket.listen(backlog())?;
    match arguments.runtime {
        Runtime::Blocking => socket.set_read_timeout(Some(conversation::IDLE))?,
        Runtime::Tokio => socket.set_nonblocking(true)?,
    }
    Ok(socket.into())
}

/// 4096, or what the kernel would cut it to.
fn backlog() -> i32 {
    kernel::somaxconn().ok().and_then(|most| i32::try_from(most).ok()).unwrap_or(4096).min(4096)
}

/// This program again, with the listener as its standard input: no unsafe, no descriptor numbers.
fn start_worker(index: u32, arguments: &Baseline, listener: &TcpListener) -> anyhow::Result<Child> {
    let (runtime, burn) = (arguments.runtime, arguments.burn);
    let child = Program::this()?
        .command()
        .args(["baseline-worker", "--index", &index.to_string(), "--runtime", runtime.word()])
        .args(["--parent", &std::process::id().to_string(), "--burn", &burn.to_string()])
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)))
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// Worker: accepts from the listener on standard input until it is killed.
///
/// # Errors
/// The parent is gone, standard input is no listener, or accepting failed for good.
pub fn run_worker(arguments: &BaselineWorker) -> anyhow::Result<()> {
    process::die_with(arguments.parent, Signal::SIGKILL)?;
    // 1 ns instead of 50 µs: a sleep stands for work and should last as long as was asked.
    prctl::set_timerslack(1)?;
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let burn = Duration::from_nanos(arguments.burn);
    writeln!(io::stdout().lock(), "{READY}")?;
    match arguments.runtime {
        Runtime::Blocking => blocking::serve(&listener, arguments.index, burn),
        Runtime::Tokio => tokio::serve(listener, arguments.index, burn),
    }
}

/// Whether an error of `accept(2)` concerns one connection or the moment, not the listener.
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::WouldBlock | Kind::Interrupted | Kind::ConnectionAborted | Kind::ConnectionReset
    )
}
