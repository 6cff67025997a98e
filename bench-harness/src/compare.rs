//! `compare`: runs the scenarios one after the other and makes the report.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::cautions;
use crate::cli::{self, Runtime};
use crate::contestant::Contestant;
use crate::interrupt::Interrupt;
use crate::kernel;
use crate::lineup;
use crate::process::Program;
use crate::progress::Progress;
use crate::report::machine::{Build, Machine, date};
use crate::report::{Report, SCHEMA, Scenario};
use crate::scenario::spec::Spec;
use crate::scenario::{self, Asked, Context};
use crate::void::Umpire;

/// Runs `scenarios` as `arguments` ask for among `contestants` (the yardstick first).
///
/// Somebody who interrupts it gets the scenarios that are finished, and the finished rounds of the one that
/// was not; the report says so.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted, before a round was
/// finished. What went wrong while measuring is in the report.
pub fn run(
    arguments: &cli::Compare,
    scenarios: &[Spec],
    contestants: &[Contestant],
) -> anyhow::Result<Report> {
    let start = Instant::now();
    let interrupt = Interrupt::install()?;
    let program = Program::this().context("cannot find myself")?;
    let workers = arguments.workers.get();
    let contestants = &lineup::acquainted(&program, contestants, workers, &interrupt)?[..];
    // The first of them is the yardstick.
    let against = contestants.first().map(Contestant::label).unwrap_or_default();
    let asked = Asked {
        against: &against,
        clients: arguments.clients,
        runtime: arguments.runtime,
        block: arguments.seconds.map(|s| Duration::from_secs(s.get().into())),
        seeds: arguments.seeds,
    };
    let time = |spec: &Spec| {
        let (runtime, needed) = (asked.runtime_of(spec), spec.needs());
        let lineup = spec.lineup(contestants, scenario::cores());
        let players = lineup.iter().filter(|one| one.obstacle(runtime, &needed).is_none());
        spec.time(arguments.quick, players.count(), &asked)
    };
    let progress = Progress::new(scenarios.iter().map(time).sum());
    let mut report = head(arguments, &against);
    let seed = report.seed;
    for spec in scenarios {
        let budget = time(spec);
        progress.begin(&spec.name, budget, arguments.rounds(spec));
        let lineup = spec.lineup(contestants, scenario::cores());
        // The first of them is the yardstick.
        let against = lineup.first().map(Contestant::label).unwrap_or_default();
        let umpire = Umpire::new(spec.void, arguments.keep_void);
        let context = Context {
            program: &program,
            contestants: &lineup,
            workers,
            seed: seed_of(seed, &spec.name),
            budget,
            reps: arguments.reps,
            asked: Asked { against: &against, ..asked },
            umpire: &umpire,
            interrupt: &interrupt,
            progress: &progress,
        };
        match scenario::run(spec, &context) {
            Ok(mut scenario) => {
                scenario.voids = umpire.finish();
                scenario.failures.extend(scenario.voids.failure());
                let cautions = cautions::of_scenario(&mut scenario, &against);
                scenario.cautions.extend(cautions);
                let against = Some(against).filter(|own| *own != report.against);
                let is_interrupted = interrupt.check().is_err();
                if is_interrupted {
                    scenario.notes.push(kept(&scenario));
                }
                report.scenarios.push(Scenario { against, ..scenario });
                if is_interrupted {
                    report.interrupted = Some(spec.name.clone());
                    break;
                }
            }
            // Wherever it was is nobody's concern.
            Err(_) if interrupt.check().is_err() && !report.scenarios.is_empty() => {
                report.interrupted = Some(spec.name.clone());
                break;
            }
            Err(error) if report.scenarios.is_empty() => return Err(error),
            // What was measured before is kept, and what follows may go well.
            Err(error) => report.scenarios.push(failed(spec, context.runtime(spec), &error)),
        }
        progress.end();
    }
    progress.finish();
    fail_if_nobody_took_part(&mut report);
    report.wall_s = start.elapsed().as_secs_f64();
    Ok(report)
}

/// What is kept of a scenario that was interrupted.
fn kept(scenario: &Scenario) -> String {
    format!(
        "Interrupted with {} finished: figures are those of what was finished, connections those of all that was \
         played to its end.",
        scenario.finished()
    )
}

/// Somebody who is skipped here and plays there is told so, and that is all; a run in which nobody played
/// anywhere has answered nothing.
fn fail_if_nobody_took_part(report: &mut Report) {
    let is_empty = |scenario: &Scenario| scenario.rows.iter().all(|row| row.skipped.is_some());
    if report.scenarios.iter().all(|scenario| is_empty(scenario) && scenario.failures.is_empty()) {
        for scenario in &mut report.scenarios {
            scenario.failures.push("nobody could take part".to_owned());
        }
    }
}

/// A scenario that could not be run.
fn failed(spec: &Spec, runtime: Runtime, error: &anyhow::Error) -> Scenario {
    Scenario {
        name: spec.name.clone(),
        setting: spec.question.clone(),
        runtime,
        unit: "connection".to_owned(),
        failures: vec![format!("{error:#}")],
        ..Scenario::default()
    }
}

/// The head of a report that begins now, with ratios to `against`: who, where, how, and no figures.
pub(crate) fn head(arguments: &cli::Compare, against: &str) -> Report {
    let (machine, build, load_average) =
        (Machine::this(), Build::this(), kernel::load_average().ok());
    Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: date(),
        command: command_line(),
        cautions: cautions::of_run(&machine, &build, load_average),
        machine,
        build,
        load_average,
        seed: arguments.seed.unwrap_or_else(seed_from_clock),
        against: against.to_owned(),
        workers: arguments.workers.get(),
        ..Report::default()
    }
}

/// Six digits that are different every time.
pub(crate) fn seed_from_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) % 1_000_000
}

/// A scenario's own seed: the same whether it runs alone or among others.
fn seed_of(seed: u64, scenario: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, scenario).hash(&mut hasher);
    hasher.finish()
}

/// The command line as it was given.
fn command_line() -> String {
    let mut words = vec!["forkherd-bench".to_owned()];
    words.extend(std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy())));
    words.join(" ")
}

/// As a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_given_again() {
        for (word, told) in [
            ("--seed", "--seed"),
            ("prefork@16,reuseport:hash", "prefork@16,reuseport:hash"),
            ("", "''"),
            ("--external=mine=/bin/web {port}", "'--external=mine=/bin/web {port}'"),
            ("don't", r"'don'\''t'"),
        ] {
            assert_eq!(quoted(word), told);
        }
    }
    use crate::report::Row;

    #[test]
    fn a_run_in_which_nobody_played_anywhere_fails() {
        let skipped = Row { skipped: Some("it cannot".to_owned()), ..Row::default() };
        let scenario = |rows: &[Row]| Scenario { rows: rows.to_vec(), ..Scenario::default() };
        let failures = |scenarios: &[Scenario]| {
            let mut report = Report { scenarios: scenarios.to_vec(), ..Report::default() };
            fail_if_nobody_took_part(&mut report);
            report.failures().count()
        };
        let nobody = scenario(&[skipped.clone(), skipped.clone()]);
        assert_eq!(failures(&[nobody.clone(), nobody.clone()]), 2);
        assert_eq!(failures(&[nobody, scenario(&[skipped, Row::default()])]), 0);
    }
}
