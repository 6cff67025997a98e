//! What a service under test says: its notices, a line each, and its log.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::str::FromStr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::herd::PATIENCE;
use crate::id::{SlotId, WorkerId};
use crate::listener::Address;
use crate::notice::Notice;

/// A [`Notice`] as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Serving(Vec<(String, Address)>),
    Started { worker: WorkerId, pid: u32 },
    Ready(WorkerId),
    Stopped(WorkerId),
    Continued(WorkerId),
    Hung(WorkerId),
    Recovered(WorkerId),
    Scaled(u32),
    Exited { worker: WorkerId, pid: u32, taken: u64, completed: u64, status: String },
    RestartDone,
    RestartAborted(WorkerId),
}

impl Said {
    pub(super) fn of(notice: &Notice<'_>) -> Option<Self> {
        Some(match *notice {
            Notice::Serving { listeners } => Self::Serving(
                listeners.iter().map(|l| (l.name.clone(), l.address.clone())).collect(),
            ),
            Notice::Started { worker, pid } => Self::Started { worker, pid },
            Notice::Ready { worker } => Self::Ready(worker),
            Notice::Stopped { worker } => Self::Stopped(worker),
            Notice::Continued { worker } => Self::Continued(worker),
            Notice::Exited { worker, pid, status, counts } => Self::Exited {
                worker,
                pid,
                taken: counts.taken,
                completed: counts.completed,
                status: status.to_string(),
            },
            Notice::RestartDone => Self::RestartDone,
            Notice::RestartAborted { worker } => Self::RestartAborted(worker),
            Notice::Hung { worker } => Self::Hung(worker),
            Notice::Recovered { worker } => Self::Recovered(worker),
            Notice::Scaled { workers } => Self::Scaled(workers),
            Notice::Remark { .. } => return None,
        })
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving(listeners) => {
                f.write_str("serving")?;
                listeners.iter().try_for_each(|(name, address)| write!(f, " {name}={address}"))
            }
            Self::Started { worker, pid } => write!(f, "started {worker} {pid}"),
            Self::Ready(worker) => write!(f, "ready {worker}"),
            Self::Stopped(worker) => write!(f, "stopped {worker}"),
            Self::Continued(worker) => write!(f, "continued {worker}"),
            Self::Hung(worker) => write!(f, "hung {worker}"),
            Self::Recovered(worker) => write!(f, "recovered {worker}"),
            Self::Scaled(workers) => write!(f, "scaled {workers}"),
            Self::Exited { worker, pid, taken, completed, status } => {
                write!(f, "exited {worker} {pid} {taken} {completed} {status}")
            }
            Self::RestartDone => f.write_str("restart-done"),
            Self::RestartAborted(worker) => write!(f, "restart-aborted {worker}"),
        }
    }
}

impl FromStr for Said {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.splitn(5, ' ');
        let mut word = || words.next().ok_or(());
        Ok(match verb {
            "serving" => Self::Serving(
                rest.split(' ')
                    .map(|pair| {
                        let (name, address) = pair.split_once('=')?;
                        Some((name.to_owned(), address.parse().ok()?))
                    })
                    .collect::<Option<_>>()
                    .ok_or(())?,
            ),
            "started" => Self::Started { worker: worker(word()?)?, pid: number(word()?)? },
            "ready" => Self::Ready(worker(word()?)?),
            "stopped" => Self::Stopped(worker(word()?)?),
            "continued" => Self::Continued(worker(word()?)?),
            "hung" => Self::Hung(worker(word()?)?),
            "recovered" => Self::Recovered(worker(word()?)?),
            "scaled" => Self::Scaled(number(word()?)?),
            "exited" => Self::Exited {
                worker: worker(word()?)?,
                pid: number(word()?)?,
                taken: number(word()?)?,
                completed: number(word()?)?,
                status: word()?.to_owned(),
            },
            "restart-done" => Self::RestartDone,
            "restart-aborted" => Self::RestartAborted(worker(word()?)?),
            _ => return Err(()),
        })
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, ()> {
    text.parse().map_err(|_| ())
}

fn worker(text: &str) -> Result<WorkerId, ()> {
    let (slot, generation) = text.split_once('.').ok_or(())?;
    Ok(WorkerId { slot: SlotId(number(slot)?), generation: number(generation)? })
}

/// Everything one service said so far. Written by two reader threads, waited on by its trial.
#[derive(Debug)]
pub(super) struct Journal {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    said: Vec<Said>,
    log: Vec<String>,
    /// Parts of lines that the trial expects in the log.
    expected: Vec<&'static str>,
    /// Standard output and error that some process of the service still holds.
    open_streams: u32,
}

impl Journal {
    /// Of a service with both its streams open.
    pub(super) fn new() -> Self {
        let inner = Inner { open_streams: 2, ..Inner::default() };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// A reader thread's work: notices, until nobody holds the other end.
    pub(super) fn read_notices(&self, stdout: impl Read) {
        self.read(stdout, |inner, line| match line.parse() {
            Ok(said) => inner.said.push(said),
            Err(()) => inner.log.push(format!("(stdout) {line}")),
        });
    }

    /// The other one's: the log.
    pub(super) fn read_log(&self, stderr: impl Read) {
        self.read(stderr, |inner, line| inner.log.push(line));
    }

    fn read(&self, stream: impl Read, mut keep: impl FnMut(&mut Inner, String)) {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            keep(&mut self.lock(), String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
        self.lock().open_streams -= 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A reader that panicked leaves lines that are whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much was said; for [`wait`](Self::wait).
    pub(super) fn mark(&self) -> usize {
        self.lock().said.len()
    }

    pub(super) fn said(&self) -> Vec<Said> {
        self.lock().said.clone()
    }

    /// Waits until what was said since `mark` shows what is looked for.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        mark: usize,
        mut look: impl FnMut(&[Said]) -> Option<T>,
    ) -> Result<T, String> {
        self.wait_inner(what, |inner| look(&inner.said[mark..]))
    }

    /// Waits for a line of the log.
    pub(super) fn wait_log(&self, part: &str) -> Result<(), String> {
        self.wait_inner(part, |inner| {
            inner.log.iter().any(|line| line.contains(part)).then_some(())
        })
    }

    /// Waits until no process holds the service's streams.
    pub(super) fn wait_closed(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut inner = self.lock();
        while inner.open_streams > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err("something still holds the service's output open".to_owned());
            };
            inner =
                self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    fn wait_inner<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Inner) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut inner = self.lock();
        loop {
            if let Some(found) = look(&inner) {
                return Ok(found);
            }
            if inner.open_streams == 0 {
                return Err(format!("the service ended before this: {what}"));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(format!("not within {PATIENCE:?}: {what}"));
            };
            inner =
                self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A line with this part is no surprise.
    pub(super) fn expect(&self, part: &'static str) {
        self.lock().expected.push(part);
    }

    /// Lines of the log above information, and whatever is no line of a log (a panic), that were not
    /// expected.
    pub(super) fn surprises(&self) -> Vec<String> {
        let inner = self.lock();
        let is_calm = |line: &str| {
            let line = line.trim_start();
            // A remark is for whoever runs the service, here for whoever reads the test's output.
            line.starts_with("INFO ")
                || line.contains("forkherd_core::supervisor: remark: ")
                || inner.expected.iter().any(|part| line.contains(part))
        };
        inner.log.iter().filter(|line| !is_calm(line)).cloned().collect()
    }

    /// For whoever has to find out what went wrong: the last lines of both.
    pub(super) fn tail(&self) -> String {
        const LINES: usize = 60;
        let inner = self.lock();
        let mut text = String::new();
        for said in inner.said.iter().skip(inner.said.len().saturating_sub(LINES)) {
            text += &format!("  {said}\n");
        }
        for line in inner.log.iter().skip(inner.log.len().saturating_sub(LINES)) {
            text += &format!("  | {line}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_comes_back_as_it_went() {
        let worker = WorkerId { slot: SlotId(1), generation: 7 };
        for said in [
            Said::Serving(vec![
                ("main".to_owned(), "127.0.0.1:80".parse().unwrap()),
                ("six".to_owned(), "[::1]:80".parse().unwrap()),
                ("path".to_owned(), "unix:/run/a=b.sock".parse().unwrap()),
            ]),
            Said::Started { worker, pid: 7 },
            Said::Ready(worker),
            Said::Stopped(worker),
            Said::Continued(worker),
            Said::Hung(worker),
            Said::Recovered(worker),
            Said::Scaled(3),
            Said::Exited { worker, pid: 7, taken: 2, completed: 1, status: "signal 9".to_owned() },
            Said::RestartDone,
            Said::RestartAborted(worker),
        ] {
            assert_eq!(said.to_string().parse(), Ok(said));
        }
        assert!("thread panicked".parse::<Said>().is_err());
    }
}
