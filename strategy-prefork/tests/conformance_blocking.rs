//! Prefork whose workers wait in `accept(2)` keeps every promise of the suite.

use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_prefork::Prefork;

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Prefork::blocking()),
        runtimes: &[RuntimeKind::Blocking],
        spread: |_| Spread::Any,
        queue: Queue::Shared,
    })
}
