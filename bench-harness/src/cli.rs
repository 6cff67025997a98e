//! The whole command line, defined once. What the commands do is in [`crate::commands`].

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use forkherd_core::{ListenSpec, RuntimeKind, SLOTS_LIMIT};

use crate::external::command::{External, Words};
use crate::load::Url;
use crate::recommend::Recommend;
use crate::record::Record;
use crate::scenario::builtin;
use crate::scenario::spec::{CONNECTIONS_MAX, Spec};

/// Runs the Forkherd strategies head to head: what each costs, whom it lets wait, what it loses.
#[derive(Debug, Parser)]
#[command(name = "forkherd-bench", version, after_help = EXIT_STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 all is well, 1 something failed (said on stderr), 2 wrong usage, 130 interrupted.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure the strategies against each other and against a plain baseline.
    Compare(Compare),
    /// Serve an app under one strategy, in the foreground, for any client.
    Serve(Serve),
    /// List strategies, scenarios and apps, one line each.
    List,
    /// Render saved results again.
    Report(Report),
    /// Compare two saved results of one machine: what changed by more than the noise.
    Diff(Diff),
    /// Say what on this machine will bite, and what to do about it.
    Doctor(Doctor),
    /// Say which crate to take for a service like yours, after measuring it for a minute.
    Recommend(Box<Recommend>),
    /// Turn an access log into a profile for `recommend`.
    Record(Record),
    /// Load a server that runs already, and say what came of it; without --url the load process of
    /// `compare`: orders on stdin, outcomes on stdout.
    Load(Load),
    /// The yardstick of `compare`: plain accept loops on one shared listener.
    #[command(hide = true)]
    Baseline(Baseline),
    /// One accept loop of `baseline`; stdin is the listener.
    #[command(hide = true)]
    BaselineWorker(BaselineWorker),
    /// The parent of a server of `compare` that is not ours.
    #[command(hide = true)]
    Host(Host),
    /// What becomes that server.
    #[command(hide = true)]
    Hosted(Hosted),
}

/// Arguments of `compare`.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// About 30 s in all, instead of about 100 s: wider intervals, fewer tail figures.
    #[arg(long)]
    pub quick: bool,
    /// Check the harness itself on this machine, and nothing else: two equal servers must look equal,
    /// and one that burns 10 % more must be found blindly. Below 40 s, exit status 1 if it fails; with the
    /// baseline, or the one of --strategies.
    #[arg(long, conflicts_with_all = ["quick", "scenarios", "against", "clients", "seconds", "seeds", "reps", "external", "app"])]
    pub self_check: bool,
    /// Only these strategies, NAME or NAME:VARIANT; `all` takes every variant; `baseline:TEXT` adds
    /// the baseline once more under that name (an A/A check). [default: one of each]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub strategies: Vec<String>,
    /// Only these scenarios: names, see `list`, or files of your own (FILE.toml).
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = builtin::DEFAULT)]
    pub scenarios: Vec<String>,
    /// Take ratios to this contestant instead of the baseline, which then runs along only if it is
    /// named.
    #[arg(long, value_name = "LABEL")]
    pub against: Option<String>,
    /// Clients of the closed-loop scenarios: connections outstanding, or kept open.
    /// [default: the scenario's own]
    #[arg(long, value_name = "N", value_parser = clients)]
    pub clients: Option<NonZeroU32>,
    /// What each worker runs, in scenarios that can run on both. [default: the scenario's own]
    #[arg(long, value_enum)]
    pub runtime: Option<Runtime>,
    /// Length of a block of the open-loop scenarios. [default: what fits the time]
    #[arg(long, value_name = "S")]
    pub seconds: Option<NonZeroU32>,
    /// Independent traces of the open-loop scenarios, each printed with its seed. [default: what
    /// fits the time]
    #[arg(long, value_name = "N", conflicts_with = "reps")]
    pub seeds: Option<NonZeroU32>,
    /// Worker processes per contestant.
    #[arg(long, value_name = "N", default_value = "8", value_parser = workers)]
    pub workers: NonZeroU32,
    /// Draws the order, the arrivals, the work and the kills; printed in the report.
    /// [default: from the clock]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Rounds per scenario, however long they take. [default: as many as fit the time]
    #[arg(long, value_name = "N")]
    pub reps: Option<NonZeroU32>,
    /// Keep void rounds, in which the machine was busy with something else: they are counted and
    /// printed, but neither played again nor a failure. For counts, on a machine that is never quiet.
    #[arg(long)]
    pub keep_void: bool,
    /// Put a server that is not ours beside them: started without a shell, with {port} and {workers}
    /// filled in; may be given several times.
    #[arg(long, value_name = "NAME=COMMAND")]
    pub external: Vec<External>,
    /// Measure your own program instead of ours: started as each worker, it takes its listener by
    /// LISTEN_FDS, under each strategy that lets it. What it prints on standard output is thrown away;
    /// `serve --app program:COMMAND` shows it.
    #[arg(long, value_name = "COMMAND")]
    pub app: Option<String>,
    /// What else is made of the result.
    #[command(flatten)]
    pub outputs: Outputs,
}

/// Outputs of a result, all made from its JSON alone. Without FILE they go to standard output,
/// instead of the tables for a terminal.
#[derive(Args, Clone, Debug, Default)]
pub struct Outputs {
    /// As JSON, from which `report` makes the others again; described in schema.json.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// As CSV, one line for each figure.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub csv: Option<PathBuf>,
    /// As Markdown.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub markdown: Option<PathBuf>,
    /// As one HTML page with drawings, which needs no network.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub html: Option<PathBuf>,
}

impl Compare {
    /// The rounds of `spec` that were asked for, however long they take; nothing if their time is known.
    pub(crate) fn rounds(&self, spec: &Spec) -> Option<NonZeroU32> {
        let reps = self.reps.filter(|_| spec.has_rounds());
        // Blocks that have a length, or are given one, take as long as they are.
        let fits_time = spec.has_blocks() && spec.has_budget() && self.seconds.is_none();
        reps.or(self.seeds.filter(|_| fits_time))
    }

    /// Whether the options fit together, and the scenarios that are asked for.
    ///
    /// # Errors
    /// A sentence that says which do not, and what to do.
    pub fn check(&self, scenarios: &[Spec]) -> Result<(), String> {
        let names = |of: &dyn Fn(&Spec) -> bool| {
            let all = builtin::all().into_iter().filter(of);
            all.map(|spec| spec.name).collect::<Vec<_>>().join(",")
        };
        type Has = fn(&Spec) -> bool;
        let clients: (&str, bool, Has) = ("--clients", self.clients.is_some(), Spec::has_clients);
        let seconds = ("--seconds", self.seconds.is_some(), Spec::has_blocks as Has);
        let seeds = ("--seeds", self.seeds.is_some(), Spec::has_blocks as Has);
        let quick = ("--quick", self.quick, Spec::has_budget as Has);
        let reps = ("--reps", self.reps.is_some(), Spec::has_rounds as Has);
        for (option, given, has) in [clients, seconds, seeds, quick, reps] {
            if given && !scenarios.iter().any(has) {
                return Err(format!("{option} needs one of --scenarios {}", names(&has)));
            }
        }
        if let Some(runtime) = self.runtime {
            let can = |spec: &Spec| spec.runtimes.contains(&runtime);
            if let Some(spec) = scenarios.iter().find(|spec| !can(spec)) {
                return Err(format!(
                    "scenario {} cannot run on {}; those that can: --scenarios {}",
                    spec.name,
                    runtime.word(),
                    names(&can)
                ));
            }
        }
        Ok(())
    }
}

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// How connections reach the workers; see `list`.
    #[arg(long, value_name = "NAME[:VARIANT]")]
    pub strategy: String,
    /// Worker processes.
    #[arg(long, value_name = "N", default_value = "8", value_parser = workers)]
    pub workers: NonZeroU32,
    /// Where to listen: IP:PORT, where port 0 takes a free one, or unix:PATH[?mode=0660], where the
    /// strategy shares one listener.
    #[arg(long, value_name = "[NAME=]ADDR", default_value = "127.0.0.1:8080")]
    pub listen: ListenSpec,
    /// What each worker runs: blocking, threads:N (one connection at a time on each of N threads) or
    /// tokio.
    #[arg(long, value_name = "RUNTIME", default_value = "blocking")]
    pub runtime: RuntimeKind,
    /// Most workers there may ever be; SIGTTIN asks for one more, SIGTTOU for one less. [default: as
    /// many as there are]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub max_workers: Option<NonZeroU32>,
    /// How workers come to be.
    #[arg(long, value_enum, default_value_t = Start::Again)]
    pub start: Start,
    /// What is answered: hello, echo, files:DIR, or program:COMMAND: what another program answers, which
    /// is started as each worker and takes its listener by LISTEN_FDS.
    #[arg(long, value_name = "APP", default_value = "hello")]
    pub app: App,
    /// A worker that is busy this long, in milliseconds, without getting anything done counts as
    /// hung. [default: core's, 30 s]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub hung_after: Option<NonZeroU32>,
    /// Burn so many nanoseconds of processor time with every connection: what `--self-check` has to find.
    #[arg(long, value_name = "NS", default_value_t = 0, hide = true)]
    pub burn: u64,
    /// Print one line of JSON per supervisor notice, for a program that watches; no worker has
    /// standard output then.
    #[arg(long, hide = true)]
    pub events: bool,
    /// The process that started this one and whose end ends it.
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<u32>,
}

/// How workers come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// This program is started again for each.
    Again,
    /// Each is a bare fork of the supervisor.
    Fork,
}

/// A number of workers, refused in words that say what is wanted.
fn workers(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number
        .filter(|number| number.get() <= SLOTS_LIMIT)
        .ok_or_else(|| format!("ask for 1 to {SLOTS_LIMIT}"))
}

/// A number of clients, refused in words that say what is wanted.
fn clients(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number
        .filter(|number| number.get() <= CONNECTIONS_MAX)
        .ok_or_else(|| format!("ask for 1 to {CONNECTIONS_MAX}"))
}

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// Also say who listens there, and whether it is a good port.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Workers that the service is to have.
    #[arg(long, value_name = "N", default_value = "8", value_parser = workers)]
    pub workers: NonZeroU32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A length of time, refused in words that say what is wanted.
fn milliseconds(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number.ok_or_else(|| "expected whole milliseconds, 1 or more, such as 250".to_owned())
}

/// Arguments of `report`.
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// Results saved by `compare --json`; several are shown one after the other.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What is made of them.
    #[command(flatten)]
    pub outputs: Outputs,
}

impl Report {
    /// The arguments as they are meant: what stands behind `--html`, `--csv` or `--markdown` and is
    /// called `.json` is a result to be read, not a file to be written.
    ///
    /// # Errors
    /// There is nothing to read.
    pub fn as_meant(mut self) -> Result<Self, String> {
        let Outputs { json: _, csv, markdown, html } = &mut self.outputs;
        for output in [csv, markdown, html] {
            if output.as_ref().is_some_and(|file| file.extension().is_some_and(|end| end == "json"))
            {
                self.files.extend(output.replace("-".into()));
            }
        }
        if self.files.is_empty() {
            return Err("name a FILE saved by `compare --json`".to_owned());
        }
        Ok(self)
    }
}

/// Arguments of `diff`.
#[derive(Args, Clone, Debug)]
pub struct Diff {
    /// A result saved by `compare --json`.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// A later one, of the same machine and settings.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// As JSON instead of tables.
    #[arg(long)]
    pub json: bool,
    /// As Markdown instead of tables.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

/// Arguments of `load`.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// What to ask for: http://127.0.0.1:PORT/spin/MICROSECONDS, or /sleep/, of app hello.
    #[arg(long, value_name = "URL")]
    pub url: Option<Url>,
    /// Requests outstanding in a closed loop; connections, where they are kept.
    #[arg(long, value_name = "N", default_value = "16", requires = "url", value_parser = clients)]
    pub clients: NonZeroU32,
    /// How long.
    #[arg(long, value_name = "S", default_value = "10", requires = "url")]
    pub seconds: NonZeroU32,
    /// Keep connections, instead of one for each request.
    #[arg(long, requires = "url")]
    pub keep_alive: bool,
    /// Requests per second of an open loop (Poisson). [default: a closed loop]
    #[arg(long, value_name = "R", requires = "url")]
    pub rate: Option<f64>,
    /// Draws the arrivals of an open loop; printed. [default: from the clock]
    #[arg(long, value_name = "S", requires = "rate")]
    pub seed: Option<u64>,
    /// The process that started this one and whose end ends it.
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<u32>,
}

/// Arguments of `baseline`.
#[derive(Args, Clone, Debug)]
pub struct Baseline {
    /// Worker processes.
    #[arg(long, value_name = "N", default_value = "8", value_parser = workers)]
    pub workers: NonZeroU32,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// What each worker runs.
    #[arg(long, value_enum, default_value_t = Runtime::Blocking)]
    pub runtime: Runtime,
    /// Burn so many nanoseconds of processor time with every connection.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    pub burn: u64,
    /// The process that started this one and whose end ends it.
    #[arg(long, value_name = "PID")]
    pub parent: Option<u32>,
}

/// Arguments of `baseline-worker`.
#[derive(Args, Clone, Debug)]
pub struct BaselineWorker {
    /// Its number, from 0; sent as `X-Worker`.
    #[arg(long, value_name = "N")]
    pub index: u32,
    /// What it runs.
    #[arg(long, value_enum)]
    pub runtime: Runtime,
    /// Burn so many nanoseconds of processor time with every connection.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    pub burn: u64,
    /// The process that started this one and whose end ends it.
    #[arg(long, value_name = "PID")]
    pub parent: u32,
}

/// Arguments of `host`.
#[derive(Args, Clone, Debug)]
pub struct Host {
    /// Where the server will accept.
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// The process that started this one and whose end ends it.
    #[arg(long, value_name = "PID")]
    pub parent: u32,
    /// What starts the server.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Arguments of `hosted`.
#[derive(Args, Clone, Debug)]
pub struct Hosted {
    /// The process that started this one and whose end ends it.
    #[arg(long, value_name = "PID")]
    pub parent: u32,
    /// What to become.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What a worker runs.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    ValueEnum,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// One connection at a time, blocking calls.
    #[default]
    Blocking,
    /// Many connections at a time on tokio's current-thread runtime.
    Tokio,
}

impl Runtime {
    /// The word on the command line and in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Tokio => "tokio",
        }
    }
}

/// What `serve` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// The answer of the comparison ([`crate::apps::hello`]).
    Hello,
    /// What was sent comes back.
    Echo,
    /// The files below a directory.
    Files(PathBuf),
    /// Whatever another program answers, which is started as each worker and takes its listener by
    /// `LISTEN_FDS`.
    Program(Words),
}

impl FromStr for App {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "hello" => Ok(Self::Hello),
            None if text == "echo" => Ok(Self::Echo),
            Some(("files", "")) => Err("files needs a directory: files:DIR".to_owned()),
            Some(("files", directory)) => Ok(Self::Files(directory.into())),
            Some(("program", command)) => command.parse().map(Self::Program),
            _ => Err("expected hello, echo, files:DIR or program:COMMAND".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> String {
        Cli::try_parse_from(line.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_say_what_is_wanted() {
        assert!(error_of("x compare --workers 0").contains("--workers"));
        assert!(error_of("x compare --clients 4294967295").contains("1 to 100000"));
        assert!(error_of("x serve --strategy prefork --app cgi").contains("files:DIR"));
        assert!(error_of("x serve --strategy prefork --listen here").contains("--listen"));
        assert!(error_of("x serve").contains("--strategy"));
    }

    #[test]
    fn options_that_do_not_fit_say_what_would() {
        let check = |line: &str| {
            let line = format!("x compare {line}");
            let Command::Compare(compare) = Cli::try_parse_from(line.split(' ')).unwrap().command
            else {
                panic!("compare was asked for");
            };
            let scenarios = builtin::select(&compare.scenarios).unwrap();
            compare.check(&scenarios).err().unwrap_or_default()
        };
        assert_eq!(check("--clients 64 --seconds 9 --seeds 3"), "");
        assert_eq!(check("--runtime tokio --scenarios short-connections,worker-killed"), "");
        let wrong = check("--clients 64 --scenarios uneven-work");
        assert!(wrong.starts_with("--clients needs one of --scenarios short-conn"), "{wrong}");
        let wrong = check("--seeds 2 --scenarios keep-alive");
        assert!(wrong.starts_with("--seeds needs one of --scenarios uneven-work,"), "{wrong}");
        assert_eq!(check("--quick --scenarios tail,keep-alive"), "");
        let wrong = check("--quick --scenarios tail,scaling");
        assert!(wrong.starts_with("--quick needs one of --scenarios short-conn"), "{wrong}");
        let wrong = check("--reps 3 --scenarios long-lived");
        assert!(wrong.starts_with("--reps needs one of --scenarios short-conn"), "{wrong}");
        let wrong = check("--runtime blocking --scenarios keep-alive");
        assert!(wrong.starts_with("scenario keep-alive cannot run on blocking; "), "{wrong}");
        assert!(error_of("x compare --seeds 2 --reps 2").contains("--reps"));
    }

    #[test]
    fn a_result_behind_an_output_option_is_read() {
        let report = |line: &str| {
            let line = format!("x report {line}");
            let Command::Report(report) = Cli::try_parse_from(line.split(' ')).unwrap().command
            else {
                panic!("report was asked for");
            };
            report.as_meant().map(|report| (report.files, report.outputs.html))
        };
        let (result, page, printed): (PathBuf, PathBuf, PathBuf) =
            ("a.json".into(), "a.html".into(), "-".into());
        let meant = Ok((vec![result.clone()], Some(printed)));
        assert_eq!(report("--html a.json"), meant);
        assert_eq!(report("a.json --html"), meant);
        assert_eq!(report("a.json --html a.html"), Ok((vec![result], Some(page))));
        assert!(report("--html a.html").is_err() && report("--json a.json").is_err());
    }

    #[test]
    fn lists_are_split_at_commas() {
        let line = "x compare --strategies a,b:c --scenarios keep-alive,worker-killed";
        let Command::Compare(compare) = Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("compare was asked for");
        };
        assert_eq!(compare.strategies, ["a", "b:c"]);
        assert_eq!(compare.scenarios, ["keep-alive", "worker-killed"]);
    }
}
