//! The report as text for a terminal of 100 columns.

use super::advice;
use super::reading::sentences;
use super::tables::grids;
use super::text::{self, rounds};
use super::{Report, Scenario};

/// Longest line.
pub const WIDTH: usize = 100;

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let (version, build) = (&report.version, report.build.told());
    line(&mut text, &format!("forkherd-bench {version}{build} · {}", report.date));
    for words in report.machine.lines() {
        wrap(&mut text, "", &words);
    }
    let (workers, seed, wall_s) = (report.workers, report.seed, report.wall_s);
    line(&mut text, &format!("{workers} workers each · seed {seed} · {wall_s:.0} s"));
    wrap(&mut text, "", &report.command);
    for caution in &report.cautions {
        wrap(&mut text, "  ! ", &caution.to_string());
    }
    for scenario in &report.scenarios {
        text.push('\n');
        render_scenario(scenario, &report.against, &mut text);
    }
    if let Some(check) = &report.self_check {
        text.push_str("\nSelf-check\n");
        for sentence in check.sentences() {
            wrap(&mut text, "  • ", &sentence);
        }
    }
    let sentences = sentences(report);
    if !sentences.is_empty() {
        text.push_str("\nReading\n");
        for sentence in sentences {
            wrap(&mut text, "  • ", &sentence);
        }
    }
    let advice = advice::sentences(report);
    if !advice.is_empty() {
        text.push_str("\nWhat to take (`recommend` asks and measures for a service of yours)\n");
        for sentence in advice {
            wrap(&mut text, "  • ", &sentence);
        }
        wrap(&mut text, "  ", advice::RULES);
    }
    let failures: Vec<String> = report.failures().collect();
    if !failures.is_empty() {
        text.push_str("\nFAILED\n");
        for failure in failures {
            wrap(&mut text, "  • ", &failure);
        }
    }
    text
}

fn render_scenario(scenario: &Scenario, against: &str, text: &mut String) {
    line(
        text,
        &format!(
            "━━ {} · {} · {}",
            scenario.name,
            scenario.runtime.word(),
            rounds(scenario.rounds)
        ),
    );
    wrap(text, "", &text::setting(scenario));
    for grid in grids(scenario, against) {
        text.push('\n');
        wrap(text, "", &grid.title);
        text.push_str(&grid.aligned(WIDTH));
    }
    let notes = scenario.rows.iter().any(|row| row.skipped.is_some());
    if notes || !scenario.notes.is_empty() || !scenario.cautions.is_empty() {
        text.push('\n');
    }
    for row in &scenario.rows {
        if let Some(why) = &row.skipped {
            wrap(text, "  ", &format!("{}: not run, {why}", row.contestant));
        }
    }
    for note in &scenario.notes {
        wrap(text, "  ", note);
    }
    for caution in &scenario.cautions {
        wrap(text, "  ! ", &caution.to_string());
    }
}

/// One line, cut at the width.
fn line(text: &mut String, line: &str) {
    text.extend(line.chars().take(WIDTH));
    text.push('\n');
}

/// Words in lines, the first after `lead`, the others indented as far. A word that is longer than a line is
/// broken, after a comma if it has one.
pub(crate) fn wrap(text: &mut String, lead: &str, words: &str) {
    let indent = lead.chars().count();
    text.push_str(lead);
    let mut used = indent;
    for word in words.split_whitespace().flat_map(|word| pieces(word, WIDTH - indent)) {
        let length = word.text.chars().count();
        if used > indent && (used + 1 + length > WIDTH || word.is_broken_off) {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else if used > indent {
            text.push(' ');
            used += 1;
        }
        text.push_str(word.text);
        used += length;
    }
    text.push('\n');
}

/// A word, or as much of one as fits a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece<'a> {
    text: &'a str,
    /// Whether the word began on the line before.
    is_broken_off: bool,
}

/// `word` in pieces of `most` characters at most.
fn pieces(word: &str, most: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some((end, _)) = rest.char_indices().nth(most.max(1)) {
        let end = rest[..end].rfind(',').map_or(end, |comma| comma + 1);
        let (text, left) = rest.split_at(end);
        pieces.push(Piece { text, is_broken_off: !pieces.is_empty() });
        rest = left;
    }
    pieces.push(Piece { text: rest, is_broken_off: !pieces.is_empty() });
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_and_indent() {
        let mut text = String::new();
        wrap(&mut text, "  • ", &"abcd ".repeat(30));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  • abcd abcd") && lines[1].starts_with("    abcd"));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn a_word_longer_than_a_line_is_broken_after_a_comma_if_it_has_one() {
        let wrapped = |words: &str| {
            let mut text = String::new();
            wrap(&mut text, "  ", words);
            text
        };
        let list = ["abcdefghi"; 11].join(",");
        let (first, second) = list.split_at(90);
        assert_eq!(wrapped(&format!("x {list} y")), format!("  x {first}\n  {second} y\n"));
        let plain = "ä".repeat(200);
        let most = WIDTH - 2;
        let (one, rest) = ("ä".repeat(most), "ä".repeat(200 - 2 * most));
        assert_eq!(wrapped(&plain), format!("  {one}\n  {one}\n  {rest}\n"));
    }
}
