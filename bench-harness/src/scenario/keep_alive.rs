//! *keep-alive*: connections that stay and send many requests. What does a request cost, and do
//! connections that stay spread over the workers?

use std::num::NonZeroU32;

use crate::cli::Runtime;
use crate::load::protocol::Order;
use crate::report::Scenario;
use crate::slices::{self, Plan, Spread};

use super::{Context, Kind};

/// Connections kept open.
const CONNECTIONS: u32 = 64;

/// Requests on each in a slice: about 20 ms.
const REQUESTS: u32 = 24;

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<Scenario> {
    let connections = context.asked.clients.map_or(CONNECTIONS, NonZeroU32::get);
    let plan = Plan {
        name: Kind::KeepAlive.name(),
        setting: format!(
            "Closed loop, {connections} connections opened before each slice and kept for \
             {REQUESTS} requests each; slices in shuffled order, all servers up at once, servers \
             and client pinned to one core. Opening is not measured; where the connections went \
             is (share per worker)."
        ),
        runtime: Runtime::Tokio,
        unit: "request",
        spread: Spread::Requests,
        syscalls: false,
    };
    slices::run(context, &plan, |target| {
        let open = Order::Open { target, connections };
        (Some(open), Order::Requests { per_connection: REQUESTS })
    })
}
