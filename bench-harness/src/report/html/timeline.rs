//! What happened when, in runs with faults: the longest latency of each moment, what failed, and
//! what was done to the workers.

use std::collections::BTreeMap;

use maud::html;

use super::axis::Axis;
use super::draw::{self, Drawing, Frame, WIDTH, number, plain};
use super::look::Looks;
use crate::measure::latency::to_f64;
use crate::measure::timeline::{NEXT, end_s};
use crate::report::text::{thousands, time};
use crate::report::{Moment, Row, Scenario};

/// Latencies.
const ABOVE: Frame = Frame { left: 52.0, right: WIDTH - 10.0, top: 16.0, bottom: 116.0 };
/// Failures.
const BELOW: Frame = Frame { top: 124.0, bottom: 144.0, ..ABOVE };
const HEIGHT: f64 = 176.0;

/// The drawings of a scenario, all to one scale: one for each contestant that has a timeline.
pub fn drawings(scenario: &Scenario, looks: &Looks) -> Vec<Drawing> {
    let moments = || scenario.rows.iter().flat_map(|row| &row.timeline);
    let Some(latency) = Axis::log(moments().filter_map(worst_us)) else { return Vec::new() };
    let failed = moments().map(|moment| moment.failed).max().unwrap_or_default();
    let end = scenario.rows.iter().filter_map(|row| end_s(&row.timeline)).fold(0.0, f64::max);
    let axes = Axes { time: Axis::Linear { low: 0.0, high: end }, latency, failed };
    let with = scenario.rows.iter().filter(|row| !row.timeline.is_empty());
    with.map(|row| draw(row, axes, looks)).collect()
}

/// The same for all contestants of a scenario.
#[derive(Clone, Copy)]
struct Axes {
    time: Axis,
    latency: Axis,
    /// The most that failed in a moment.
    failed: u64,
}

fn draw(row: &Row, axes: Axes, looks: &Looks) -> Drawing {
    let Axes { time: seconds, latency, failed: most } = axes;
    let class = looks.look(&row.contestant).class;
    let failed: u64 = row.timeline.iter().map(|moment| moment.failed).sum();
    let is_next = |moment: &Moment| moment.done.as_ref().is_some_and(|done| done.starts_with(NEXT));
    let first = if row.timeline.iter().any(is_next) { "first " } else { "" };
    let body = html! {
        (ABOVE.upwards(latency, draw::latency))
        (BELOW.from_left(seconds, |second| format!("{} s", plain(second))))
        @for ((x, width), moment) in strips(&row.timeline, seconds) {
            @if let Some(us) = worst_us(moment) {
                @let y = ABOVE.y(latency, us);
                rect class={ "moment " (class) } x=(number(x)) y=(number(y)) width=(number(width))
                    height=(number((ABOVE.bottom - y).max(1.0))) { title { (tip(moment)) } }
            }
            @if moment.failed > 0 {
                @let high = (to_f64(moment.failed) / to_f64(most)).max(0.1) * (BELOW.bottom - BELOW.top);
                rect.failed x=(number(x)) y=(number(BELOW.bottom - high)) width=(number(width.max(1.5)))
                    height=(number(high)) { title { (tip(moment)) } }
            }
            @if moment.done.is_some() {
                path.done d={ "M" (number(x)) " 12l-3.5-7h7z" } { title { (tip(moment)) } }
            }
        }
        text.tick x=(number(BELOW.left - 5.0)) y="138" text-anchor="end" { "failed" }
        @if failed == 0 {
            text.tick x=(number(BELOW.left + 4.0)) y="138" { "none" }
        }
        text.axis x="201" y="172" text-anchor="middle" { "since the " (first) "block began" }
    };
    let due: u64 = row.timeline.iter().map(|moment| moment.due).sum();
    let worst = row.timeline.iter().filter_map(worst_us).max_by(f64::total_cmp);
    let (due, failed) = (thousands(due), thousands(failed));
    let about = format!("{failed} of {due} requests failed; longest latency {}.", time(worst));
    let below = html! {
        p.hint { (about) @for (done, count) in done(&row.timeline) { " ▾ " (done) " × " (count) "." } }
    };
    let caption = format!("{}: longest latency, failures and faults by time", row.contestant);
    Drawing { caption, about, height: HEIGHT, body, below }
}

/// Where each moment begins and how wide it is: up to the next.
fn strips(timeline: &[Moment], seconds: Axis) -> Vec<((f64, f64), &Moment)> {
    let ends = timeline.iter().skip(1).map(|moment| moment.at_s).chain(end_s(timeline));
    timeline
        .iter()
        .zip(ends)
        .map(|(moment, end)| {
            let x = ABOVE.x(seconds, moment.at_s);
            ((x, (ABOVE.x(seconds, end) - x).max(0.5)), moment)
        })
        .collect()
}

fn worst_us(moment: &Moment) -> Option<f64> {
    moment.worst_ms.map(|ms| ms * 1_000.0)
}

/// What was done, and how often, over all moments.
fn done(timeline: &[Moment]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    let words = timeline.iter().filter_map(|moment| moment.done.as_deref());
    for word in words.flat_map(|words| words.split(", ")).filter(|word| *word != NEXT) {
        let several =
            word.split_once(" × ").and_then(|(times, what)| Some((times.parse().ok()?, what)));
        let (times, what): (u64, &str) = several.unwrap_or((1, word));
        *counts.entry(what).or_default() += times;
    }
    counts
}

/// All about a moment.
fn tip(moment: &Moment) -> String {
    let done = moment.done.as_ref().map(|done| format!("{done}; ")).unwrap_or_default();
    let worst = time(worst_us(moment));
    let (at, due, failed) = (moment.at_s, moment.due, moment.failed);
    format!("{at:.1} s: {done}{due} due, {failed} failed, longest {worst}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_are_counted_over_all_moments() {
        let moment = |done: &str| Moment { done: Some(done.to_owned()), ..Moment::default() };
        let timeline = [moment("killed"), moment("2 × killed, stopped"), moment(NEXT), moment("x")];
        let seen = done(&timeline).into_iter().collect::<Vec<_>>();
        assert_eq!(seen, [("killed", 3), ("stopped", 1), ("x", 1)]);
    }

    #[test]
    fn a_moment_lasts_until_the_next() {
        let moment = |at_s| Moment { at_s, ..Moment::default() };
        let timeline = [moment(0.0), moment(0.5), moment(1.0)];
        let strips = strips(&timeline, Axis::Linear { low: 0.0, high: 1.5 });
        let all: f64 = strips.iter().map(|((_, width), _)| width).sum();
        assert!((all - (ABOVE.right - ABOVE.left)).abs() < 1e-6);
    }
}
