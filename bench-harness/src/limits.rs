//! What bounds a server: how many files it may have open, and how many listen queues it has.

use std::fs;

use anyhow::{Context as _, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::measure::cpu::Tree;
use crate::measure::{backlog, queue};
use crate::server::Server;

/// What a server has that others may have more or less of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Listening sockets: each has a queue and a backlog of its own.
    pub listeners: u32,
    /// The least backlog of them, where the kernel tells.
    pub backlog: Option<u32>,
    /// Files that a worker may have open; unlimited is the largest number.
    pub open_files: u64,
}

impl Given {
    /// What `server` was given. Its workers are up.
    ///
    /// # Errors
    /// `/proc` cannot be read, or the server is gone.
    pub fn to(server: &Server) -> anyhow::Result<Self> {
        let port = server.address().port();
        let listeners = queue::listeners(port)?;
        // A kernel may be built without sock_diag(7), and a container may keep it from us.
        let backlog = backlog::least(port).ok().flatten();
        // A worker's: the last of the tree, since parents come first.
        let tree = Tree::of(server.pid())?;
        let pid = tree.pids().last().copied().unwrap_or(server.pid());
        let path = format!("/proc/{pid}/limits");
        let limits = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let open_files = open_files(&limits).with_context(|| format!("{path}: no open files"))?;
        Ok(Self { listeners, backlog, open_files })
    }
}

/// The soft limit of open files in a text like that of `/proc/PID/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

/// A raised limit of open files; what is started meanwhile inherits it. Dropping it restores the former
/// one for this process.
#[derive(Debug)]
pub struct Raised {
    before: (u64, u64),
}

impl Raised {
    /// Raises the soft limit to the hard one.
    ///
    /// # Errors
    /// The hard one is lower than `needed`: what `who` needs, and what to do.
    pub fn to_hard(needed: u64, who: &str) -> anyhow::Result<Self> {
        let before = getrlimit(Resource::RLIMIT_NOFILE)?;
        let (_, hard) = before;
        if let Some(message) = too_low(needed, hard, who) {
            bail!(message);
        }
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(Self { before })
    }
}

/// A lowered soft limit of open files; what is started meanwhile inherits it. Dropping it restores the
/// former one for this process.
#[derive(Debug)]
pub struct Lowered {
    before: (u64, u64),
}

impl Lowered {
    /// Lowers the soft limit to `files`; one that is lower already stays.
    ///
    /// # Errors
    /// What `setrlimit(2)` said.
    pub fn to(files: u64) -> anyhow::Result<Self> {
        let before = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, files.min(before.0), before.1)?;
        Ok(Self { before })
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        // Up to the hard limit, which it was not above, is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.before.0, self.before.1);
    }
}

/// What to say if `hard` is lower than `needed`.
fn too_low(needed: u64, hard: u64, who: &str) -> Option<String> {
    (hard < needed).then(|| {
        format!(
            "{who} needs up to {needed} open files in one process, and the hard limit is {hard}: \
             raise it (as root: ulimit -Hn {needed}), or ask for fewer connections by --clients"
        )
    })
}

impl Drop for Raised {
    fn drop(&mut self) {
        // To lower the soft limit is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, self.before.0, self.before.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_low_a_limit_is_one_sentence_that_says_what_to_do() {
        assert_eq!(too_low(10_000, 10_000, "it"), None);
        let said = too_low(10_001, 4_096, "long-lived").unwrap();
        assert!(said.contains("hard limit is 4096") && said.contains("ulimit -Hn 10001"), "{said}");
        assert!(Raised::to_hard(u64::MAX, "it").is_err());
    }

    #[test]
    fn a_soft_limit_is_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax open files  64  4096  files\n";
        assert_eq!(open_files(text), Some(64));
        assert_eq!(open_files("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files("Max processes 1 1 processes"), None);
    }

    #[test]
    fn the_limit_is_restored() {
        let limits = || getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let before = limits();
        let raised = Raised::to_hard(1, "it").unwrap();
        assert_eq!(limits().0, before.1);
        drop(raised);
        assert_eq!(limits(), before);
        // Not so low that tests beside this one run out of files.
        let lowered = Lowered::to(before.0 - 1).unwrap();
        assert_eq!(limits(), (before.0 - 1, before.1));
        drop(lowered);
        assert_eq!(limits(), before);
    }
}
