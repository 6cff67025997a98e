//! *short-connections*: one tiny request per connection. What does a connection cost?

use std::num::NonZeroU32;

use crate::load::protocol::Order;
use crate::report::Scenario;
use crate::slices::{self, Plan, Spread};

use super::{Context, Kind};

/// Connections outstanding: two for each of the default workers.
pub const CLIENTS: u32 = 16;

/// Connections in a slice: about 25 ms, long enough to measure, short enough to share the
/// machine's mood with its neighbours.
pub const CONNECTIONS: u32 = 400;

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let clients = context.asked.clients.map_or(CLIENTS, NonZeroU32::get);
    let plan = Plan {
        name: Kind::ShortConnections.name(),
        setting: format!(
            "Closed loop, {clients} client{s}, one request per connection; slices of {CONNECTIONS} \
             connections in shuffled order, all servers up at once, servers and client pinned to \
             one core. Figures are for cost: on one core the latency is mostly queueing, and more \
             cores would add what one core hides (lock contention, wake-ups across cores).",
            s = if clients == 1 { "" } else { "s" },
        ),
        runtime: context.runtime(Kind::ShortConnections),
        unit: "connection",
        spread: Spread::BusyTime,
        syscalls: true,
    };
    slices::run(context, &plan, |target| {
        (None, Order::Short { target, clients, connections: CONNECTIONS })
    })
}
