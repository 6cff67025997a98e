//! A table of strings, before it is decided how it looks.

use std::ops::Range;

/// A heading and rows, the first column being names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// What it shows.
    pub title: String,
    /// Column heads.
    pub head: Vec<String>,
    /// As many cells as heads in each.
    pub rows: Vec<Vec<String>>,
}

/// Longer names are shortened on a terminal.
const NAME_MAX: usize = 34;

/// So much of a cell is shown however narrow the terminal is.
const CELL_MIN: usize = 12;

/// What is printed where there is no figure.
pub const NONE: &str = "–";

impl Grid {
    /// A grid of `rows` whose columns are named in `columns`; a column after the first in which
    /// no row has a figure is left out.
    #[must_use]
    pub fn of(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Self {
        let keep: Vec<usize> = (0..columns.len())
            .filter(|&column| {
                column == 0
                    || rows.iter().any(|row| row.get(column).is_some_and(|cell| cell != NONE))
            })
            .collect();
        let pick = |row: &[String]| -> Vec<String> {
            keep.iter().map(|&column| row.get(column).cloned().unwrap_or_default()).collect()
        };
        let head: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
        Self {
            title: title.to_owned(),
            head: pick(&head),
            rows: rows.iter().map(|row| pick(row)).collect(),
        }
    }

    /// Whether it shows anything beside names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.len() < 2 || self.rows.is_empty()
    }

    /// Aligned columns for a terminal: names to the left, figures to the right. What does not fit
    /// into `width` columns stands below, beside the names once more; a very long name, and a cell that
    /// does not even fit alone, is shortened in its middle.
    #[must_use]
    pub fn aligned(&self, width: usize) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let name = |row: &[String]| short(&row[0], NAME_MAX);
        let names = lines().map(|row| name(row).chars().count()).max().unwrap_or_default();
        let room = width.saturating_sub(2 + names);
        let cell = |row: &[String], column: usize| {
            short(&row[column], room.saturating_sub(2).max(CELL_MIN))
        };
        let widest = |column: usize| lines().map(|row| cell(row, column).chars().count()).max();
        let widths: Vec<usize> =
            (0..self.head.len()).map(|column| widest(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for columns in fitting(&widths[1..], room) {
            for row in lines() {
                let mut line = format!("  {:<names$}", name(row));
                for column in columns.clone() {
                    line.push_str(&format!("  {:>1$}", cell(row, 1 + column), widths[1 + column]));
                }
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// A Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let escaped = |cell: &String| cell.replace('|', "\\|").replace('<', "&lt;");
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(escaped).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.head);
        text.push_str("|---");
        text.push_str(&"|--:".repeat(self.head.len() - 1));
        text.push_str("|\n");
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

/// Runs of columns, each as long as fits into `room` with two spaces before each column. One that
/// does not fit at all stands alone.
fn fitting(widths: &[usize], room: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut used = 0;
    for (column, width) in widths.iter().enumerate() {
        used += 2 + width;
        match runs.last_mut() {
            Some(run) if used <= room => run.end = column + 1,
            _ => {
                runs.push(column..column + 1);
                used = 2 + width;
            }
        }
    }
    runs
}

/// A label that fits into `most` characters: of a longer one the middle is left out.
#[must_use]
pub fn short(label: &str, most: usize) -> String {
    let count = label.chars().count();
    if count <= most {
        return label.to_owned();
    }
    let (head, tail) = (most * 2 / 3, most - most * 2 / 3 - 1);
    let of = |skip, take| label.chars().skip(skip).take(take).collect::<String>();
    format!("{}…{}", of(0, head), of(count - tail, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let rows = vec![
            vec!["a".to_owned(), NONE.to_owned(), "1".to_owned()],
            vec!["bcd".to_owned(), NONE.to_owned(), "–".to_owned()],
        ];
        Grid::of("t", &["who", "empty", "figure"], rows)
    }

    #[test]
    fn empty_columns_are_left_out_and_figures_stand_to_the_right() {
        assert_eq!(grid().aligned(100), "  who  figure\n  a         1\n  bcd       –\n");
    }

    #[test]
    fn what_does_not_fit_stands_below() {
        let rows = vec![vec!["a".repeat(40), "1".to_owned(), "2".to_owned(), "3".to_owned()]];
        let grid = Grid::of("t", &["who", "one", "two", "three"], rows);
        let text = grid.aligned(48);
        assert!(text.lines().all(|line| line.chars().count() <= 48), "{text}");
        let heads: Vec<Vec<&str>> =
            text.lines().step_by(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(heads, [vec!["who", "one", "two"], vec!["who", "three"]]);
        assert_eq!(fitting(&[5, 50, 5], 20), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn what_does_not_even_fit_alone_is_shortened() {
        // Longer than any width of a format, too.
        let long = "x".repeat(70_000);
        let rows = vec![vec!["a".to_owned(), long.clone(), "1".to_owned()]];
        let text = Grid::of("t", &["who", &long, "one"], rows).aligned(48);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 48), "{text}");
        assert!(text.contains("xx…xx"), "{text}");
    }

    #[test]
    fn a_long_label_keeps_both_ends() {
        assert_eq!(short("reuseport", 9), "reuseport");
        assert_eq!(short("an-external-server", 10), "an-ext…ver");
    }

    #[test]
    fn a_label_breaks_no_markdown_table() {
        let grid = Grid::of("t", &["who", "n"], vec![vec!["a|<b>".to_owned(), "1".to_owned()]]);
        assert!(grid.markdown().ends_with("| a\\|&lt;b> | 1 |\n"));
    }

    #[test]
    fn as_markdown() {
        assert_eq!(grid().markdown(), "| who | figure |\n|---|--:|\n| a | 1 |\n| bcd | – |\n");
    }
}
