//! Handoff with a policy of one's own keeps every promise of the suite.

use std::process::ExitCode;

use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_core::{Peer, RuntimeKind};
use forkherd_handoff::{Candidate, Handoff, Pick};

/// The last slot that has room; and, every other time, one that is not there, which counts as the first.
#[derive(Debug, Default)]
struct Ends {
    is_odd: bool,
}

impl Pick for Ends {
    fn pick(&mut self, candidates: &[Candidate], _client: Peer) -> usize {
        self.is_odd = !self.is_odd;
        if self.is_odd { candidates.len() - 1 } else { candidates.len() }
    }
}

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Handoff::with(Ends::default())),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
        spread: |_| Spread::Any,
        queue: Queue::Channel {
            with_credits: |credits| Box::new(Handoff::with(Ends::default()).credits(credits)),
        },
    })
}
