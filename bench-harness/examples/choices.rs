//! Is the advice any good? Each profile three times, against a thorough run with another seed.
//!
//! ```text
//! cargo build --release -p forkherd-bench
//! cargo run --release -p forkherd-bench --example choices [PROFILE.toml…]
//! ```
//!
//! Exit status 1 if repeats disagree, or the chosen one is over 10 % from the best and can be told from it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use forkherd_bench::recommend::answer::Answer;

/// The one of the thorough run comes last.
const SEEDS: [u32; 4] = [1, 2, 3, 1_001];

/// How far from the best the chosen one may be.
const ALLOWED: f64 = 1.10;

fn main() -> anyhow::Result<ExitCode> {
    let mut profiles: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if profiles.is_empty() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
        for entry in std::fs::read_dir(folder)? {
            profiles.push(entry?.path());
        }
        profiles.sort();
    }
    let mut all_good = true;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| profile | chosen in three runs | best of the thorough run | chosen over it | |"
    )?;
    writeln!(out, "|---|---|---|--:|---|")?;
    for profile in profiles {
        let answers: Vec<Answer> =
            SEEDS.iter().map(|&seed| ask(&profile, seed)).collect::<anyhow::Result<_>>()?;
        let [repeats @ .., truth] = answers.as_slice() else { continue };
        let mut chosen: Vec<&str> = repeats.iter().map(|one| &*one.take).collect();
        chosen.dedup();
        let best = truth.standings.first().context("nothing was measured")?;
        let worst = chosen.iter().map(|label| {
            let seen = truth.standings.iter().find(|one| one.label == **label);
            seen.map_or((f64::INFINITY, false), |one| (one.figure / best.figure, one.is_as_good))
        });
        let (over, same) = worst.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or_default();
        let is_good = chosen.len() == 1 && (over <= ALLOWED || same);
        all_good &= is_good;
        let name = profile.file_stem().unwrap_or_default().to_string_lossy();
        let verdict = if is_good { "good" } else { "BAD" };
        writeln!(
            out,
            "| {name} | {} | {} | {over:.2} | {verdict} |",
            chosen.join(", "),
            best.label
        )?;
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `recommend` answers.
fn ask(profile: &Path, seed: u32) -> anyhow::Result<Answer> {
    // Beside this example's folder, in the same profile.
    let here = std::env::current_exe()?;
    let program = here.ancestors().nth(2).context("no target folder")?.join("forkherd-bench");
    let mut command = Command::new(&program);
    command.args(["recommend", "--json", "--seed", &seed.to_string(), "--profile"]).arg(profile);
    if Some(&seed) == SEEDS.last() {
        command.arg("--thorough");
    }
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}; build it", program.display()))?;
    ensure!(output.status.success(), "{} failed with seed {seed}", profile.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}
