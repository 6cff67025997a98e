//! What the figures of a scenario say about themselves.

use crate::measure::latency::{BEYOND_MIN, to_f64};
use crate::measure::ratio::{ROUNDS_MIN, Verdict};
use crate::report::text::rounds;
use crate::report::{Caution, Row, Scenario};
use crate::void::LAG_MAX_US;

/// What the figures of a scenario say about themselves, and what strategies remarked, which is then no
/// longer among the notes.
#[must_use]
pub fn of_scenario(scenario: &mut Scenario, against: &str) -> Vec<Caution> {
    let mut all = scenario.voids.cautions();
    let remarks = remarks(scenario);
    all.extend(remarks.iter().map(|remark| fallback(remark)));
    let others = [
        late(&scenario.rows),
        few_rounds(scenario),
        few_samples(&scenario.rows),
        no_difference(scenario, against),
        unequal_queues(scenario),
        unequal_files(&scenario.rows),
    ];
    all.extend(others.into_iter().flatten());
    all
}

/// What a remark of a strategy means.
const INSTEAD: &str = "What was measured under that name is what it did instead.";

/// Whether `label` did something else in `scenario` than its name says, and remarked it.
pub(crate) fn fell_back(scenario: &Scenario, label: &str) -> bool {
    let mut remarks = scenario.cautions.iter().filter(|caution| caution.meaning == INSTEAD);
    remarks.any(|caution| is_of(&caution.seen, label))
}

/// Whether `label` remarked this.
fn is_of(remark: &str, label: &str) -> bool {
    remark.strip_prefix(label).is_some_and(|rest| rest.starts_with(": "))
}

/// Takes out of the notes what strategies remarked, each after the label of its contestant.
fn remarks(scenario: &mut Scenario) -> Vec<String> {
    let Scenario { rows, notes, .. } = scenario;
    let is_remark = |note: &mut String| rows.iter().any(|row| is_of(note, &row.contestant));
    notes.extract_if(.., is_remark).collect()
}

/// What a strategy remarked about itself: all of them are about what it does instead.
fn fallback(remark: &str) -> Caution {
    Caution::new(
        format!("{remark}."),
        INSTEAD,
        "Give it what it lacks, or read its figures as the other's.",
    )
}

/// A late generator measures itself, or the machine's other work.
fn late(rows: &[Row]) -> Option<Caution> {
    let late = each(rows, |row| {
        let lag = row.lag_p99_us.filter(|&lag| lag > LAG_MAX_US)?;
        Some(format!("{} {:.1} ms", row.contestant, lag / 1_000.0))
    })?;
    Some(Caution::new(
        format!("One request in a hundred was sent later than intended by more than: {late}."),
        "The machine was busy with something else, and these tails hold its noise.",
        "Run again when it is quiet.",
    ))
}

/// Too few rounds for an interval of what is taken round by round. What intervals of latency come from then is
/// said by whoever makes them.
fn few_rounds(scenario: &Scenario) -> Option<Caution> {
    let has_ratio = |row: &Row| row.ratios.cpu_server.is_some() || row.ratios.throughput.is_some();
    let few = scenario.rounds < ROUNDS_MIN && scenario.rows.iter().any(has_ratio);
    few.then(|| {
        Caution::new(
            format!("Ratios of CPU and throughput come from {}.", rounds(scenario.rounds)),
            format!(
                "With fewer than {ROUNDS_MIN} they have no interval, and nobody can say whether a \
                 difference is one."
            ),
            "Ask for more rounds (--reps, or --seeds in open loop).",
        )
    })
}

/// Percentiles that are not printed.
fn few_samples(rows: &[Row]) -> Option<Caution> {
    let few = each(rows, |row| {
        let mut absent = Vec::new();
        if row.latency.samples > 0 {
            let at = [("p99", row.latency.p99_us), ("p99.9", row.latency.p999_us)];
            absent.extend(at.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name));
        }
        let tails = row.tails.iter().filter(|tail| to_f64(tail.beyond) < BEYOND_MIN);
        absent.extend(tails.map(|tail| &*tail.figure));
        (!absent.is_empty()).then(|| format!("{} {}", row.contestant, absent.join(" and ")))
    })?;
    Some(Caution::new(
        format!("Fewer than {BEYOND_MIN} samples lie beyond: {few}."),
        "Such figures would be anecdotes and are left out.",
        "Ask for longer blocks (--seconds) or more rounds (--reps, --seeds).",
    ))
}

/// Who cannot be told from the yardstick by what the scenario is about.
fn no_difference(scenario: &Scenario, against: &str) -> Option<Caution> {
    let same = each(&scenario.rows, |row| {
        let mut figures = Vec::new();
        for (name, ratio) in [("server CPU", row.ratios.cpu_server), ("p99", row.ratios.p99)] {
            let same = ratio.is_some_and(|ratio| ratio.verdict() == Verdict::NoDifference);
            figures.extend(same.then_some(name));
        }
        (!figures.is_empty()).then(|| format!("{} ({})", row.contestant, figures.join(", ")))
    })?;
    Some(Caution::new(
        format!("No difference from {against} was seen in: {same}."),
        "The interval reaches 1 ± 3 %: a difference, if there is one, is smaller than this run can \
         tell.",
        "Do not rank them by these figures; more rounds (--reps, --seeds) narrow the intervals.",
    ))
}

/// Queues of different length, where it mattered: one overflowed.
fn unequal_queues(scenario: &Scenario) -> Option<Caution> {
    let rows = &scenario.rows;
    let counts: Vec<u32> = rows.iter().filter_map(|row| row.listeners).collect();
    let backlogs: Vec<u32> = rows.iter().filter_map(|row| row.backlog).collect();
    let differ = |all: &[u32]| all.iter().min() != all.iter().max();
    if !(differ(&counts) || differ(&backlogs)) || scenario.voids.overflows == 0 {
        return None;
    }
    let rooms = each(rows, |row| {
        let backlog = row.backlog.map(|backlog| format!(" of {backlog}")).unwrap_or_default();
        Some(format!("{} {}{backlog}", row.contestant, row.listeners?))
    })?;
    Some(Caution::new(
        format!(
            "Listen queues overflowed {} times, and contestants have different ones: {rooms}.",
            scenario.voids.overflows
        ),
        "Each queue has its own backlog: whoever has more of them, or longer ones, refuses later, and \
         whoever fills one of several refuses while there is room in others. (The kernel counts for the whole \
         network namespace: they may have been another program's.)",
        "Give all the same backlog; compare contestants with more queues by loads that fit all queues, or weigh \
         the room as well.",
    ))
}

/// Different limits of open files.
fn unequal_files(rows: &[Row]) -> Option<Caution> {
    let limits: Vec<u64> = rows.iter().filter_map(|row| row.open_files).collect();
    if limits.iter().min() == limits.iter().max() {
        return None;
    }
    let limits = each(rows, |row| Some(format!("{} {}", row.contestant, row.open_files?)))?;
    Some(Caution::new(
        format!("Workers may have different numbers of files open: {limits}."),
        "Whoever may have fewer refuses, or waits, sooner.",
        "Give all the same limit (ulimit -n) before comparing what many connections do.",
    ))
}

/// What `told` says about the rows, in one list; nothing of nothing.
fn each(rows: &[Row], told: impl Fn(&Row) -> Option<String>) -> Option<String> {
    let all: Vec<String> = rows.iter().filter_map(told).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;
    use crate::measure::latency::Latency;
    use crate::measure::ratio::{Interval, Ratio};
    use crate::report::{Ratios, Tail};
    use crate::void::Voids;

    fn scenario(rows: Vec<Row>) -> Scenario {
        Scenario { rounds: 40, rows, ..Scenario::default() }
    }

    fn row(name: &str) -> Row {
        Row { contestant: name.to_owned(), ..Row::default() }
    }

    fn seen(mut scenario: Scenario) -> Vec<Caution> {
        of_scenario(&mut scenario, "baseline")
    }

    #[test]
    fn figures_that_say_little_are_named() {
        assert_eq!(seen(scenario(vec![row("a"), row("b")])), []);
        let late = Row { lag_p99_us: Some(1_200.0), ..row("a") };
        check(
            &seen(scenario(vec![late, row("b")])),
            "One request in a hundred was sent later than intended by more than: a 1.2 ms.",
        );
        let latency = Latency { samples: 3_000, p99_us: Some(1.0), ..Latency::default() };
        let few = Row {
            latency,
            tails: vec![Tail { beyond: 29, ..Tail::new("x p99", false) }],
            ..row("a")
        };
        check(&seen(scenario(vec![few])), "Fewer than 30 samples lie beyond: a p99.9 and x p99.");
    }

    #[test]
    fn ratios_that_tell_nobody_apart_are_named() {
        let ratio = |low, high| {
            Some(Ratio { value: f64::midpoint(low, high), interval: Some(Interval { low, high }) })
        };
        let ratios =
            Ratios { cpu_server: ratio(0.98, 1.05), p99: ratio(1.4, 2.0), ..Ratios::default() };
        let same = Row { ratios: ratios.clone(), ..row("a") };
        check(
            &seen(scenario(vec![same.clone()])),
            "No difference from baseline was seen in: a (server CPU).",
        );
        let ratios = Ratios { cpu_server: ratio(1.04, 1.05), ..Ratios::default() };
        let other = Row { ratios, ..row("a") };
        assert_eq!(seen(scenario(vec![other.clone()])), []);
        let few = Scenario { rounds: 4, ..scenario(vec![other]) };
        check(&seen(few), "Ratios of CPU and throughput come from 4 rounds.");
        // Where workers are killed there are only latencies, which have an interval in one round, too.
        let ratios = Ratios { p99: ratio(1.4, 2.0), ..Ratios::default() };
        let one = Scenario { rounds: 1, ..scenario(vec![Row { ratios, ..row("a") }]) };
        assert_eq!(seen(one), []);
    }

    #[test]
    fn unequal_room_is_said_where_it_decided_something() {
        let with = |name, listeners, files| Row {
            listeners: Some(listeners),
            open_files: Some(files),
            ..row(name)
        };
        let unequal = scenario(vec![with("a", 1, 99), with("b", 8, 99)]);
        assert_eq!(seen(unequal.clone()), []);
        let overflows = Voids { overflows: 7, ..Voids::default() };
        let overflowed = Scenario { voids: overflows.clone(), ..unequal };
        check(
            &seen(overflowed),
            "Listen queues overflowed 7 times, and contestants have different ones: a 1, b 8.",
        );
        let long = |name, backlog| Row { backlog: Some(backlog), ..with(name, 1, 99) };
        let rows = vec![long("a", 4_096), long("b", 128)];
        check(
            &seen(Scenario { voids: overflows.clone(), ..scenario(rows) }),
            "Listen queues overflowed 7 times, and contestants have different ones: a 1 of 4096, b 1 of 128.",
        );
        let equal = scenario(vec![with("a", 8, 99), with("b", 8, 99)]);
        assert_eq!(seen(Scenario { voids: overflows, ..equal }), []);
        check(
            &seen(scenario(vec![with("a", 1, 64), with("b", 1, 1_024)])),
            "Workers may have different numbers of files open: a 64, b 1024.",
        );
    }

    #[test]
    fn what_a_strategy_does_instead_is_a_caution_and_no_note() {
        let notes = vec!["a: it hashes instead".to_owned(), "All is well: a.".to_owned()];
        let mut scenario = Scenario { notes, ..scenario(vec![row("a")]) };
        scenario.cautions = of_scenario(&mut scenario, "baseline");
        check(&scenario.cautions, "a: it hashes instead.");
        assert_eq!(scenario.notes, ["All is well: a."]);
        assert!(fell_back(&scenario, "a") && !fell_back(&scenario, "a:b"));
    }
}
