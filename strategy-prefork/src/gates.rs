//! Who has the fewest connections, and who has to hear of it.

use std::collections::BTreeMap;
use std::time::Duration;

use forkherd_core::{Kick, View, WorkerId};

use crate::SLACK;

/// How old what workers know of the fewest may be while a gate is closed and connections come.
const REFRESH: Duration = Duration::from_millis(5);

/// The gates of all workers, as their boards show them.
///
/// Supervisor. Empty unless the variant is `gated`.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    workers: BTreeMap<WorkerId, Gate>,
    told: u64,
    /// What all workers together had taken and completed at the last look.
    progress: u64,
    /// Workers were asked to say when one takes a connection: until then there is nothing to refresh.
    sleeps: bool,
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
        view.set_starving(self.sleeps.then_some(Kick::OnNews));
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
                if load <= least.saturating_add(SLACK) {
                    pokes.push(worker);
                }
            }
        }
        for gate in self.workers.values().filter(|gate| !gate.listens) {
            gate.view.set_least(least);
        }
        self.told = least;
        // No timer where nothing happens. Asked first and looked at again: who took a connection before he was
        // asked did not kick.
        let progress = self.progress();
        let before = std::mem::replace(&mut self.progress, progress);
        self.sleep(closed && progress == before);
        let stands_still = self.sleeps && self.progress() == before;
        (closed && !stands_still).then_some(REFRESH)
    }

    fn progress(&self) -> u64 {
        let views = self.workers.values().map(|gate| &gate.view);
        views.fold(0, |sum, view| sum.wrapping_add(view.taken()).wrapping_add(view.completed()))
    }

    fn sleep(&mut self, on: bool) {
        if std::mem::replace(&mut self.sleeps, on) != on {
            for gate in self.workers.values() {
                gate.view.set_starving(on.then_some(Kick::OnNews));
            }
        }
    }
}
