//! What a scenario asks of those it is run on.

use super::spec::{Engine, Part, Slice, Spec};
use crate::external::offers::Offers;
use crate::load::protocol::Connections;
use crate::trace::Handler;

impl Spec {
    /// What a contestant has to offer to take part.
    #[must_use]
    pub fn needs(&self) -> Offers {
        match &self.engine {
            Engine::Closed(closed) => {
                let keep_alive = matches!(closed.slice, Slice::Kept(_));
                Offers { keep_alive, keeps_many: keep_alive, ..Offers::NONE }
            }
            Engine::Held(_) => {
                Offers { keep_alive: true, keeps_many: true, names_worker: true, ..Offers::NONE }
            }
            Engine::Open(open) => {
                let asks = |handler| open.parts.iter().any(|part| part.handler == handler);
                // Who hangs has to be known, as has who is killed.
                let faults = open.parts.iter().any(|part| part.fault.is_some());
                // Plain loops end when they may open no file more.
                let supervisor = faults || asks(Handler::Hangs) || open.nofile.is_some();
                let (sleep, spin) = (asks(Handler::Sleeps), asks(Handler::Spins));
                let keeps =
                    |part: &Part| part.connections != Connections::Fresh || part.beside.idle > 0;
                let keep_alive = open.parts.iter().any(keeps);
                let fill = open.parts.iter().any(|part| part.beside.slow > 0);
                let (names_worker, keeps_many) = (supervisor, keep_alive);
                Offers { supervisor, names_worker, sleep, spin, keep_alive, keeps_many, fill }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::builtin;
    use super::*;

    #[test]
    fn cost_needs_least_and_faults_need_a_supervisor() {
        let needs = |name: &str| builtin::find(name).unwrap().needs();
        assert_eq!(needs("short-connections"), Offers::NONE);
        let kept = Offers { keep_alive: true, keeps_many: true, ..Offers::NONE };
        assert_eq!(needs("keep-alive"), kept);
        assert_eq!(needs("uneven-work"), Offers { sleep: true, ..Offers::NONE });
        assert!(needs("worker-killed").supervisor && needs("worker-hung").supervisor);
        assert!(needs("long-lived").names_worker);
        assert!(needs("uneven-keep-alive").keeps_many && needs("slow-clients").fill);
    }
}
