//! The report as CSV: one line for each figure, for a spreadsheet or a plotting program.

use super::Report;
use super::flat::figures;

const HEAD: [&str; 9] =
    ["run", "scenario", "runtime", "contestant", "figure", "at", "value", "low", "high"];

/// All figures of all rows. `run` counts `reports` from 1; the names of figures are those of the
/// JSON's fields, with their units.
///
/// # Errors
/// None that writing to memory could have.
pub fn render(reports: &[Report]) -> anyhow::Result<String> {
    let mut lines = ::csv::Writer::from_writer(Vec::new());
    lines.write_record(HEAD)?;
    for (run, report) in (1_u32..).zip(reports) {
        for scenario in &report.scenarios {
            for row in &scenario.rows {
                for figure in figures(row).iter().filter(|figure| figure.name != "contestant") {
                    let [low, high] = figure.interval.clone().unwrap_or_default();
                    lines.write_record([
                        &run.to_string(),
                        &scenario.name,
                        scenario.runtime.word(),
                        &row.contestant,
                        &figure.name,
                        &figure.at,
                        &figure.value,
                        &low,
                        &high,
                    ])?;
                }
            }
        }
    }
    Ok(String::from_utf8(lines.into_inner()?)?)
}
