//! `doctor`: what on this machine will bite a service or a comparison, and what to do about it.
//!
//! ```text
//! look (reads /proc and /sys) ─► Facts ─► checks (pure) ─► findings ─► text, JSON
//! ```

pub mod checks;
pub mod facts;
pub mod group;
pub mod look;

use std::process::ExitCode;

use serde::Serialize;

use crate::cli;
use crate::report::Caution;
use crate::report::outputs::print;
use crate::report::terminal::wrap;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was seen; where nothing is wrong, meaning and remedy are empty.
    #[serde(flatten)]
    pub caution: Caution,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// It may bite.
    Warn,
    /// It could not be looked at.
    Unknown,
}

impl Level {
    /// The word in front of a line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
        }
    }
}

/// Looks and prints. Warnings are no failure; not to be able to look is.
///
/// # Errors
/// That of standard output.
pub fn run(arguments: &cli::Doctor) -> anyhow::Result<ExitCode> {
    let facts = look::at_this_machine(arguments.workers.get(), arguments.listen);
    let findings = checks::all(&facts);
    let text = if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&findings)?)
    } else {
        render(&findings)
    };
    print(&text)?;
    let could_look = findings.iter().all(|finding| finding.level != Level::Unknown);
    Ok(if could_look { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Columns before the text.
const INDENT: usize = 22;

/// The findings as text: what is wrong last, where the eye is.
fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    let order = [Level::Ok, Level::Unknown, Level::Warn];
    for finding in order.into_iter().flat_map(|one| findings.iter().filter(move |f| f.level == one))
    {
        let Finding { check, level, caution } = finding;
        let mut head = format!("{:<8}{check:<14}", level.word());
        let sentences = [caution.seen.as_str(), &caution.meaning, &caution.remedy];
        for sentence in sentences.into_iter().filter(|sentence| !sentence.is_empty()) {
            wrap(&mut text, &format!("{head:<INDENT$}"), sentence);
            head.clear();
        }
    }
    let warnings = findings.iter().filter(|finding| finding.level == Level::Warn).count();
    let (are, many) = (if warnings == 1 { "is" } else { "are" }, findings.len());
    text.push_str(&format!("\n{warnings} of {many} {are} worth a look.\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::terminal::WIDTH;

    #[test]
    fn what_is_wrong_comes_last_and_says_what_to_do() {
        let finding = |check, level, caution| Finding { check, level, caution };
        let text = render(&[
            finding("b", Level::Warn, Caution::new("Seen.", "Meant.", "Done.")),
            finding("a", Level::Ok, Caution::new("Fine.", "", "")),
        ]);
        let expected = "\
            ok      a             Fine.\n\
            warn    b             Seen.\n\
            \x20                     Meant.\n\
            \x20                     Done.\n\
            \n\
            1 of 2 is worth a look.\n";
        assert_eq!(text, expected);
        let long = render(&[finding("c", Level::Warn, Caution::new("word ".repeat(40), "", ""))]);
        assert!(long.lines().all(|line| line.chars().count() <= WIDTH), "{long}");
    }
}
