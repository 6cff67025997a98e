//! Latency by percentile beside that of the ideal queue, and the ratio of the two.

use maud::html;

use super::axis::Axis;
use super::draw::{Drawing, Frame, latency, legend, line, mark, plain};
use super::look::Looks;
use crate::report::{Row, Scenario};

/// More lines than this in one drawing, and nobody can follow one.
const LINES: usize = 6;

/// Where marks stand on a line.
const MARKS: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

const HEIGHT: f64 = 236.0;
const FRAME: Frame = Frame { left: 52.0, right: 350.0, top: 8.0, bottom: 200.0 };

type Points = [(f64, f64)];

/// The drawings of a scenario; none without curves.
pub fn drawings(scenario: &Scenario, looks: &Looks) -> Vec<Drawing> {
    let rows: Vec<&Row> = scenario.rows.iter().filter(|row| !row.curve.is_empty()).collect();
    let points = || rows.iter().flat_map(|row| row.curve.iter().chain(&row.ideal_curve));
    let latencies = Axis::log(points().map(|point| point.1));
    let percentiles = Axis::percentile(points().map(|point| point.0));
    let (Some(y), Some(x)) = (latencies, percentiles) else { return Vec::new() };
    let ratios: Vec<Vec<(f64, f64)>> =
        rows.iter().map(|row| over_ideal(&row.curve, &row.ideal_curve)).collect();
    let over = Axis::ratio(ratios.iter().flatten().map(|point| point.1));

    let mut drawings = Vec::new();
    let count = rows.len().div_ceil(LINES);
    for (index, rows) in rows.chunks(LINES).enumerate() {
        let of = if count > 1 { format!(" ({} of {count})", index + 1) } else { String::new() };
        let lines: Vec<Line> = rows.iter().map(|row| (&*row.contestant, &*row.curve)).collect();
        let ideals = distinct(rows.iter().map(|row| &*row.ideal_curve));
        let caption = format!("Latency by percentile{of}");
        drawings.push(plot(caption, &lines, &ideals, (x, y), looks, latency));
    }
    for (index, (rows, ratios)) in rows.chunks(LINES).zip(ratios.chunks(LINES)).enumerate() {
        let of = if count > 1 { format!(" ({} of {count})", index + 1) } else { String::new() };
        let lines: Vec<Line> = rows
            .iter()
            .zip(ratios)
            .filter(|(_, ratios)| !ratios.is_empty())
            .map(|(row, ratios)| (&*row.contestant, &**ratios))
            .collect();
        let caption = format!("Latency over that of the ideal queue{of}");
        if !lines.is_empty() {
            drawings.push(plot(caption, &lines, &[], (x, over), looks, times));
        }
    }
    drawings
}

/// Whose it is, and the points.
type Line<'a> = (&'a str, &'a Points);

fn plot(
    caption: String,
    lines: &[Line],
    ideals: &[&Points],
    (x, y): (Axis, Axis),
    looks: &Looks,
    label: impl Fn(f64) -> String,
) -> Drawing {
    let places = |points: &Points| -> Vec<(f64, f64)> {
        let drawn = points.iter().filter(|point| point.0 < 100.0);
        drawn.map(|point| (FRAME.x(x, point.0), FRAME.y(y, point.1))).collect()
    };
    let body = html! {
        (FRAME.upwards(y, &label))
        (FRAME.from_left(x, percent))
        text.axis x="201" y="230" text-anchor="middle" { "percentile" }
        @for points in ideals { (line(&places(points), "ideal")) }
        @for (name, points) in lines {
            @let look = looks.look(name);
            (line(&places(points), &format!("{} {}", look.class, look.mark.dash())))
            @for (percentile, value) in marked(points) {
                (mark(
                    look,
                    (FRAME.x(x, percentile), FRAME.y(y, value)),
                    &format!("{name}, {}: {}", percent(percentile), label(value)),
                ))
            }
        }
    };
    let ends = lines.iter().filter_map(|(name, points)| {
        let (percentile, value) = points.iter().rfind(|point| point.0 < 100.0)?;
        Some(format!("{name} {} at {}", label(*value), percent(*percentile)))
    });
    let about = format!("{}.", ends.collect::<Vec<_>>().join(", "));
    let names = lines.iter().map(|(name, _)| *name);
    let below = legend(names, looks, !ideals.is_empty());
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

/// The value of a curve at a percentile, on a straight line between its neighbours.
fn value_at(points: &Points, percentile: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.0 >= percentile)?;
    let (right, value) = points[after];
    if after == 0 || right <= percentile {
        return (right <= percentile).then_some(value);
    }
    let (left, before) = points[after - 1];
    Some(before + (value - before) * (percentile - left) / (right - left))
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
        assert_eq!(value_at(&points, 70.0), Some(15.0));
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
