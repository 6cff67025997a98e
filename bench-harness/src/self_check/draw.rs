//! The lot: which of two servers burns. Sealed until the verdict.

use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::measure::ratio::{Ratio, Verdict};
use crate::report::self_check::Side;

/// Who burns, and how much. Servers are told by their arguments; nobody else before [`Self::reveal`].
pub(super) struct Draw {
    burns: Side,
    burnt_ns: u64,
}

impl Draw {
    /// One of two, with equal chances, burns `us` microseconds per connection.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds")]
    pub(super) fn by_lot(us: f64, random: &mut SmallRng) -> Self {
        let burns = if random.random() { Side::First } else { Side::Second };
        Self { burns, burnt_ns: (us * 1e3).round() as u64 }
    }

    /// Further arguments of a server.
    pub(super) fn arguments(&self, side: Side) -> Vec<String> {
        if side == self.burns {
            vec!["--burn".to_owned(), self.burnt_ns.to_string()]
        } else {
            Vec::new()
        }
    }

    /// Who it was, and how many nanoseconds; the lot is used up.
    pub(super) fn reveal(self) -> (Side, u64) {
        (self.burns, self.burnt_ns)
    }
}

/// Who is dearer, by the ratio of the first to the second; nobody if no difference was seen.
pub(super) fn dearer(first_over_second: Ratio) -> Option<Side> {
    match first_over_second.verdict() {
        Verdict::More => Some(Side::First),
        Verdict::Less => Some(Side::Second),
        Verdict::NoDifference | Verdict::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::measure::ratio::Interval;

    #[test]
    fn exactly_the_drawn_one_burns_and_each_is_drawn_sometimes() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut first = 0;
        for _ in 0..100 {
            let draw = Draw::by_lot(2.5, &mut random);
            let [one, other] = [Side::First, Side::Second].map(|side| draw.arguments(side));
            let (truth, ns) = draw.reveal();
            let (burns, idle) = if truth == Side::First { (one, other) } else { (other, one) };
            assert_eq!((burns, idle, ns), (vec!["--burn".into(), "2500".into()], vec![], 2_500));
            first += u32::from(truth == Side::First);
        }
        assert!((30..=70).contains(&first), "{first} of 100");
    }

    #[test]
    fn the_dearer_one_is_told_by_the_interval() {
        let of = |low, high| {
            let value = f64::midpoint(low, high);
            dearer(Ratio { value, interval: Some(Interval { low, high }) })
        };
        assert_eq!(of(1.08, 1.12), Some(Side::First));
        assert_eq!(of(0.89, 0.93), Some(Side::Second));
        assert_eq!(of(1.02, 1.12), None);
        assert_eq!(dearer(Ratio { value: 1.1, interval: None }), None);
    }
}
