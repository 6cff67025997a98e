//! Ratios as marks with their intervals, one line per contestant: to the yardstick, and to the
//! ideal queue.

use maud::{Markup, html};

use super::axis::Axis;
use super::curves::times;
use super::draw::{Drawing, Frame, WIDTH, mark, number};
use super::look::{Look, Looks};
use crate::measure::ratio::{RESOLUTION, Ratio, median};
use crate::report::grid::short;
use crate::report::text::ratio as words;
use crate::report::{Ideal, Row, Scenario};

/// A contestant's line: the name, and below it the marks.
const LINE: f64 = 31.0;
/// Above the first line.
const HEAD: f64 = 4.0;
/// Below the last: the values of the axis.
const FOOT: f64 = 20.0;

/// A contestant in a drawing.
struct Dots<'a> {
    contestant: &'a str,
    /// Written beside the name.
    text: String,
    /// What is marked.
    at: Vec<f64>,
    /// From where to where the line goes.
    span: Option<(f64, f64)>,
}

/// Cost and latency as ratios to the yardstick.
pub fn to_the_yardstick(scenario: &Scenario, against: &str, looks: &Looks) -> Vec<Drawing> {
    type Of = fn(&Row) -> Option<Ratio>;
    let unit = &scenario.unit;
    let all: [(String, Of); 6] = [
        (format!("Server CPU per {unit}"), |row| row.ratios.cpu_server),
        (format!("Server and client CPU per {unit}"), |row| row.ratios.cpu_both),
        ("Throughput".to_owned(), |row| row.ratios.throughput),
        ("Median latency".to_owned(), |row| row.ratios.p50),
        ("99th percentile".to_owned(), |row| row.ratios.p99),
        ("99.9th percentile".to_owned(), |row| row.ratios.p999),
    ];
    let drawing = |(what, of): &(String, Of)| {
        let dots = scenario.rows.iter().filter_map(|row| {
            let ratio = of(row)?;
            Some(Dots {
                contestant: &row.contestant,
                text: words(Some(ratio)),
                at: vec![ratio.value],
                span: ratio.interval.map(|interval| (interval.low, interval.high)),
            })
        });
        let caption = format!("{what}, ratio to {against}");
        draw(caption, &dots.collect::<Vec<_>>(), looks, Some(RESOLUTION))
    };
    all.iter().filter_map(drawing).collect()
}

/// Percentiles over those of the ideal queue.
pub fn to_the_ideal(scenario: &Scenario, looks: &Looks) -> Vec<Drawing> {
    type Of = fn(&Row) -> Option<&Ideal>;
    let all: [(&str, Of); 4] = [
        ("Percentiles over those of the ideal queue", |row| row.ideal.as_ref()),
        ("Short requests: percentiles over those of the ideal queue", |row| {
            row.ideal_short.as_ref()
        }),
        ("Percentiles over those of evenly shared cores", |row| row.sharing.as_ref()),
        ("Short requests: percentiles over those of evenly shared cores", |row| {
            row.sharing_short.as_ref()
        }),
    ];
    let percentiles = all.into_iter().filter_map(|(caption, of)| {
        let dots = scenario.rows.iter().filter_map(|row| percentiles(row, of(row)?));
        draw(caption.to_owned(), &dots.collect::<Vec<_>>(), looks, None)
    });
    percentiles.chain(by_trace(scenario, looks)).collect()
}

/// A contestant's percentiles.
fn percentiles<'a>(row: &'a Row, ideal: &Ideal) -> Option<Dots<'a>> {
    let all = [("p50", ideal.p50), ("p99", ideal.p99), ("p99.9", ideal.p999)];
    let known: Vec<_> = all.iter().filter_map(|(name, at)| Some((*name, (*at)?))).collect();
    let text = known.iter().map(|(name, at)| format!("{name} {}", times(*at)));
    let at: Vec<f64> = known.iter().map(|(_, at)| *at).collect();
    let text = text.collect::<Vec<_>>().join(" · ");
    (!at.is_empty()).then(|| Dots { contestant: &row.contestant, text, span: ends(&at), at })
}

/// What every trace gave.
fn by_trace(scenario: &Scenario, looks: &Looks) -> Vec<Drawing> {
    let mut drawings = Vec::new();
    let mut figures: Vec<(&str, &str)> = Vec::new();
    for tail in scenario.rows.iter().flat_map(|row| &row.tails) {
        if !figures.iter().any(|(name, _)| *name == tail.figure) {
            figures.push((&tail.figure, tail.ideal()));
        }
    }
    for (name, ideal) in figures {
        let traces = scenario.rows.iter().filter_map(|row| {
            let tail = row.tails.iter().find(|tail| tail.figure == name)?;
            let (middle, worst) = (median(&mut tail.over_ideal.clone())?, tail.worst()?);
            Some(Dots {
                contestant: &row.contestant,
                text: format!("{} (worst {})", times(middle), times(worst)),
                at: tail.over_ideal.clone(),
                span: ends(&tail.over_ideal),
            })
        });
        let caption = format!("{name} over that of {ideal}, by trace");
        drawings.extend(draw(caption, &traces.collect::<Vec<_>>(), looks, None));
    }
    drawings
}

/// The least and the most, if there are at least two.
fn ends(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    (values.len() > 1).then_some((least, most))
}

/// One drawing; `band` is how far from 1 nothing is believed to differ.
fn draw(caption: String, dots: &[Dots], looks: &Looks, band: Option<f64>) -> Option<Drawing> {
    if dots.iter().all(|dots| dots.at.is_empty()) {
        return None;
    }
    let ends = dots.iter().filter_map(|dots| dots.span).flat_map(|(low, high)| [low, high]);
    let axis = Axis::ratio(dots.iter().flat_map(|dots| dots.at.iter().copied()).chain(ends));
    let bottom = dots.iter().fold(HEAD, |height, _| height + LINE);
    let frame = Frame { left: 14.0, right: WIDTH - 14.0, top: HEAD, bottom };
    let body = html! {
        @if let Some(band) = band {
            @let (left, right) = (frame.x(axis, 1.0 - band), frame.x(axis, 1.0 + band));
            rect.band x=(number(left)) y=(number(HEAD)) width=(number(right - left))
                height=(number(bottom - HEAD)) {}
        }
        (frame.from_left(axis, times))
        @let one = number(frame.x(axis, 1.0));
        path.one d={ "M" (one) " " (number(HEAD)) "V" (number(bottom)) } {}
        @for (index, dots) in (0_u32..).zip(dots) {
            (draw_line(dots, looks.look(dots.contestant), HEAD + f64::from(index) * LINE, |value| {
                frame.x(axis, value)
            }))
        }
    };
    let about: Vec<_> =
        dots.iter().map(|dots| format!("{} {}", dots.contestant, dots.text)).collect();
    let about = format!("{}.", about.join("; "));
    Some(Drawing { caption, about, height: bottom + FOOT, body, below: html! {} })
}

/// A contestant's line, whose upper edge is at `top`.
fn draw_line(dots: &Dots, look: Look, top: f64, x: impl Fn(f64) -> f64) -> Markup {
    let middle = top + 21.0;
    // Names and figures share a line: what the figures leave is the name's.
    let room = 56_usize.saturating_sub(dots.text.chars().count()).max(12);
    html! {
        path.grid d={ "M0 " (number(top + LINE)) "H" (number(WIDTH)) } {}
        text.name x="2" y=(number(top + 12.0)) { (short(dots.contestant, room)) }
        text.figure x=(number(WIDTH - 2.0)) y=(number(top + 12.0)) text-anchor="end" { (dots.text) }
        @if let Some((low, high)) = dots.span {
            path class={ "whisker " (look.class) }
                d={ "M" (number(x(low))) " " (number(middle)) "H" (number(x(high))) } {}
        }
        @for at in &dots.at {
            (mark(look, (x(*at), middle), &format!("{}: {}", dots.contestant, dots.text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_no_ends() {
        assert_eq!(ends(&[2.0, 1.0, 3.0]), Some((1.0, 3.0)));
        assert_eq!((ends(&[2.0]), ends(&[])), (None, None));
    }

    #[test]
    fn without_figures_nothing_is_drawn() {
        assert!(draw(String::new(), &[], &Looks::default(), None).is_none());
    }
}
