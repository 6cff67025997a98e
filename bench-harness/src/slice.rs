//! One slice on one server: a closed-loop order, with the server's CPU time read around it.

use crate::load::Handle;
use crate::load::protocol::{Order, Slice};
use crate::measure::cpu::{Account, SETTLE, Usage};
use crate::measure::latency::to_f64;

/// What a slice brought.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the client measured.
    pub slice: Slice,
    /// What the server used meanwhile, if its processes stayed the same.
    pub server: Option<Usage>,
}

impl Sample {
    /// Carries out `before`, if there is anything to be done first, unmeasured, and then `order` on the
    /// server whose account it is.
    ///
    /// # Errors
    /// The load process or the server is gone, or we were interrupted.
    pub fn take(
        load: &mut Handle,
        account: &Account,
        before: Option<&Order>,
        order: &Order,
    ) -> anyhow::Result<Self> {
        if let Some(before) = before {
            load.open(before)?;
            std::thread::sleep(SETTLE);
        }
        let used = account.look()?;
        let slice = load.slice(order)?;
        std::thread::sleep(SETTLE);
        let server = account.used_since(used.as_ref())?;
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
    pub fn cpu_server_us(&self) -> Option<f64> {
        Some(to_f64(self.server.as_ref()?.total_ns()) / 1e3 / self.units())
    }

    /// Server and client CPU time of each, in microseconds.
    #[must_use]
    pub fn cpu_both_us(&self) -> Option<f64> {
        let server_ns = self.server.as_ref()?.total_ns();
        Some(to_f64(server_ns + self.slice.cpu_ns) / 1e3 / self.units())
    }

    /// Context switches of the server for each.
    #[must_use]
    pub fn switches(&self) -> Option<f64> {
        Some(to_f64(self.server.as_ref()?.switches) / self.units())
    }
}
