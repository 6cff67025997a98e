//! What a slot's count and the truth differ by for good: pure.
//!
//! A count is of looks for a listener (a handshake that begins; see `ebpf` for others), the truth of connections that
//! wait or are served. So they differ for as long as a handshake takes, and for a moment whenever they are not read
//! at the same instant. What was counted and never came (a client that gave up, a full queue, a stray ACK, a SYN
//! cookie) stays.

/// How many differences in a row have to agree.
const LOOKS: usize = 3;

/// Per slot, the differences seen last.
#[derive(Clone, Debug)]
pub(crate) struct Drift {
    seen: Vec<[i64; LOOKS]>,
}

impl Drift {
    pub(crate) fn new(slots: usize) -> Self {
        Self { seen: vec![[0; LOOKS]; slots] }
    }

    /// How much to add to a slot's count, which now is `difference` above the truth.
    ///
    /// Only what was there at each of the last looks is drift, and it is corrected by *adding*, so that
    /// whatever is counted meanwhile is not lost.
    pub(crate) fn correction(&mut self, slot: usize, difference: i64) -> i64 {
        let Some(seen) = self.seen.get_mut(slot) else { return 0 };
        seen.rotate_left(1);
        seen[LOOKS - 1] = difference;
        let correction = if seen.iter().all(|&one| one > 0) {
            seen.iter().min().copied().unwrap_or(0).saturating_neg()
        } else if seen.iter().all(|&one| one < 0) {
            seen.iter().max().copied().unwrap_or(0).saturating_neg()
        } else {
            return 0;
        };
        for one in seen {
            *one = one.saturating_add(correction);
        }
        correction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrections(differences: &[i64]) -> Vec<i64> {
        let mut drift = Drift::new(1);
        differences.iter().map(|&one| drift.correction(0, one)).collect()
    }

    #[test]
    fn what_stays_is_corrected_once() {
        assert_eq!(corrections(&[2, 2, 2, 0, 0]), [0, 0, -2, 0, 0]);
        assert_eq!(corrections(&[-1, -3, -1, 0, 0]), [0, 0, 1, 0, 0]);
    }

    /// Workers can write the counts.
    #[test]
    fn an_impossible_count_harms_nobody() {
        let (least, most) = (i64::MIN, i64::MAX);
        assert_eq!(corrections(&[least, least, least, most]), [0, 0, most, 0]);
        assert_eq!(corrections(&[most, most, most]), [0, 0, -most]);
    }

    #[test]
    fn what_comes_and_goes_is_not_drift() {
        assert_eq!(corrections(&[1, 0, 1, 1, 0, -1, 1, 1, 0]), [0; 9]);
    }

    #[test]
    fn only_what_was_always_there_is_drift() {
        // 3 leaked, and up to 4 handshakes under way.
        assert_eq!(corrections(&[5, 3, 7]), [0, 0, -3]);
        // The next three looks begin where these ended.
        assert_eq!(corrections(&[5, 3, 7, 1, 0, 2]), [0, 0, -3, 0, 0, 0]);
    }

    #[test]
    fn an_unknown_slot_has_no_drift() {
        assert_eq!(Drift::new(1).correction(7, 3), 0);
    }
}
