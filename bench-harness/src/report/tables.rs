//! From the report to grids of strings: which figures stand where, and in what form.

use super::grid::{Grid, NONE};
use super::text::{one, per, ratio, thousands, three, time, two, whole};
use super::{Held, Hung, Ideal, Ratios, Row, Scenario, Tail};
use crate::load::category::Category;
use crate::measure::ratio::{Ratio, median};

/// All grids of a scenario, empty ones left out.
#[must_use]
pub fn grids(scenario: &Scenario, against: &str) -> Vec<Grid> {
    let against = scenario.against.as_deref().unwrap_or(against);
    let all = [
        measured(scenario),
        classes(scenario),
        ideals(scenario),
        tails(scenario),
        generator(scenario),
        held(scenario),
        hung(scenario),
        scaled(scenario),
        restarted(scenario),
        on_the_server(scenario),
        memory(scenario),
        cost_ratios(scenario, against),
        latency_ratios(scenario, against),
        kills(scenario),
        each_kill(scenario),
        connections(scenario),
    ];
    all.into_iter().filter(|grid| !grid.is_empty()).collect()
}

/// Rows of cells, one per contestant that `cells` has something to say about.
fn rows(scenario: &Scenario, cells: impl Fn(&Row) -> Option<Vec<String>>) -> Vec<Vec<String>> {
    let row = |row: &Row| {
        let mut line = vec![row.contestant.clone()];
        line.extend(cells(row)?);
        Some(line)
    };
    scenario.rows.iter().filter_map(row).collect()
}

/// The figures themselves. Someone who did not take part stands there with dashes.
fn measured(scenario: &Scenario) -> Grid {
    let per_second = format!("{}/s", if scenario.unit == "request" { "req" } else { "conn" });
    let columns = [
        "contestant",
        &per_second,
        "p50",
        "p99",
        "p99.9",
        "p50/ideal",
        "p99/ideal",
        "p99.9/ideal",
        "CPU srv",
        "CPU both",
        "max/mean",
        "Jain",
    ];
    let cells = |row: &Row| {
        let ideal = row.ideal.clone().unwrap_or_default();
        Some(vec![
            whole(row.throughput),
            time(row.latency.p50_us),
            time(row.latency.p99_us),
            time(row.latency.p999_us),
            two(ideal.p50),
            two(ideal.p99),
            two(ideal.p999),
            one(row.cpu_server_us),
            one(row.cpu_both_us),
            two(row.share.max_over_mean),
            three(row.share.jain),
        ])
    };
    let spread = match &*scenario.spread {
        "" => String::new(),
        spread => format!("; spread by {spread}"),
    };
    let title = format!("Measured (latency; CPU in µs per {}{spread})", scenario.unit);
    Grid::of(&title, &columns, rows(scenario, cells))
}

/// Latency beyond its percentiles: what short requests see, and what closed loops show of a tail.
fn classes(scenario: &Scenario) -> Grid {
    let columns = [
        "contestant",
        "mean",
        "deviation",
        "short p50",
        "short p99",
        "short p99.9",
        "slowdown p50",
        "slowdown p99",
        "slowdown p99.9",
    ];
    let cells = |row: &Row| {
        row.skipped.is_none().then(|| {
            let short = row.short.clone().unwrap_or_default();
            let slowdown = row.slowdown.clone().unwrap_or_default();
            vec![
                time(row.latency.mean_us),
                time(row.latency.deviation_us),
                time(short.p50_us),
                time(short.p99_us),
                time(short.p999_us),
                two(slowdown.p50),
                two(slowdown.p99),
                two(slowdown.p999),
            ]
        })
    };
    let title = "Latency: mean and standard deviation; short requests; slowdown (over own work)";
    Grid::of(title, &columns, rows(scenario, cells))
}

/// Over what would have been ideal for short requests, and for work that burns CPU.
fn ideals(scenario: &Scenario) -> Grid {
    let columns = [
        "contestant",
        "short p50/ideal",
        "short p99/ideal",
        "short p99.9/ideal",
        "p50/shared",
        "p99/shared",
        "p99.9/shared",
        "short p50/shared",
        "short p99/shared",
        "short p99.9/shared",
    ];
    let cells = |row: &Row| {
        let three = |ideal: &Option<Ideal>| {
            let ideal = ideal.clone().unwrap_or_default();
            [ideal.p50, ideal.p99, ideal.p999].map(two)
        };
        let all = [&row.ideal_short, &row.sharing, &row.sharing_short];
        row.skipped.is_none().then(|| all.into_iter().flat_map(three).collect())
    };
    let title = "Short requests over the ideal queue; all over cores that are shared evenly";
    Grid::of(title, &columns, rows(scenario, cells))
}

/// Percentiles over those of the ideal.
fn tails(scenario: &Scenario) -> Grid {
    let names = scenario.rows.iter().find(|row| !row.tails.is_empty());
    let names = names.iter().flat_map(|row| row.tails.iter().map(|tail| &*tail.figure));
    let columns: Vec<&str> = std::iter::once("contestant").chain(names).collect();
    let cells = |row: &Row| {
        let cell = |tail: &Tail| match (median(&mut tail.over_ideal.clone()), tail.worst()) {
            (Some(median), Some(worst)) => format!("{median:.2} ({worst:.2})"),
            _ => NONE.to_owned(),
        };
        (!row.tails.is_empty()).then(|| row.tails.iter().map(cell).collect())
    };
    let title = "Latency over that of the ideal: median over traces (worst trace)";
    Grid::of(title, &columns, rows(scenario, cells))
}

/// How far the load process is to be trusted.
fn generator(scenario: &Scenario) -> Grid {
    let columns = [
        "contestant",
        "lag p50",
        "lag p99",
        "lag max",
        "cores",
        "void blocks",
        "sent again",
        "fewest samples beyond",
    ];
    let cells = |row: &Row| {
        let fewest = row.tails.iter().map(|tail| tail.beyond).min();
        let generator = row.generator.as_ref();
        if fewest.is_none() && generator.is_none() {
            return None;
        }
        let some = |count: u64| if count > 0 { thousands(count) } else { NONE.to_owned() };
        Some(vec![
            time(generator.map(|generator| generator.lag_p50_us)),
            time(generator.map(|generator| generator.lag_p99_us).or(row.lag_p99_us)),
            time(generator.map(|generator| generator.lag_max_us)),
            two(generator.map(|generator| generator.cores)),
            some(row.void.into()),
            some(row.retried),
            fewest.map_or_else(|| NONE.to_owned(), thousands),
        ])
    };
    let title = "The generator: how late it was, and the part of a core it took";
    Grid::of(title, &columns, rows(scenario, cells))
}

/// Open connections over workers. Four digits: the last one is what one looks for.
fn held(scenario: &Scenario) -> Grid {
    let hows = scenario.rows.iter().find(|row| !row.held.is_empty());
    let hows = hows.iter().flat_map(|row| row.held.iter().map(|held| &*held.how));
    let columns: Vec<&str> = std::iter::once("contestant").chain(hows).collect();
    let cells = |row: &Row| {
        let cell = |held: &Held| match (held.share.max_over_mean, held.share.jain) {
            (Some(max), Some(jain)) => format!("{max:.3} · {jain:.4}"),
            _ => NONE.to_owned(),
        };
        (!row.held.is_empty()).then(|| row.held.iter().map(cell).collect())
    };
    let title = "Open connections per worker: max/mean · Jain";
    Grid::of(title, &columns, rows(scenario, cells))
}

/// Who waited while a worker hung.
fn hung(scenario: &Scenario) -> Grid {
    let hows = scenario.rows.iter().find(|row| !row.hung.is_empty());
    let hows = hows.iter().flat_map(|row| {
        let heads = |hung: &Hung| {
            let how = &hung.how;
            [format!("{how}: over 1 s"), "held".to_owned(), "beside".to_owned()]
        };
        row.hung.iter().flat_map(heads)
    });
    let lag = std::iter::once("lag p99".to_owned());
    let columns: Vec<String> =
        std::iter::once("contestant".to_owned()).chain(hows).chain(lag).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let cells = |row: &Row| {
        let cells = |hung: &Hung| [hung.delayed, hung.held, hung.beside()].map(thousands);
        let lag = std::iter::once(time(row.lag_p99_us));
        (!row.hung.is_empty()).then(|| row.hung.iter().flat_map(cells).chain(lag).collect())
    };
    let title = "Requests delayed by over 1 s: held by the hung worker, and others beside them";
    Grid::of(title, &columns, rows(scenario, cells))
}

/// How often all workers were replaced.
fn restarted(scenario: &Scenario) -> Grid {
    let columns = ["contestant", "restarts", "served", "failed"];
    let cells = |row: &Row| {
        let (restarts, connections) = (row.restarts?, &row.connections);
        let served = connections.of(Category::Served);
        let counts = [served, connections.sum() - served].map(thousands);
        Some(std::iter::once(restarts.to_string()).chain(counts).collect())
    };
    Grid::of("Rolling restarts", &columns, rows(scenario, cells))
}

/// How often slots went and came.
fn scaled(scenario: &Scenario) -> Grid {
    let columns = ["contestant", "cycles", "served", "failed"];
    let cells = |row: &Row| {
        let (cycles, connections) = (row.cycles?, &row.connections);
        let served = connections.of(Category::Served);
        let counts = [served, connections.sum() - served].map(thousands);
        Some(std::iter::once(cycles.to_string()).chain(counts).collect())
    };
    Grid::of("Down to one slot and back", &columns, rows(scenario, cells))
}

/// What a unit costs the server beside CPU time.
fn on_the_server(scenario: &Scenario) -> Grid {
    let columns = ["contestant", "context switches", "system calls", "after service"];
    let cells = |row: &Row| {
        let figures = [row.switches, row.syscalls];
        let mut cells = figures.map(two).to_vec();
        cells.push(time(row.after_us));
        cells.iter().any(|cell| cell != NONE).then_some(cells)
    };
    let title = format!("On the server, per {}", scenario.unit);
    Grid::of(&title, &columns, rows(scenario, cells))
}

/// What a worker needs of memory.
fn memory(scenario: &Scenario) -> Grid {
    let cells = |row: &Row| Some(vec![format!("{:.1} MiB", row.pss_kib? / 1024.0)]);
    let title = "Memory per worker, what it shares with others in parts (PSS)";
    Grid::of(title, &["contestant", "mean"], rows(scenario, cells))
}

/// Cost and throughput as ratios to the yardstick.
fn cost_ratios(scenario: &Scenario, against: &str) -> Grid {
    ratios(scenario, against, "Cost", &["throughput", "CPU srv", "CPU both"], |ratios| {
        [ratios.throughput, ratios.cpu_server, ratios.cpu_both]
    })
}

/// Latency as ratios to the yardstick.
fn latency_ratios(scenario: &Scenario, against: &str) -> Grid {
    let of = |ratios: &Ratios| [ratios.p50, ratios.p99, ratios.p999];
    ratios(scenario, against, "Latency", &["p50", "p99", "p99.9"], of)
}

/// Three ratios each: more do not fit 100 columns.
fn ratios(
    scenario: &Scenario,
    against: &str,
    what: &str,
    names: &[&str; 3],
    of: impl Fn(&Ratios) -> [Option<Ratio>; 3],
) -> Grid {
    let columns = ["contestant", names[0], names[1], names[2]];
    let cells = |row: &Row| {
        let three = of(&row.ratios);
        three.iter().any(Option::is_some).then(|| three.map(ratio).to_vec())
    };
    let title = format!(
        "{what} as ratio to {against}, with 95 % interval (≈ reaches 1 ± 3 %: no difference)"
    );
    Grid::of(&title, &columns, rows(scenario, cells))
}

/// What killing workers did.
fn kills(scenario: &Scenario) -> Grid {
    let columns = ["contestant", "workers killed", "in service when killed", "failed beyond"];
    let cells = |row: &Row| {
        let kills = row.kills?;
        Some([kills.kills, kills.in_service, kills.beyond].map(thousands).to_vec())
    };
    Grid::of("Workers killed", &columns, rows(scenario, cells))
}

/// The same, kill by kill.
fn each_kill(scenario: &Scenario) -> Grid {
    let columns = [
        "contestant",
        "uncounted",
        "most taken",
        "unexplained",
        "queue mean",
        "queue max",
        "with a queue",
    ];
    let cells = |row: &Row| {
        let kills = row.kills?;
        let each = kills.each?;
        Some(vec![
            per(kills.beyond, kills.kills),
            thousands(each.most),
            thousands(each.unexplained),
            per(each.queued, kills.kills),
            thousands(each.queued_most),
            thousands(each.with_queue),
        ])
    };
    Grid::of("Kill by kill, with the accept queues just before", &columns, rows(scenario, cells))
}

/// Every connection in its category; a category nobody needed is left out.
fn connections(scenario: &Scenario) -> Grid {
    let mut columns = vec!["contestant", "made"];
    columns.extend(Category::ALL.map(Category::word));
    let used = |category| scenario.rows.iter().any(|row| row.connections.of(category) > 0);
    let cells = |row: &Row| {
        // Who was interrupted has connections, too.
        (row.skipped.is_none() || row.connections.sum() > 0).then(|| {
            let mut cells = vec![thousands(row.connections.sum())];
            cells.extend(Category::ALL.map(|category| {
                if used(category) { thousands(row.connections.of(category)) } else { NONE.into() }
            }));
            cells
        })
    };
    Grid::of("Connections by how they ended", &columns, rows(scenario, cells))
}
