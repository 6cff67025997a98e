//! What can go wrong with a service: which worker, listener or step, and what to do.

use std::ffi::OsString;
use std::fmt;
use std::io;

use crate::id::WorkerId;
use crate::strategy::Unsupported;

/// Why a service could not be started, or ended badly.
///
/// `Debug` prints the message and its causes, as `Display` does the message: it is what a `main` that
/// returns this error shows to people.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to listen on.
    #[error("no address to listen on: give at least one, for example 127.0.0.1:8080")]
    NoListener,
    /// Two listeners of one name.
    #[error("two listeners are named `{0}`: give each its own name, as in admin=127.0.0.1:9000")]
    DuplicateListener(String),
    /// No worker, or too many.
    #[error("{asked} workers: ask for 1 to {most}")]
    Workers {
        /// What was asked for.
        asked: u32,
        /// What is possible.
        most: u32,
    },
    /// Fewer workers at most than at first.
    #[error("at most {most} workers, but {first} at first: raise `max_workers` or lower `workers`")]
    MaxWorkers {
        /// At first.
        first: u32,
        /// At most.
        most: u32,
    },
    /// A process of several threads cannot be forked.
    #[error(
        "workers cannot be forked from a process of {0} threads: call `run` before any thread is started, or \
         let workers be this program started again (`Start::Again`)"
    )]
    Threads(usize),
    /// The program that was to be the worker is not there.
    #[error("cannot find the program `{}`, or may not execute it: give its path, or a name in PATH", .0.display())]
    NoProgram(OsString),
    /// The strategy cannot serve this plan.
    #[error("strategy `{strategy}`: {reason}")]
    Unsupported {
        /// Its name.
        strategy: String,
        /// What does not fit, and what would.
        reason: Unsupported,
    },
    /// The limit of open files is too low.
    #[error(
        "{who} needs {needed} descriptors for {workers} workers, but its limit is {limit}: raise it \
         (`ulimit -n {needed}`) or ask for fewer workers or threads"
    )]
    Descriptors {
        /// Supervisor or worker.
        who: &'static str,
        /// What is needed.
        needed: u64,
        /// The soft limit.
        limit: u64,
        /// The workers asked for.
        workers: u32,
    },
    /// The strategy could not be prepared: mostly a listener that could not be bound.
    // The cause is the whole message: it names listener and remedy.
    #[error(transparent)]
    Prepare(io::Error),
    /// No worker could be started, several times over.
    #[error("worker {worker} could not be started, several times in a row")]
    Spawn {
        /// Which.
        worker: WorkerId,
        /// Why, the last time.
        source: io::Error,
    },
    /// No worker became ready, several times over.
    #[error(
        "worker {0} failed to start several times in a row before the service ever served: its own \
         messages, above, say why"
    )]
    BootFailed(WorkerId),
    /// A worker could not make a source of connections of what it inherited.
    #[error("worker {worker} cannot open its source of connections")]
    Open {
        /// Which.
        worker: WorkerId,
        /// Why.
        source: io::Error,
    },
    /// A worker had to stop serving.
    #[error("worker {worker} cannot go on serving")]
    Serve {
        /// Which.
        worker: WorkerId,
        /// Why.
        source: io::Error,
    },
    /// The environment says *worker*, but what it says cannot be right.
    #[error("{0}")]
    Inherited(String),
    /// A worker's `main` reached the `run` of another service first.
    #[error(
        "this process is a worker of service `{found}`, but its main reached `run` of `{reached}`: a \
         program with several services decides by FORKHERD_SERVICE which one to run"
    )]
    NotOurWorker {
        /// The service it was started for.
        found: String,
        /// The service that was run.
        reached: String,
    },
    /// A system call failed that should not.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error {
    pub(crate) fn system(what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System { what, source: source.into() }
    }

    /// Whether the call was wrong, rather than the world: binaries end with status 2 then, else with 1.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoListener
                | Self::DuplicateListener(_)
                | Self::Workers { .. }
                | Self::MaxWorkers { .. }
                | Self::Unsupported { .. }
                | Self::Threads(_)
                | Self::NoProgram(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_main_shows_is_the_message_with_its_cause_once() {
        let source = io::Error::from_raw_os_error(libc::EMFILE);
        let error = Error::System { what: "signalfd", source };
        assert_eq!(format!("{error:?}"), "signalfd: Too many open files (os error 24)");
        assert_eq!(format!("{:?}", Error::NoListener), Error::NoListener.to_string());
        let error = "nowhere".parse::<crate::ListenSpec>().unwrap_err();
        assert_eq!(format!("{error:?}"), error.to_string());
    }
}
