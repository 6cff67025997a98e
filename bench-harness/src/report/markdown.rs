//! The report as Markdown, for a README.

use std::fmt::Write as _;

use super::advice;
use super::reading::sentences;
use super::self_check::SelfCheck;
use super::tables::grids;
use super::text::{self, rounds};
use super::{Report, Scenario};

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = format!(
        "`{}` · seed {} · {} workers each · {:.0} s · {}{} · {}\n",
        report.command,
        report.seed,
        report.workers,
        report.wall_s,
        report.date,
        report.build.told(),
        report.machine.lines().join(" · "),
    );
    list(&mut text, "Before believing", report.cautions.iter().map(ToString::to_string));
    for scenario in &report.scenarios {
        render_scenario(scenario, &report.against, &mut text);
    }
    list(&mut text, "Self-check", report.self_check.iter().flat_map(SelfCheck::sentences));
    list(&mut text, "Reading", sentences(report));
    let advice = advice::sentences(report);
    let has_advice = !advice.is_empty();
    list(&mut text, "What to take", advice);
    if has_advice {
        let _ = write!(text, "\n{}\n", advice::RULES);
    }
    list(&mut text, "Failed", report.failures());
    text
}

fn render_scenario(scenario: &Scenario, against: &str, text: &mut String) {
    let (name, runtime) = (&scenario.name, scenario.runtime.word());
    let rounds = rounds(scenario.rounds);
    let _ = write!(text, "\n### {name} ({runtime}, {rounds})\n\n{}\n", text::setting(scenario));
    for grid in grids(scenario, against) {
        let _ = write!(text, "\n{}:\n\n{}", grid.title, grid.markdown());
    }
    let skipped = scenario.rows.iter().filter_map(|row| {
        row.skipped.as_ref().map(|why| format!("{}: not run, {why}", row.contestant))
    });
    let cautions = scenario.cautions.iter().map(ToString::to_string);
    let notes: Vec<String> =
        skipped.chain(scenario.notes.iter().cloned()).chain(cautions).collect();
    if !notes.is_empty() {
        text.push('\n');
        for note in notes {
            let _ = writeln!(text, "* {note}");
        }
    }
}

/// A headed list, if it has items.
fn list(text: &mut String, title: &str, items: impl IntoIterator<Item = String>) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_some() {
        let _ = write!(text, "\n### {title}\n\n");
        for item in items {
            let _ = writeln!(text, "* {item}");
        }
    }
}
