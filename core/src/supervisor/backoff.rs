//! How long a slot stays empty after a worker that achieved nothing.

use std::time::Duration;

/// A delay that doubles with every failure in a row, up to a bound.
///
/// No jitter: all slots have one supervisor, which starts one process after the other anyway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// After any number of failures.
    pub most: Duration,
}

impl Backoff {
    /// How long to wait after `failures` in a row; zero after none.
    pub(crate) fn delay(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

impl Default for Backoff {
    /// 10 ms, doubling up to 5 s (ours).
    ///
    /// The first wait is shorter than a client notices, for a worker that dies once. The longest, reached
    /// with the tenth failure in a row, makes a broken program cost one start in 5 s per slot, and the
    /// service be whole again 5 s after its cause is repaired.
    fn default() -> Self {
        Self { first: Duration::from_millis(10), most: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_doubles_from_ten_milliseconds_to_five_seconds() {
        let delays: Vec<u128> =
            (0..12).map(|failures| Backoff::default().delay(failures).as_millis()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
    }

    proptest! {
        #[test]
        fn it_never_shrinks_passes_its_bound_or_overflows(failures: u32, first: Duration, most: Duration) {
            let backoff = Backoff { first, most };
            let delay = backoff.delay(failures);
            prop_assert!(delay <= most);
            prop_assert!(delay <= backoff.delay(failures.saturating_add(1)));
        }
    }
}
