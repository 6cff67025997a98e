//! A table of strings, before it is decided how it looks.

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

    /// Aligned columns for a terminal: names to the left, figures to the right.
    #[must_use]
    pub fn aligned(&self) -> String {
        let width = |column: usize| {
            std::iter::once(&self.head)
                .chain(&self.rows)
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = format!("  {:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
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
        assert_eq!(grid().aligned(), "  who  figure\n  a         1\n  bcd       –\n");
    }

    #[test]
    fn as_markdown() {
        assert_eq!(grid().markdown(), "| who | figure |\n|---|--:|\n| a | 1 |\n| bcd | – |\n");
    }
}
