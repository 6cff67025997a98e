//! Connections that are opened by the thousand, answered once and kept: one by one, while some go and
//! others come, and in bursts; a fresh server and a fresh client each time.

use anyhow::Context as _;

use crate::cli::Runtime;
use crate::contestant::Contestant;
use crate::limits::Raised;
use crate::load::Handle;
use crate::load::protocol::{self, Open, Order};
use crate::measure::share::Share;
use crate::report::{Held, Row, Scenario};
use crate::scenario::spec::{self, Spec};
use crate::scenario::{Context, nobody_failed};
use crate::server::Server;
use crate::void::Watch;

/// Churn comes in so many steps.
const STEPS: u32 = 10;

/// What a process needs beside the connections: listeners of every slot, channels, a reactor.
const RESERVE: u64 = 64;

/// Runs the scenario.
///
/// # Errors
/// A server or the load process could not be run, or we were interrupted.
pub fn run(context: &Context<'_>, spec: &Spec, held: &spec::Held) -> anyhow::Result<Scenario> {
    let runtime = context.runtime(spec);
    let connections = context.asked.clients.unwrap_or(held.connections).get();
    let needed = u64::from(connections) + RESERVE + 4 * u64::from(context.workers);
    // Before anything is started, so that everything inherits it: all may end up in one worker.
    let _raised = Raised::to_hard(needed, &spec.name)?;
    let burst = (connections / held.bursts).max(1);
    let churn = (connections / held.churn).max(1);
    let step = (churn / STEPS).max(1);

    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    let (mut notes, mut failures) = (Vec::new(), Vec::new());
    let can = |one: &&Contestant| one.runtimes.contains(&runtime);
    let visits = context.contestants.iter().filter(can).count() * 2;
    context.umpire.plan(u32::try_from(visits).unwrap_or(u32::MAX));
    for contestant in context.contestants {
        let label = contestant.label();
        if let Some(why) = contestant.obstacle(runtime, &spec.needs()) {
            skipped.push(Row { contestant: label, skipped: Some(why), ..Row::default() });
            continue;
        }
        let target = Target { context, contestant, runtime };
        let hold =
            |burst| move |target| Order::Hold { target, connections, burst, seed: context.seed };
        let again = Order::Churn { connections: churn, step };
        let visits = [
            target.visit(hold(1), Some(again), &mut notes),
            target.visit(hold(burst), None, &mut notes),
        ];
        let mut row = Row { contestant: label.clone(), ..Row::default() };
        let [sequence, bursts] = visits.map(|visit| visit.with_context(|| label.clone()));
        let (sequence, bursts) = (sequence?, bursts?);
        for visit in [&sequence, &bursts] {
            failures.extend(visit.failures.iter().map(|failure| format!("{label}: {failure}")));
            let Some(last) = visit.open.last() else { continue };
            failures.extend(nobody_failed(&label, &last.tally, last.made));
            row.connections.add(&last.tally);
        }
        let hows = ["one by one", "after churn", "in bursts"];
        for (how, open) in hows.into_iter().zip(sequence.open.iter().chain(&bursts.open)) {
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
    ) -> anyhow::Result<Visit> {
        let umpire = self.context.umpire;
        loop {
            let watch = Watch::start()?;
            let visit = self.visit_once(&hold, churn.as_ref(), notes)?;
            if !umpire.voids(&watch.end()?) || !umpire.is_patient() {
                return Ok(visit);
            }
        }
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
