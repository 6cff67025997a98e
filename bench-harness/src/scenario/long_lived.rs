//! *long-lived*: thousands of connections that stay. How evenly are they spread over the workers, when
//! they come one by one, in bursts, and while some go and others come?

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::contestant::Contestant;
use crate::limits::Raised;
use crate::load::Handle;
use crate::load::protocol::{Open, Order};
use crate::measure::share::Share;
use crate::report::{Held, Row, Scenario};
use crate::server::Server;

use super::{Context, Kind, nobody_failed};

/// Connections kept open.
const CONNECTIONS: u32 = 10_000;

/// A burst: so many at once, in parts of ten of all.
const BURSTS: u32 = 10;

/// One in so many closes at random and is opened anew.
const CHURN: u32 = 10;

/// The same, in so many steps.
const STEPS: u32 = 10;

/// What a process needs beside the connections: listeners of every slot, channels, a reactor.
const RESERVE: u64 = 64;

/// How long it takes, about.
pub(super) fn budget(contestants: u32) -> Duration {
    Duration::from_secs(12) * contestants
}

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let runtime = context.runtime(Kind::LongLived);
    let connections = context.asked.clients.map_or(CONNECTIONS, NonZeroU32::get);
    let needed = u64::from(connections) + RESERVE + 4 * u64::from(context.workers);
    // Before anything is started, so that everything inherits it: all may end up in one worker.
    let _raised = Raised::to_hard(needed, Kind::LongLived.name())?;
    let burst = (connections / BURSTS).max(1);
    let churn = (connections / CHURN).max(1);

    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    let (mut notes, mut failures) = (Vec::new(), Vec::new());
    for contestant in context.contestants {
        let label = contestant.label();
        if !contestant.runtimes.contains(&runtime) {
            let why = format!("it cannot serve the {} runtime", runtime.word());
            skipped.push(Row { contestant: label, skipped: Some(why), ..Row::default() });
            continue;
        }
        let target = Target { context, contestant };
        let hold =
            |burst| move |target| Order::Hold { target, connections, burst, seed: context.seed };
        let step = (churn / STEPS).max(1);
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
            let share = Share::of(&open.workers, context.workers);
            row.held.push(Held { how: how.to_owned(), share });
        }
        rows.push(row);
        context.progress.tick(Kind::LongLived.name());
    }
    rows.extend(skipped);
    Ok(Scenario {
        name: Kind::LongLived.name().to_owned(),
        setting: format!(
            "{connections} connections from {sources} loopback addresses, each answered once and \
             kept open: one by one, each when the last was answered; then {churn} of them closed at \
             random and as many opened anew, in {STEPS} steps; and, on a fresh server, in bursts of \
             {burst}, each when all of the last were answered. Counted: open connections per worker.",
            sources = crate::load::SOURCES,
        ),
        runtime,
        unit: "connection".to_owned(),
        rounds: 1,
        seeds: Vec::new(),
        spread: "open connections".to_owned(),
        rows,
        notes,
        cautions: Vec::new(),
        failures,
    })
}

/// A contestant to be visited.
struct Target<'t> {
    context: &'t Context<'t>,
    contestant: &'t Contestant,
}

/// What a visit saw, order by order.
#[derive(Default)]
struct Visit {
    open: Vec<Open>,
    failures: Vec<String>,
}

impl Target<'_> {
    /// A fresh server and a fresh client: opens connections and perhaps churns them.
    fn visit(
        &self,
        hold: impl Fn(std::net::SocketAddrV4) -> Order,
        churn: Option<Order>,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Visit> {
        let Context { program, workers, interrupt, .. } = *self.context;
        let runtime = self.context.runtime(Kind::LongLived);
        let mut server = Server::start(program, self.contestant, workers, runtime, interrupt)?;
        let mut load = Handle::start(program, interrupt)?;
        let SocketAddr::V4(address) = server.address() else {
            bail!("the load process speaks IPv4 only");
        };
        let mut visit = Visit::default();
        visit.open.push(load.hold(&hold(address))?);
        if let Some(churn) = churn {
            visit.open.push(load.hold(&churn)?);
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
