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

#[cfg(test)]
mod tests {
    use forkherd_core::conformance::Alone;
    use forkherd_core::{Connection, SlotId};
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::acceptor::leaves_line;

    /// What may happen, in any order. Nobody looks at his board unless it is said here.
    #[derive(Clone, Debug)]
    enum Event {
        /// It is not ready yet.
        Start,
        /// A worker takes so many connections.
        Begin(Index, usize),
        /// So many of its connections end.
        End(Index, usize),
        /// It looks at its board, as before each wait.
        Arm(Index),
        /// It is ready, or goes on; or it is avoided.
        Admit(Index, bool),
        /// It is told to leave.
        Retire(Index),
        Die(Index),
        /// The supervisor wakes up, if anything has woken it.
        Wake,
    }

    fn event() -> impl Strategy<Value = Event> {
        let who = any::<Index>;
        // Within the slack, and just beyond.
        let some = || prop_oneof![1..4_usize, 15..19_usize];
        prop_oneof![
            1 => Just(Event::Start),
            8 => (who(), some()).prop_map(|(who, count)| Event::Begin(who, count)),
            4 => (who(), some()).prop_map(|(who, count)| Event::End(who, count)),
            8 => who().prop_map(Event::Arm),
            2 => (who(), any::<bool>()).prop_map(|(who, on)| Event::Admit(who, on)),
            1 => who().prop_map(Event::Retire),
            1 => who().prop_map(Event::Die),
            6 => Just(Event::Wake),
        ]
    }

    #[derive(Debug)]
    struct Worker {
        id: WorkerId,
        alone: Alone,
        served: Vec<Connection>,
        /// As [`Gate::listens`], kept once more.
        listens: bool,
    }

    impl Worker {
        fn load(&self) -> u64 {
            self.served.len() as u64
        }

        fn arm(&self) -> bool {
            leaves_line(&self.alone.meter, self.alone.meter.in_service())
        }
    }

    #[derive(Debug, Default)]
    struct World {
        gates: Gates,
        workers: Vec<Worker>,
        started: u32,
        /// The supervisor has been kicked, or its time will come.
        is_due: bool,
        /// It waits to be kicked, though a gate is closed.
        asleep: bool,
    }

    impl World {
        fn start(&mut self) {
            let id = WorkerId { slot: SlotId(self.started), generation: 0 };
            self.started += 1;
            let alone = Alone::new(id).unwrap();
            self.gates.add(id, alone.view.clone());
            self.workers.push(Worker { id, alone, served: Vec::new(), listens: false });
        }

        fn admit(&mut self, worker: usize, on: bool) {
            let worker = &mut self.workers[worker];
            worker.listens = on;
            self.gates.listens(worker.id, on);
        }

        fn on(&mut self, event: Event) {
            let count = self.workers.len();
            let of = |who: Index| who.index(count);
            match event {
                Event::Start => self.start(),
                Event::Wake => {
                    self.wake();
                }
                _ if count == 0 => {}
                Event::Begin(who, connections) => {
                    let worker = &mut self.workers[of(who)];
                    for _ in 0..connections {
                        worker.served.push(worker.alone.take().unwrap());
                        let kicked = worker.alone.has_kicked();
                        assert!(kicked || !self.asleep, "nobody was told");
                        self.asleep &= !kicked;
                        self.is_due |= kicked;
                    }
                }
                Event::End(who, connections) => {
                    let served = &mut self.workers[of(who)].served;
                    served.truncate(served.len().saturating_sub(connections));
                }
                Event::Arm(who) => {
                    let worker = &self.workers[of(who)];
                    let was_closed = worker.alone.view.gate_is_closed();
                    let has_left = worker.arm();
                    let is_closed = worker.alone.view.gate_is_closed();
                    assert!(is_closed || !has_left, "it left the line and did not say so");
                    let kicked = worker.alone.has_kicked();
                    assert_eq!(kicked, is_closed && !was_closed, "told when it closes its gate");
                    self.is_due |= kicked;
                }
                Event::Admit(who, on) => self.admit(of(who), on),
                Event::Retire(who) | Event::Die(who) => {
                    // The connections of one who leaves are no longer of interest.
                    let worker = self.workers.remove(of(who));
                    self.gates.remove(worker.id);
                }
            }
        }

        /// True if there was a reason to.
        fn wake(&mut self) -> bool {
            if !std::mem::take(&mut self.is_due) {
                return false;
            }
            self.look();
            true
        }

        fn look(&mut self) {
            let mut pokes = Vec::new();
            let wait = self.gates.look(&mut pokes);
            let listening = || self.workers.iter().filter(|worker| worker.listens);
            let least = listening().map(Worker::load).min().unwrap_or(0);
            for worker in &self.workers {
                assert_eq!(worker.alone.meter.least(), least, "what it was told: {worker:?}");
            }
            let is_closed = |worker: &&Worker| worker.alone.view.gate_is_closed();
            for worker in listening().filter(is_closed) {
                if worker.load() <= least + SLACK {
                    assert!(pokes.contains(&worker.id), "left with a closed gate: {worker:?}");
                    assert!(!worker.arm(), "called back for nothing: {worker:?}");
                }
            }
            let any_is_closed = listening().any(|worker| is_closed(&worker));
            self.is_due = wait.is_some();
            self.asleep = any_is_closed && wait.is_none();
        }
    }

    proptest! {
        #[test]
        fn a_worker_within_the_slack_is_never_left_with_a_closed_gate(
            workers in 1..4_usize,
            events in prop::collection::vec(event(), 1..80),
        ) {
            let mut world = World::default();
            for _ in 0..workers {
                world.start();
                world.admit(world.workers.len() - 1, true);
            }
            for event in events {
                world.on(event);
            }
            // All come to rest, and so does the supervisor: two looks find that nothing happens.
            world.look();
            let looks = (0..4).take_while(|_| world.wake()).count();
            prop_assert!(looks <= 2, "it looks on and on");
        }
    }
}
