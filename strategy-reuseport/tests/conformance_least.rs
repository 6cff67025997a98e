//! Reuseport with the least loaded slot chosen keeps every promise of the suite.

use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_reuseport::Reuseport;

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Reuseport::least()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
        spread: |_| Spread::Any,
        queue: Queue::PerSlot,
    })
}
