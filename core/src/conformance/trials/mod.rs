//! The trials, one file per promise.

use super::stage::{Outcome, Stage};
use crate::conformance::Queue;
use crate::strategy::RuntimeKind;

mod booting;
mod descriptors;
mod ending;
mod exhausted;
mod hung;
mod killed;
mod panicking;
mod queued;
mod refusing;
mod restarting;
mod scaling;
mod serving;
mod signals;
mod spreading;
mod unix;

/// One trial of the suite.
pub(super) struct Case {
    pub(super) name: &'static str,
    runs: Runs,
    pub(super) run: fn(&Stage) -> Outcome,
}

/// On which runtimes.
#[derive(Clone, Copy)]
enum Runs {
    Anywhere,
    /// Where one client is enough to hold a worker up.
    OnOneLane,
    OnTokio,
    OneAtATime,
    OnThreads,
    /// Where what waits for an event loop can be taken by another: not from its own channel.
    OutsideChannelsOnTokio,
    /// Where connections travel as descriptors, on one lane.
    InChannels,
}

impl Case {
    pub(super) fn suits(&self, queue: Queue, runtime: RuntimeKind) -> bool {
        match self.runs {
            Runs::Anywhere => true,
            Runs::OnOneLane => runtime.lanes() == 1,
            Runs::OnTokio => runtime == RuntimeKind::Tokio,
            Runs::OneAtATime => runtime.is_one_at_a_time(),
            Runs::OnThreads => runtime.lanes() > 1,
            Runs::OutsideChannelsOnTokio => {
                runtime == RuntimeKind::Tokio && !queue.is_of_channels()
            }
            Runs::InChannels => runtime.lanes() == 1 && queue.is_of_channels(),
        }
    }
}

/// All of them, in the order of this list.
pub(super) fn all() -> Vec<Case> {
    let on_each = |name, run| Case { name, runs: Runs::Anywhere, run };
    let on_one_lane = |name, run| Case { name, runs: Runs::OnOneLane, run };
    vec![
        on_each("a_connection_knows_where_it_came_from", serving::connections),
        on_each("two_listeners_are_told_apart", serving::two_listeners),
        on_each("ipv6_is_served", serving::ipv6),
        on_each("a_worker_is_recognised_from_outside", serving::title),
        on_each("the_client_sees_the_end_at_once", serving::end_of_file),
        on_one_lane("connections_spread_as_promised", spreading::spread),
        on_one_lane("a_killed_worker_loses_nothing_that_was_queued", queued::killed),
        on_one_lane("a_stopped_worker_gives_its_queue_to_siblings", queued::stopped),
        on_each("a_killed_worker_loses_only_what_it_had_taken", killed::under_load),
        on_each("forked_workers_lose_only_what_they_had_taken", killed::forked),
        on_each("nothing_is_lost_while_a_worker_boots", booting::at_once),
        on_each("nothing_is_lost_while_a_worker_boots_slowly", booting::slowly),
        on_each("nothing_is_lost_while_the_only_worker_boots", booting::alone),
        on_each("a_service_that_cannot_boot_gives_up", booting::never),
        on_each("a_rolling_restart_under_load_fails_nobody", restarting::under_load),
        on_each("growing_and_shrinking_under_load_fails_nobody", scaling::under_load),
        on_one_lane("a_worker_in_an_endless_loop_keeps_nobody_waiting", hung::endless_loop),
        on_one_lane("a_hung_worker_keeps_nobody_waiting_and_may_go_on", hung::blocking_sleep),
        on_each("a_frozen_worker_keeps_nobody_waiting_and_may_go_on", hung::frozen),
        Case {
            name: "a_busy_event_loop_keeps_nobody_waiting",
            runs: Runs::OutsideChannelsOnTokio,
            run: hung::busy_loop,
        },
        Case {
            name: "a_leaving_worker_that_serves_is_not_called_hung",
            runs: Runs::OnTokio,
            run: hung::leaving,
        },
        Case {
            name: "a_worker_told_to_leave_before_it_hangs_keeps_no_queue",
            runs: Runs::InChannels,
            run: queued::retired,
        },
        on_each("a_panic_ends_its_worker_and_nobody_else", panicking::handler),
        Case {
            name: "a_panic_beside_a_long_request_keeps_nobody_waiting",
            runs: Runs::OnThreads,
            run: panicking::beside_a_request,
        },
        Case {
            name: "a_panic_beside_a_long_request_of_the_only_worker_keeps_nobody_waiting",
            runs: Runs::OnThreads,
            run: panicking::in_the_only_worker,
        },
        Case {
            name: "a_worker_that_keeps_connections_is_not_taken_for_hung",
            runs: Runs::OneAtATime,
            run: hung::kept_connections,
        },
        on_one_lane("sigterm_answers_everybody_who_is_there", ending::drain),
        Case {
            name: "a_supervisor_that_stood_still_gives_workers_their_time",
            runs: Runs::OneAtATime,
            run: ending::stood_still,
        },
        on_each("a_worker_that_dies_while_it_drains_loses_nothing_that_was_queued", ending::killed),
        on_each(
            "a_worker_whose_death_comes_with_sigterm_loses_nothing_that_was_queued",
            ending::killed_meanwhile,
        ),
        on_each(
            "a_successor_whose_death_comes_with_sigterm_loses_nothing_that_was_queued",
            ending::successor_killed,
        ),
        Case {
            name: "a_panic_while_its_worker_drains_loses_nothing_that_was_queued",
            runs: Runs::OneAtATime,
            run: ending::panicking,
        },
        on_each("a_second_sigterm_ends_at_once", ending::twice),
        on_each("ctrl_c_lets_requests_finish", ending::ctrl_c),
        on_each("a_worker_may_write_to_a_terminal_that_stops_others", signals::terminal),
        on_each("signals_to_workers_that_boot_are_left_to_the_supervisor", signals::booting),
        on_each("no_worker_outlives_its_supervisor", ending::orphans),
        on_each("no_forked_worker_outlives_its_supervisor", ending::forked_orphans),
        Case {
            name: "idle_connections_hold_nobody_up",
            runs: Runs::OnTokio,
            run: ending::idle_connections,
        },
        on_each("a_second_instance_is_refused", refusing::second_instance),
        on_each("a_unix_socket_is_served", unix::served),
        on_each("sigterm_answers_everybody_on_a_unix_socket", unix::drained),
        on_each("descriptors_are_the_same_afterwards", descriptors::same),
        on_one_lane("nobody_is_dropped_at_the_descriptor_limit", exhausted::descriptors),
        Case {
            name: "a_full_event_loop_keeps_nobody_waiting",
            runs: Runs::OutsideChannelsOnTokio,
            run: exhausted::full_loop,
        },
        Case {
            name: "an_event_loop_without_descriptors_keeps_nobody_waiting",
            runs: Runs::OutsideChannelsOnTokio,
            run: exhausted::starved_loop,
        },
        on_one_lane("too_few_descriptors_are_refused_before_anything_starts", exhausted::refused),
        on_one_lane("a_limit_of_file_sizes_ends_nobody_without_a_word", exhausted::file_size),
        Case {
            name: "nobody_is_dropped_when_no_descriptor_can_be_sent",
            runs: Runs::InChannels,
            run: exhausted::under_way,
        },
        on_one_lane("everybody_is_served_after_all_were_stopped", exhausted::everybody_stopped),
    ]
}
