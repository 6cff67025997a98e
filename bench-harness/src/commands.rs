//! The commands: from the command line to what is done, and from what happened to an exit status.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{self, Cli, Command};
use crate::contestant::{self, BASELINE};
use crate::external::host;
use crate::interrupt::{self, Interrupted};
use crate::registry::Registry;
use crate::report::Report;
use crate::report::diff::Diff;
use crate::report::outputs::print;
use crate::report::saved;
use crate::scenario::builtin;
use crate::serve::Usage;
use crate::{
    baseline, compare, doctor, lineup, list, load, process, recommend, record, self_check, serve,
};

/// The whole program, with the strategies of `registry`.
///
/// An error is printed here and only here.
#[must_use]
pub fn main(registry: &Registry) -> ExitCode {
    process::take_name();
    let command = Cli::parse().command;
    log_to_stderr();
    // Without it a full file ends us, as it would any program.
    let _ = interrupt::survive_size_limit();
    let outcome = match command {
        Command::Compare(arguments) => run_compare(&arguments, registry),
        Command::Report(arguments) => render(arguments),
        Command::Diff(arguments) => run_diff(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Recommend(arguments) => recommend::run(&arguments, registry),
        Command::Record(arguments) => done(record::run(&arguments)),
        Command::Load(arguments) => done(load::run(&arguments)),
        Command::Baseline(arguments) => done(baseline::run(&arguments)),
        Command::BaselineWorker(arguments) => done(baseline::run_worker(&arguments)),
        Command::Host(arguments) => done(host::run(&arguments)),
        Command::Hosted(arguments) => done(host::run_hosted(&arguments)),
        Command::Serve(arguments) => done(serve::run(&arguments, registry)),
        Command::List => list::print(registry).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        let status = status_of(&error);
        // Wherever it was when it was interrupted is nobody's concern.
        let text =
            if status == INTERRUPTED { Interrupted.to_string() } else { format!("{error:#}") };
        // One write: workers end here, too, beside others that write lines.
        let _ = io::stderr().write_all(format!("forkherd-bench: {text}\n").as_bytes());
        ExitCode::from(status)
    })
}

/// The exit status of a run that was asked to stop: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// `RUST_LOG` decides how much is said; without it what is worth a line: workers that come and go.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    // An embedding program may have its own subscriber; then that one is right.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false)
        // Whoever reads our log may go away: that is no reason to fall over.
        .log_internal_errors(false)
        .try_init();
}

/// 130 if someone asked us to stop, 2 if the call was wrong, else 1.
fn status_of(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<Interrupted>()) {
        INTERRUPTED
    } else if error.chain().any(|cause| cause.is::<Usage>()) {
        2
    } else {
        1
    }
}

/// A command that either works or does not.
fn done(outcome: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}

fn run_compare(arguments: &cli::Compare, registry: &Registry) -> anyhow::Result<ExitCode> {
    let scenarios = builtin::select(&arguments.scenarios).map_err(Usage)?;
    arguments.check(&scenarios).map_err(Usage)?;
    arguments.outputs.check()?;
    if arguments.self_check {
        let label = match &*arguments.strategies {
            [] => BASELINE.to_owned(),
            [one] => registry.label(one),
            _ => return Err(Usage("--self-check takes one strategy".to_owned()).into()),
        };
        let selected =
            contestant::select(&registry.contestants(), std::slice::from_ref(&label), &label)
                .map_err(|error| Usage(error.to_string()))?;
        let report = self_check::run(arguments, &selected[0])?;
        return tell(&report, arguments);
    }
    let contestants = lineup::of(arguments, registry)?;
    let report = compare::run(arguments, &scenarios, &contestants);
    if report.as_ref().is_err_and(|error| status_of(error) == INTERRUPTED) {
        let text = "forkherd-bench: nothing was played to its end (a void round is not), and no result is written\n";
        let _ = io::stderr().write_all(text.as_bytes());
    }
    tell(&report?, arguments)
}

/// Saves and prints a report as asked for; its failures are the exit status, and the first is said on
/// standard error, too: nobody may be looking at the report.
fn tell(report: &Report, arguments: &cli::Compare) -> anyhow::Result<ExitCode> {
    arguments.outputs.write(std::slice::from_ref(report), true)?;
    let mut failures = report.failures();
    if let Some(first) = failures.next() {
        let more = match failures.count() {
            0 => String::new(),
            more => format!(" (and {more} more, see the report)"),
        };
        let _ = writeln!(io::stderr().lock(), "forkherd-bench: {first}{more}");
    }
    Ok(if report.interrupted.is_some() {
        ExitCode::from(INTERRUPTED)
    } else if report.failures().next().is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(arguments: cli::Report) -> anyhow::Result<ExitCode> {
    let arguments = arguments.as_meant().map_err(Usage)?;
    let loaded = arguments.files.iter().map(|file| saved::load(file));
    let reports = loaded.collect::<anyhow::Result<Vec<_>>>()?;
    arguments.outputs.check()?;
    arguments.outputs.write(&reports, arguments.outputs.is_empty())?;
    Ok(ExitCode::SUCCESS)
}

fn run_diff(arguments: &cli::Diff) -> anyhow::Result<ExitCode> {
    let diff = Diff::of(&saved::load(&arguments.old)?, &saved::load(&arguments.new)?)?;
    print(&if arguments.json {
        diff.json()?
    } else if arguments.markdown {
        diff.markdown()
    } else {
        diff.terminal()
    })?;
    Ok(ExitCode::SUCCESS)
}
