//! What is known of a machine, before anybody judges it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::group::Listening;

/// The raw facts. What could not be read is absent, and [`Facts::unread`] says why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Workers that a service is to have.
    pub workers: u32,
    /// The kernel's release, `6.18.44`.
    pub release: String,
    /// `net.core.somaxconn`: the bound of every backlog.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_migrate_req`; absent before Linux 5.14.
    pub migrates: Option<bool>,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub ephemeral: Option<(u16, u16)>,
    /// Open files: soft and hard limit.
    pub files: Option<(u64, u64)>,
    /// Processors that are there, and those this process may run on.
    pub processors: Option<(u32, u32)>,
    /// Processors' worth of time that cgroups allow; absent where they allow all there is.
    pub quota: Option<f64>,
    /// Processes that wanted to run, mean over a minute.
    pub load: Option<f64>,
    /// Bytes of memory that cgroups allow, likewise.
    pub memory: Option<u64>,
    /// Processes and threads that cgroups allow, and those there are, in the group with the least room.
    pub pids: Option<(u64, u64)>,
    /// The capabilities in effect, by bit.
    pub capabilities: Option<u64>,
    /// Whether system calls are filtered by seccomp.
    pub filtered: bool,
    /// Whether the kernel's table of system calls is readable, `tracefs`.
    pub tracefs: bool,
    /// `kernel.perf_event_paranoid`.
    pub paranoid: Option<i32>,
    /// The address that was asked about.
    pub listen: Option<SocketAddr>,
    /// Who listens there.
    pub listening: Vec<Listening>,
    /// What could not be read, and why.
    pub unread: BTreeMap<&'static str, String>,
}

/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u32 = 21;
/// `CAP_PERFMON`.
pub const PERFMON: u32 = 38;
/// `CAP_BPF`.
pub const BPF: u32 = 39;

impl Facts {
    /// Whether a capability, or the one that holds for all, is in effect.
    #[must_use]
    pub fn can(&self, capability: u32) -> bool {
        let has = |bit: u32| self.capabilities.is_some_and(|all| (all >> bit) & 1 == 1);
        has(capability) || has(SYS_ADMIN)
    }

    /// The kernel's version: the first two numbers of its release, and the third if there is one.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some((next()?, next()?, next().unwrap_or(0)))
    }
}
