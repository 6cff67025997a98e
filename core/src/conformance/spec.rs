//! What the service of a trial is to be, as text in its environment.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::listener::ListenSpec;
use crate::strategy::RuntimeKind;

/// The variable that makes a conformance binary a service.
pub(super) const ENV: &str = "FORKHERD_CONFORMANCE";

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Spec {
    pub(super) runtime: RuntimeKind,
    pub(super) workers: u32,
    pub(super) listeners: Vec<ListenSpec>,
    pub(super) detect_stopped: bool,
    /// Workers are forked instead of started again.
    pub(super) fork: bool,
    /// When a worker counts as hung, in milliseconds.
    pub(super) hung_ms: Option<u64>,
    /// How long workers may take to leave, in milliseconds.
    pub(super) drain_ms: Option<u64>,
    /// For strategies with channels of a given length.
    pub(super) credits: Option<u32>,
    /// How long a worker takes before it reaches `run`.
    pub(super) boot_delay: Duration,
    /// Workers end with this status before they reach `run`.
    pub(super) boot_exit: Option<u8>,
    /// The limit of open files of a worker; the supervisor's is higher by what its slots need.
    pub(super) files: Option<u64>,
    /// The supervisor's, if it is to be another.
    pub(super) supervisor_files: Option<u64>,
    /// The limit of the size of files, in bytes, of the supervisor and all its workers.
    pub(super) file_size: Option<u64>,
    /// Whom the service runs as.
    pub(super) user: Option<u32>,
}

impl Spec {
    /// Two workers on one port of the loopback that the kernel chooses.
    pub(super) fn new(runtime: RuntimeKind) -> Self {
        Self {
            runtime,
            workers: 2,
            listeners: vec![listener("main=127.0.0.1:0")],
            detect_stopped: true,
            fork: false,
            hung_ms: None,
            drain_ms: None,
            credits: None,
            boot_delay: Duration::ZERO,
            boot_exit: None,
            files: None,
            supervisor_files: None,
            file_size: None,
            user: None,
        }
    }
}

/// A listener that a trial wrote down.
pub(super) fn listener(text: &str) -> ListenSpec {
    text.parse().expect("trials write their addresses correctly")
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runtime={};workers={}", self.runtime, self.workers)?;
        for listener in &self.listeners {
            write!(f, ";listen={listener}")?;
        }
        write!(f, ";detect={};fork={}", self.detect_stopped, self.fork)?;
        if let Some(credits) = self.credits {
            write!(f, ";credits={credits}")?;
        }
        write!(f, ";boot_ms={}", self.boot_delay.as_millis())?;
        if let Some(status) = self.boot_exit {
            write!(f, ";boot_exit={status}")?;
        }
        if let Some(hung_ms) = self.hung_ms {
            write!(f, ";hung_ms={hung_ms}")?;
        }
        if let Some(drain_ms) = self.drain_ms {
            write!(f, ";drain_ms={drain_ms}")?;
        }
        if let Some(files) = self.supervisor_files {
            write!(f, ";supervisor_files={files}")?;
        }
        if let Some(bytes) = self.file_size {
            write!(f, ";file_size={bytes}")?;
        }
        if let Some(user) = self.user {
            write!(f, ";user={user}")?;
        }
        if let Some(files) = self.files {
            write!(f, ";files={files}")?;
        }
        Ok(())
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = Self { listeners: Vec::new(), ..Self::new(RuntimeKind::Blocking) };
        for part in text.split(';') {
            let wrong = || format!("{ENV}: `{part}`");
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            match key {
                "runtime" => spec.runtime = value.parse().map_err(|_| wrong())?,
                "hung_ms" => spec.hung_ms = Some(value.parse().map_err(|_| wrong())?),
                "drain_ms" => spec.drain_ms = Some(value.parse().map_err(|_| wrong())?),
                "fork" => spec.fork = value.parse().map_err(|_| wrong())?,
                "workers" => spec.workers = value.parse().map_err(|_| wrong())?,
                "listen" => spec.listeners.push(value.parse().map_err(|_| wrong())?),
                "detect" => spec.detect_stopped = value.parse().map_err(|_| wrong())?,
                "credits" => spec.credits = Some(value.parse().map_err(|_| wrong())?),
                "boot_ms" => {
                    spec.boot_delay = Duration::from_millis(value.parse().map_err(|_| wrong())?);
                }
                "boot_exit" => spec.boot_exit = Some(value.parse().map_err(|_| wrong())?),
                "supervisor_files" => {
                    spec.supervisor_files = Some(value.parse().map_err(|_| wrong())?);
                }
                "file_size" => spec.file_size = Some(value.parse().map_err(|_| wrong())?),
                "user" => spec.user = Some(value.parse().map_err(|_| wrong())?),
                "files" => spec.files = Some(value.parse().map_err(|_| wrong())?),
                _ => return Err(wrong()),
            }
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_comes_back_as_it_was_written() {
        let plain = Spec::new(RuntimeKind::Tokio);
        let full = Spec {
            workers: 4,
            listeners: vec![listener("main=127.0.0.1:0"), listener("admin=[::1]:80")],
            detect_stopped: false,
            fork: true,
            hung_ms: Some(250),
            drain_ms: Some(5_000),
            credits: Some(8),
            boot_delay: Duration::from_millis(500),
            boot_exit: Some(3),
            files: Some(64),
            supervisor_files: Some(80),
            file_size: Some(4_096),
            user: Some(65_534),
            ..Spec::new(RuntimeKind::Blocking)
        };
        for spec in [plain, full] {
            assert_eq!(spec.to_string().parse(), Ok(spec));
        }
        assert!("runtime=threads".parse::<Spec>().is_err());
    }
}
