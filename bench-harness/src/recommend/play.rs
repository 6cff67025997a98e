//! What is played to find out: the scenario that a profile stands for.
//!
//! | goal | what is measured | how |
//! |---|---|---|
//! | tail | 99th percentile of latency | open loop, the profile's own arrivals and work |
//! | cost | CPU of all server processes per request | closed loop in paired slices, plus the work's own CPU |
//! | spread | the busiest worker over the mean, round by round | closed loop; connections kept if they are |
//! | robustness | 99th percentile of latency, who is not served counting as the longest wait | open loop with faults |
//!
//! Queueing has no scale: twice the work at half the rate is the same queue at half the speed. So work that
//! would need more requests per second than one machine can send, or too few for a percentile, is
//! stretched or shrunk, load and shape being kept, and the answer says so.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::load::protocol::{self, Beside, Kept, Pace};
use crate::profile::{Connections, Goal, Profile, Restarts, Trust};
use crate::report::Caution;
use crate::scenario::spec::{Budget, Closed, Engine, Fault, Open, Part, Rate, Slice, Spec};
use crate::trace::{Arrivals, Handler, Work};
use crate::void::Rules;

use super::candidates::measured_on;
use super::nonzero;

/// More requests per second than this, and client and servers compete for a small machine.
const RATE_MAX: f64 = 1_500.0;

/// Fewer than this, and a minute has no 99th percentile for several candidates.
const RATE_MIN: f64 = 500.0;

/// Shorter work is mostly wake-ups, which take 0.1–0.2 ms.
const WORK_MIN_US: f64 = 2_000.0;

/// Of work whose mean is longer, requests take so long that clients give up.
const WORK_MAX_US: f64 = 1e6;

/// More of the cores than this, and work that burns CPU waits for a core instead of a worker.
const CORES_MAX: f64 = 0.6;

/// From here on connections count as kept: the request is what costs, not the connection.
const KEPT_FROM: u32 = 8;

/// Connections kept open: eight for each of the default workers.
const KEPT: u32 = 64;

/// Requests between two kills: so many that those a kill takes with it do not reach the percentile.
const PER_KILL: f64 = 400.0;

/// How long a hung worker hangs, in milliseconds.
const HANG_MS: u32 = 600;

/// From one rolling restart to the next, in milliseconds: one takes some tenths of a second.
const RESTART_MS: u32 = 1_000;

/// After how long it counts as hung, in milliseconds.
const HUNG_AFTER_MS: u32 = 250;

/// So many times the mean is longer than requests take.
const LONG: f64 = 20.0;

/// What is played.
#[derive(Clone, Debug)]
pub struct Play {
    /// The scenario.
    pub spec: Spec,
    /// Worker processes of each candidate.
    pub workers: NonZeroU32,
    /// What decides.
    pub goal: Goal,
    /// CPU of the work itself that every request needs beside what was measured, in microseconds.
    pub own_cpu_us: f64,
    /// Where the play is not the profile.
    pub cautions: Vec<Caution>,
}

impl Play {
    /// Requests per second and the number of parts, where times decide: percentiles need many requests.
    #[must_use]
    pub fn rate(&self) -> Option<(f64, u32)> {
        let Engine::Open(open) = &self.spec.engine else { return None };
        let parts = u32::try_from(open.parts.len()).unwrap_or(u32::MAX);
        match open.parts.first()?.rate? {
            Rate::PerSecond(rate) => Some((rate, parts)),
            Rate::Load(_) | Rate::Cores(_) => None,
        }
    }
}

/// What is played for `profile` on a machine with so many `cores`.
#[must_use]
pub fn of(profile: &Profile, cores: u32) -> Play {
    let mut cautions = Vec::new();
    if profile.runtime.lanes() > 1 {
        cautions.push(Caution::new(
            format!(
                "Workers with {} threads each were played as {} workers.",
                profile.runtime.lanes(),
                profile.lanes()
            ),
            "What threads of one process share is not in these figures.",
            "Take `compare` with your own service for a last word.",
        ));
    }
    let engine = match profile.goal {
        Goal::Cost | Goal::Spread => closed(profile, &mut cautions),
        Goal::Tail | Goal::Robustness => open(profile, cores, &mut cautions),
    };
    let spec = Spec {
        name: "profile".to_owned(),
        line: "what a profile stands for".to_owned(),
        question: "Which strategy serves this profile best?".to_owned(),
        runtimes: vec![measured_on(profile.runtime)],
        // The caller's time, whatever it is.
        budget: Some(Budget { full_s: 60.0, quick_s: 60.0 }),
        workers_per_core: Vec::new(),
        void: Rules::default(),
        engine,
    };
    let own_cpu_us = match profile.goal {
        Goal::Cost => profile.work.mean_us() * profile.work.cpu,
        _ => 0.0,
    };
    let workers = nonzero(profile.lanes());
    Play { spec, workers, goal: profile.goal, own_cpu_us, cautions }
}

/// Many tiny requests in turn: what connections and requests cost, and where they go.
fn closed(profile: &Profile, cautions: &mut Vec<Caution>) -> Engine {
    let is_kept = match profile.connections {
        Connections::Short => false,
        Connections::LongLived => true,
        Connections::KeepAlive(requests) => requests.get() >= KEPT_FROM,
    };
    if let Connections::KeepAlive(requests) = profile.connections {
        let played = if is_kept { "for their requests alone" } else { "as one request each" };
        cautions.push(Caution::new(
            format!("Connections of {requests} requests were played {played}."),
            "The other part of their cost is not in these figures.",
            "Compare with short or long-lived connections to see how much that is.",
        ));
    }
    cautions.push(Caution::new(
        "Load, arrivals and the length of work were not played: everybody asked again at once.".to_owned(),
        "Where workers are idle in between, wake-ups cost more, and a process on the way costs one more.",
        "Look at CPU per connection in `compare --scenarios uneven-work` (load 0.7), too.",
    ));
    Engine::Closed(if is_kept {
        Closed { clients: nonzero(KEPT), slice: Slice::Kept(nonzero(24)) }
    } else {
        Closed { clients: nonzero(2 * profile.lanes()), slice: Slice::Fresh(nonzero(400)) }
    })
}

/// The profile's own requests, each at its time.
fn open(profile: &Profile, cores: u32, cautions: &mut Vec<Caution>) -> Engine {
    let lanes = f64::from(profile.lanes());
    let mut load = profile.load();
    let burns = profile.work.cpu >= 0.5;
    let mut handler = if burns { Handler::Spins } else { Handler::Sleeps };
    let room = CORES_MAX * f64::from(cores);
    if burns && load * lanes > room {
        if profile.runtime.is_one_at_a_time() {
            handler = Handler::Sleeps;
            cautions.push(Caution::new(
                format!(
                    "Work that burns {:.1} cores was played as waiting: there are {cores}.",
                    load * lanes
                ),
                "Who waits for a worker is as it would be; who waits for a core is not seen.",
                "Run it on a machine with more cores.",
            ));
        } else {
            cautions.push(Caution::new(
                format!(
                    "Work that burns {:.1} cores was played at {room:.1}: there are {cores}.",
                    load * lanes
                ),
                "At a lower load everybody's tail is shorter, and differences are smaller.",
                "Run it on a machine with more cores.",
            ));
            load = room / lanes;
        }
    }
    if !burns && profile.work.cpu > 0.0 {
        cautions.push(Caution::new(
            format!(
                "Work that burns CPU for {:.0} % of its time was played as waiting.",
                profile.work.cpu * 100.0
            ),
            "Who waits for a core is not seen.",
            "Set cpu to 1 to see the other end.",
        ));
    }
    let mean_us = profile.work.mean_us();
    let factor = stretch(mean_us, load * lanes);
    // What rounds to nothing is nothing.
    if (factor - 1.0).abs() >= 0.005 {
        let how = if factor > 1.0 { "slower" } else { "faster" };
        let times = factor.max(1.0 / factor);
        cautions.push(Caution::new(
            format!("The profile was played {times:.2} times {how}, its load and its shape kept."),
            "Times are those of the play; ratios between strategies are those of the profile, except \
             for what a connection costs beside its work.",
            "Look at ratios.",
        ));
    }
    let outlasts_clients = mean_us * factor > WORK_MAX_US;
    if outlasts_clients {
        cautions.push(Caution::new(
            format!("Requests were played that take {:.1} s on average.", mean_us * factor / 1e6),
            "Who is not answered within 10 s counts as not served; the longest may be so under every strategy.",
            "Take shorter work at a rate that is higher in proportion, or another goal.",
        ));
    }
    let rate = load * lanes * 1e6 / (mean_us * factor);
    let part = Part {
        arrivals: match profile.burst.get() {
            1 => Arrivals::Poisson,
            _ => Arrivals::Bursts(profile.burst),
        },
        rate: Some(Rate::PerSecond(rate)),
        work: work(profile, factor),
        handler,
        pace: Pace::Open,
        connections: kept(profile.connections),
        beside: Beside::default(),
        // That is then no failure of whoever serves it.
        may_be_late: outlasts_clients,
        length_s: None,
        fault: None,
        figures: Vec::new(),
    };
    if profile.connections == Connections::LongLived {
        cautions.push(Caution::new(
            "Connections that stay were opened before anything was measured.".to_owned(),
            "Where new ones go after others have left is not in these figures.",
            "Run `compare --scenarios long-lived` with those who come into question.",
        ));
    }
    let with = |fault| Part { fault: Some(fault), ..part.clone() };
    let mut parts = Vec::new();
    if profile.goal == Goal::Tail {
        parts.push(part);
    } else {
        parts.push(with(Fault::Kill { every_ms: whole(1e3 * PER_KILL / rate) }));
        if profile.trust != Trust::Full {
            parts.push(with(Fault::Stop { for_ms: nonzero(HANG_MS) }));
        }
        if profile.restarts == Restarts::Often {
            parts.push(with(Fault::Restart { every_ms: nonzero(RESTART_MS) }));
        }
    }
    // A request that merely takes long is no hung worker.
    let hung_after = f64::from(HUNG_AFTER_MS).max(LONG * mean_us * factor / 1e3);
    let may_hang = profile.goal == Goal::Robustness && profile.trust != Trust::Full;
    let hung_after_ms = may_hang.then(|| whole(hung_after));
    Engine::Open(Open { seeds: None, hung_after_ms, nofile: None, parts })
}

/// What carries requests; connections that live long outlive the comparison.
fn kept(connections: Connections) -> protocol::Connections {
    let requests = match connections {
        Connections::Short => return protocol::Connections::Fresh,
        Connections::KeepAlive(requests) => requests,
        Connections::LongLived => NonZeroU32::MAX,
    };
    protocol::Connections::Kept(Kept { number: nonzero(KEPT), requests, share: 1.0 })
}

/// By how much work is stretched (or, below 1, shrunk) that keeps `busy` workers busy.
fn stretch(mean_us: f64, busy: f64) -> f64 {
    let rate = |factor: f64| busy * 1e6 / (mean_us * factor);
    let slower = (rate(1.0) / RATE_MAX).max(WORK_MIN_US / mean_us);
    let faster = (rate(1.0) / RATE_MIN).max(WORK_MIN_US / mean_us);
    if slower > 1.0 {
        slower
    } else if faster < 1.0 {
        faster
    } else {
        1.0
    }
}

/// The work of a profile, `factor` times as long.
fn work(profile: &Profile, factor: f64) -> Work {
    let work = &profile.work;
    if !work.quantiles_us.is_empty() {
        return Work::Quantiles(work.quantiles_us.stretched(factor));
    }
    let mean = Duration::from_secs_f64(work.mean_us() * factor / 1e6);
    match work.cv.unwrap_or(1.0) {
        cv if cv < 0.01 => Work::Constant(mean),
        cv if (cv - 1.0).abs() < 0.01 => Work::Exponential(mean),
        cv => Work::Lognormal { mean, cv },
    }
}

/// Milliseconds, at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(value: f64) -> NonZeroU32 {
    nonzero(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(change: impl Fn(&mut Profile)) -> (Part, Play) {
        let mut profile = Profile::default();
        change(&mut profile);
        profile.check().unwrap();
        let play = of(&profile, 2);
        match &play.spec.engine {
            Engine::Open(open) => (open.parts[0].clone(), play),
            other => panic!("{other:?}"),
        }
    }

    fn rate(play: &Play) -> f64 {
        play.rate().unwrap().0
    }

    #[test]
    fn a_profile_that_fits_is_played_as_it_is() {
        let (part, play) = part(|_| {});
        assert!((rate(&play) - 1_400.0).abs() < 1e-6);
        assert_eq!(part.work, Work::Exponential(Duration::from_millis(4)));
        assert_eq!((part.handler, part.fault), (Handler::Sleeps, None));
        assert_eq!(play.cautions, []);
    }

    #[test]
    fn what_is_too_quick_or_too_slow_keeps_its_load() {
        for mean_us in [20.0, 400.0, 90_000.0] {
            let (part, play) = part(|profile| profile.work.mean_us = Some(mean_us));
            let rate = rate(&play);
            assert!((RATE_MIN - 1e-6..=RATE_MAX + 1e-6).contains(&rate), "{mean_us}: {rate}");
            let busy = rate * part.work.mean().unwrap().as_secs_f64();
            assert!((busy / 5.6 - 1.0).abs() < 0.001, "{mean_us}: {busy}");
            assert_eq!(play.cautions.len(), 1);
        }
    }

    #[test]
    fn work_that_outlasts_clients_is_cautioned_and_no_failure() {
        let seen = |mean_us| {
            let change = |profile: &mut Profile| {
                profile.runtime = "tokio".parse().unwrap();
                (profile.rate, profile.work.mean_us) = (Some(1_000.0), Some(mean_us));
            };
            let (part, play) = part(change);
            (play.cautions.len(), part.may_be_late)
        };
        assert_eq!((seen(900e3), seen(3e6)), ((0, false), (1, true)));
    }

    #[test]
    fn variation_and_bursts_are_kept() {
        let (part, _) = part(|profile| {
            (profile.work.cv, profile.burst) = (Some(3.0), nonzero(20));
        });
        assert!(matches!(part.work, Work::Lognormal { cv, .. } if (cv - 3.0).abs() < 1e-9));
        assert_eq!(part.arrivals, Arrivals::Bursts(nonzero(20)));
        let (even, _) = self::part(|profile| profile.work.cv = Some(0.0));
        assert_eq!(even.work, Work::Constant(Duration::from_millis(4)));
    }

    #[test]
    fn what_burns_more_cores_than_there_are_waits_instead_or_comes_less_often() {
        let (few, _) = part(|profile| (profile.work.cpu, profile.load) = (1.0, Some(0.1)));
        assert_eq!(few.handler, Handler::Spins);
        let (many, play) = part(|profile| profile.work.cpu = 1.0);
        assert_eq!((many.handler, play.cautions.len()), (Handler::Sleeps, 1));
        let (on_tokio, play) = part(|profile| {
            (profile.work.cpu, profile.runtime) = (1.0, "tokio".parse().unwrap());
        });
        assert_eq!(on_tokio.handler, Handler::Spins);
        let busy = rate(&play) * on_tokio.work.mean().unwrap().as_secs_f64();
        assert!((busy - 1.2).abs() < 0.01, "{busy}");
    }

    #[test]
    fn connections_that_stay_are_kept() {
        let (fresh, _) = part(|_| {});
        assert_eq!(fresh.connections, protocol::Connections::Fresh);
        let (part, _) = part(|profile| {
            profile.runtime = "tokio".parse().unwrap();
            profile.connections = "keep-alive:20".parse().unwrap();
        });
        let protocol::Connections::Kept(kept) = part.connections else { panic!("{part:?}") };
        assert_eq!((kept.number.get(), kept.requests.get()), (KEPT, 20));
    }

    #[test]
    fn faults_are_those_that_the_profile_has() {
        let faults = |change: fn(&mut Profile)| {
            let (_, play) = part(|profile| {
                profile.goal = Goal::Robustness;
                change(profile);
            });
            let Engine::Open(open) = play.spec.engine else { panic!("an open loop") };
            let words = open.parts.iter().map(|part| match part.fault {
                Some(Fault::Kill { .. }) => "kill",
                Some(Fault::Stop { .. }) => "stop",
                Some(Fault::Restart { .. }) => "restart",
                _ => "none",
            });
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(faults(|_| {}), "kill");
        assert_eq!(faults(|profile| profile.trust = Trust::MayHang), "kill stop");
        assert_eq!(faults(|profile| profile.restarts = Restarts::Often), "kill restart");
    }

    #[test]
    fn cost_and_spread_keep_connections_that_stay() {
        let closed = |goal, life: &str| {
            let profile = Profile {
                goal,
                connections: life.parse().unwrap(),
                runtime: "tokio".parse().unwrap(),
                ..Profile::default()
            };
            let play = of(&profile, 2);
            let Engine::Closed(closed) = play.spec.engine else { panic!("a closed loop") };
            matches!(closed.slice, Slice::Kept(_))
        };
        assert!(!closed(Goal::Cost, "short") && !closed(Goal::Spread, "keep-alive:2"));
        assert!(closed(Goal::Cost, "keep-alive:50") && closed(Goal::Spread, "long-lived"));
    }
}
