//! How workers come to be.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

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
    /// Only from a process with a single thread, which is checked (by `unshare(2)` of `CLONE_THREAD`, or, where that is
    /// refused, in `/proc/self/task`). What was opened before `run` is closed
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

    /// Whether it is there and may be executed: otherwise every start of a worker would fail.
    pub(crate) fn exists(&self) -> bool {
        let is_program = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
        if self.path.as_bytes().contains(&b'/') {
            return is_program(Path::new(&self.path));
        }
        // Where the system looks without one is its own affair.
        env::var_os("PATH").is_none_or(|directories| {
            env::split_paths(&directories).any(|directory| is_program(&directory.join(&self.path)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_file_that_may_be_executed_here_or_in_the_path() {
        for (path, exists) in [
            ("sh", true),
            ("/bin/sh", true),
            ("no-such-program", false),
            ("/bin/no-such-program", false),
            // A directory, and a file that is none.
            ("/bin", false),
            ("/proc/self/maps", false),
            ("", false),
        ] {
            assert_eq!(Program::new(path).exists(), exists, "{path}");
        }
    }
}
