//! Which figures of a scenario are compared with those of another run, each as a ratio.

use crate::measure::latency::to_f64;
use crate::measure::ratio::{Interval, Ratio, median};
use crate::report::{Row, SHARED_CORES, Scenario, Tail};

/// With fewer traces their range is no interval.
const TRACES_MIN: usize = 3;

/// One figure of one contestant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// What it says.
    pub(super) name: String,
    /// Whose it is.
    pub(super) contestant: String,
    /// It, and its interval.
    pub(super) value: Ratio,
}

impl Figure {
    /// Whether it says the same about the same contestant.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        (&self.name, &self.contestant) == (&other.name, &other.contestant)
    }
}

/// All of them, figure by figure.
pub(super) fn of(scenario: &Scenario, against: &str) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for row in scenario.rows.iter().filter(|row| row.skipped.is_none()) {
        for (name, value) in of_row(row, scenario, against) {
            if !names.contains(&name) {
                names.push(name.clone());
            }
            figures.push(Figure { name, contestant: row.contestant.clone(), value });
        }
    }
    figures.sort_by_key(|figure| names.iter().position(|name| *name == figure.name));
    figures
}

fn of_row(row: &Row, scenario: &Scenario, against: &str) -> Vec<(String, Ratio)> {
    let mut figures = Vec::new();
    let mut add = |name: String, value: Option<Ratio>| figures.extend(value.map(|it| (name, it)));
    let (ratios, unit) = (&row.ratios, &scenario.unit);
    add(format!("server CPU per {unit}, ratio to {against}"), ratios.cpu_server);
    add(format!("server and client CPU per {unit}, ratio to {against}"), ratios.cpu_both);
    add(format!("throughput, ratio to {against}"), ratios.throughput);
    let latency = |ratio| scenario.across_starts(ratio);
    add(format!("median latency, ratio to {against}"), latency(ratios.p50));
    add(format!("99th percentile, ratio to {against}"), latency(ratios.p99));
    add(format!("99.9th percentile, ratio to {against}"), latency(ratios.p999));
    if let Some(ideal) = &row.ideal {
        add("median over that of the ideal queue".to_owned(), ideal.p50.map(bare));
        add("99th percentile over that of the ideal queue".to_owned(), ideal.p99.map(bare));
        add("99.9th percentile over that of the ideal queue".to_owned(), ideal.p999.map(bare));
    }
    if let Some(sharing) = &row.sharing {
        add(format!("median over that of {SHARED_CORES}"), sharing.p50.map(bare));
        add(format!("99th percentile over that of {SHARED_CORES}"), sharing.p99.map(bare));
        add(format!("99.9th percentile over that of {SHARED_CORES}"), sharing.p999.map(bare));
    }
    for tail in &row.tails {
        add(format!("{} over that of {}, by trace", tail.figure, tail.ideal()), over_traces(tail));
    }
    for hung in &row.hung {
        let name = format!("requests delayed beside a worker {}", hung.how);
        add(name, Some(bare(to_f64(hung.beside()))));
    }
    add("connections that failed".to_owned(), Some(bare(to_f64(row.connections.failed()))));
    figures
}

/// A figure without an interval.
fn bare(value: f64) -> Ratio {
    Ratio { value, interval: None }
}

/// The median over traces, and as its interval their whole range.
pub(crate) fn over_traces(tail: &Tail) -> Option<Ratio> {
    let value = median(&mut tail.over_ideal.clone())?;
    let low = tail.over_ideal.iter().copied().min_by(f64::total_cmp)?;
    let interval = Interval { low, high: tail.worst()? };
    Some(Ratio { value, interval: (tail.over_ideal.len() >= TRACES_MIN).then_some(interval) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_an_interval_if_there_are_three() {
        let of = |over_ideal: &[f64]| {
            over_traces(&Tail { over_ideal: over_ideal.to_vec(), ..Tail::default() })
        };
        let interval = Some(Interval { low: 1.0, high: 3.0 });
        assert_eq!(of(&[1.0, 3.0, 1.5]), Some(Ratio { value: 1.5, interval }));
        assert_eq!(of(&[1.0, 3.0]), Some(bare(2.0)));
        assert_eq!(of(&[]), None);
    }
}
