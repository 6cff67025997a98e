//! One slice on one server: a closed-loop order, with the server's CPU time read around it.

use crate::load::Handle;
use crate::load::protocol::{Order, Slice};
use crate::measure::cpu::{SETTLE, Tree, Usage};
use crate::measure::latency::to_f64;

/// What a slice brought.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the client measured.
    pub slice: Slice,
    /// What the server used meanwhile.
    pub server: Usage,
}

impl Sample {
    /// Carries out `before`, if there is anything to be done first, unmeasured, and then `order` on the
    /// server whose processes are `tree`.
    ///
    /// # Errors
    /// The load process or the server is gone, or we were interrupted.
    pub fn take(
        load: &mut Handle,
        tree: &Tree,
        before: Option<&Order>,
        order: &Order,
    ) -> anyhow::Result<Self> {
        if let Some(before) = before {
            load.open(before)?;
            std::thread::sleep(SETTLE);
        }
        let used = tree.usage()?;
        let slice = load.slice(order)?;
        std::thread::sleep(SETTLE);
        let server = tree.usage()?.since(&used);
        Ok(Self { slice, server })
    }

    /// Answered requests.
    #[must_use]
    pub fn units(&self) -> f64 {
        to_f64(self.slice.latency_ns.len() as u64)
    }

    /// Of them, per second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.units() * 1e9 / to_f64(self.slice.wall_ns)
    }

    /// Server CPU time of each, in microseconds.
    #[must_use]
    pub fn cpu_server_us(&self) -> f64 {
        to_f64(self.server.total_ns()) / 1e3 / self.units()
    }

    /// Server and client CPU time of each, in microseconds.
    #[must_use]
    pub fn cpu_both_us(&self) -> f64 {
        to_f64(self.server.total_ns() + self.slice.cpu_ns) / 1e3 / self.units()
    }

    /// Context switches of the server for each.
    #[must_use]
    pub fn switches(&self) -> f64 {
        to_f64(self.server.switches) / self.units()
    }
}
