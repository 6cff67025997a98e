//! The short comparison behind a recommendation: a heat of everybody, then a final of those who may win.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use crate::blocks;
use crate::contestant::{Contestant, Launch};
use crate::external::offers::Offers;
use crate::interrupt::Interrupt;
use crate::measure::figures::WARM_UP;
use crate::measure::latency::{BEYOND_MIN, to_f64};
use crate::process::Program;
use crate::progress::Progress;
use crate::report::{Caution, Row, Samples};
use crate::scenario::{self, Asked};
use crate::serve::Usage;
use crate::void::Umpire;

use super::SECONDS_MAX;
use super::candidates::{Candidate, Field, Pruned};
use super::play::Play;
use super::verdict::{Judge, Measured, Standing, Verdict};

/// More than this, and a heat comes first.
const FINALISTS: usize = 5;

/// The part of the time that the heat takes: a third.
const HEAT: u32 = 3;

/// Sets the heat's traces apart from those of the final, which judge again.
const OF_HEAT: u64 = 0x68_6561_7400;

/// In a heat a tail is judged by this percentile, for which a second of requests is enough.
const HEAT_QUANTILE: f64 = 0.9;

/// The percentile that decides.
const QUANTILE: f64 = 0.99;

/// What was measured and what came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who wins.
    pub verdict: Verdict,
    /// Who was left behind in the heat, and how far.
    pub behind: Vec<Standing>,
    /// Who failed while it was measured, in the heat or in the final, and how: its figures decide nothing.
    pub failed: Vec<Pruned>,
    /// What a reader should know.
    pub cautions: Vec<Caution>,
    /// What strategies wanted known.
    pub notes: Vec<String>,
    /// How it was measured.
    pub method: Method,
}

/// How it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// What was done, in a sentence or two.
    pub setting: String,
    /// What everything was drawn from.
    pub seed: u64,
    /// For how long, in seconds.
    pub seconds: u64,
    /// How many took part.
    pub candidates: usize,
    /// Rounds of the final.
    pub rounds: u32,
}

/// How a final is laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Who takes part.
    finalists: u32,
    /// Parts of the scenario, each a block.
    parts: u32,
    /// Requests per second.
    rate: f64,
    /// Its part of the time.
    share: f64,
}

impl Layout {
    /// Whether so long a comparison leaves everybody enough requests for the percentile that decides, if
    /// chance sends a few less.
    fn suffices(&self, time: Duration) -> bool {
        let blocks = self.finalists * self.parts;
        let (rounds, length) = blocks::fit(time.mul_f64(self.share), blocks, None);
        let measured = 1.0 - 1.0 / to_f64(WARM_UP as u64);
        let requests = f64::from(rounds * self.parts) * length.as_secs_f64() * self.rate * measured;
        requests >= 1.03 * BEYOND_MIN / (1.0 - QUANTILE)
    }

    /// How long to measure.
    ///
    /// # Errors
    /// [`Usage`]: so long as it may take it would not suffice.
    fn enough(&self, time: Time) -> Result<Duration, Usage> {
        if self.suffices(time.asked) {
            return Ok(time.asked);
        }
        let needed = self.seconds_needed();
        let length = needed.map(Duration::from_secs);
        if let Some(length) = length.filter(|&length| time.most.is_some_and(|most| length <= most))
        {
            return Ok(length);
        }
        let longer =
            needed.map(|s| format!("measure for {s} s (--seconds, or leave that out), or "));
        Err(Usage(format!(
            "{:.0} requests per second (as fast as they are played here) for {} s are too few for a 99th \
             percentile of {} strategies: {}take a higher load, or --goal cost",
            self.rate,
            time.asked.as_secs(),
            self.finalists,
            longer.unwrap_or_default()
        )))
    }

    /// The shortest comparison that suffices, in seconds, if one does that may be asked for.
    fn seconds_needed(&self) -> Option<u64> {
        (1..=u64::from(SECONDS_MAX)).find(|&seconds| self.suffices(Duration::from_secs(seconds)))
    }
}

/// For how long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// If that suffices.
    pub asked: Duration,
    /// As long as is needed, up to this; otherwise it has to suffice.
    pub most: Option<Duration>,
}

/// Measures the candidates of `field` in `play` for about `time`; `thorough` spares the heat.
///
/// # Errors
/// [`Usage`] if there will be too few requests for a figure; a server or the load process could not be run,
/// everybody failed, nothing could be told, or we were interrupted.
pub fn run(
    field: &Field,
    play: &Play,
    time: Time,
    seed: u64,
    thorough: bool,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let mut length = time.asked;
    let has_heat = field.candidates.len() > FINALISTS && !thorough;
    if let Some((rate, parts)) = play.rate() {
        let finalists = if has_heat { FINALISTS } else { field.candidates.len() };
        let finalists = u32::try_from(finalists).unwrap_or(u32::MAX);
        let share = if has_heat { 1.0 - 1.0 / f64::from(HEAT) } else { 1.0 };
        let layout = Layout { finalists, parts, rate, share };
        length = layout.enough(time)?;
    }
    let comparison = Comparison {
        play,
        interrupt: Interrupt::install()?,
        program: Program::this().context("cannot find myself")?,
        progress: Progress::new(length),
    };
    let mut random = SmallRng::seed_from_u64(seed);
    let mut candidates: Vec<&Candidate> = field.candidates.iter().collect();
    let (mut behind, mut failed) = (Vec::new(), Vec::new());
    let mut left = length;
    if has_heat {
        let heat = comparison.judge(HEAT_QUANTILE);
        let seen = comparison.measure("heat", &candidates, length / HEAT, seed ^ OF_HEAT)?;
        let (standings, _) = heat.rank(&seen.measured, &mut random);
        failed = seen.failed;
        let finalists = finalists(&standings, &failed, &candidates);
        behind = standings.into_iter().filter(|one| !finalists.contains(&one.label)).collect();
        candidates.retain(|one| finalists.contains(&one.label()));
        left -= length / HEAT;
    }
    let seen = comparison.measure("final", &candidates, left, seed)?;
    comparison.progress.finish();
    failed.extend(seen.failed);
    let verdict = comparison
        .judge(QUANTILE)
        .decide(&seen.measured, &mut random)
        .context("too few requests for a figure; measure for longer (--seconds)")?;
    let mut cautions = play.cautions.clone();
    cautions.extend(seen.cautions);
    let method = Method {
        setting: seen.setting,
        seed,
        seconds: start.elapsed().as_secs(),
        candidates: field.candidates.len(),
        rounds: seen.rounds,
    };
    Ok(Outcome { verdict, behind, failed, cautions, notes: seen.notes, method })
}

/// Who goes on from a heat: the best, and the simplest of all as long as nothing is known of it; whoever has
/// no figure and did not fail goes on, too.
fn finalists(standings: &[Standing], failed: &[Pruned], candidates: &[&Candidate]) -> Vec<String> {
    let known = |label: &str| {
        standings.iter().any(|one| one.label == label)
            || failed.iter().any(|one| one.label == label)
    };
    let mut finalists: Vec<String> =
        candidates.iter().map(|one| one.label()).filter(|label| !known(label)).collect();
    let rank =
        |label: &str| candidates.iter().find(|one| one.label() == label).map(|one| one.choice.rank);
    // Whoever has no ratio has not been shown to be worse.
    let may_win = |one: &&Standing| one.is_as_good || one.to_best.is_none();
    let mut good: Vec<&Standing> = standings.iter().filter(may_win).collect();
    // Whoever is as good as the best and simpler than it would be taken.
    good.sort_by_key(|one| rank(&one.label));
    let best = standings.first();
    let rest = standings.iter().filter(|one| !may_win(one));
    for one in best.into_iter().chain(good).chain(rest) {
        if finalists.len() >= FINALISTS {
            break;
        }
        if !finalists.contains(&one.label) {
            finalists.push(one.label.clone());
        }
    }
    finalists
}

/// What stays the same from heat to final.
struct Comparison<'p> {
    play: &'p Play,
    interrupt: Interrupt,
    program: Program,
    progress: Progress,
}

/// What a heat or a final brought.
struct Seen {
    measured: Vec<Measured>,
    failed: Vec<Pruned>,
    setting: String,
    rounds: u32,
    cautions: Vec<Caution>,
    notes: Vec<String>,
}

impl Comparison<'_> {
    fn judge(&self, quantile: f64) -> Judge {
        Judge { goal: self.play.goal, quantile, own_cpu_us: self.play.own_cpu_us }
    }

    fn measure(
        &self,
        name: &str,
        candidates: &[&Candidate],
        budget: Duration,
        seed: u64,
    ) -> anyhow::Result<Seen> {
        let contestants: Vec<Contestant> = candidates.iter().map(|one| contestant(one)).collect();
        let against = contestants.first().map(Contestant::label).unwrap_or_default();
        let asked =
            Asked { against: &against, clients: None, runtime: None, block: None, seeds: None };
        self.progress.begin(name, budget, None);
        let umpire = Umpire::new(self.play.spec.void, false);
        let scenario = scenario::run(
            &self.play.spec,
            &scenario::Context {
                program: &self.program,
                contestants: &contestants,
                workers: self.play.workers.get(),
                seed,
                budget,
                reps: None,
                asked,
                interrupt: &self.interrupt,
                progress: &self.progress,
                umpire: &umpire,
            },
        )?;
        // What an interrupted scenario kept is too little to judge by.
        self.interrupt.check()?;
        self.progress.end();
        let mut cautions = scenario.cautions;
        cautions.extend(umpire.finish().failure().map(|_| {
            Caution::new(
                format!("More than a fifth of the rounds of the {name} was void."),
                "What is said here may be the machine's mood.",
                "Run again when it is quiet.",
            )
        }));
        let (measured, failed) = sorted(&scenario.rows, &scenario.failures, candidates)?;
        Ok(Seen {
            measured,
            failed,
            setting: scenario.setting,
            rounds: scenario.rounds,
            cautions,
            notes: scenario.notes,
        })
    }
}

/// Those of `candidates` that are judged, and those that failed, with how: who lost connections of its clients
/// is not taken for the figures of those that it served.
///
/// # Errors
/// Nobody is left.
fn sorted(
    rows: &[Row],
    failures: &[String],
    candidates: &[&Candidate],
) -> anyhow::Result<(Vec<Measured>, Vec<Pruned>)> {
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let label = candidate.label();
        // Every failure begins with whose it is.
        let own: Vec<&str> = failures
            .iter()
            .filter_map(|failure| failure.strip_prefix(&*label)?.strip_prefix(": "))
            .collect();
        if own.is_empty() {
            let row = rows.iter().find(|row| row.contestant == label);
            let samples = row.map_or_else(Samples::default, |row| row.samples.clone());
            measured.push(Measured { label, rank: candidate.choice.rank, samples });
        } else {
            let reason = format!("it failed ({}), and what failed is not judged", own.join("; "));
            failed.push(Pruned { label, reason });
        }
    }
    ensure!(!measured.is_empty(), "everybody failed: {}", failures.join("; "));
    Ok((measured, failed))
}

/// A candidate as the engines know it.
fn contestant(candidate: &Candidate) -> Contestant {
    Contestant {
        name: candidate.name.to_owned(),
        variant: (!candidate.is_default).then(|| candidate.variant.to_owned()),
        line: String::new(),
        runtimes: candidate.runtimes.to_vec(),
        launch: Launch::Serve,
        workers: None,
        offers: Offers::ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::category::{Category, Tally};
    use crate::measure::ratio::Ratio;
    use crate::profile::Profile;
    use crate::recommend::candidates;
    use crate::registry::Registry;

    fn go_on(standings: &[(&str, f64, bool)]) -> String {
        let field = candidates::of(&Registry::builtin(), &Profile::default());
        let candidates: Vec<&Candidate> = field.candidates.iter().collect();
        let all: Vec<Standing> = standings
            .iter()
            .map(|&(label, figure, is_as_good)| Standing {
                label: label.to_owned(),
                figure,
                to_best: (figure > 0.0).then_some(Ratio { value: figure, interval: None }),
                is_as_good,
            })
            .collect();
        let known = |one: &&Candidate| all.iter().any(|other| other.label == one.label());
        let candidates: Vec<&Candidate> = candidates.into_iter().filter(known).collect();
        finalists(&all, &[], &candidates).join(" ")
    }

    #[test]
    fn what_is_too_short_for_a_percentile_is_said_before_it_is_measured() {
        let field = candidates::of(&Registry::builtin(), &Profile::default());
        let idle = Profile { load: Some(0.001), ..Profile::default() };
        let play = crate::recommend::play::of(&idle, 2);
        let minute = Time { asked: Duration::from_secs(60), most: Some(Duration::from_secs(120)) };
        let error = run(&field, &play, minute, 7, false).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("4 requests per second (as fast as they are played here) for 60 s"),
            "{error}"
        );
        assert!(error.to_string().contains("strategies: take a higher load"), "{error}");
        // What is advised suffices, and the usual minute does for the lowest rate that is played at a load.
        let final_of = |rate, parts| Layout { finalists: 5, parts, rate, share: 2.0 / 3.0 };
        let needed = final_of(200.0, 1).seconds_needed().unwrap();
        assert!((113..150).contains(&needed), "{needed}");
        // Whoever does not ask for a time is not asked for one.
        let asked = Time { most: None, ..minute };
        assert!(final_of(200.0, 1).enough(asked).is_err());
        assert_eq!(final_of(500.0, 1).enough(minute).unwrap(), minute.asked);
        let longer = final_of(400.0, 1).enough(minute).unwrap();
        assert!(longer > minute.asked && final_of(400.0, 1).suffices(longer), "{longer:?}");
        assert!(final_of(500.0, 1).suffices(Duration::from_secs(60)));
        assert!(!final_of(500.0, 1).suffices(Duration::from_secs(45)));
    }

    #[test]
    fn whoever_lost_a_connection_is_named_and_not_taken() {
        let field = candidates::of(&Registry::builtin(), &Profile::default());
        let candidates: Vec<&Candidate> = field
            .candidates
            .iter()
            .filter(|one| ["prefork", "handoff:pull", "handoff"].contains(&&*one.label()))
            .collect();
        let of = |ends: [(&str, f64, Category); 3]| {
            let rows = ends.map(|(label, cost, end)| {
                let mut connections = Tally::default();
                [Category::Served, end]
                    .into_iter()
                    .for_each(|category| connections.count(category));
                let samples = Samples { cpu_server_us: vec![cost; 40], ..Samples::default() };
                Row { contestant: label.to_owned(), connections, samples, ..Row::default() }
            });
            let failures = rows.iter().flat_map(|row| {
                scenario::nobody_failed(&row.contestant, &row.connections, row.connections.sum())
            });
            sorted(&rows, &failures.collect::<Vec<_>>(), &candidates)
        };
        use Category::{Reset, Served, Shed};
        let seen = of([
            ("prefork", 60.0, Served),
            ("handoff", 80.0, Served),
            ("handoff:pull", 40.0, Reset),
        ]);
        let (measured, failed) = seen.unwrap();
        let judge = Judge { goal: crate::profile::Goal::Cost, quantile: QUANTILE, own_cpu_us: 0.0 };
        let verdict = judge.decide(&measured, &mut SmallRng::seed_from_u64(7)).unwrap();
        assert_eq!((&*verdict.chosen, verdict.runner_up.as_deref()), ("prefork", Some("handoff")));
        // Nor does it go on from a heat, as who has no figure for another reason does.
        assert_eq!(finalists(&[], &failed, &candidates).join(" "), "prefork handoff");
        let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
        assert_eq!(
            failed,
            ["handoff:pull: it failed (1 connections reset), and what failed is not judged"]
        );
        let nobody =
            of([("prefork", 60.0, Reset), ("handoff", 80.0, Shed), ("handoff:pull", 40.0, Reset)]);
        let error = nobody.unwrap_err().to_string();
        assert!(error.starts_with("everybody failed: prefork: 1 connections reset; "), "{error}");
    }

    #[test]
    fn the_best_and_the_simplest_of_those_as_good_go_on() {
        let seen = go_on(&[
            ("handoff:pull", 10.0, true),
            ("reuseport:steal", 10.1, true),
            ("handoff:idle", 10.1, true),
            ("handoff", 10.2, true),
            ("prefork:rotating", 10.2, true),
            ("prefork", 10.3, true),
            ("reuseport", 31.0, false),
        ]);
        assert_eq!(seen, "handoff:pull prefork prefork:rotating reuseport:steal handoff");
    }

    #[test]
    fn whoever_was_not_shown_to_be_worse_goes_on() {
        let seen = go_on(&[
            ("handoff:pull", 1.0, true),
            ("handoff:idle", 1.1, true),
            ("handoff", 1.2, true),
            ("reuseport:steal", 1.2, true),
            ("handoff:p2c", 1.3, true),
            // No ratio.
            ("prefork", 0.0, false),
        ]);
        assert_eq!(seen, "handoff:pull prefork reuseport:steal handoff handoff:p2c");
    }

    #[test]
    fn if_few_are_good_the_next_best_fill_up() {
        let seen = go_on(&[
            ("handoff", 1.0, true),
            ("handoff:least", 1.4, false),
            ("reuseport", 1.6, false),
            ("prefork:exclusive", 7.9, false),
        ]);
        assert_eq!(seen, "handoff handoff:least reuseport prefork:exclusive");
    }
}
