//! What a worker inherits: descriptors by name, and a few words in its environment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::connection::{ListenerName, Meter};
use crate::id::{SlotId, WorkerId};
use crate::listener::ListenSpec;
use crate::strategy::{RuntimeKind, duplicate};
use crate::sys;

/// Set in every worker that is this program started again: its slot and generation, `3.0` for the first worker
/// on slot 3. (A forked worker has the supervisor's environment, another program has `FORKHERD_SLOT`.)
pub const ENV_WORKER: &str = "FORKHERD_WORKER";
pub(crate) const ENV_SUPERVISOR: &str = "FORKHERD_SUPERVISOR";
pub(crate) const ENV_SERVICE: &str = "FORKHERD_SERVICE";
pub(crate) const ENV_FDS: &str = "FORKHERD_FDS";
pub(crate) const ENV_SLOTS: &str = "FORKHERD_SLOTS";
pub(crate) const ENV_HEARTBEAT: &str = "FORKHERD_HEARTBEAT_MS";
pub(crate) const ENV_LISTENERS: &str = "FORKHERD_LISTENERS";

/// Descriptors by name. Most names are constants: what is allocated and freed between two forks is memory
/// that the second one makes the supervisor copy.
pub(crate) type Fds = BTreeMap<Cow<'static, str>, OwnedFd>;

/// Descriptors for a worker, by name.
///
/// Supervisor · made in [`provision`](crate::Strategy::provision), dropped after the spawn.
#[derive(Debug, Default)]
pub struct Inherit {
    fds: Fds,
}

impl Inherit {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a duplicate of `fd`. Names, constants or `String`s, are lower-case letters, digits, `.` and `-`.
    ///
    /// # Errors
    /// That of `fcntl(2)` with `F_DUPFD_CLOEXEC`; `InvalidInput` for a name that is taken or has other
    /// characters.
    pub fn add(&mut self, name: impl Into<Cow<'static, str>>, fd: impl AsFd) -> io::Result<()> {
        let name = name.into();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        if name.is_empty() || !name.chars().all(plain) || self.fds.contains_key(&name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` cannot name an inherited descriptor, or is taken"),
            ));
        }
        self.fds.insert(name, duplicate(fd)?);
        Ok(())
    }

    pub(crate) fn into_fds(self) -> Fds {
        self.fds
    }

    pub(crate) fn numbers(&self) -> Vec<RawFd> {
        self.fds.values().map(AsRawFd::as_raw_fd).collect()
    }

    /// As the environment carries it: `control=5:page=6`.
    pub(crate) fn to_env(&self) -> String {
        let pairs: Vec<String> =
            self.fds.iter().map(|(name, fd)| format!("{name}={}", fd.as_raw_fd())).collect();
        pairs.join(":")
    }
}

/// What a worker inherited, for [`Strategy::open`](crate::Strategy::open).
pub struct Inherited {
    pub(crate) fds: Fds,
    pub(crate) meter: Meter,
    pub(crate) slots: u32,
    pub(crate) listeners: usize,
    pub(crate) runtime: RuntimeKind,
}

impl Inherited {
    /// A duplicate of the descriptor the supervisor added under this name.
    ///
    /// # Errors
    /// `NotFound` if it added none; that of `fcntl(2)`.
    pub fn descriptor(&self, name: &str) -> io::Result<OwnedFd> {
        let fd = self.fds.get(name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no descriptor `{name}` was inherited"))
        })?;
        duplicate(fd)
    }

    /// The worker this is.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.meter.worker()
    }

    /// How many slots the service has.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many addresses the service listens on.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.listeners
    }

    /// How this worker serves.
    #[must_use]
    pub fn runtime(&self) -> RuntimeKind {
        self.runtime
    }

    /// How many lanes this worker accepts on: `open` is called once for each, and what is private to the
    /// worker is shared by its lanes.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.runtime.lanes()
    }

    /// The counter every connection has to pass through.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited")
            .field("worker", &self.worker())
            .field("fds", &self.fds)
            .finish_non_exhaustive()
    }
}

/// The raw inheritance, read from the environment before anything of it is used.
#[derive(Debug)]
pub(crate) struct Legacy {
    pub(crate) worker: WorkerId,
    pub(crate) service: String,
    pub(crate) fds: Fds,
    pub(crate) listeners: Vec<ListenerName>,
    /// As the supervisor has them: counted anew, cores or a configuration may have changed.
    pub(crate) slots: u32,
    /// How often an event loop has to show that it turns; `None`: nobody looks.
    pub(crate) heartbeat: Option<Duration>,
}

/// `None`: this process is no worker.
///
/// # Errors
/// A sentence, if the environment says *worker* and cannot be right.
pub(crate) fn read() -> Result<Option<Legacy>, String> {
    let Some(worker) = variable(ENV_WORKER)? else { return Ok(None) };
    let worker = parse_worker(&worker).ok_or_else(|| wrong(ENV_WORKER, &worker))?;
    let supervisor = required(ENV_SUPERVISOR)?;
    if supervisor.parse() != Ok(nix::unistd::getppid().as_raw()) {
        return Err(format!(
            "{ENV_WORKER} is set, but process {supervisor} is not the parent of this one: take the \
             FORKHERD_ variables out of the environment of programs that a worker starts"
        ));
    }
    let service = required(ENV_SERVICE)?;
    let listed = required(ENV_LISTENERS)?;
    let listeners: Result<Vec<_>, _> = listed
        .split(',')
        .filter(|text| !text.is_empty())
        .map(|text| {
            let spec: ListenSpec = text.parse().map_err(|_| wrong(ENV_LISTENERS, &listed))?;
            Ok::<_, String>(ListenerName {
                name: spec.name().to_owned(),
                address: spec.address().clone(),
            })
        })
        .collect();
    let slots = required(ENV_SLOTS)?;
    let slots = slots.parse().map_err(|_| wrong(ENV_SLOTS, &slots))?;
    let heartbeat = required(ENV_HEARTBEAT)?;
    let heartbeat: u64 = heartbeat.parse().map_err(|_| wrong(ENV_HEARTBEAT, &heartbeat))?;
    let heartbeat = (heartbeat > 0).then(|| Duration::from_millis(heartbeat));
    let fds = adopt(&required(ENV_FDS)?)?;
    Ok(Some(Legacy { worker, service, fds, listeners: listeners?, slots, heartbeat }))
}

fn adopt(listed: &str) -> Result<Fds, String> {
    let mut numbers = BTreeMap::new();
    for pair in listed.split(':') {
        let number = pair.split_once('=').and_then(|(name, number)| {
            let number: RawFd = number.parse().ok()?;
            numbers.insert(number, name.to_owned()).is_none().then_some(())
        });
        number.ok_or_else(|| wrong(ENV_FDS, listed))?;
    }
    // Each number once: two owners of one descriptor would close it twice.
    let mut fds = BTreeMap::new();
    for (number, name) in numbers {
        let fd = sys::adopt_descriptor(number)
            .map_err(|error| format!("inherited descriptor {number} ({name}): {error}"))?;
        fds.insert(name.into(), fd);
    }
    Ok(fds)
}

fn parse_worker(text: &str) -> Option<WorkerId> {
    let (slot, generation) = text.split_once('.')?;
    Some(WorkerId { slot: SlotId(slot.parse().ok()?), generation: generation.parse().ok()? })
}

fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

fn required(name: &str) -> Result<String, String> {
    variable(name)?.ok_or_else(|| format!("{ENV_WORKER} is set, but {name} is not"))
}

fn wrong(name: &str, value: &str) -> String {
    format!("{name} is `{value}`, which no supervisor writes")
}
