//! What a trial works with: its subject, its runtime, the services it starts, and who reads their logs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Completion, Failed};

use super::herd::Herd;
use super::journal::Journal;
use super::spec::Spec;
use super::{Queue, Subject};
use crate::strategy::RuntimeKind;

/// What a trial returns. A `String` says what went wrong.
pub(super) type Outcome = Result<Verdict, String>;

/// How a trial ended that did not fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Passed,
    /// This machine forbids it, or the strategy does not claim it; and why.
    Skipped(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) subject: Subject,
    pub(super) runtime: RuntimeKind,
    name: String,
    journals: Mutex<Vec<Arc<Journal>>>,
}

impl Stage {
    pub(super) fn new(subject: Subject, runtime: RuntimeKind, name: String) -> Self {
        Self { subject, runtime, name, journals: Mutex::new(Vec::new()) }
    }

    /// Whether a worker has one connection at a time.
    pub(super) fn serves_one_at_a_time(&self) -> bool {
        self.runtime.is_one_at_a_time()
            || matches!(self.subject.queue, Queue::UnfinishedChannel { .. })
    }

    /// Runs a trial, and afterwards reads the logs of all its services.
    pub(super) fn perform(&self, trial: fn(&Self) -> Outcome) -> Result<Completion, Failed> {
        let outcome = trial(self);
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut message = String::new();
        let completion = match outcome {
            Ok(Verdict::Passed) => Completion::Completed,
            Ok(Verdict::Skipped(reason)) => {
                self.report(&format!("skipped, because {reason}"));
                Completion::ignored_with(reason)
            }
            Err(error) => {
                message = error;
                Completion::Completed
            }
        };
        for surprise in journals.iter().flat_map(|journal| journal.surprises()) {
            let _ = write!(message, "\nunexpected in the log: {surprise}");
        }
        if message.is_empty() {
            return Ok(completion);
        }
        for (n, journal) in journals.iter().enumerate() {
            let _ = write!(message, "\nservice {n} said last:\n{}", journal.tail());
        }
        Err(message.into())
    }

    /// What services are, unless a trial wants something else.
    pub(super) fn spec(&self) -> Spec {
        Spec::new(self.runtime)
    }

    /// Starts a service.
    pub(super) fn start(&self, spec: &Spec) -> Result<Herd, String> {
        let journal = Arc::new(Journal::new());
        self.journals.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&journal));
        Herd::start(spec, journal)
    }

    /// Starts a service and waits until it serves.
    pub(super) fn serving(&self, spec: &Spec) -> Result<Herd, String> {
        let herd = self.start(spec)?;
        herd.wait_serving()?;
        Ok(herd)
    }

    /// A figure for whoever reads the test's output.
    pub(super) fn report(&self, figure: &str) {
        // Nobody reads it: then nobody misses it.
        let _ = writeln!(std::io::stderr(), "{}: {figure}", self.name);
    }
}

/// A number of rounds, which the environment may raise.
pub(super) fn rounds(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
