//! Void rounds: when what a round measured was the machine, or the client, and not the servers.
//!
//! A round is one slice of everybody, or one block. It is void if the generator was late or had
//! hardly time to breathe, if the host took processors away, or if a listen queue overflowed (then a
//! client waits for a retransmission, a second and more, which looks like a tail and is none). Void
//! rounds are counted, with the reason, and played again as long as few are void; a run of which more
//! than a fifth is void measured its surroundings, and is a failure. What is void are the figures: the
//! connections of a void round stay in the account, and what was lost in it is lost.
//!
//! Everything here is in the orchestrator. [`Watch`] reads the kernel's counters around a round; what
//! stands in this file is pure. The counters are those of the whole network namespace: what else overflows
//! a queue meanwhile voids a round, too.

mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::latency::to_f64;
use crate::report::Caution;
pub use watch::Watch;

/// A generator later than this (99th percentile, microseconds) measures itself, or the machine's other
/// work.
///
/// 1 ms: below 5 % of the ideal's 99th percentile in every scenario with work of 4 ms.
pub const LAG_MAX_US: f64 = 1_000.0;

/// A client that needs more than this fraction of a core has no time left to be on time.
const CLIENT_MAX: f64 = 0.6;

/// Most of the processors' time that the host may take during a round.
const STEAL_MAX: f64 = 0.01;

/// One tick of stolen time may have been saved up before the round began: the clock of `/proc/stat`
/// knows nothing shorter than 10 ms.
const STEAL_TICKS: u64 = 2;

/// One void round in so many rounds, at most.
const VOID_ONE_IN: u32 = 5;

/// What makes rounds of a scenario void.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// A generator later than this: 99th percentile, in microseconds.
    pub lag_us: f64,
    /// Whether a listen queue that overflows does. Not where that is the point of the scenario.
    pub overflow: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { lag_us: LAG_MAX_US, overflow: true }
    }
}

/// Why a round is void.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The generator sent its requests late.
    Late,
    /// The generator had hardly any time left.
    Busy,
    /// The host took processors away.
    Stolen,
    /// A listen queue overflowed.
    Overflowed,
}

impl Reason {
    /// The words in reports.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Late => "generator late",
            Self::Busy => "generator short of CPU",
            Self::Stolen => "CPU stolen by the host",
            Self::Overflowed => "listen queue overflowed",
        }
    }
}

/// What was seen during a round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Time of all processors, in ticks.
    pub ticks: u64,
    /// What the host took of it.
    pub stolen: u64,
    /// Connections that found a listen queue full, or were dropped there.
    pub overflows: u64,
    /// Retransmissions that waited for a timeout.
    pub timeouts: u64,
    /// SYN cookies sent.
    pub cookies: u64,
    /// Connections that the kernel reset because it had forgotten their handshake.
    pub forgotten: u64,
    /// How late the generator was, 99th percentile, in microseconds; only in open loop.
    pub lag_p99_us: Option<f64>,
    /// The fraction of a core that the client needed; only in open loop.
    pub client: Option<f64>,
}

impl Seen {
    /// Why this round is void, if it is: all that apply.
    #[must_use]
    pub fn reasons(&self, rules: &Rules) -> Vec<Reason> {
        let stolen =
            self.stolen >= STEAL_TICKS && to_f64(self.stolen) > STEAL_MAX * to_f64(self.ticks);
        [
            (Reason::Late, self.lag_p99_us.is_some_and(|lag| lag > rules.lag_us)),
            (Reason::Busy, self.client.is_some_and(|share| share > CLIENT_MAX)),
            (Reason::Stolen, stolen),
            (Reason::Overflowed, rules.overflow && self.overflows > 0),
        ]
        .into_iter()
        .filter_map(|(reason, applies)| applies.then_some(reason))
        .collect()
    }
}

/// Judges the rounds of a scenario, one by one.
#[derive(Debug, Default)]
pub struct Umpire {
    rules: Rules,
    voids: RefCell<Voids>,
}

impl Umpire {
    /// One who goes by `rules`; with `keep` void rounds are counted and kept.
    #[must_use]
    pub fn new(rules: Rules, keep: bool) -> Self {
        Self { rules, voids: Voids { kept: keep, ..Voids::default() }.into() }
    }

    /// So many rounds are to be played.
    pub fn plan(&self, rounds: u32) {
        self.voids.borrow_mut().planned = rounds;
    }

    /// A round was played: whether it is void.
    pub fn voids(&self, seen: &Seen) -> bool {
        self.voids.borrow_mut().count(seen, &self.rules)
    }

    /// Whether void rounds are kept, because that was asked for.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.voids.borrow().kept
    }

    /// Whether a void round is played again: not if it is kept, nor if the run cannot be good any more.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        self.voids.borrow().may_repeat()
    }

    /// A round: played once, and again as long as it is void and there is patience.
    ///
    /// # Errors
    /// What `once` said, and what the round had brought by then.
    pub fn play<T>(
        &self,
        mut once: impl FnMut() -> anyhow::Result<(T, Seen)>,
    ) -> Result<Finished<T>, Unfinished<T>> {
        let mut voided = Vec::new();
        loop {
            let (last, seen) = match once() {
                Ok(played) => played,
                Err(why) => return Err(Unfinished { why, voided }),
            };
            let is_void = self.voids(&seen);
            if !is_void || !self.is_patient() {
                return Ok(Finished { last, is_void, voided });
            }
            voided.push(last);
        }
    }

    /// The account of all rounds.
    #[must_use]
    pub fn finish(self) -> Voids {
        self.voids.into_inner()
    }
}

/// What a round brought.
#[derive(Debug)]
pub struct Finished<T> {
    /// The last time that it was played.
    pub last: T,
    /// Whether that is void, and kept all the same.
    pub is_void: bool,
    /// Each time before, when it was void and played again.
    pub voided: Vec<T>,
}

/// A round that came to no end.
#[derive(Debug)]
pub struct Unfinished<T> {
    /// Why.
    pub why: anyhow::Error,
    /// What it brought each time before, when it was void and played again.
    pub voided: Vec<T>,
}

impl<T> Unfinished<T> {
    /// The same, and where it was.
    #[must_use]
    pub fn at(self, place: String) -> Self {
        Self { why: self.why.context(place), ..self }
    }
}

/// What rounds brought, until one came to no end: of that one, too, what it had brought before, as `unfinished`
/// makes it; its losses are losses.
pub fn until_unfinished<T, U>(
    rounds: impl IntoIterator<Item = Result<T, Unfinished<U>>>,
    unfinished: impl FnOnce(Vec<U>) -> T,
) -> (Vec<T>, anyhow::Result<()>) {
    let mut brought = Vec::new();
    for round in rounds {
        match round {
            Ok(finished) => brought.push(finished),
            Err(Unfinished { why, voided }) => {
                brought.push(unfinished(voided));
                return (brought, Err(why));
            }
        }
    }
    (brought, Ok(()))
}

/// The rounds of a scenario, and how many of them were void.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Voids {
    /// Rounds that were to be played; 0 where time decides.
    pub planned: u32,
    /// Rounds that were played, void ones included.
    pub played: u32,
    /// Those that were void.
    pub void: u32,
    /// Why: a round may have several reasons.
    pub reasons: BTreeMap<Reason, u32>,
    /// Whether void ones were kept, because that was asked for.
    pub kept: bool,
    /// Connections that found a listen queue full, or were dropped there, in all rounds.
    pub overflows: u64,
    /// Retransmissions that waited for a timeout.
    pub timeouts: u64,
    /// SYN cookies sent.
    pub cookies: u64,
    /// Connections that the kernel reset because it had forgotten their handshake.
    #[serde(default)]
    pub forgotten: u64,
}

impl Voids {
    /// Counts a round; whether it is void.
    fn count(&mut self, seen: &Seen, rules: &Rules) -> bool {
        self.played += 1;
        self.overflows += seen.overflows;
        self.timeouts += seen.timeouts;
        self.cookies += seen.cookies;
        self.forgotten += seen.forgotten;
        let reasons = seen.reasons(rules);
        for &reason in &reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
        let void = !reasons.is_empty();
        self.void += u32::from(void);
        void
    }

    /// Whether a void round is played again: as long as the run can still be good. One is always
    /// forgiven.
    fn may_repeat(&self) -> bool {
        // v of n + v is at most a fifth as long as v is at most n / 4.
        !self.kept && self.void <= (self.planned / (VOID_ONE_IN - 1)).max(1)
    }

    /// Whether more than a fifth is void: then the run is a failure. One alone is not.
    fn too_many(&self) -> bool {
        self.void > 1 && self.void * VOID_ONE_IN > self.played
    }

    /// What makes the run a failure.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        (self.too_many() && !self.kept).then(|| {
            format!(
                "of all rounds, {}, more than a fifth: these figures tell about the machine and not about the \
                 contestants; run again when it is quiet, or keep void rounds (--keep-void)",
                self.told()
            )
        })
    }

    /// `3 of 15 were void (2 generator late, 1 CPU stolen by the host)`.
    #[must_use]
    pub fn told(&self) -> String {
        let reasons = self.reasons.iter().map(|(why, count)| format!("{count} {}", why.words()));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let (void, played) = (self.void, self.played);
        let were = if void == 1 { "was" } else { "were" };
        match void {
            0 => format!("none of {played} was void"),
            _ => format!("{void} of {played} {were} void ({reasons})"),
        }
    }

    /// What a reader should know about them.
    #[must_use]
    pub fn cautions(&self) -> Vec<Caution> {
        let mut cautions = Vec::new();
        if self.void > 0 && self.kept {
            cautions.push(Caution::new(
                format!("All rounds were kept (--keep-void), and {}.", self.told()),
                "The machine's moods are in the figures.",
                "Take counts from this run, and figures from one without --keep-void.",
            ));
        } else if self.void > 0 {
            cautions.push(Caution::new(
                format!("Of all rounds, {}.", self.told()),
                "They were left out or played again, and the ones kept were played on the same \
                 unquiet machine.",
                if self.overflows == 0 {
                    "Run again when nothing else runs if a figure matters."
                } else {
                    "Run again when nothing else runs if a figure matters, or, as queues that overflow are \
                     counted for all programs, in a network namespace of its own (unshare -n, and there ip \
                     link set lo up)."
                },
            ));
        }
        if self.cookies > 0 {
            cautions.push(Caution::new(
                format!("The kernel sent {} SYN cookies.", self.cookies),
                "A queue of half-open connections was full, perhaps another program's, or \
                 net.ipv4.tcp_syncookies is 2; with cookies the handshake takes another path, and steering sees other calls.",
                "Raise net.ipv4.tcp_max_syn_backlog, and see that net.ipv4.tcp_syncookies is 1.",
            ));
        }
        if self.forgotten > 0 {
            cautions.push(Caution::new(
                format!("The kernel reset {} connections that no server had seen.", self.forgotten),
                "Where an accept queue stays full it forgets after some seconds whose handshake it had \
                 finished, and resets who sends again (SyncookiesFailed); such failures no kill explains, nor \
                 anything that a server does. (It counts for the whole network namespace, and stray packets \
                 with them.)",
                "Ask for less load.",
            ));
        }
        if self.timeouts > 0 && self.overflows == 0 {
            cautions.push(Caution::new(
                format!("TCP waited for a retransmission timeout {} times.", self.timeouts),
                "On loopback nothing is lost by itself: somebody else's traffic, or packets \
                 dropped by a filter; each may have cost a client 0.2 s or more.",
                "Run in a network namespace of its own, without packet filters.",
            ));
        }
        cautions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_and_an_exempt_one_is_not() {
        let calm =
            Seen { ticks: 1_000, lag_p99_us: Some(999.0), client: Some(0.5), ..Seen::default() };
        let check = |seen: Seen, expected: &[Reason]| {
            assert_eq!(seen.reasons(&Rules::default()), expected, "{seen:?}");
        };
        check(calm, &[]);
        check(Seen { lag_p99_us: Some(1_001.0), ..calm }, &[Reason::Late]);
        check(Seen { client: Some(0.61), ..calm }, &[Reason::Busy]);
        check(Seen { stolen: 10, ..calm }, &[]);
        check(Seen { stolen: 11, ..calm }, &[Reason::Stolen]);
        check(Seen { ticks: 10, stolen: 1, ..calm }, &[]);
        check(
            Seen { ticks: 10, stolen: 2, overflows: 1, ..calm },
            &[Reason::Stolen, Reason::Overflowed],
        );
        check(Seen { timeouts: 9, cookies: 9, ..calm }, &[]);
        let exempt = Rules { overflow: false, lag_us: 5_000.0 };
        let seen = Seen { overflows: 1, lag_p99_us: Some(4_000.0), ..calm };
        assert_eq!(seen.reasons(&exempt), []);
    }

    fn counted(planned: u32, good: u32, void: u32) -> Voids {
        let mut voids = Voids { planned, ..Voids::default() };
        let rules = Rules::default();
        for _ in 0..good {
            assert!(!voids.count(&Seen::default(), &rules));
        }
        for _ in 0..void {
            assert!(voids.count(&Seen { overflows: 1, ..Seen::default() }, &rules));
        }
        voids
    }

    #[test]
    fn a_run_that_is_void_by_more_than_a_fifth_is_a_failure() {
        for (good, void, fails) in [
            (12, 0, false),
            (12, 3, false),
            (12, 4, true),
            (4, 1, false),
            (1, 1, false),
            (4, 2, true),
        ] {
            let voids = counted(good, good, void);
            assert_eq!(voids.failure().is_some(), fails, "{void} void beside {good}");
            // It is repeated as long as that can be avoided, and no longer.
            assert_eq!(voids.may_repeat(), !fails, "{void} void beside {good}");
        }
        let voids = counted(12, 12, 4);
        let failure = voids.failure().unwrap();
        assert!(
            failure
                .starts_with("of all rounds, 4 of 16 were void (4 listen queue overflowed), more"),
            "{failure}"
        );
        let kept = Voids { kept: true, ..voids };
        assert!(kept.failure().is_none() && !kept.may_repeat());
    }

    #[test]
    fn what_the_rounds_saw_becomes_cautions() {
        assert_eq!(counted(4, 4, 0).cautions(), []);
        let seen = |voids: &Voids| {
            let all = voids.cautions();
            assert_eq!(all.len(), 1, "{all:?}");
            all[0].seen.clone()
        };
        let void = counted(4, 4, 1);
        let told = "1 of 5 was void (1 listen queue overflowed).";
        assert_eq!(seen(&void), format!("Of all rounds, {told}"));
        assert!(
            seen(&Voids { kept: true, ..void }).starts_with("All rounds were kept (--keep-void)")
        );
        let cookies = Voids { cookies: 3, ..Voids::default() };
        assert_eq!(seen(&cookies), "The kernel sent 3 SYN cookies.");
        let forgotten = Voids { forgotten: 5, ..Voids::default() };
        assert_eq!(seen(&forgotten), "The kernel reset 5 connections that no server had seen.");
        let timeouts = Voids { timeouts: 2, ..Voids::default() };
        assert_eq!(seen(&timeouts), "TCP waited for a retransmission timeout 2 times.");
    }
}
