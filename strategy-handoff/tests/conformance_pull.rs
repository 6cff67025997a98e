//! Handoff to whoever asks keeps every promise of the suite.

use std::num::NonZeroU32;
use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_handoff::Handoff;

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Handoff::pull()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio, RuntimeKind::Threads(TWO)],
        // In turn as a rule; a worker that comes back late to its wait is passed over.
        spread: |_| Spread::Any,
        queue: Queue::SharedChannel {
            with_credits: |credits| Box::new(Handoff::pull().credits(credits)),
        },
    })
}
