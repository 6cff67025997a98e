//! Handoff to whoever has nothing to do keeps every promise of the suite: on an event loop, too, which then
//! has one connection at a time.

use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_handoff::Handoff;

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Handoff::idle()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
        spread: |_| Spread::RoundRobin,
        queue: Queue::UnfinishedChannel {
            with_credits: |credits| Box::new(Handoff::idle().credits(credits)),
        },
    })
}
