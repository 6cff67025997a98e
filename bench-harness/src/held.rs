//! Connections that are opened by the thousand, answered once and kept: one by one, while some go and
//! others come, and in bursts; a fresh server and a fresh client each time.

use anyhow::Context as _;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::limits::Raised;
use crate::load::Handle;
use crate::load::category::{Category, Tally};
use crate::load::protocol::{self, Open, Order};
use crate::measure::share::Share;
use crate::report::{Held, Row, Scenario};
use crate::scenario::spec::{self, Spec};
use crate::scenario::{Context, INTERRUPTED, ended, unaccounted};
use crate::server::Server;
use crate::void::{Finished, Unfinished, Watch, until_unfinished};

/// Churn comes in so many steps.
const STEPS: u32 = 10;

/// What a process needs beside the connections: listeners of every slot, channels, a reactor.
const RESERVE: u64 = 64;

/// Runs the scenario. Somebody who interrupts it gets those who had their turn.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted before anybody had finished.
pub fn run(context: &Context<'_>, spec: &Spec, held: &spec::Held) -> anyhow::Result<Scenario> {
    let runtime = context.runtime(spec);
    let connections = context.asked.clients.unwrap_or(held.connections).get();
    let most = context.contestants.iter().map(|one| context.workers_of(one)).max();
    let needed = u64::from(connections) + RESERVE + 4 * u64::from(most.unwrap_or(0));
    // Before anything is started, so that everything inherits it: all may end up in one worker.
    let _raised = Raised::to_hard(needed, &spec.name)?;
    let burst = (connections / held.bursts).max(1);
    let churn = (connections / held.churn).max(1);
    let step = (churn / STEPS).max(1);

    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    let (mut notes, mut failures) = (Vec::new(), Vec::new());
    let can = |one: &&Contestant| one.obstacle(runtime, &spec.needs()).is_none();
    let visits = context.contestants.iter().filter(can).count() * 2;
    context.umpire.plan(u32::try_from(visits).unwrap_or(u32::MAX));
    for contestant in context.contestants {
        let label = contestant.label();
        let mut row = Row { contestant: label.clone(), ..Row::default() };
        if let Some(why) = contestant.obstacle(runtime, &spec.needs()) {
            skipped.push(Row { skipped: Some(why), ..row });
            continue;
        }
        let target = Target { context, contestant, runtime };
        let hold =
            |burst| move |target| Order::Hold { target, connections, burst, seed: context.seed };
        let again = Order::Churn { connections: churn, step };
        let visits = [(1, Some(again)), (burst, None)]
            .into_iter()
            .map(|(at_once, churn)| target.visit(hold(at_once), churn, &mut notes));
        let (visits, ended) = until_unfinished(visits, Visit::unfinished);
        for visit in &visits {
            row.void += u32::try_from(visit.voided.len()).unwrap_or(u32::MAX);
            row.void += u32::from(visit.is_void);
            failures.extend(visit.account(&label, &mut row.connections));
        }
        if let Err(error) = ended.with_context(|| label.clone()) {
            let finished = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            if !context.keeps_after(&error, finished) {
                return Err(error);
            }
            row.skipped = Some(INTERRUPTED.to_owned());
            skipped.push(row);
            continue;
        }
        let hows = ["one by one", "after churn", "in bursts"];
        for (how, open) in hows.into_iter().zip(visits.iter().flat_map(|visit| &visit.open)) {
            let share = Share::of(&open.workers, context.workers_of(contestant));
            row.held.push(Held { how: how.to_owned(), share });
        }
        rows.push(row);
        context.progress.tick();
    }
    rows.extend(skipped);
    Ok(Scenario {
        name: spec.name.clone(),
        setting: held.setting(connections, burst, churn, STEPS),
        against: None,
        runtime,
        unit: "connection".to_owned(),
        rounds: 1,
        spread: "open connections".to_owned(),
        rows,
        notes,
        failures,
        ..Scenario::default()
    })
}

/// A contestant to be visited.
struct Target<'t> {
    context: &'t Context<'t>,
    contestant: &'t Contestant,
    runtime: Runtime,
}

/// What a visit saw, order by order.
#[derive(Default)]
struct Visit {
    open: Vec<Open>,
    failures: Vec<String>,
    /// Whether it is void, and kept all the same.
    is_void: bool,
    /// The same visit each time before, when it was void and made again.
    voided: Vec<Self>,
}

impl Visit {
    /// One that came to no end: all that it brought before.
    fn unfinished(voided: Vec<Self>) -> Self {
        Self { voided, ..Self::default() }
    }

    /// What was wrong with this visit and those before; adds all their connections.
    fn account(&self, label: &str, connections: &mut Tally) -> Vec<String> {
        let mut failures = Vec::new();
        for (visit, is_void) in self.voided.iter().map(|one| (one, true)).chain([(self, false)]) {
            failures.extend(visit.failures.iter().map(|failure| format!("{label}: {failure}")));
            let Some(last) = visit.open.last() else { continue };
            connections.add(&last.tally);
            failures.extend(unaccounted(label, &last.tally, last.made));
            // In a void visit the machine kept nobody's time.
            let never = |category: Category| {
                (category.is_failure() || category == Category::Shed)
                    && !(is_void && category == Category::Late)
            };
            failures.extend(ended(label, &last.tally, never));
        }
        failures
    }
}

impl Target<'_> {
    /// A fresh server and a fresh client: opens connections and perhaps churns them.
    ///
    /// Once more as long as it was void and the umpire has patience.
    fn visit(
        &self,
        hold: impl Fn(protocol::Target) -> Order,
        churn: Option<Order>,
        notes: &mut Vec<String>,
    ) -> Result<Visit, Unfinished<Visit>> {
        let round = self.context.umpire.play(|| {
            let watch = Watch::start()?;
            let visit = self.visit_once(&hold, churn.as_ref(), notes)?;
            Ok((visit, watch.end()?))
        });
        round.map(|Finished { last, is_void, voided }| Visit { is_void, voided, ..last })
    }

    fn visit_once(
        &self,
        hold: &impl Fn(protocol::Target) -> Order,
        churn: Option<&Order>,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Visit> {
        let Context { program, interrupt, .. } = *self.context;
        let workers = self.context.workers_of(self.contestant);
        let mut server = Server::start(program, self.contestant, workers, self.runtime, interrupt)?;
        let mut load = Handle::start(program, interrupt)?;
        let mut visit = Visit::default();
        visit.open.push(load.hold(&hold(server.target()))?);
        if let Some(churn) = churn {
            visit.open.push(load.hold(churn)?);
        }
        // The client first: a server that has to leave would close what is idle, which is no fault.
        drop(load);
        while server.try_notice()?.is_some() {}
        for remark in server.remarks() {
            let note = format!("{}: {remark}", self.contestant.label());
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        if let Err(error) = server.end() {
            visit.failures.push(format!("{error:#}"));
        }
        Ok(visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupted;

    #[test]
    fn what_was_lost_in_a_visit_that_was_made_again_is_lost() {
        let visit = |ends: &[Category], failures: &[&str]| {
            let mut open = Open { made: 3, ..Open::default() };
            ends.iter().for_each(|&end| open.tally.count(end));
            let failures = failures.iter().map(|&failure| failure.to_owned()).collect();
            Visit { open: vec![open], failures, ..Visit::default() }
        };
        use Category::{Late, Refused, Served};
        let voided = vec![visit(&[Served, Late, Refused], &["ill"]), visit(&[Served], &[])];
        let last = Visit { voided, ..visit(&[Served, Served, Late], &[]) };
        let mut connections = Tally::default();
        assert_eq!(
            last.account("it", &mut connections),
            [
                "it: ill",
                "it: 1 connections refused",
                "it: 3 connections made, but 1 accounted for",
                "it: 1 connections late",
            ]
        );
        assert_eq!((connections.sum(), connections.of(Served)), (7, 4));
    }

    #[test]
    fn what_was_lost_before_a_visit_was_interrupted_is_lost() {
        let lost = |end: Category| {
            let mut open = Open { made: 1, ..Open::default() };
            open.tally.count(end);
            Visit { open: vec![open], ..Visit::default() }
        };
        let (first, before) = (lost(Category::Late), vec![lost(Category::Reset)]);
        let second = Err(Unfinished { why: Interrupted.into(), voided: before });
        let (visits, ended) = until_unfinished([Ok(first), second], Visit::unfinished);
        assert!(ended.is_err());
        let mut connections = Tally::default();
        let failures = visits.iter().flat_map(|visit| visit.account("it", &mut connections));
        let failures: Vec<String> = failures.collect();
        assert_eq!(failures, ["it: 1 connections late", "it: 1 connections reset"]);
        assert_eq!(connections.sum(), 2);
    }
}
