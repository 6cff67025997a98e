//! Recorded traces: a CSV file of when requests came and how much work each was.
//!
//! ```csv
//! at_us,service_us
//! 0,3150
//! 412,180
//! ```
//!
//! The first line names the columns (others are allowed and ignored); each further one is a
//! request, in order of time: when it came, in microseconds from the start, and the work it
//! brought, in microseconds. Lines that begin with `#` are comments.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::apps::hello::WORK_MAX;

/// A recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// When it came, in microseconds from the start.
    pub at_us: u64,
    /// The work it brought, in microseconds.
    pub service_us: u64,
}

/// Reads the trace in `path`.
///
/// # Errors
/// It cannot be read, or is none: which line, and what was expected there.
pub fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the trace {name}"))?;
    parse(file).with_context(|| format!("{name} is no recorded trace"))
}

fn parse(text: impl Read) -> anyhow::Result<Vec<Row>> {
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text);
    let names = reader.headers().context("its first line cannot be read")?;
    for name in ["at_us", "service_us"] {
        ensure!(
            names.iter().any(|one| one == name),
            "its first line names no column `{name}`; expected is `at_us,service_us`"
        );
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut records = reader.deserialize();
    while let Some(row) = records.next() {
        let row: Row = match row {
            Ok(row) => row,
            Err(error) => bail!("{}", explain(&error)),
        };
        let line = records.reader().position().line().saturating_sub(1);
        let before = rows.last().map_or(0, |row| row.at_us);
        ensure!(
            row.at_us >= before,
            "line {line}: {} µs comes after {before} µs; lines are in order of time",
            row.at_us
        );
        ensure!(
            u128::from(row.service_us) <= WORK_MAX.as_micros(),
            "line {line}: {} µs of work; the most is {} s",
            row.service_us,
            WORK_MAX.as_secs()
        );
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "there is no line below the names of its columns");
    Ok(rows)
}

/// An error of the reader in our words.
fn explain(error: &csv::Error) -> String {
    let line = error.position().map_or(0, csv::Position::line);
    let why = match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns instead of {expected_len}")
        }
        _ => return error.to_string(),
    };
    format!("line {line}: {why}; expected are whole microseconds, as in `412,180`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let seen = match parse(text.as_bytes()) {
            Ok(rows) => {
                let row = |row: &Row| format!("{}+{}", row.at_us, row.service_us);
                rows.iter().map(row).collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(seen, expected, "{text:?}");
    }

    #[test]
    fn columns_are_found_by_name() {
        check("at_us,service_us\n0,3\n7,1\n", "0+3 7+1");
        check("# made up\nservice_us, path, at_us\n3, /, 0\n1, /a, 7\n", "0+3 7+1");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        check("0,3\n", "its first line names no column `at_us`; expected is `at_us,service_us`");
        check("at_us,service_us\n", "there is no line below the names of its columns");
        check(
            "at_us,service_us\n5,1\n4,1\n",
            "line 3: 4 µs comes after 5 µs; lines are in order of time",
        );
        check("at_us,service_us\n5,60000001\n", "line 2: 60000001 µs of work; the most is 60 s");
        check(
            "at_us,service_us\n5,1\n6,x\n",
            "line 3: field 1: invalid digit found in string; expected are whole microseconds, as \
             in `412,180`",
        );
        check(
            "at_us,service_us\n5\n",
            "line 2: 1 columns instead of 2; expected are whole microseconds, as in `412,180`",
        );
    }
}
