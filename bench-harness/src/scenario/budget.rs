//! How long a scenario takes.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Asked;
use super::spec::{Engine, Part, Spec};
use crate::blocks::BLOCK_MIN;

/// What a block costs beside its trace: starting and ending a server, the last answers.
const PER_BLOCK: Duration = Duration::from_millis(500);

/// What opening thousands of connections twice costs, about.
const PER_HELD: Duration = Duration::from_secs(12);

/// More than anybody waits for, and little enough that sums of it, and clocks plus it, do not overflow.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

impl Spec {
    /// How long it takes with so many contestants, nothing being void: its budget, or as long as whole
    /// blocks take where that is longer, or their length given; 136 years at most.
    #[must_use]
    pub fn time(&self, quick: bool, contestants: usize, asked: &Asked<'_>) -> Duration {
        let contestants = u32::try_from(contestants).unwrap_or(u32::MAX).max(1);
        let budget = self.budget.map_or(Duration::ZERO, |budget| {
            Duration::from_secs_f64(if quick { budget.quick_s } else { budget.full_s })
        });
        let time = match &self.engine {
            Engine::Closed(_) => budget,
            Engine::Held(_) => PER_HELD.saturating_mul(contestants),
            Engine::Open(open) => {
                let length = |part: &Part| part.length(asked.block);
                let is_given = open.parts.iter().all(|part| length(part).is_some());
                if quick && !is_given && asked.seeds.is_none() {
                    return budget;
                }
                let seeds = asked.seeds.or(open.seeds).map_or(1, NonZeroU32::get);
                let length = |part| length(part).unwrap_or(BLOCK_MIN) + PER_BLOCK;
                let once: Duration = open.parts.iter().map(length).sum();
                let least = once.saturating_mul(contestants).saturating_mul(seeds);
                if is_given { least } else { least.max(budget) }
            }
        };
        time.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    const NOTHING: Asked<'_> =
        Asked { against: "", clients: None, runtime: None, block: None, seeds: None };

    #[test]
    fn the_budgets_keep_the_promises() {
        let specs = builtin::select(&builtin::DEFAULT).unwrap();
        // Nobody supervises the workers of the baseline, so it is not where they are killed.
        let players = |spec: &Spec| if spec.name == "worker-killed" { 3 } else { 4 };
        let time = |spec: &Spec, quick| spec.time(quick, players(spec), &NOTHING);
        let sum = |quick| specs.iter().map(|spec| time(spec, quick)).sum::<Duration>();
        assert!(sum(false) <= Duration::from_secs(105));
        // Within half a minute, also where a block of each is void and played again.
        assert!(sum(true) <= Duration::from_secs(25));
        // Eight contestants, the whole of it: within half an hour.
        let tail = builtin::find("tail").unwrap();
        assert!(tail.time(false, 8, &NOTHING) <= Duration::from_secs(30 * 60));
    }

    #[test]
    fn what_is_asked_for_takes_as_long_as_it_takes() {
        let time = |name: &str, block, seeds| {
            let block = Some(Duration::from_secs(block));
            let asked = Asked { block, seeds: NonZeroU32::new(seeds), ..NOTHING };
            builtin::find(name).unwrap().time(false, 2, &asked).as_secs_f64()
        };
        assert_eq!(time("uneven-work", 20, 3).to_bits(), 123.0_f64.to_bits());
        assert_eq!(time("tail", 10, 1).to_bits(), 63.0_f64.to_bits());
        // Shorter blocks would end before the worker goes on.
        assert_eq!(time("worker-hung", 1, 1).to_bits(), 34.0_f64.to_bits());
    }

    #[test]
    fn what_takes_for_ever_can_be_added_up() {
        let asked = Asked {
            block: Some(Duration::from_secs(u32::MAX.into())),
            seeds: NonZeroU32::new(u32::MAX),
            ..NOTHING
        };
        let spec = builtin::find("uneven-work").unwrap();
        let times = [spec.time(false, 4, &asked), spec.time(true, usize::MAX, &asked)];
        assert_eq!(times, [LONGEST; 2]);
        assert!(std::time::Instant::now().checked_add(times.iter().sum()).is_some());
    }
}
