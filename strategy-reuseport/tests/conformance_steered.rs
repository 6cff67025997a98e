//! Reuseport steered to who serves now keeps every promise of the suite.

use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_reuseport::Reuseport;

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Reuseport::steered()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
        spread: |_| Spread::Hash,
        queue: Queue::PerSlot,
    })
}
