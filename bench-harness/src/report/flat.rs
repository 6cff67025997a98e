//! A structure as a flat list of figures, whatever fields it has.

use serde::Serialize;
use serde_json::Value;

/// One figure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figure {
    /// The names of the fields that lead to it, with dots between them.
    pub name: String,
    /// Which element it is where it stands in a list: what the element is called, or its number
    /// from 0; a slash between lists in lists.
    pub at: String,
    /// Its value, with all digits.
    pub value: String,
    /// The ends of its interval, if it has one.
    pub interval: Option<[String; 2]>,
}

/// Fields that say what an element of a list is called.
const NAMES: [&str; 3] = ["figure", "how", "at_s"];

/// Every figure of `of`; an absent one is left out.
///
/// # Panics
/// If `of` cannot be JSON: a map with keys that are no strings. No part of a report has one.
#[must_use]
pub fn figures(of: &impl Serialize) -> Vec<Figure> {
    let value = serde_json::to_value(of).expect("a report can be JSON");
    let mut figures = Vec::new();
    walk(&value, "", "", &mut figures);
    figures
}

fn walk(value: &Value, name: &str, at: &str, figures: &mut Vec<Figure>) {
    let figure = |value: &Value, interval| Figure {
        name: name.to_owned(),
        at: at.to_owned(),
        value: text(value),
        interval,
    };
    match value {
        Value::Null => {}
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                match element.as_array().map(Vec::as_slice) {
                    // A point of a curve.
                    Some([x, y]) => walk(y, name, &joined(at, "/", &text(x)), figures),
                    _ => {
                        let own = called(element).unwrap_or_else(|| index.to_string());
                        walk(element, name, &joined(at, "/", &own), figures);
                    }
                }
            }
        }
        Value::Object(fields) => match (fields.get("value"), fields.get("interval")) {
            (Some(value), Some(interval)) => {
                let end = |end| interval.get(end).map(text);
                figures.push(figure(value, end("low").zip(end("high")).map(<[String; 2]>::from)));
            }
            _ => {
                for (key, value) in fields.iter().filter(|(key, _)| !NAMES.contains(&&***key)) {
                    walk(value, &joined(name, ".", key), at, figures);
                }
            }
        },
        _ => figures.push(figure(value, None)),
    }
}

/// What an element of a list calls itself.
fn called(element: &Value) -> Option<String> {
    NAMES.iter().find_map(|&name| element.get(name)).map(text)
}

/// Strings without quotes.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn joined(before: &str, between: &str, after: &str) -> String {
    if before.is_empty() { after.to_owned() } else { format!("{before}{between}{after}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_figure_has_a_name_and_a_place() {
        let of = json!({
            "absent": null,
            "curve": [[50.0, 812.5], [99.9, 1000.0]],
            "latency": { "p50_us": 8.0 },
            "ratios": { "cpu": { "value": 1.5, "interval": { "low": 1.0, "high": 2.0 } } },
            "tails": [{ "figure": "p99", "over_ideal": [1.25, 1.5] }],
        });
        let line = |figure: &Figure| {
            let interval = figure.interval.as_ref().map(|ends| ends.join(" ")).unwrap_or_default();
            format!("{} @{} {} [{interval}]", figure.name, figure.at, figure.value)
        };
        let lines: Vec<_> = figures(&of).iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "curve @50.0 812.5 []",
                "curve @99.9 1000.0 []",
                "latency.p50_us @ 8.0 []",
                "ratios.cpu @ 1.5 [1.0 2.0]",
                "tails.over_ideal @p99/0 1.25 []",
                "tails.over_ideal @p99/1 1.5 []",
            ]
        );
    }

    #[test]
    fn a_ratio_without_an_interval_is_a_figure() {
        let of = json!({ "cpu": { "value": 1.5, "interval": null } });
        let figures = figures(&of);
        assert_eq!(figures.len(), 1);
        assert_eq!((&*figures[0].value, &figures[0].interval), ("1.5", &None));
    }
}
