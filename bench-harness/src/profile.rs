//! A profile: what a service is like, as far as it matters for how connections reach its workers.
//!
//! Written by hand, by [`record`](crate::record) from an access log, or asked for field by field
//! ([`questions`]); read by [`recommend`](crate::recommend).

pub mod file;
pub mod questions;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use forkherd_core::{RuntimeKind, SLOTS_LIMIT};
use serde::{Deserialize, Serialize};

use crate::trace::Quantiles;

/// The load of a profile that gives neither `load` nor `rate`.
pub const LOAD: f64 = 0.7;

/// More than this of one-at-a-time workers' time leaves queues that grow for minutes: no figure of a
/// short run would mean anything.
const LOAD_MAX: f64 = 0.95;

/// More requests that wait on event loops at the same time than this are not played: each has a connection,
/// and the client has one limit of open files for all.
const AT_ONCE_MAX: f64 = 10_000.0;

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What matters most.
    #[serde(default)]
    pub goal: Goal,
    /// What each worker runs.
    #[serde(default = "blocking", with = "text")]
    pub runtime: RuntimeKind,
    /// Worker processes.
    #[serde(default = "eight")]
    pub workers: NonZeroU32,
    /// Requests per second; instead of `load`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Fraction of the time the workers are busy; instead of `rate`. [`LOAD`] if neither is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// How many requests come at once: 1 is Poisson, more are bursts.
    #[serde(default = "one")]
    pub burst: NonZeroU32,
    /// How long connections live.
    #[serde(default, with = "text")]
    pub connections: Connections,
    /// Whether the same client is to reach the same worker.
    #[serde(default)]
    pub sticky: bool,
    /// What workers may do.
    #[serde(default)]
    pub trust: Trust,
    /// Whether the supervisor may have `CAP_BPF` when it starts.
    #[serde(default)]
    pub bpf: bool,
    /// How often workers are replaced while clients are there; for the goal *robustness*.
    #[serde(default)]
    pub restarts: Restarts,
    /// What a request asks of a worker.
    pub work: Work,
}

/// What a request asks of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The mean, in microseconds; instead of `quantiles_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_us: Option<f64>,
    /// Standard deviation over mean: 0 all alike, 1 exponential (if not given), more has a heavier tail
    /// (lognormal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cv: Option<f64>,
    /// Its quantiles, in microseconds; instead of `mean_us` and `cv`.
    #[serde(default, skip_serializing_if = "Quantiles::is_empty")]
    pub quantiles_us: Quantiles,
    /// The part of it that burns CPU, 0 to 1; the rest waits for something else.
    #[serde(default)]
    pub cpu: f64,
}

/// What matters most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The slowest requests: 99th percentile of latency.
    #[default]
    Tail,
    /// CPU per request.
    Cost,
    /// Workers that are used evenly.
    Spread,
    /// That others do not notice when workers die, hang or are replaced.
    Robustness,
}

/// What workers may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// What they should; a crash now and then.
    #[default]
    Full,
    /// Stand still for seconds: a stuck lock, a debugger, swapping.
    MayHang,
    /// Anything: they must not hold what others depend on.
    Hostile,
}

/// How often workers are replaced while clients are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Restarts {
    /// Now and then.
    #[default]
    Rare,
    /// Many times a day: by deployments, or to give memory back.
    Often,
}

/// How long connections live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// One request each.
    #[default]
    Short,
    /// So many requests each.
    KeepAlive(NonZeroU32),
    /// For minutes and hours.
    LongLived,
}

impl fmt::Display for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => formatter.write_str("short"),
            Self::KeepAlive(requests) => write!(formatter, "keep-alive:{requests}"),
            Self::LongLived => formatter.write_str("long-lived"),
        }
    }
}

impl FromStr for Connections {
    type Err = String;

    /// As it is displayed.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "short" => Ok(Self::Short),
            None if text == "long-lived" => Ok(Self::LongLived),
            Some(("keep-alive", number)) => number.parse().map(Self::KeepAlive).map_err(|_| {
                format!("`{number}` is no number of requests; for example keep-alive:20")
            }),
            _ => Err(format!("`{text}`: expected short, keep-alive:N or long-lived")),
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            about: String::new(),
            goal: Goal::default(),
            runtime: blocking(),
            workers: eight(),
            rate: None,
            load: None,
            burst: one(),
            connections: Connections::default(),
            sticky: false,
            trust: Trust::default(),
            bpf: false,
            restarts: Restarts::default(),
            work: Work::default(),
        }
    }
}

impl Default for Work {
    fn default() -> Self {
        Self { mean_us: Some(4_000.0), cv: None, quantiles_us: Quantiles::default(), cpu: 0.0 }
    }
}

impl Work {
    /// Its mean, in microseconds.
    #[must_use]
    pub fn mean_us(&self) -> f64 {
        match self.mean_us {
            Some(mean) => mean,
            None => self.quantiles_us.mean_us(),
        }
    }
}

impl Profile {
    /// Requests that are served at the same time if nobody has to wait: lanes of all workers.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.workers.get().saturating_mul(self.runtime.lanes())
    }

    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or_else(|| {
            self.load.unwrap_or(LOAD) * f64::from(self.lanes()) * 1e6 / self.work.mean_us()
        })
    }

    /// Fraction of the time that the lanes of all workers are busy; above 1 only on event loops, which
    /// wait for many at a time.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.rate() * self.work.mean_us() / 1e6 / f64::from(self.lanes())
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// A sentence that names the field and says what is wanted.
    pub fn check(&self) -> Result<(), String> {
        self.work.check()?;
        let positive = |what: &str, value: Option<f64>| match value {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(format!("{what} = {value}: give a number above 0"))
            }
            _ => Ok(()),
        };
        positive("rate", self.rate)?;
        positive("load", self.load)?;
        if self.rate.is_some() && self.load.is_some() {
            return Err(
                "rate and load are both given, and one follows from the other: give one".to_owned()
            );
        }
        if self.workers.get() > SLOTS_LIMIT {
            return Err(format!("workers = {}: at most {SLOTS_LIMIT}", self.workers));
        }
        if self.lanes() > SLOTS_LIMIT {
            return Err(format!(
                "{} workers of {} threads are {} lanes: at most {SLOTS_LIMIT}",
                self.workers,
                self.runtime.lanes(),
                self.lanes()
            ));
        }
        let busy = self.load() * f64::from(self.lanes());
        // An event loop serves others while a request waits, and none while it burns CPU.
        let full = if self.runtime.is_one_at_a_time() { busy } else { busy * self.work.cpu };
        if full > LOAD_MAX * f64::from(self.lanes()) {
            return Err(format!(
                "{:.0} requests per second of {:.0} µs keep {full:.1} workers busy, and there are {}: \
                 more workers, a lower rate or less work (at most {LOAD_MAX} of their time)",
                self.rate(),
                self.work.mean_us(),
                self.lanes(),
            ));
        }
        if busy > AT_ONCE_MAX {
            return Err(format!(
                "{:.0} requests per second of {:.0} µs are {busy:.0} at the same time: a lower rate or less \
                 work ({AT_ONCE_MAX} at most)",
                self.rate(),
                self.work.mean_us(),
            ));
        }
        if self.connections != Connections::Short && self.runtime.is_one_at_a_time() {
            return Err(format!(
                "connections = \"{}\" on the {} runtime: a worker that serves one connection at a time \
                 serves nobody else while that one stays; use tokio, or close after each answer (short)",
                self.connections, self.runtime
            ));
        }
        Ok(())
    }
}

impl Work {
    fn check(&self) -> Result<(), String> {
        match (self.mean_us, self.quantiles_us.is_empty()) {
            (None, true) => return Err("work: give mean_us (and cv) or quantiles_us".to_owned()),
            (Some(_), false) => {
                return Err("work: mean_us and quantiles_us are both given: give one".to_owned());
            }
            _ => {}
        }
        if self.cv.is_some() && !self.quantiles_us.is_empty() {
            return Err("work: cv belongs to mean_us; quantiles_us have their own".to_owned());
        }
        if self.cv.is_some_and(|cv| !(0.0..=20.0).contains(&cv)) {
            return Err("work.cv: give a number from 0 (all alike) to 20".to_owned());
        }
        if self.mean_us.is_none() {
            self.quantiles_us.check().map_err(|wanted| format!("work.quantiles_us: {wanted}"))?;
        }
        // 60 s: what the harness's server agrees to do for a request.
        if !(1.0..=60e6).contains(&self.mean_us()) {
            return Err(format!("work: a mean of {} µs: give 1 to 60,000,000", self.mean_us()));
        }
        if !(0.0..=1.0).contains(&self.cpu) {
            return Err(format!("work.cpu = {}: give the part that burns CPU, 0 to 1", self.cpu));
        }
        Ok(())
    }
}

fn blocking() -> RuntimeKind {
    RuntimeKind::Blocking
}

fn eight() -> NonZeroU32 {
    NonZeroU32::new(8).expect("eight is not zero")
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Fields that are written as on the command line.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_load_follow_from_each_other() {
        let mut profile = Profile::default();
        assert!((profile.rate() - 1_400.0).abs() < 1e-9 && (profile.load() - LOAD).abs() < 1e-9);
        profile.rate = Some(700.0);
        assert!((profile.load() - 0.35).abs() < 1e-9);
        profile.runtime = "threads:2".parse().unwrap();
        assert!((profile.load() - 0.175).abs() < 1e-9);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let check = |change: fn(&mut Profile), expected: &str| {
            let mut profile = Profile::default();
            change(&mut profile);
            let said = profile.check().err().unwrap_or_default();
            assert!(said.contains(expected), "{said:?} without {expected:?}");
            assert_eq!(said.is_empty(), expected.is_empty(), "{said}");
        };
        check(|_| {}, "");
        check(|profile| profile.rate = Some(-1.0), "rate = -1");
        check(|profile| profile.rate = Some(2_000.0), "more workers, a lower rate");
        check(|profile| (profile.rate, profile.load) = (Some(1.0), Some(0.1)), "give one");
        check(|profile| profile.work.cv = Some(-2.0), "work.cv");
        check(|profile| profile.work.mean_us = None, "give mean_us");
        check(|profile| profile.work.quantiles_us = Quantiles::new(vec![(1.0, 1.0)]), "both given");
        check(|profile| profile.work.cpu = 1.5, "work.cpu = 1.5");
        check(|profile| profile.connections = Connections::LongLived, "use tokio");
        check(|profile| profile.runtime = "threads:99".parse().unwrap(), "792 lanes");
        check(|profile| profile.runtime = "threads:536870912".parse().unwrap(), "lanes: at most");
        let endless = |profile: &mut Profile| {
            (profile.runtime, profile.rate) = (RuntimeKind::Tokio, Some(1e300));
        };
        check(endless, "at the same time: a lower rate");
        let falling = |profile: &mut Profile| {
            profile.work.mean_us = None;
            profile.work.quantiles_us = Quantiles::new(vec![(1.0, 9.0), (2.0, 5.0)]);
        };
        check(falling, "both rising");
        // Waiting costs an event loop nothing, burning does.
        let waits = |profile: &mut Profile| {
            (profile.runtime, profile.rate) = (RuntimeKind::Tokio, Some(9_000.0));
        };
        check(waits, "");
        let burns = |profile: &mut Profile| {
            (profile.runtime, profile.rate) = (RuntimeKind::Tokio, Some(9_000.0));
            profile.work.cpu = 1.0;
        };
        check(burns, "keep 36.0 workers busy");
    }

    #[test]
    fn connections_are_read_as_they_are_written() {
        for text in ["short", "keep-alive:20", "long-lived"] {
            assert_eq!(text.parse::<Connections>().unwrap().to_string(), text);
        }
        let wrong = |text: &str| text.parse::<Connections>().unwrap_err();
        assert!(wrong("keep-alive:0").contains("keep-alive:20"));
        assert!(wrong("keep-alive").contains("long-lived"));
    }
}
