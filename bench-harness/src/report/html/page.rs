//! The page: by what and where it was measured, whom to take, what the figures say, the figures, and how they
//! came about.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::draw::Drawing;
use super::look::Looks;
use super::{curves, dots, spread, timeline};
use crate::report::advice::{RULES, advice};
use crate::report::flat::figures;
use crate::report::grid::{Grid, NONE};
use crate::report::reading::readings;
use crate::report::tables::grids;
use crate::report::text::{self, rounds};
use crate::report::{Report, Scenario};

const STYLE: &str = include_str!("style.css");

/// Nothing but the style in this page: no script, no image, no request.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// What a reader has to know about every report.
const METHOD: [&str; 7] = [
    "Ratios of CPU and throughput are taken within a round, in which everybody ran in shuffled order; the figure is their \
     median, and the interval holds 95 % of the medians of resampled rounds. Ratios of latencies are those of \
     percentiles over all rounds, and the interval comes from resampling slices or stretches of the trace, and whole blocks where \
     there are five, the same for both. ≈ says that an interval reaches 1 ± 3 %: no difference was seen.",
    "Connections that stay are opened with one contestant after the other, in the order given, and once: what is counted there \
     has no interval.",
    "In open loop the arrivals and the work are drawn beforehand from the seed, the same for everybody, and latency \
     counts from the moment at which a request was due: whoever stalls cannot hide it. In closed loop each client waits \
     for its answer; such figures are for cost.",
    "The ideal queue is simulated on the same trace: one queue, first come first served, with the work that the \
     server measured. For work that burns CPU there is another ideal: all requests that are there share the cores \
     evenly.",
    "A percentile is shown where at least 30 samples lie beyond it.",
    "Every connection is in one category, and they sum up to those that were made.",
    "Server, client and all else share one machine and its loopback: ratios carry further than times, and no figure \
     holds a network's round trip.",
];

/// The whole page.
pub fn page(reports: &[Report]) -> Markup {
    let looks = Looks::of(reports);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "forkherd-bench · " (contestants(&looks, reports)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { @for (number, report) in (1_u32..).zip(reports) { (run(report, number, &looks)) } }
            }
        }
    }
}

/// Whom the page is about, for its title.
fn contestants(looks: &Looks, reports: &[Report]) -> String {
    let names = looks.labels().join(", ");
    if names.is_empty() { reports.iter().map(|report| &*report.date).collect() } else { names }
}

/// One report; `number` makes its anchors differ from those of the others.
fn run(report: &Report, number: u32, looks: &Looks) -> Markup {
    let failures: Vec<String> = report.failures().collect();
    let anchor = |name: &str| format!("r{number}-{name}");
    html! {
        article {
            header {
                h1 { "Strategies head to head" }
                p.lead { (report.workers) " workers each · seed " (report.seed) " · " (report.date)
                    " · forkherd-bench " (report.version) (report.build.told()) }
                @for line in report.machine.lines() { p.lead { (line) } }
                pre { code { (report.command) } }
                nav aria-label="Parts of this report" {
                    @for (index, scenario) in report.scenarios.iter().enumerate() {
                        a href={ "#" (anchor(&index.to_string())) } { (scenario.name) }
                    }
                    a href={ "#" (anchor("cautions")) } { "cautions" }
                    a href={ "#" (anchor("method")) } { "method" }
                    a href={ "#" (anchor("machine")) } { "machine" }
                }
            }
            @if !failures.is_empty() {
                section.failed {
                    h2 { "This run failed" }
                    ul { @for failure in &failures { li { (failure) } } }
                }
            }
            (choice(report))
            (reading(report))
            @for (index, scenario) in report.scenarios.iter().enumerate() {
                (part(scenario, &report.against, &anchor(&index.to_string()), looks))
            }
            @if let Some(check) = &report.self_check {
                section {
                    h2 { "Self-check" }
                    ul { @for sentence in check.sentences() { li { (sentence) } } }
                }
            }
            section id=(anchor("cautions")) {
                h2 { "Cautions" }
                (cautions(report))
            }
            section id=(anchor("method")) {
                h2 { "Method" }
                ul { @for sentence in METHOD { li { (sentence) } } }
            }
            section id=(anchor("machine")) {
                h2 { "Machine" }
                (machine(report))
            }
        }
    }
}

/// Whom to take, in one sentence for each scenario.
fn choice(report: &Report) -> Markup {
    let advice = advice(report);
    html! {
        @if !advice.is_empty() {
            section.reading {
                h2 { "What to take" }
                ul {
                    @for one in &advice {
                        li { (one.scenario) ": " strong { (one.head) } "; " (one.why) "." }
                    }
                }
                p.hint { (RULES) }
            }
        }
    }
}

/// What the figures say, in words.
fn reading(report: &Report) -> Markup {
    let readings = readings(report);
    let of_scenarios = readings.chunk_by(|one, other| one.scenario == other.scenario);
    html! {
        section.reading {
            h2 { "What the figures say" }
            @if report.scenarios.iter().any(|scenario| !scenario.failures.is_empty()) {
                p { "What failed is not read." }
            } @else if readings.is_empty() {
                p { "Nothing stands out." }
            }
            @for readings in of_scenarios {
                h3 { (readings[0].scenario) }
                ul {
                    @for reading in readings {
                        li { strong { (reading.contestant) } ": " (reading.said) "." }
                    }
                }
            }
        }
    }
}

/// One scenario: what was done, the drawings, the tables, the notes.
fn part(scenario: &Scenario, against: &str, anchor: &str, looks: &Looks) -> Markup {
    let skipped =
        scenario.rows.iter().filter_map(|row| Some((&row.contestant, row.skipped.as_ref()?)));
    let grids = grids(scenario, against);
    let against = scenario.against.as_deref().unwrap_or(against);
    let drawings: Vec<Drawing> = [
        curves::drawings(scenario, looks),
        dots::to_the_ideal(scenario, looks),
        spread::drawings(scenario, looks),
        timeline::drawings(scenario, looks),
        dots::to_the_yardstick(scenario, against, looks),
    ]
    .into_iter()
    .flatten()
    .collect();
    html! {
        section id=(anchor) {
            h2 { (scenario.name) small { " " (scenario.runtime.word()) " · " (rounds(scenario.rounds)) } }
            p.setting { (text::setting(scenario)) }
            @for failure in &scenario.failures { p.failure { "Failed: " (failure) } }
            div.drawings { @for drawing in &drawings { (drawing.figure(&scenario.name)) } }
            @if let Some((first, others)) = grids.split_first() {
                (table(first))
                @if !others.is_empty() {
                    details {
                        summary { "More figures: " (titles(others)) }
                        @for grid in others { (table(grid)) }
                    }
                }
            }
            @for (contestant, why) in skipped { p.note { (contestant) ": not run, " (why) } }
            @for note in &scenario.notes { p.note { (note) } }
        }
    }
}

/// What more there is, without what is in brackets.
fn titles(grids: &[Grid]) -> String {
    let short = |grid: &Grid| {
        let title = grid.title.split([':', ',', ';', '(']).next().unwrap_or_default();
        title.trim().to_lowercase()
    };
    grids.iter().map(short).collect::<Vec<_>>().join(" · ")
}

/// A table that can be scrolled where it is wider than the page. Its title is seen above it, where it
/// does not scroll along, and read out as its caption.
fn table(grid: &Grid) -> Markup {
    html! {
        p.title aria-hidden="true" { (grid.title) }
        div.scroll role="region" tabindex="0" aria-label={ (grid.title) ", to be scrolled" } {
            table {
                caption { (grid.title) }
                thead { tr { @for head in &grid.head { th scope="col" { (head) } } } }
                tbody {
                    @for row in &grid.rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 {
                                    th scope="row" { (cell) }
                                } @else {
                                    td { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Every caution once, with the scenarios that it is about.
fn cautions(report: &Report) -> Markup {
    let of_run = report.cautions.iter().map(|caution| (caution, vec!["the whole run"]));
    let mut found: Vec<(&super::super::Caution, Vec<&str>)> = of_run.collect();
    for scenario in &report.scenarios {
        for caution in &scenario.cautions {
            match found.iter_mut().find(|(one, _)| *one == caution) {
                Some((_, names)) => names.push(&scenario.name),
                None => found.push((caution, vec![&scenario.name])),
            }
        }
    }
    html! {
        @if found.is_empty() {
            p { "None beyond what is said under Method." }
        }
        @for (caution, names) in &found {
            div.caution {
                p { strong { (caution.seen) } " " (caution.meaning) " " em { (caution.remedy) } }
                p.hint { (names.join(", ")) }
            }
        }
    }
}

/// Where it ran, with every field.
fn machine(report: &Report) -> Markup {
    html! {
        dl {
            dt { "took" } dd { (format!("{:.0} s", report.wall_s)) }
            @for figure in figures(&report.machine) {
                dt { (figure.name.replace(['_', '.'], " ")) @if !figure.at.is_empty() { " " (figure.at) } }
                dd { @if figure.value.is_empty() { (NONE) } @else { (figure.value) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_leads_nowhere() {
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains("</"));
    }

    #[test]
    fn titles_are_short() {
        let grid = |title: &str| Grid { title: title.to_owned(), ..Grid::default() };
        let grids = [grid("Kill by kill, with queues"), grid("Cost as ratio (≈)")];
        assert_eq!(titles(&grids), "kill by kill · cost as ratio");
    }
}
