//! The report as CSV: one line for each figure, for a spreadsheet or a plotting program.
//!
//! What is no contestant's has lines, too, with no contestant in them: of the run, which have no scenario
//! either, and of each scenario. Comments would be lost in most readers, and a second table is none of CSV.

use serde_json::Value;

use super::flat::{Figure, figures};
use super::{Report, Scenario};

const HEAD: [&str; 9] =
    ["run", "scenario", "runtime", "contestant", "figure", "at", "value", "low", "high"];

/// The head and all figures. `run` counts `reports` from 1; the names of figures are those of the
/// JSON's fields, with their units. Each run says beside them whether it `failed`, and of what
/// (`failures`, those of its scenarios included).
///
/// # Errors
/// None that writing to memory could have.
pub fn render(reports: &[Report]) -> anyhow::Result<String> {
    let mut lines = ::csv::Writer::from_writer(Vec::new());
    lines.write_record(HEAD)?;
    for (run, report) in (1_u32..).zip(reports) {
        let mut write = |scenario: Option<&Scenario>, contestant: &str, figures: &[Figure]| {
            let (name, runtime) =
                scenario.map_or(("", ""), |scenario| (&*scenario.name, scenario.runtime.word()));
            for Figure { name: figure, at, value, interval } in figures {
                let [low, high] = interval.clone().unwrap_or_default();
                let run = run.to_string();
                lines.write_record([
                    &run, name, runtime, contestant, figure, at, value, &low, &high,
                ])?;
            }
            anyhow::Ok(())
        };
        write(None, "", &head(report)?)?;
        for scenario in &report.scenarios {
            write(Some(scenario), "", &without(scenario, &["name", "runtime", "rows"])?)?;
            for row in &scenario.rows {
                write(Some(scenario), &row.contestant, &without(row, &["contestant"])?)?;
            }
        }
    }
    Ok(String::from_utf8(lines.into_inner()?)?)
}

/// What is said of a whole run.
fn head(report: &Report) -> anyhow::Result<Vec<Figure>> {
    let mut head = without(report, &["scenarios"])?;
    let failures: Vec<String> = report.failures().collect();
    head.push(Figure {
        name: "failed".to_owned(),
        value: (!failures.is_empty()).to_string(),
        ..Figure::default()
    });
    head.extend((0..).zip(failures).map(|(index, value): (u32, _)| Figure {
        name: "failures".to_owned(),
        at: index.to_string(),
        value,
        ..Figure::default()
    }));
    Ok(head)
}

/// The figures of a part of a report, but for some of its fields.
fn without(part: &impl serde::Serialize, fields: &[&str]) -> anyhow::Result<Vec<Figure>> {
    let mut value = serde_json::to_value(part)?;
    if let Value::Object(all) = &mut value {
        fields.iter().for_each(|&field| drop(all.remove(field)));
    }
    Ok(figures(&value))
}
