//! Ctrl-C, as a flag that every wait of the orchestrator looks at.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How often a wait looks at the flag: Ctrl-C is answered within this.
const GLANCE: Duration = Duration::from_millis(50);

/// Someone asked us to stop: unwind, end every child, exit with status 130.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The flag set by INT, TERM and HUP.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handlers; from now on those signals only set the flag.
    ///
    /// # Errors
    /// What `sigaction(2)` said.
    pub fn install() -> io::Result<Self> {
        let flag = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag.0))?;
        }
        Ok(flag)
    }

    /// An error once the flag is set, to be passed up with `?`.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Waits for a message until `deadline`; `None` means the deadline passed.
    ///
    /// # Errors
    /// [`Interrupted`], or that the sender is gone.
    pub fn receive<T>(&self, from: &Receiver<T>, deadline: Instant) -> anyhow::Result<Option<T>> {
        loop {
            self.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match from.recv_timeout(left.min(GLANCE)) {
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the process has ended"),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Sleeps until `deadline`.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn sleep_until(&self, deadline: Instant) -> Result<(), Interrupted> {
        loop {
            self.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }
}
