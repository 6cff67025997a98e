//! Prefork keeps every promise of the suite.

use std::num::NonZeroU32;
use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_prefork::Prefork;

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Prefork::exclusive()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio, RuntimeKind::Threads(TWO)],
        spread: |runtime| match runtime {
            RuntimeKind::Blocking => Spread::FirstInLine,
            // A herd: whoever comes first.
            _ => Spread::Any,
        },
        queue: Queue::Shared,
    })
}
