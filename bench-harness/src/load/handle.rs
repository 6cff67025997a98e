//! The orchestrator's end of the load process.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::protocol::{Open, Order, Outcome, Slice, Trace};
use crate::interrupt::Interrupt;
use crate::process::{Guarded, Program};

/// Longest the load process may be silent beyond what an order takes: its own deadline (10 s) to gather
/// who is there beside, for a request to wait for a connection, on it, and to dismiss, and a margin.
const SILENCE: Duration = Duration::from_secs(50);

/// Longest it may take to open connections one by one: 10,000 take 3 s on a quiet machine.
const HOLDING: Duration = Duration::from_secs(120);

/// A running load process; dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    process: Guarded,
    interrupt: Interrupt,
}

impl Handle {
    /// Starts it; it inherits the CPU affinity of this thread.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(program: &Program, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let mut command = program.command();
        command.args(["load", "--parent", &std::process::id().to_string()]);
        let process =
            Guarded::start(&mut command, true).context("cannot start the load process")?;
        Ok(Self { process, interrupt: interrupt.clone() })
    }

    /// Gives an order whose outcome [`Self::outcome`] fetches.
    ///
    /// # Errors
    /// The load process is gone.
    pub fn give(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let input = self.process.input().context("the load process takes no orders")?;
        input.write_all(&line).context("the load process takes no orders")
    }

    /// The outcome of the order given, if it comes before `deadline`.
    ///
    /// # Errors
    /// The load process failed or is gone, or we were interrupted.
    pub fn outcome(&self, deadline: Instant) -> anyhow::Result<Option<Outcome>> {
        let line = self.interrupt.receive(self.process.lines(), deadline);
        let Some(line) = line.context("the load process gave no outcome")? else { return Ok(None) };
        match serde_json::from_str(&line).context("the load process gave a strange outcome")? {
            Outcome::Failed { message } => bail!("the load process failed: {message}"),
            outcome => Ok(Some(outcome)),
        }
    }

    /// A closed-loop order and what it measured.
    ///
    /// # Errors
    /// As [`Self::outcome`], or nothing came in time.
    pub fn slice(&mut self, order: &Order) -> anyhow::Result<Slice> {
        self.give(order)?;
        match self.outcome(Instant::now() + SILENCE)? {
            Some(Outcome::Slice(slice)) => Ok(slice),
            other => bail!("expected a slice from the load process, got {}", kind(other.as_ref())),
        }
    }

    /// Opens connections for the next [`Order::Requests`].
    ///
    /// # Errors
    /// As [`Self::slice`].
    pub fn open(&mut self, order: &Order) -> anyhow::Result<()> {
        self.give(order)?;
        match self.outcome(Instant::now() + SILENCE)? {
            Some(Outcome::Opened) => Ok(()),
            other => bail!("expected opened connections, got {}", kind(other.as_ref())),
        }
    }

    /// An order that opens connections by the thousand, and what is open then.
    ///
    /// # Errors
    /// As [`Self::slice`].
    pub fn hold(&mut self, order: &Order) -> anyhow::Result<Open> {
        self.give(order)?;
        match self.outcome(Instant::now() + HOLDING)? {
            Some(Outcome::Open(open)) => Ok(open),
            other => bail!("expected held connections, got {}", kind(other.as_ref())),
        }
    }

    /// A trace that lasts `length`; meanwhile `meanwhile` is called, which says when
    /// it wants to be called next (never, if `None`).
    ///
    /// # Errors
    /// As [`Self::slice`], and what `meanwhile` says.
    pub fn trace(
        &mut self,
        order: &Order,
        length: Duration,
        mut meanwhile: impl FnMut() -> anyhow::Result<Option<Instant>>,
    ) -> anyhow::Result<Trace> {
        self.give(order)?;
        let deadline = Instant::now() + length + SILENCE;
        loop {
            let next = meanwhile()?.unwrap_or(deadline).min(deadline);
            match self.outcome(next)? {
                Some(Outcome::Trace(trace)) => return Ok(trace),
                None if Instant::now() < deadline => {}
                other => bail!("expected a trace's outcome, got {}", kind(other.as_ref())),
            }
        }
    }
}

/// The word for an outcome that is not the expected one.
fn kind(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        None => "nothing in time",
        Some(Outcome::Opened) => "opened connections",
        Some(Outcome::Open(_)) => "held connections",
        Some(Outcome::Slice(_)) => "a slice",
        Some(Outcome::Trace(_)) => "a trace",
        Some(Outcome::Failed { .. }) => "a failure",
    }
}
