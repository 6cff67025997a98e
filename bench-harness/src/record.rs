//! `record`: turns an access log into a profile.
//!
//! ```text
//! line ─► entry (common log format, or JSON) ─► summary (rate, bursts, work) ─► profile
//! ```
//!
//! A log knows when requests came and how long they took. It does not know how long connections
//! live, what workers may do, or what matters: the profile says so at its head.

pub mod line;
pub mod summary;

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::profile::file;
use crate::report::outputs::print;
use crate::report::saved;
use crate::serve::Usage;
use line::{Reader, Unit};
use summary::Summary;

/// Fewer requests than this are an anecdote.
const ENTRIES_MIN: usize = 100;

/// Arguments of `record`.
#[derive(Args, Clone, Debug)]
pub struct Record {
    /// Common or combined log format with a request time at the end (`%D`, `$request_time`), or one
    /// JSON object per line; `-` is standard input.
    #[arg(value_name = "ACCESS.LOG")]
    pub log: PathBuf,
    /// Write the profile here instead of printing it; not onto the log.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Unit of the request times: s, ms or us. [default: seconds if all have a decimal point,
    /// microseconds if none has]
    #[arg(long, value_enum, value_name = "UNIT")]
    pub unit: Option<Unit>,
    /// JSON field with the time of a request: a date (RFC 3339, or that of the common log format) or
    /// seconds since 1970 (or thousandths, millionths or milliardths of them); a dot leads into objects.
    #[arg(long, value_name = "NAME", default_value = "time")]
    pub time_field: String,
    /// JSON field with how long it took.
    #[arg(long, value_name = "NAME", default_value = "request_time")]
    pub duration_field: String,
}

/// Reads the log and writes the profile.
///
/// # Errors
/// The log cannot be read, or holds too few requests; the profile cannot be written.
pub fn run(arguments: &Record) -> anyhow::Result<()> {
    let name = arguments.log.display().to_string();
    if let Some(path) = &arguments.output
        && is_one(&arguments.log, path)
    {
        let text = format!("--output would overwrite {name}, the log: name another file");
        return Err(Usage(text).into());
    }
    let reader = Reader {
        unit: arguments.unit,
        time_field: arguments.time_field.clone(),
        duration_field: arguments.duration_field.clone(),
    };
    let read = if arguments.log == Path::new("-") {
        read(std::io::stdin().lock(), &reader)
    } else {
        let log = File::open(&arguments.log).with_context(|| format!("cannot read {name}"))?;
        read(BufReader::new(log), &reader)
    };
    let read = read.with_context(|| format!("cannot read {name}"))?;
    let text = profile(&read, &name)?;
    match &arguments.output {
        Some(path) => saved::write(path, &text)?,
        None => print(&text)?,
    }
    let mut stderr = std::io::stderr().lock();
    if let Some(bad) = read.bad() {
        let _ = writeln!(stderr, "forkherd-bench: {bad}");
    }
    Ok(())
}

/// Whether `log`, or what standard input comes from, and `output` are one file, whatever it is called.
fn is_one(log: &Path, output: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let log = if log == Path::new("-") { Path::new("/dev/stdin") } else { log };
    // What cannot be looked at is told where it is read or written; a terminal may be both.
    let file = |path: &Path| path.metadata().ok().filter(Metadata::is_file);
    match (file(log), file(output)) {
        (Some(log), Some(output)) => (log.dev(), log.ino()) == (output.dev(), output.ino()),
        _ => false,
    }
}

/// What a log held.
#[derive(Debug, Default)]
struct Log {
    entries: Vec<line::Entry>,
    /// Lines that are no request.
    bad: u64,
    /// Number and fault of the first of them.
    first_bad: Option<(u64, String)>,
    /// The first lines whose times look like seconds, and like microseconds.
    first_s: Option<u64>,
    first_us: Option<u64>,
}

impl Log {
    /// A sentence about bad lines, if there are any.
    fn bad(&self) -> Option<String> {
        let (number, fault) = self.first_bad.as_ref()?;
        let good = self.entries.len();
        Some(format!(
            "{} of {} lines were left out, the first of them line {number}: {fault}",
            self.bad,
            good as u64 + self.bad
        ))
    }
}

/// Reads all lines; empty ones count as nothing.
fn read(mut log: impl BufRead, reader: &Reader) -> std::io::Result<Log> {
    let mut read = Log::default();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if log.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        // Requests hold whatever clients send.
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        match reader.entry(line) {
            Ok((entry, guessed)) => {
                read.entries.push(entry);
                match guessed {
                    Some(Unit::S) => _ = read.first_s.get_or_insert(number),
                    Some(Unit::Us) => _ = read.first_us.get_or_insert(number),
                    Some(Unit::Ms) | None => {}
                }
            }
            Err(fault) => {
                read.bad += 1;
                read.first_bad.get_or_insert((number, fault));
            }
        }
    }
    Ok(read)
}

/// The profile that a log makes, as a file.
fn profile(log: &Log, name: &str) -> anyhow::Result<String> {
    if log.entries.is_empty() {
        bail!("{name} holds no request: {}", log.bad().unwrap_or_else(|| "it is empty".to_owned()));
    }
    if log.entries.len() < ENTRIES_MIN {
        let bad = log.bad().map(|bad| format!("; {bad}")).unwrap_or_default();
        bail!(
            "{name} holds {} requests; {ENTRIES_MIN} are the least that make a profile{bad}",
            log.entries.len()
        );
    }
    if let (Some(with), Some(without)) = (log.first_s, log.first_us) {
        // JSON in seconds may have 0.25 and 30; as microseconds the latter would be nothing.
        bail!(
            "the request times in {name} look like two units, as line {with} has a decimal point and line \
             {without} has none: say theirs by --unit"
        );
    }
    let summary = Summary::of(&log.entries)?;
    let mut notes = vec![format!("From {name}: {} requests.", log.entries.len())];
    notes.extend(log.bad().map(|bad| format!("{bad}.")));
    notes.extend(summary.notes());
    file::render(&summary.profile(name), &notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Connections;

    fn reader() -> Reader {
        Reader { unit: None, time_field: "time".into(), duration_field: "request_time".into() }
    }

    /// A log of 50 requests per second for 20 s, of 1 ms and 3 ms in turn.
    fn log(line: impl Fn(u32, u32) -> String) -> String {
        (0..1_000).map(|number| line(number / 50, 1_000 + 2_000 * (number % 2)) + "\n").collect()
    }

    fn common(second: u32, us: u32) -> String {
        format!(
            "10.0.0.1 - - [22/Nov/2026:05:41:{second:02} +0000] \"GET / HTTP/1.1\" 200 13 \"-\" \"a b\" {us}"
        )
    }

    fn json(second: u32, us: u32) -> String {
        let seconds = f64::from(us) / 1e6;
        format!("{{\"time\":\"2026-11-22T05:41:{second:02}Z\",\"request_time\":{seconds}}}")
    }

    #[test]
    fn both_formats_make_the_same_profile() {
        for text in [log(common), log(json)] {
            let read = read(text.as_bytes(), &reader()).unwrap();
            let written = profile(&read, "a.log").unwrap();
            assert!(written.starts_with("# From a.log: 1000 requests.\n"), "{written}");
            assert!(written.contains("does not tell"), "{written}");
            let profile = file::parse(&written).unwrap();
            assert!((profile.rate() / 50.0 - 1.0).abs() < 0.01, "{}", profile.rate());
            assert!((profile.work.mean_us() / 2_000.0 - 1.0).abs() < 0.05, "{written}");
            assert_eq!(profile.connections, Connections::Short);
        }
    }

    #[test]
    fn bad_lines_are_counted_and_the_first_is_named() {
        let text = log(common).replacen("\"GET", "GET", 1) + "\nwhat is this\n";
        let read = read(text.as_bytes(), &reader()).unwrap();
        let bad = read.bad().unwrap();
        assert!(
            bad.starts_with("1 of 1001 lines were left out, the first of them line 1002: "),
            "{bad}"
        );
        assert!(profile(&read, "a.log").unwrap().contains("1 of 1001 lines"));
    }

    #[test]
    fn nothing_but_bad_lines_is_an_error_and_so_are_too_few() {
        let of = |text: &str| {
            let read = read(text.as_bytes(), &reader()).unwrap();
            profile(&read, "a.log").unwrap_err().to_string()
        };
        assert!(of("a\nb\n").contains("holds no request: 2 of 2 lines"), "{}", of("a\nb\n"));
        assert_eq!(of(""), "a.log holds no request: it is empty");
        assert!(of(&common(1, 1)).contains("holds 1 requests; 100 are the least"));
    }

    #[test]
    fn a_log_has_one_unit() {
        let times = ["0", "0.25", "30", "0.25"];
        let text: String = (0..400)
            .map(|at| format!("{{\"time\":{},\"request_time\":{}}}\n", at / 4, times[at % 4]))
            .collect();
        let error = profile(&read(text.as_bytes(), &reader()).unwrap(), "a.log").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("line 2 has a decimal point and line 3 has none"), "{error}");
        let reader = Reader { unit: Some(Unit::S), ..reader() };
        let written = profile(&read(text.as_bytes(), &reader).unwrap(), "a.log").unwrap();
        assert!(written.contains("[99.0, 30000000.0]"), "{written}");
        // No time at all is of any unit.
        let text = text.replace("30", "0");
        profile(&read(text.as_bytes(), &self::reader()).unwrap(), "a.log").unwrap();
    }
}
