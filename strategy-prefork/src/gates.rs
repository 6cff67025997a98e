//! Who has the fewest connections, and who has to hear of it.

use std::collections::BTreeMap;
use std::time::Duration;

use forkherd_core::{View, WorkerId};

use crate::SLACK;

/// How old what workers know of the fewest may be while a gate is closed.
const REFRESH: Duration = Duration::from_millis(5);

/// The gates of all workers, as their boards show them.
///
/// Supervisor. Empty unless the variant is `gated`.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    workers: BTreeMap<WorkerId, Gate>,
    told: u64,
}

#[derive(Debug)]
struct Gate {
    view: View,
    /// Ready, not stopped, not told to leave.
    listens: bool,
}

impl Gates {
    pub(crate) fn add(&mut self, worker: WorkerId, view: View) {
        view.set_least(self.told);
        self.workers.insert(worker, Gate { view, listens: false });
    }

    pub(crate) fn listens(&mut self, worker: WorkerId, on: bool) {
        if let Some(gate) = self.workers.get_mut(&worker) {
            gate.listens = on;
        }
    }

    pub(crate) fn remove(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// Tells workers the fewest connections that one of them has, and calls those back that have waited
    /// for it to rise.
    pub(crate) fn look(&mut self, pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        let loads = || {
            let listening = self.workers.iter().filter(|(_, gate)| gate.listens);
            listening.map(|(worker, gate)| (*worker, &gate.view, gate.view.in_service()))
        };
        // Nobody listens: whoever comes next shall not be kept out by what was.
        let least = loads().map(|(_, _, load)| load).min().unwrap_or(0);
        let mut closed = false;
        for (worker, view, load) in loads() {
            if self.told != least {
                view.set_least(least);
            }
            if view.gate_is_closed() {
                closed = true;
                if load <= least + SLACK {
                    pokes.push(worker);
                }
            }
        }
        for gate in self.workers.values().filter(|gate| !gate.listens) {
            gate.view.set_least(least);
        }
        self.told = least;
        closed.then_some(REFRESH)
    }
}
