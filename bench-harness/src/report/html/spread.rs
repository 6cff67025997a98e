//! How evenly the workers were used: a bar for each worker, a line of bars for each contestant.

use maud::{Markup, html};

use super::axis::Axis;
use super::draw::{Drawing, WIDTH, number};
use super::look::Looks;
use crate::measure::latency::to_f64;
use crate::measure::share::Share;
use crate::report::Scenario;
use crate::report::grid::short;

/// A contestant: the name, and below it the bars.
const LINE: f64 = 53.0;
/// The height of the highest bar.
const BAR: f64 = 30.0;

/// The drawings of a scenario: one of what was served, one for each way of opening connections
/// that stay.
pub fn drawings(scenario: &Scenario, looks: &Looks) -> Vec<Drawing> {
    let mut drawings = Vec::new();
    let served: Vec<(&str, &Share)> =
        scenario.rows.iter().map(|row| (&*row.contestant, &row.share)).collect();
    let what = match &*scenario.spread {
        "" => "requests",
        spread => spread,
    };
    let caption = format!("Spread over workers, by {what}");
    drawings.extend(draw(caption, &served, looks));

    let mut hows: Vec<&str> = Vec::new();
    for held in scenario.rows.iter().flat_map(|row| &row.held) {
        if !hows.contains(&&*held.how) {
            hows.push(&held.how);
        }
    }
    for how in hows {
        let open: Vec<(&str, &Share)> = scenario
            .rows
            .iter()
            .filter_map(|row| {
                let held = row.held.iter().find(|held| held.how == how)?;
                Some((&*row.contestant, &held.share))
            })
            .collect();
        let caption = format!("Open connections per worker, {how}");
        drawings.extend(draw(caption, &open, looks));
    }
    drawings
}

fn draw(caption: String, shares: &[(&str, &Share)], looks: &Looks) -> Option<Drawing> {
    let known: Vec<_> =
        shares.iter().filter(|(_, share)| share.max_over_mean.is_some()).copied().collect();
    if known.is_empty() {
        return None;
    }
    let most = known.iter().filter_map(|(_, share)| share.max_over_mean);
    let axis = Axis::from_zero(most.chain([1.0]));
    let height = known.iter().fold(4.0, |height, _| height + LINE);
    let body = html! {
        @for (index, (contestant, share)) in (0_u32..).zip(&known) {
            (draw_line(contestant, share, looks, axis, 4.0 + f64::from(index) * LINE))
        }
    };
    let about: Vec<_> =
        known.iter().map(|(name, share)| format!("{name}: {}", text(share))).collect();
    let about =
        format!("A bar for each worker, a dashed line at their mean. {}.", about.join("; "));
    let below = html! { p.hint { "One bar per worker; dashed: the mean." } };
    Some(Drawing { caption, about, height, body, below })
}

/// A contestant's bars; `top` is the upper edge of its line.
fn draw_line(contestant: &str, share: &Share, looks: &Looks, axis: Axis, top: f64) -> Markup {
    let count = share.per_worker.len().max(1) as f64;
    let mean = to_f64(share.per_worker.iter().sum()) / count;
    let step = (WIDTH - 4.0) / count;
    let base = top + 16.0 + BAR;
    let height = |over_mean: f64| axis.at(over_mean) * BAR;
    html! {
        path.grid d={ "M0 " (number(top + LINE - 3.0)) "H" (number(WIDTH)) } {}
        text.name x="2" y=(number(top + 11.0)) { (short(contestant, 30)) }
        text.figure x=(number(WIDTH - 2.0)) y=(number(top + 11.0)) text-anchor="end" { (text(share)) }
        @for (index, served) in share.per_worker.iter().enumerate() {
            @let high = height(to_f64(*served) / mean).max(0.5);
            rect class={ "bar " (looks.look(contestant).class) }
                x=(number(2.0 + index as f64 * step)) y=(number(base - high))
                width=(number((step * 0.85).max(0.6))) height=(number(high)) {
                title { (contestant) ", worker " (index) ": " (served) }
            }
        }
        @let level = number(base - height(1.0));
        path.one d={ "M2 " (level) "H" (number(WIDTH - 2.0)) } {}
    }
}

/// `busiest 1.03× the mean`.
fn text(share: &Share) -> String {
    share.max_over_mean.map_or_else(String::new, |most| format!("busiest {most:.2}× the mean"))
}
