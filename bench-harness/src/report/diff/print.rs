//! A comparison of two runs for a terminal, as Markdown and as JSON.

use super::{Change, Diff, Part, Run, Seen};
use crate::measure::ratio::Ratio;
use crate::report::grid::{Grid, NONE};
use crate::report::terminal::{WIDTH, wrap};

impl Diff {
    /// Tables for a terminal of 100 columns.
    #[must_use]
    pub fn terminal(&self) -> String {
        let mut text = String::new();
        for head in self.head() {
            wrap(&mut text, "", &head);
        }
        for (part, grids) in self.scenarios.iter().map(|part| (part, grids(part))) {
            if !grids.is_empty() {
                text.push_str(&format!("\n━━ {}\n", part.name));
            }
            for grid in grids {
                text.push('\n');
                wrap(&mut text, "", &grid.title);
                text.push_str(&grid.aligned(WIDTH));
            }
        }
        text.push('\n');
        for sentence in self.sentences() {
            wrap(&mut text, "  • ", &sentence);
        }
        text
    }

    /// The same as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = self.head().join("  \n");
        text.push('\n');
        for (part, grids) in self.scenarios.iter().map(|part| (part, grids(part))) {
            if !grids.is_empty() {
                text.push_str(&format!("\n### {}\n", part.name));
            }
            for grid in grids {
                text.push_str(&format!("\n{}:\n\n{}", grid.title, grid.markdown()));
            }
        }
        text.push_str("\n### Reading\n\n");
        for sentence in self.sentences() {
            text.push_str(&format!("* {sentence}\n"));
        }
        text
    }

    /// The structure itself.
    ///
    /// # Errors
    /// It cannot be JSON; no difference is so.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Which runs these are.
    fn head(&self) -> [String; 2] {
        let line = |which: &str, run: &Run| {
            let Run { date, version, command, .. } = run;
            let failed = if run.failed { " · FAILED" } else { "" };
            format!("{which} {date} · {version} · {command}{failed}")
        };
        [line("OLD", &self.old), line("NEW", &self.new)]
    }

    /// What there is to say.
    fn sentences(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self
            .beyond_noise()
            .map(|(part, change)| {
                let Change { figure, contestant, old, new, .. } = change;
                let way = if change.seen == Seen::More { "rose" } else { "fell" };
                let (old, new) = (with_interval(*old), with_interval(*new));
                format!("{}, {contestant}: {figure} {way} from {old} to {new}.", part.name)
            })
            .collect();
        let of = |seen| {
            let good = self.scenarios.iter().filter(|part| !part.failed);
            let all = good.flat_map(|part| &part.changes);
            all.filter(|change| change.seen == seen).count()
        };
        let (same, unknown) = (of(Seen::NoDifference), of(Seen::Unknown));
        if sentences.is_empty() && same > 0 {
            sentences.push(format!("No difference seen in any of {same} figures with intervals."));
        } else if same > 0 {
            sentences.push(format!("No difference seen in {same} other figures with intervals."));
        }
        if unknown > 0 {
            sentences
                .push(format!("{unknown} figures have no interval: their changes may be noise."));
        }
        let failed = self.scenarios.iter().filter(|part| part.failed);
        sentences
            .extend(failed.map(|part| format!("{} failed: its figures say nothing.", part.name)));
        sentences.extend(self.unmatched.iter().map(|one| format!("{one}.")));
        sentences
    }
}

/// A table for each figure.
fn grids(part: &Part) -> Vec<Grid> {
    let columns = ["contestant", "old", "new", "change", "seen"];
    let mut grids: Vec<Grid> = Vec::new();
    for changes in part.changes.chunk_by(|one, other| one.figure == other.figure) {
        // Counts that are 0 in both runs for everybody are no news.
        let is_news = |change: &Change| change.old.value != 0.0 || change.new.value != 0.0;
        if changes.iter().any(is_news) {
            let rows = changes.iter().map(cells).collect();
            grids.push(Grid::of(&changes[0].figure, &columns, rows));
        }
    }
    grids
}

fn cells(change: &Change) -> Vec<String> {
    let percent = change.change.map(|change| format!("{:+.1} %", (change - 1.0) * 100.0));
    let seen = match change.seen {
        Seen::More => "more",
        Seen::Less => "less",
        Seen::NoDifference => "no difference",
        Seen::Unknown => NONE,
    };
    vec![
        change.contestant.clone(),
        with_interval(change.old),
        with_interval(change.new),
        percent.unwrap_or_else(|| NONE.to_owned()),
        seen.to_owned(),
    ]
}

/// `1.02 [0.99 1.05]`, `7`.
fn with_interval(ratio: Ratio) -> String {
    match ratio.interval {
        Some(interval) => {
            format!("{:.2} [{:.2} {:.2}]", ratio.value, interval.low, interval.high)
        }
        None if ratio.value.fract() == 0.0 => format!("{:.0}", ratio.value),
        None => format!("{:.2}", ratio.value),
    }
}
