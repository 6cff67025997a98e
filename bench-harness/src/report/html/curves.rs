//! Latency by percentile beside what would have been ideal, and the ratio of the two.

use maud::html;

use super::axis::{Axis, nines};
use super::draw::{Drawing, Frame, latency, legend, line, mark, plain};
use super::look::Looks;
use crate::report::{Row, SHARED_CORES, Scenario};

/// More lines than this in one drawing, and nobody can follow one.
const LINES: usize = 6;

/// Where marks stand on a line.
const MARKS: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

const HEIGHT: f64 = 236.0;
const FRAME: Frame = Frame { left: 52.0, right: 350.0, top: 8.0, bottom: 200.0 };

type Points = [(f64, f64)];

/// What would have been ideal.
struct Ideal {
    /// In captions.
    name: &'static str,
    /// A class of the style sheet.
    class: &'static str,
    of: fn(&Row) -> &Points,
}

const IDEALS: [Ideal; 2] = [
    Ideal { name: "the ideal queue", class: "ideal", of: |row| &row.ideal_curve },
    Ideal { name: SHARED_CORES, class: "sharing", of: |row| &row.sharing_curve },
];

/// The drawings of a scenario; none without curves.
pub fn drawings(scenario: &Scenario, looks: &Looks) -> Vec<Drawing> {
    let rows: Vec<&Row> = scenario.rows.iter().filter(|row| !row.curve.is_empty()).collect();
    let points = || {
        let ideals = IDEALS.iter().flat_map(|ideal| rows.iter().map(|row| (ideal.of)(row)));
        rows.iter().map(|row| &*row.curve).chain(ideals).flatten().filter(|point| is_drawn(point))
    };
    let latencies = Axis::log(points().map(|point| point.1));
    let percentiles = Axis::percentile(points().map(|point| point.0));
    let (Some(y), Some(x)) = (latencies, percentiles) else { return Vec::new() };

    let mut drawings = Vec::new();
    for (rows, of) in parts(&rows) {
        let lines = rows.iter().map(|row| Line::of(row, row.curve.clone())).collect::<Vec<_>>();
        let ideals: Vec<_> = IDEALS
            .iter()
            .flat_map(|ideal| {
                let curves = distinct(rows.iter().map(|row| (ideal.of)(row)));
                curves.into_iter().map(move |points| (ideal, points))
            })
            .collect();
        let caption = format!("Latency by percentile{of}");
        drawings.push(plot(caption, &lines, &ideals, (x, y), looks, latency));
    }
    for ideal in &IDEALS {
        let over = rows.iter().map(|row| Line::of(row, over_ideal(&row.curve, (ideal.of)(row))));
        let all: Vec<Line> = over.collect();
        let axis = Axis::ratio(
            all.iter()
                .flat_map(|line| &line.points)
                .filter(|point| is_drawn(point))
                .map(|point| point.1),
        );
        let drawn: Vec<Line> = all.into_iter().filter(|line| !line.points.is_empty()).collect();
        for (lines, of) in parts(&drawn) {
            let caption = format!("Latency over that of {}{of}", ideal.name);
            drawings.push(plot(caption, lines, &[], (x, axis), looks, times));
        }
    }
    drawings
}

/// The quickest of all says nothing about waiting, and 100 has no place on the axis.
fn is_drawn(point: &(f64, f64)) -> bool {
    0.0 < point.0 && point.0 < 100.0
}

/// As many as one drawing holds, and which of how many drawings it is.
fn parts<T>(all: &[T]) -> impl Iterator<Item = (&[T], String)> {
    let count = all.len().div_ceil(LINES);
    let name = move |index: usize| match count {
        1 => String::new(),
        _ => format!(" ({} of {count})", index + 1),
    };
    all.chunks(LINES).enumerate().map(move |(index, part)| (part, name(index)))
}

/// A contestant's line.
struct Line<'a> {
    contestant: &'a str,
    points: Vec<(f64, f64)>,
}

impl<'a> Line<'a> {
    fn of(row: &'a Row, points: Vec<(f64, f64)>) -> Self {
        Self { contestant: &row.contestant, points }
    }
}

fn plot(
    caption: String,
    lines: &[Line],
    ideals: &[(&Ideal, &Points)],
    (x, y): (Axis, Axis),
    looks: &Looks,
    label: impl Fn(f64) -> String,
) -> Drawing {
    let places = |points: &Points| -> Vec<(f64, f64)> {
        let drawn = points.iter().filter(|point| is_drawn(point));
        drawn.map(|point| (FRAME.x(x, point.0), FRAME.y(y, point.1))).collect()
    };
    let body = html! {
        (FRAME.upwards(y, &label))
        (FRAME.from_left(x, percent))
        text.axis x="201" y="230" text-anchor="middle" { "percentile" }
        @for (ideal, points) in ideals { (line(&places(points), ideal.class)) }
        @for Line { contestant, points } in lines {
            @let look = looks.look(contestant);
            (line(&places(points), &format!("{} {}", look.class, look.mark.dash())))
            @for (percentile, value) in marked(points) {
                (mark(
                    look,
                    (FRAME.x(x, percentile), FRAME.y(y, value)),
                    &format!("{contestant}, {}: {}", percent(percentile), label(value)),
                ))
            }
        }
    };
    let ends = lines.iter().filter_map(|Line { contestant, points }| {
        let (percentile, value) = points.iter().rfind(|point| is_drawn(point))?;
        Some(format!("{contestant} {} at {}", label(*value), percent(*percentile)))
    });
    let about = format!("{}.", ends.collect::<Vec<_>>().join(", "));
    let names = lines.iter().map(|line| line.contestant);
    let mut others: Vec<_> = ideals.iter().map(|(ideal, _)| (ideal.name, ideal.class)).collect();
    others.dedup();
    let below = legend(names, looks, &others);
    Drawing { caption, about, height: HEIGHT, body, below }
}

/// The points nearest to where marks stand, as far as the line goes.
fn marked(points: &Points) -> Vec<(f64, f64)> {
    let reached = points.iter().map(|point| point.0).fold(0.0, f64::max);
    let at = MARKS.into_iter().filter(|percentile| *percentile <= reached);
    at.filter_map(|percentile| Some((percentile, value_at(points, percentile)?))).collect()
}

/// A curve divided by the ideal's, where both have a value.
fn over_ideal(curve: &Points, ideal: &Points) -> Vec<(f64, f64)> {
    let ratio = |&(percentile, value): &(f64, f64)| {
        let ideal = value_at(ideal, percentile).filter(|ideal| *ideal > 0.0)?;
        Some((percentile, value / ideal))
    };
    curve.iter().filter_map(ratio).collect()
}

/// The value of a curve at a percentile: on the line between its neighbours as it is drawn, straight
/// where nines and ratios have equal steps.
fn value_at(points: &Points, percentile: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.0 >= percentile)?;
    let (right, value) = points[after];
    if after == 0 || right <= percentile {
        return (right <= percentile).then_some(value);
    }
    let (left, before) = points[after - 1];
    let part = (nines(percentile) - nines(left)) / (nines(right) - nines(left));
    Some(before * (value / before).powf(part))
}

/// Each curve once.
fn distinct<'a>(curves: impl Iterator<Item = &'a Points>) -> Vec<&'a Points> {
    let mut found: Vec<&Points> = Vec::new();
    for curve in curves.filter(|curve| !curve.is_empty()) {
        if !found.contains(&curve) {
            found.push(curve);
        }
    }
    found
}

/// `99.9 %`, without needless digits.
fn percent(percentile: f64) -> String {
    format!("{} %", plain(percentile))
}

/// `1.5×`, without needless digits.
pub(super) fn times(ratio: f64) -> String {
    let text =
        if ratio >= 10.0 { format!("{ratio:.0}") } else { plain((ratio * 100.0).round() / 100.0) };
    format!("{text}×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_points_a_curve_is_straight_and_beyond_them_it_is_not_known() {
        let points = [(50.0, 10.0), (90.0, 20.0), (99.0, 30.0)];
        assert_eq!(value_at(&points, 90.0), Some(20.0));
        // One nine and a half: halfway between 90 and 99.
        let halfway = value_at(&points, 100.0 - 10_f64.powf(0.5)).unwrap();
        assert!((halfway - (20.0_f64 * 30.0).sqrt()).abs() < 1e-6, "{halfway}");
        assert_eq!(value_at(&points, 10.0), None);
        assert_eq!(value_at(&points, 99.5), None);
        let ratios = over_ideal(&[(40.0, 1.0), (90.0, 30.0)], &points);
        assert_eq!(ratios, [(90.0, 1.5)]);
        assert_eq!(marked(&points), points);
    }

    #[test]
    fn ratios_are_written_short() {
        assert_eq!(
            [1.0, 1.5, 1.25, 12.34, 100.0].map(times),
            ["1×", "1.5×", "1.25×", "12×", "100×"]
        );
    }

    #[test]
    fn the_same_ideal_is_drawn_once() {
        let (one, other) = ([(1.0, 2.0)], [(1.0, 3.0)]);
        let none: [(f64, f64); 0] = [];
        assert_eq!(distinct([&one[..], &one, &none, &other].into_iter()).len(), 2);
    }
}
