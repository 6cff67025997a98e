//! Whom to take, scenario by scenario: the rules of [`recommend`](crate::recommend::verdict), on the figures
//! that a report has.
//!
//! A report has ratios to the yardstick and none to the best, so two intervals are held against each other. They
//! meet where less than [`RESOLUTION`] is between them, as wherever ≈ stands. Intervals of latency that come from
//! within few blocks are none here: who is ahead in one start of a server may be behind in the next.

use std::fmt::Write as _;

use super::diff::figures::over_traces;
use super::text::{self, thousands};
use super::{Held, Report, Row, Scenario, Tail};
use crate::cautions::fell_back;
use crate::measure::ratio::{Interval, RESOLUTION, Ratio};
use crate::recommend::verdict::is_no_worse;
use crate::registry::Registry;

/// What to do about a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The scenario.
    pub scenario: String,
    /// Whom to take, or that it ranks nobody.
    pub head: String,
    /// The figures behind it, without a full stop.
    pub why: String,
}

/// How whoever reads it may know the rules.
pub const RULES: &str = "As good as the best is whoever is within 5 % of it, or within a third if its interval comes \
     within 3 % of the best's, or if too few starts of it were measured for an interval; of those the simplest is taken. Baselines, bad \
     examples and servers that are not ours take part and are not taken, nor is who did something else than its name says. \
     Where something failed or void rounds were kept nobody is ranked.";

/// What the spread over workers is counted in where connections stay; elsewhere an even one is not the goal.
const REQUESTS: &str = "requests";

/// How many of those who are not as good are named.
const NAMED: usize = 3;

/// For every scenario of `report` one.
#[must_use]
pub fn advice(report: &Report) -> Vec<Advice> {
    let registry = Registry::builtin();
    let of = |scenario: &Scenario| {
        let against = scenario.against.as_deref().unwrap_or(&report.against);
        let (head, why) = of_scenario(scenario, against, &registry);
        Advice { scenario: scenario.name.clone(), head, why }
    };
    report.scenarios.iter().map(of).collect()
}

/// The same in words, a sentence for each scenario.
#[must_use]
pub fn sentences(report: &Report) -> Vec<String> {
    let told = |one: &Advice| format!("{}: {}; {}.", one.scenario, one.head, one.why);
    advice(report).iter().map(told).collect()
}

/// Reads a figure of a contestant.
type Reads<'a> = Box<dyn Fn(&Row) -> Option<Ratio> + 'a>;

/// A figure that ranks: what it is called, and how it reads of a contestant. The less the better.
struct Figure<'a> {
    name: String,
    of: Reads<'a>,
    /// Whose it is 1 by definition, if it is a ratio to somebody.
    yardstick: Option<&'a str>,
    /// Whether one without an interval shows nothing, so that only much more is worse.
    is_rough: bool,
}

impl Figure<'_> {
    /// Whose it is, and what.
    fn told(&self, row: &Row) -> String {
        let label = &row.contestant;
        if self.yardstick == Some(label) {
            format!("{label} (the yardstick)")
        } else {
            format!("{label} {}", text::ratio((self.of)(row)))
        }
    }
}

/// Whom to take, and why.
fn of_scenario(scenario: &Scenario, against: &str, registry: &Registry) -> (String, String) {
    let none = |why: &str| ("No ranking".to_owned(), why.to_owned());
    let rows: Vec<&Row> = scenario.rows.iter().filter(|row| row.skipped.is_none()).collect();
    if !scenario.failures.is_empty() {
        return none("it failed, and nothing is read from what failed");
    }
    if rows.is_empty() {
        return none("nobody took part");
    }
    if let Some(shown) = harm(&rows) {
        return none(&shown);
    }
    if scenario.voids.kept && scenario.voids.void > 0 {
        return none("void rounds were kept, and the machine's moods are in the figures");
    }
    if scenario.unfinished.is_some() && scenario.rounds == 1 {
        return none("it was interrupted before everybody had played everything once");
    }
    let rank = |row: &Row| {
        let strategy = row.contestant.split('@').next().unwrap_or_default();
        Some(registry.find(strategy).ok()?.choice?.rank)
    };
    let mut choice: Vec<(u8, &Row)> =
        scenario.rows.iter().filter_map(|row| Some((rank(row)?, row))).collect();
    // In the order in which they ran where nothing else decides.
    choice.sort_by_key(|(rank, _)| *rank);
    let choice: Vec<&Row> = choice.into_iter().map(|(_, row)| row).collect();
    let figures = figures(scenario, &rows, &choice, against);
    if figures.is_empty() {
        return none("too little was measured to tell anybody apart");
    }
    let absence = |row: &Row| absence(scenario, row, &figures);
    let candidates: Vec<&Row> =
        choice.iter().copied().filter(|row| absence(row).is_none()).collect();
    let absent = absent(&choice, absence);
    let (good, others): (Vec<&Row>, Vec<&Row>) = candidates
        .iter()
        .partition(|row| figures.iter().all(|one| is_as_good(one, row, &candidates)));
    let Some(&chosen) = good.first() else {
        let why = match &candidates[..] {
            [] => "of those who took part nobody is one to take".to_owned(),
            _ => format!(
                "nobody is as good as the best in every figure; the best is {}",
                bests(&figures, &candidates)
            ),
        };
        return none(&(why + &absent));
    };
    let label = &chosen.contestant;
    let head = match (&candidates[..], &good[..]) {
        ([_], _) if !absent.is_empty() => {
            return none(&format!("only {label} has a figure of its own{absent}"));
        }
        ([_], _) => format!("Take {label}: nobody else here is one to take"),
        (_, [_]) => format!("Take {label}"),
        _ if others.is_empty() && !absent.is_empty() => {
            format!("No difference between those with a figure: take the simplest, {label}")
        }
        _ if others.is_empty() => format!("No difference: take the simplest, {label}"),
        (_, [_, same @ ..]) => {
            format!("Take {label}, the simplest of those as good ({})", labels(same))
        }
        _ => format!("Take {label}"),
    };
    let better: Vec<&Row> = rows
        .iter()
        .filter(|row| rank(row).is_none())
        .filter(|row| figures.iter().all(|one| !is_as_good(one, chosen, &[**row])))
        .copied()
        .collect();
    (head, why(&figures, chosen, &others, &better) + &absent)
}

/// Why somebody who might be taken is not judged, if so.
fn absence(scenario: &Scenario, row: &Row, figures: &[Figure<'_>]) -> Option<&'static str> {
    if row.skipped.is_some() {
        Some("not run")
    } else if fell_back(scenario, &row.contestant) {
        Some("not what its name says")
    } else {
        figures.iter().any(|figure| (figure.of)(row).is_none()).then_some("without a figure")
    }
}

/// All of `choice` who are not judged, by why.
fn absent(choice: &[&Row], absence: impl Fn(&Row) -> Option<&'static str>) -> String {
    let mut told = String::new();
    for why in ["not run", "not what its name says", "without a figure"] {
        let named: Vec<&Row> =
            choice.iter().copied().filter(|row| absence(row) == Some(why)).collect();
        if !named.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(told, "; {why}: {}", labels(&named));
        }
    }
    told
}

/// The figures behind a choice.
fn why(figures: &[Figure<'_>], chosen: &Row, others: &[&Row], better: &[&Row]) -> String {
    let told = |row: &Row| match figures {
        [figure] => figure.told(row),
        _ => row.contestant.clone(),
    };
    let mut why = match figures {
        [figure] => format!("{}: {}", figure.name, told(chosen)),
        _ => {
            let names: Vec<&str> = figures.iter().map(|figure| &*figure.name).collect();
            format!("as good as the best in {}", names.join(", "))
        }
    };
    for (words, rows) in [("not as good", others), ("better, and not to be taken", better)] {
        let named: Vec<String> = rows.iter().take(NAMED).map(|row| told(row)).collect();
        if !named.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(why, "; {words}: {}", named.join(", "));
        }
        if rows.len() > NAMED {
            let _ = write!(why, " and {} more", rows.len() - NAMED);
        }
    }
    why
}

/// Who is best in each figure.
fn bests(figures: &[Figure<'_>], candidates: &[&Row]) -> String {
    let best = |figure: &Figure<'_>| {
        let value = |row: &&&Row| (figure.of)(row).map_or(f64::INFINITY, |ratio| ratio.value);
        let best = candidates.iter().min_by(|a, b| value(a).total_cmp(&value(b)))?;
        Some(format!("{} in {}", best.contestant, figure.name))
    };
    figures.iter().filter_map(best).collect::<Vec<_>>().join(", ")
}

fn labels(rows: &[&Row]) -> String {
    rows.iter().map(|row| &*row.contestant).collect::<Vec<_>>().join(", ")
}

/// Whether nobody of `all` is better than `row`, by one figure.
fn is_as_good(figure: &Figure<'_>, row: &Row, all: &[&Row]) -> bool {
    let Some(own) = (figure.of)(row) else { return false };
    let known = all.iter().filter_map(|row| (figure.of)(row));
    let best = known.min_by(|one, other| one.value.total_cmp(&other.value));
    best.is_none_or(|best| {
        let both = own.interval.zip(best.interval);
        let reaches =
            both.map_or(figure.is_rough, |(own, best)| own.low <= best.high * (1.0 + RESOLUTION));
        is_no_worse(own.value / best.value, reaches)
    })
}

/// The figures that the scenario is about: where connections went, tails over the ideal, the 99th percentile
/// of blocks, the CPU of slices and, where connections stay, how their requests spread. Those that nobody has are
/// left out.
fn figures<'a>(
    scenario: &'a Scenario,
    rows: &[&'a Row],
    choice: &[&Row],
    against: &'a str,
) -> Vec<Figure<'a>> {
    // The yardstick is its own measure.
    let to_yardstick = |name: String, is_rough: bool, of: Reads<'a>| Figure {
        name: format!("{name}, ratio to {against}"),
        of: Box::new(move |row| {
            let one = Interval { low: 1.0, high: 1.0 };
            let own = || Some(Ratio { value: 1.0, interval: Some(one) });
            if row.contestant == against { own() } else { of(row) }
        }),
        yardstick: Some(against),
        is_rough,
    };
    let spread = || Figure {
        name: format!("busiest worker over mean ({REQUESTS} of all rounds)"),
        of: Box::new(|row: &Row| Some(Ratio { value: row.share.max_over_mean?, interval: None })),
        yardstick: None,
        is_rough: false,
    };
    let held = |held: &'a Held| Figure {
        name: format!("busiest worker over mean ({})", held.how),
        of: Box::new(move |row| {
            let same = row.held.iter().find(|one| one.how == held.how)?;
            Some(Ratio { value: same.share.max_over_mean?, interval: None })
        }),
        yardstick: None,
        is_rough: false,
    };
    let tail = |tail: &'a Tail| Figure {
        name: format!("{} over {}", tail.figure, tail.ideal()),
        of: Box::new(move |row| {
            over_traces(row.tails.iter().find(|one| one.figure == tail.figure)?)
        }),
        yardstick: None,
        is_rough: true,
    };
    let first_held = rows.iter().find(|row| !row.held.is_empty());
    let first_tails = rows.iter().find(|row| !row.tails.is_empty());
    let mut figures: Vec<Figure<'a>> = match (first_held, first_tails) {
        (Some(row), _) => row.held.iter().map(held).collect(),
        (None, Some(row)) => row.tails.iter().map(tail).collect(),
        (None, None) if scenario.has_blocks() => {
            let p99 = Box::new(move |row: &Row| scenario.across_starts(row.ratios.p99));
            vec![to_yardstick("99th percentile".to_owned(), !scenario.knows_starts(), p99)]
        }
        (None, None) => {
            let name = format!("server CPU per {}", scenario.unit);
            let mut figures =
                vec![to_yardstick(name, false, Box::new(|row: &Row| row.ratios.cpu_server))];
            let spreads = choice.iter().any(|row| row.share.max_over_mean.is_some());
            figures.extend((scenario.spread == REQUESTS && spreads).then(spread));
            figures
        }
    };
    let is_known = |figure: &Figure<'_>| {
        let mut measured = rows.iter().filter(|row| figure.yardstick != Some(&row.contestant));
        measured.any(|row| (figure.of)(row).is_some())
    };
    figures.retain(is_known);
    figures
}

/// What scenarios with faults show: they count who was harmed, and rank nobody.
fn harm(rows: &[&Row]) -> Option<String> {
    let all = |what: &str, count: &dyn Fn(&Row) -> Option<u64>| {
        let counts: Vec<(&str, u64)> =
            rows.iter().filter_map(|row| Some((&*row.contestant, count(row)?))).collect();
        let unharmed = counts.iter().filter(|(_, count)| *count == 0).map(|(label, _)| *label);
        let mut told = Vec::new();
        let unharmed = unharmed.collect::<Vec<_>>().join(", ");
        if !unharmed.is_empty() {
            told.push(format!("none with {unharmed}"));
        }
        let harmed = counts.iter().filter(|(_, count)| *count > 0);
        told.extend(harmed.map(|(label, count)| format!("{} with {label}", thousands(*count))));
        (!counts.is_empty()).then(|| format!("{what}: {}", told.join(", ")))
    };
    let killed = |row: &Row| {
        let kills = row.kills?;
        Some(kills.beyond + kills.each.map_or(0, |each| each.unexplained))
    };
    let hung = |row: &Row| {
        (!row.hung.is_empty()).then(|| row.hung.iter().map(super::Hung::beside).sum::<u64>())
    };
    let went = |row: &Row| row.cycles.or(row.restarts).map(|_| row.connections.failed());
    all("connections lost beyond what the killed workers had in service", &killed)
        .or_else(|| {
            all("requests delayed by over 1 s beside those that the hung worker held", &hung)
        })
        .or_else(|| all("connections that failed while workers came and went", &went))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cautions;
    use crate::measure::ratio::ROUNDS_MIN;
    use crate::measure::share::Share;
    use crate::report::{Hung, Kills, Ratios};
    use crate::void::Voids;

    fn ratio(value: f64, low: f64, high: f64) -> Ratio {
        Ratio { value, interval: Some(Interval { low, high }) }
    }

    fn cpu(label: &str, value: f64, low: f64, high: f64) -> Row {
        let ratios = Ratios { cpu_server: Some(ratio(value, low, high)), ..Ratios::default() };
        Row { contestant: label.to_owned(), ratios, ..Row::default() }
    }

    fn yardstick(label: &str) -> Row {
        Row { contestant: label.to_owned(), ..Row::default() }
    }

    fn scenario(rows: &[Row]) -> Scenario {
        Scenario {
            name: "it".to_owned(),
            unit: "connection".to_owned(),
            rounds: ROUNDS_MIN,
            rows: rows.to_vec(),
            ..Scenario::default()
        }
    }

    fn check(rows: &[Row], against: &str, head: &str, why: &str) {
        check_in(scenario(rows), against, head, why);
    }

    fn check_in(scenario: Scenario, against: &str, head: &str, why: &str) {
        let report =
            Report { against: against.to_owned(), scenarios: vec![scenario], ..Report::default() };
        let all = advice(&report);
        assert_eq!(all.len(), 1);
        assert_eq!((&*all[0].head, &*all[0].why), (head, why));
    }

    #[test]
    fn the_best_is_taken_and_who_is_worse_is_named() {
        check(
            &[
                yardstick("baseline"),
                cpu("handoff", 1.5, 1.4, 1.6),
                cpu("reuseport", 0.8, 0.7, 0.9),
            ],
            "baseline",
            "Take reuseport",
            "server CPU per connection, ratio to baseline: reuseport 0.80 [0.70 0.90]; not as good: \
             handoff 1.50 [1.40 1.60]",
        );
    }

    #[test]
    fn of_those_as_good_the_simplest_is_taken_the_yardstick_too() {
        let better = cpu("handoff:pull", 0.97, 0.9, 1.02);
        check(
            &[yardstick("prefork"), better.clone()],
            "prefork",
            "No difference: take the simplest, prefork",
            "server CPU per connection, ratio to prefork: prefork (the yardstick)",
        );
        check(
            &[yardstick("prefork"), better, cpu("reuseport", 1.4, 1.3, 1.5)],
            "prefork",
            "Take prefork, the simplest of those as good (handoff:pull)",
            "server CPU per connection, ratio to prefork: prefork (the yardstick); not as good: reuseport \
             1.40 [1.30 1.50]",
        );
    }

    #[test]
    fn whoever_is_not_to_be_taken_is_named_if_better() {
        let rows = [
            yardstick("baseline"),
            cpu("prefork@16", 1.2, 1.15, 1.25),
            cpu("nginx", 0.5, 0.4, 0.6),
            cpu("prefork:herd", 1.3, 1.2, 1.4),
        ];
        check(
            &rows,
            "baseline",
            "Take prefork@16: nobody else here is one to take",
            "server CPU per connection, ratio to baseline: prefork@16 1.20 [1.15 1.25]; better, and not to \
             be taken: baseline (the yardstick), nginx 0.50 [0.40 0.60]",
        );
        let nobody = "of those who took part nobody is one to take";
        check(&rows[2..], "baseline", "No ranking", nobody);
        let unknown = "too little was measured to tell anybody apart";
        check(&[yardstick("baseline"), yardstick("prefork")], "baseline", "No ranking", unknown);
    }

    #[test]
    fn blocks_are_judged_by_their_tail_and_figures_over_the_ideal_by_all_of_them() {
        let block = |label: &str, p99| Row {
            ratios: Ratios { p99: Some(p99), cpu_server: None, ..Ratios::default() },
            lag_p99_us: Some(9.0),
            ..yardstick(label)
        };
        check(
            &[block("prefork", ratio(2.0, 1.8, 2.2)), block("handoff", ratio(1.0, 0.9, 1.1))],
            "baseline",
            "Take handoff",
            "99th percentile, ratio to baseline: handoff ≈1.00 [0.90 1.10]; not as good: prefork 2.00 [1.80 2.20]",
        );
        let tails = |label: &str, one: [f64; 3], two: [f64; 3]| {
            let tail = |figure: &str, over_ideal: [f64; 3]| Tail {
                over_ideal: over_ideal.to_vec(),
                ..Tail::new(figure, false)
            };
            Row { tails: vec![tail("a", one), tail("b", two)], ..yardstick(label) }
        };
        let prefork = tails("prefork", [1.0, 1.1, 1.2], [3.0, 3.1, 3.2]);
        check(
            &[prefork.clone(), tails("handoff", [1.1, 1.2, 1.3], [1.0, 1.1, 1.2])],
            "baseline",
            "Take handoff",
            "as good as the best in a over the ideal queue, b over the ideal queue; not as good: prefork",
        );
        // One trace is little: only much more is worse.
        let one = |label: &str, over_ideal| Row {
            tails: vec![Tail { over_ideal: vec![over_ideal], ..Tail::new("a", false) }],
            ..yardstick(label)
        };
        let simplest = "No difference: take the simplest, prefork";
        let why = "a over the ideal queue: prefork 1.25 [?]";
        check(&[one("prefork", 1.25), one("handoff", 1.0)], "baseline", simplest, why);
        let why = "a over the ideal queue: handoff 1.00 [?]; not as good: prefork 1.50 [?]";
        check(&[one("prefork", 1.5), one("handoff", 1.0)], "baseline", "Take handoff", why);
        check(
            &[prefork, tails("handoff", [2.1, 2.2, 2.3], [1.0, 1.1, 1.2])],
            "baseline",
            "No ranking",
            "nobody is as good as the best in every figure; the best is prefork in a over the ideal queue, \
             handoff in b over the ideal queue",
        );
    }

    /// One start of each server is little, too.
    #[test]
    fn an_interval_from_within_few_blocks_is_none() {
        let block = |label: &str, p99| Row {
            ratios: Ratios { p99: Some(p99), ..Ratios::default() },
            lag_p99_us: Some(9.0),
            ..yardstick(label)
        };
        let near = scenario(&[
            block("prefork", ratio(1.25, 1.2, 1.3)),
            block("handoff", ratio(1.0, 0.95, 1.05)),
        ]);
        let of = |rounds| Scenario { rounds, ..near.clone() };
        check_in(
            of(1),
            "baseline",
            "No difference: take the simplest, prefork",
            "99th percentile, ratio to baseline: prefork 1.25 [?]",
        );
        check_in(
            of(ROUNDS_MIN),
            "baseline",
            "Take handoff",
            "99th percentile, ratio to baseline: handoff ≈1.00 [0.95 1.05]; not as good: prefork 1.25 [1.20 1.30]",
        );
        let far =
            [block("prefork", ratio(2.0, 1.8, 2.2)), block("handoff", ratio(1.0, 0.95, 1.05))];
        check_in(
            Scenario { rounds: 1, ..scenario(&far) },
            "handoff",
            "Take handoff",
            "99th percentile, ratio to handoff: handoff (the yardstick); not as good: prefork 2.00 [?]",
        );
    }

    #[test]
    fn whoever_was_not_run_or_has_no_figure_is_named() {
        let skipped =
            |label: &str| Row { skipped: Some("interrupted".to_owned()), ..yardstick(label) };
        let prefork = cpu("prefork", 1.0, 0.98, 1.02);
        let figure = "server CPU per connection, ratio to baseline: prefork ≈1.00 [0.98 1.02]";
        // Nobody knows whether it is the one to take.
        check(
            &[yardstick("baseline"), prefork.clone(), skipped("handoff"), skipped("reuseport")],
            "baseline",
            "No ranking",
            "only prefork has a figure of its own; not run: reuseport, handoff",
        );
        // What is nobody's choice is not missed.
        check(
            &[yardstick("baseline"), prefork.clone(), skipped("nginx"), skipped("prefork:herd")],
            "baseline",
            "Take prefork: nobody else here is one to take",
            figure,
        );
        let same = cpu("reuseport", 1.01, 0.99, 1.03);
        check(
            &[yardstick("baseline"), prefork.clone(), same.clone(), yardstick("handoff")],
            "baseline",
            "No difference between those with a figure: take the simplest, prefork",
            &format!("{figure}; without a figure: handoff"),
        );
        let worse = cpu("reuseport", 1.5, 1.4, 1.6);
        check(
            &[yardstick("baseline"), prefork, worse, skipped("handoff")],
            "baseline",
            "Take prefork",
            &format!("{figure}; not as good: reuseport 1.50 [1.40 1.60]; not run: handoff"),
        );
    }

    #[test]
    fn void_rounds_that_were_kept_rank_nobody() {
        let rows =
            [yardstick("baseline"), cpu("prefork", 1.0, 0.98, 1.02), cpu("handoff", 1.3, 1.2, 1.4)];
        let kept = |void| Scenario {
            voids: Voids { played: 9, void, kept: true, ..Voids::default() },
            ..scenario(&rows)
        };
        let moods = "void rounds were kept, and the machine's moods are in the figures";
        check_in(kept(9), "baseline", "No ranking", moods);
        check_in(
            kept(0),
            "baseline",
            "Take prefork",
            "server CPU per connection, ratio to baseline: prefork ≈1.00 [0.98 1.02]; not as good: handoff \
             1.30 [1.20 1.40]",
        );
    }

    #[test]
    fn a_first_round_that_was_interrupted_ranks_nobody() {
        let rows =
            [yardstick("baseline"), cpu("prefork", 1.0, 0.98, 1.02), cpu("handoff", 1.3, 1.2, 1.4)];
        let cut = |rounds, unfinished| Scenario { rounds, unfinished, ..scenario(&rows) };
        let why = "it was interrupted before everybody had played everything once";
        check_in(cut(1, Some(0)), "baseline", "No ranking", why);
        check_in(cut(1, Some(2)), "baseline", "No ranking", why);
        let measured = "server CPU per connection, ratio to baseline: prefork ≈1.00 [0.98 1.02]; not as good: \
                        handoff 1.30 [1.20 1.40]";
        check_in(cut(2, Some(1)), "baseline", "Take prefork", measured);
        check_in(cut(1, None), "baseline", "Take prefork", measured);
    }

    #[test]
    fn whoever_did_something_else_instead_is_not_taken_for_what_its_name_says() {
        let rows = [
            yardstick("baseline"),
            cpu("prefork", 1.2, 1.15, 1.25),
            cpu("reuseport:balanced", 0.8, 0.7, 0.9),
            cpu("reuseport", 1.5, 1.4, 1.6),
        ];
        let remark = "reuseport:balanced: it steals instead, for want of CAP_BPF";
        let mut fell_back = Scenario { notes: vec![remark.to_owned()], ..scenario(&rows) };
        fell_back.cautions = cautions::of_scenario(&mut fell_back, "baseline");
        check_in(
            fell_back,
            "baseline",
            "Take prefork",
            "server CPU per connection, ratio to baseline: prefork 1.20 [1.15 1.25]; not as good: reuseport \
             1.50 [1.40 1.60]; better, and not to be taken: baseline (the yardstick); not what its name says: \
             reuseport:balanced",
        );
        let why = "server CPU per connection, ratio to baseline: reuseport:balanced 0.80 [0.70 0.90]; not as \
                   good: prefork 1.20 [1.15 1.25], reuseport 1.50 [1.40 1.60]";
        check(&rows, "baseline", "Take reuseport:balanced", why);
    }

    #[test]
    fn where_connections_stay_they_have_to_spread_as_well() {
        let kept = |label: &str, cost, max| Row {
            share: Share { max_over_mean: max, ..Share::default() },
            ..cpu(label, cost, cost - 0.01, cost + 0.01)
        };
        let of = |rows: &[Row], spread: &str| Scenario {
            unit: "request".to_owned(),
            spread: spread.to_owned(),
            ..scenario(rows)
        };
        let rows = [
            Row {
                share: Share { max_over_mean: Some(2.8), ..Share::default() },
                ..yardstick("baseline")
            },
            kept("prefork", 1.01, Some(1.11)),
            kept("handoff", 1.19, Some(1.0)),
        ];
        check_in(
            of(&rows, "requests"),
            "baseline",
            "No ranking",
            "nobody is as good as the best in every figure; the best is prefork in server CPU per request, \
             ratio to baseline, handoff in busiest worker over mean (requests of all rounds)",
        );
        let both = [rows[0].clone(), kept("prefork", 1.01, Some(1.03)), rows[2].clone()];
        check_in(
            of(&both, "requests"),
            "baseline",
            "Take prefork",
            "as good as the best in server CPU per request, ratio to baseline, busiest worker over mean \
             (requests of all rounds); not as good: handoff",
        );
        // Where each connection is new, an even spread is nobody's aim; of other people's workers it is not known.
        let by_cpu = "server CPU per request, ratio to baseline: prefork ≈1.01 [1.00 1.02]; not as good: \
                      handoff 1.19 [1.18 1.20]";
        check_in(of(&rows, "busy time"), "baseline", "Take prefork", by_cpu);
        let unknown = [rows[0].clone(), kept("prefork", 1.01, None), kept("handoff", 1.19, None)];
        check_in(of(&unknown, "requests"), "baseline", "Take prefork", by_cpu);
    }

    #[test]
    fn what_is_called_no_difference_is_none() {
        let rows = [yardstick("baseline"), cpu("prefork", 1.06, 1.02, 1.09)];
        check(
            &rows,
            "baseline",
            "Take prefork: nobody else here is one to take",
            "server CPU per connection, ratio to baseline: prefork ≈1.06 [1.02 1.09]",
        );
    }

    #[test]
    fn connections_that_stay_are_judged_by_how_they_spread() {
        let held = |label: &str, max| Row {
            held: vec![Held {
                how: "in bursts".to_owned(),
                share: Share { max_over_mean: Some(max), ..Share::default() },
            }],
            ..yardstick(label)
        };
        check(
            &[held("prefork:exclusive", 2.0), held("handoff", 1.0), held("prefork:gated", 1.04)],
            "baseline",
            "Take prefork:gated, the simplest of those as good (handoff)",
            "busiest worker over mean (in bursts): prefork:gated 1.04 [?]; not as good: prefork:exclusive \
             2.00 [?]",
        );
    }

    #[test]
    fn faults_rank_nobody_and_say_who_was_harmed() {
        let killed = |label: &str, beyond| Row {
            kills: Some(Kills { kills: 9, beyond, ..Kills::default() }),
            ..yardstick(label)
        };
        check(
            &[killed("prefork", 0), killed("handoff", 0), killed("reuseport", 1_200)],
            "baseline",
            "No ranking",
            "connections lost beyond what the killed workers had in service: none with prefork, handoff, 1,200 \
             with reuseport",
        );
        let hung = |label: &str, delayed| Row {
            hung: vec![Hung { delayed, held: 1, ..Hung::default() }],
            ..yardstick(label)
        };
        check(
            &[hung("prefork", 1), hung("reuseport:hash:bare", 31)],
            "baseline",
            "No ranking",
            "requests delayed by over 1 s beside those that the hung worker held: none with prefork, 30 with \
             reuseport:hash:bare",
        );
    }
}
