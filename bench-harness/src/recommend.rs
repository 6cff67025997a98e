//! `recommend`: from what a service is like to the crate and variant to take, by measuring.
//!
//! ```text
//! profile ─► candidates (who fits) ─► play (a scenario) ─► heat, final ─► verdict ─► answer
//! ```
//!
//! Everything but the measuring is pure: who takes part and why not, what is played, who wins, and
//! what is said about it.

pub mod answer;
pub mod candidates;
pub mod measure;
pub mod play;
pub mod snippet;
pub mod text;
pub mod verdict;

use std::io::{self, IsTerminal as _};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::profile::questions::{self, Flags};
use crate::profile::{Profile, file};
use crate::registry::Registry;
use crate::report::outputs::print;
use crate::serve::Usage;
use answer::Answer;
use measure::Time;

/// How long is measured.
const TIME_S: u32 = 60;

/// So many times longer it may take if nobody asked for a time, where too few requests come in the usual one.
const LONGER: u32 = 2;

/// The longest that may be asked for.
const SECONDS_MAX: u32 = 3_600;

/// How long if it is to be thorough: some four minutes leave a 99th percentile of a dozen candidates with
/// a spread of a few per cent.
const THOROUGH_S: u32 = 240;

/// Arguments of `recommend`.
#[derive(Args, Clone, Debug)]
pub struct Recommend {
    /// What the service is like, as a file; see bench-harness/profiles. Flags change single fields.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// What the service is like, field by field.
    #[command(flatten)]
    pub flags: Flags,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// How long to measure, in seconds. [default: 60; 240 if thorough; up to twice as long where few requests come]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(10..=i64::from(SECONDS_MAX)))]
    pub seconds: Option<u32>,
    /// Draws the order, the arrivals, the work and the faults. [default: from the clock]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Measure everybody who fits to the end, and for longer: what a short run is checked against.
    #[arg(long)]
    pub thorough: bool,
}

/// Asks, measures and answers.
///
/// # Errors
/// Wrong usage; nobody fits; a server or the load process could not be run; or we were interrupted.
pub fn run(arguments: &Recommend, registry: &Registry) -> anyhow::Result<ExitCode> {
    let profile = profile(arguments)?;
    let seed = arguments.seed.unwrap_or_else(crate::compare::seed_from_clock);
    let answer = recommend(&profile, registry, arguments.seconds, seed, arguments.thorough)?;
    let text = if arguments.json {
        serde_json::to_string_pretty(&answer)? + "\n"
    } else {
        text::render(&answer)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The profile that was given: by file, by flags, or asked for.
fn profile(arguments: &Recommend) -> anyhow::Result<Profile> {
    let flags = &arguments.flags;
    if let Some(path) = &arguments.profile {
        return Ok(flags.apply(file::read(path)?).map_err(Usage)?);
    }
    if !flags.is_empty() {
        return Ok(flags.apply(Profile::default()).map_err(Usage)?);
    }
    let usage = |why: &str| {
        Usage(format!(
            "{why}: say what the service is like, by --profile FILE or by some of {}",
            questions::flags()
        ))
    };
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(usage("nothing was said, and standard input is no terminal").into());
    }
    let asked = questions::ask(&mut stdin.lock(), &mut io::stderr().lock());
    asked.map_err(|error| usage(&error.to_string()).into())
}

/// Measures for `seconds`, or for as long as is usual, who among the strategies of `registry` serves `profile` best.
///
/// # Errors
/// Nobody fits; a server or the load process could not be run; or we were interrupted.
pub fn recommend(
    profile: &Profile,
    registry: &Registry,
    seconds: Option<u32>,
    seed: u64,
    thorough: bool,
) -> anyhow::Result<Answer> {
    let usual = Duration::from_secs(if thorough { THOROUGH_S } else { TIME_S }.into());
    let time = match seconds {
        Some(seconds) => Time { asked: Duration::from_secs(seconds.into()), most: None },
        None => Time { asked: usual, most: Some(usual * LONGER) },
    };
    let field = candidates::of(registry, profile);
    if field.candidates.is_empty() {
        let why: Vec<_> = field.pruned.iter().map(ToString::to_string).collect();
        anyhow::bail!("nothing fits this profile: {}", why.join("; "));
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let play = play::of(profile, u32::try_from(cores).unwrap_or(u32::MAX));
    let measured = measure::run(&field, &play, time, seed, thorough)
        .context("cannot compare for this profile")?;
    Ok(Answer::of(profile, registry, &field, &play, measured))
}

/// A number that is written down, and not zero.
const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}
