//! Ctrl-C, as a flag that every wait of the orchestrator looks at.

use std::fmt;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
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

/// Has a write beyond the size that files may have fail (`EFBIG`) instead of ending the process: what was begun
/// can be taken away then, and is said to be missing.
///
/// A handler that does nothing, rather than to ignore SIGXFSZ: whoever is started by us begins with the default.
///
/// # Errors
/// What `sigaction(2)` said.
pub fn survive_size_limit() -> io::Result<()> {
    signal_hook::flag::register(Signal::SIGXFSZ as i32, Arc::default()).map(drop)
}

/// Whether those signals end the process again.
static LET_GO: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Has INT, TERM and HUP end the process again, until the next [`Interrupt::install`]: for what may wait as long
/// as somebody else likes and cannot look at a flag, such as writing to a pipe.
pub fn let_go() {
    LET_GO.store(true, Ordering::Relaxed);
}

/// The flag set by INT, TERM and HUP.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Installs the handlers; from now on those signals only set the flag. One that whoever started us had
    /// ignored stays so: HUP under `nohup`, INT in the background of a script.
    ///
    /// # Errors
    /// What `sigaction(2)` said, or that `/proc/self/status` cannot be read.
    pub fn install() -> io::Result<Self> {
        let flag = Self::default();
        LET_GO.store(false, Ordering::Relaxed);
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if ignored & (1 << (signal - 1)) == 0 {
                signal_hook::flag::register_conditional_default(signal, Arc::clone(&LET_GO))?;
                signal_hook::flag::register(signal, Arc::clone(&flag.0))?;
            }
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

/// The signals that are ignored, by `/proc/PID/status`: bit 0 is signal 1. Reading them there needs no `unsafe`,
/// as asking `sigaction(2)` would.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
