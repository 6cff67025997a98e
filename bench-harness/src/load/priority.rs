//! The generator first: one that waits for a core while something else runs measures that instead.

use rustix::process::setpriority_process;

/// The highest priority, as long as this value lives and if we may. Servers stay as they are.
#[derive(Debug)]
pub(super) struct Priority;

impl Priority {
    const HIGHEST: i32 = -20;

    /// Raises it.
    pub(super) fn raise() -> Self {
        // Without the privilege the lag is larger, and the report says how large.
        let _ = setpriority_process(None, Self::HIGHEST);
        Self
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        // To lower it again is always allowed.
        let _ = setpriority_process(None, 0);
    }
}
