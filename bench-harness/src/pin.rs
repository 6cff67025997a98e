//! Everything on one core, for as long as a value lives.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread, and every process it starts, on one core; dropping it restores the former set for
/// this thread (children keep theirs).
#[derive(Debug)]
pub struct Pin {
    before: CpuSet,
}

impl Pin {
    /// Pins to the first core we may use.
    ///
    /// # Errors
    /// What `sched_setaffinity(2)` said.
    pub fn to_one_core() -> nix::Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let first = (0..CpuSet::count()).find(|&cpu| before.is_set(cpu) == Ok(true));
        let mut one = CpuSet::new();
        one.set(first.unwrap_or(0))?;
        sched_setaffinity(this, &one)?;
        Ok(Self { before })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Fails only if those cores were taken from us meanwhile; then the pin stays.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
