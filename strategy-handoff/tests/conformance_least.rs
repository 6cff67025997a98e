//! Handoff to the least loaded keeps every promise of the suite.

use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_handoff::Handoff;

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Handoff::least()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
        spread: |_| Spread::Hash,
        queue: Queue::Channel {
            with_credits: |credits| Box::new(Handoff::least().credits(credits)),
        },
    })
}
