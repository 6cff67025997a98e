//! The trials, one file per promise.

use super::stage::{Outcome, Stage};
use crate::strategy::RuntimeKind;

mod booting;
mod descriptors;
mod ending;
mod killed;
mod queued;
mod refusing;
mod restarting;
mod serving;
mod spreading;

/// One trial of the suite.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// On which runtime, if not on each.
    only: Option<RuntimeKind>,
    pub(super) run: fn(&Stage) -> Outcome,
}

impl Case {
    pub(super) fn suits(&self, runtime: RuntimeKind) -> bool {
        self.only.is_none_or(|only| only == runtime)
    }
}

/// All of them, in the order of this list.
pub(super) fn all() -> Vec<Case> {
    let on_each = |name, run| Case { name, only: None, run };
    vec![
        on_each("a_connection_knows_where_it_came_from", serving::connections),
        on_each("two_listeners_are_told_apart", serving::two_listeners),
        on_each("ipv6_is_served", serving::ipv6),
        on_each("a_worker_is_recognised_from_outside", serving::title),
        on_each("the_client_sees_the_end_at_once", serving::end_of_file),
        on_each("connections_spread_as_promised", spreading::spread),
        on_each("a_killed_worker_loses_nothing_that_was_queued", queued::killed),
        on_each("a_stopped_worker_gives_its_queue_to_siblings", queued::stopped),
        on_each("a_killed_worker_loses_only_what_it_had_taken", killed::under_load),
        on_each("nothing_is_lost_while_a_worker_boots", booting::at_once),
        on_each("nothing_is_lost_while_a_worker_boots_slowly", booting::slowly),
        on_each("nothing_is_lost_while_the_only_worker_boots", booting::alone),
        on_each("a_service_that_cannot_boot_gives_up", booting::never),
        on_each("a_rolling_restart_under_load_fails_nobody", restarting::under_load),
        on_each("sigterm_answers_everybody_who_is_there", ending::drain),
        on_each("a_second_sigterm_ends_at_once", ending::twice),
        on_each("ctrl_c_lets_requests_finish", ending::ctrl_c),
        on_each("no_worker_outlives_its_supervisor", ending::orphans),
        Case {
            name: "idle_connections_hold_nobody_up",
            only: Some(RuntimeKind::Tokio),
            run: ending::idle_connections,
        },
        on_each("a_second_instance_is_refused", refusing::second_instance),
        on_each("descriptors_are_the_same_afterwards", descriptors::same),
        Case {
            name: "nobody_is_dropped_at_the_descriptor_limit",
            only: Some(RuntimeKind::Tokio),
            run: descriptors::limit,
        },
    ]
}
