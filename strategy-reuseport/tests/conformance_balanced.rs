//! Reuseport balanced by load keeps every promise of the suite.

use std::num::NonZeroU32;
use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_reuseport::Reuseport;

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Reuseport::balanced()),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio, RuntimeKind::Threads(TWO)],
        spread: |_| Spread::Any,
        queue: Queue::PerSlot,
    })
}
