//! `compare --self-check`: is this harness, on this machine, to be believed?
//!
//! Two trials by the method of the cost scenarios (all up at once, paired slices, shuffled, medians of
//! ratios). In the first both servers are the same, and no difference may be seen. In the second one of
//! them, drawn by lot, burns a tenth more processor time per connection, and has to be found by whoever
//! was not told (`self_check::draw`).
//!
//! Two copies of one program differ by 1–3 % for as long as they live (where their pages happen to lie),
//! and no number of rounds averages that out. So a trial is made with several pairs of servers, one
//! after the other, and its interval comes from resampling whole pairs.

mod draw;
mod trial;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::cli;
use crate::compare;
use crate::contestant::{Contestant, Launch};
use crate::interrupt::Interrupt;
use crate::pin::Pin;
use crate::process::Program;
use crate::progress::Progress;
use crate::report::Report;
use crate::report::self_check::{Burnt, Equal, SelfCheck};
use crate::void::{Rules, Umpire};
use draw::Draw;
use trial::Trial;

/// What is burnt: so much of the processor time that a connection was measured to cost.
const BURNT: f64 = 0.1;

/// Pairs of servers in a trial: 12 pairs whose own differences scatter by 1.5 % leave 0.45 %.
const PAIRS: u32 = 12;

/// How long a trial may take, starts included. Two of them stay below 40 s.
const TRIAL: Duration = Duration::from_millis(16_000);

/// Checks the harness with `contestant` and reports what came out.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted. What the check found is in the
/// report.
pub fn run(arguments: &cli::Compare, contestant: &Contestant) -> anyhow::Result<Report> {
    let start = Instant::now();
    if !matches!(contestant.launch, Launch::Serve | Launch::Baseline) {
        bail!("{} cannot burn processor time: check with one of ours", contestant.label());
    }
    let runtime = arguments.runtime.or(contestant.runtimes.first().copied()).unwrap_or_default();
    let interrupt = Interrupt::install()?;
    let program = Program::this().context("cannot find myself")?;
    let progress = Progress::new(TRIAL * 2);
    let umpire = Umpire::new(Rules::default(), arguments.keep_void);
    let workers = contestant.workers_of(arguments.workers.get());
    let mut report = Report { workers, ..compare::head(arguments, &contestant.label()) };
    let mut random = SmallRng::seed_from_u64(report.seed);
    // Before anything is started, so that everything inherits it.
    let _pin = Pin::to_one_core().context("cannot pin to one core")?;
    let trial = Trial {
        program: &program,
        contestant,
        workers,
        runtime,
        pairs: PAIRS,
        length: TRIAL,
        umpire: &umpire,
        interrupt: &interrupt,
        progress: &progress,
    };

    let seen = trial.run("the same twice", |_| Vec::new(), &mut random)?;
    let cpu_us = seen.cpu_us().context("no slice was measured")?;
    let equal =
        Equal { rounds: seen.rounds(), cpu: seen.cpu(&mut random), p99: seen.p99(&mut random) };

    let draw = Draw::by_lot(cpu_us * BURNT, &mut random);
    let seen = trial.run("one burns more", |side| draw.arguments(side), &mut random)?;
    let ratio = seen.cpu(&mut random);
    let found = ratio.and_then(draw::dearer);
    // Only now, that the verdict stands.
    let (truth, burnt_ns) = draw.reveal();
    let burnt = Burnt { rounds: seen.rounds(), cpu_us, burnt_ns, cpu: ratio, found, truth };
    progress.finish();

    report.wall_s = start.elapsed().as_secs_f64();
    report.self_check = Some(SelfCheck {
        contestant: contestant.label(),
        runtime,
        pairs: PAIRS,
        slice: trial::CONNECTIONS,
        equal,
        burnt,
        voids: umpire.finish(),
    });
    Ok(report)
}
