//! How workers come to be.

use std::ffi::OsString;

/// How the supervisor starts a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Start {
    /// This program is started again, with its own arguments: `main` runs up to
    /// [`run`](crate::Service::run) in each worker. A worker begins with fresh memory, whatever the
    /// supervisor did, and what it is given is what it inherits by name.
    #[default]
    Again,
    /// A bare `fork(2)`: the worker goes on inside `run` with a copy of all memory, and `run` never
    /// returns in it. Several times faster while the supervisor is small (8 workers ready in 1 ms instead
    /// of 7; a supervisor with 200 MiB of touched memory takes 5 ms for each), and what was loaded before
    /// `run` is shared until it is written.
    ///
    /// Only from a process with a single thread, which is checked. What was opened before `run` is closed
    /// in the worker, unless it is 0, 1 or 2; values that own such descriptors must not be used there.
    Fork,
}

/// How the supervisor makes workers, this program or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Making {
    Own(Start),
    Foreign(Program),
}

/// A program to be started as a worker, in any language: see
/// [`Service::run_program`](crate::Service::run_program).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    pub(crate) path: OsString,
    pub(crate) arguments: Vec<OsString>,
}

impl Program {
    /// The program at this path, or of this name in `PATH`.
    pub fn new(path: impl Into<OsString>) -> Self {
        Self { path: path.into(), arguments: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}
