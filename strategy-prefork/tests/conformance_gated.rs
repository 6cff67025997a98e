//! Prefork whose workers wait for each other keeps every promise of the suite.

use std::process::ExitCode;

use forkherd_core::RuntimeKind;
use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_prefork::{Prefork, SLACK};

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Prefork::gated()),
        runtimes: &[RuntimeKind::Tokio],
        spread: |_| Spread::Level(SLACK),
        queue: Queue::Shared,
    })
}
