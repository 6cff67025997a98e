//! Workers share one listener and all accept: the classic.
mod acceptor;

use std::io;

use forkherd_core::{
    Acceptor, Inherit, Inherited, Needs, Plan, Setup, Strategy, Unsupported, WorkerId,
};

use crate::acceptor::PreforkAcceptor;

/// All workers accept from one shared listener; the kernel wakes one of those that wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefork(());

impl Prefork {
    /// Workers wait with `EPOLLEXCLUSIVE` (Linux 4.5): the kernel wakes one of them.
    ///
    /// It asks them in the order in which they began to watch, so an idle herd sends everything to the
    /// first: warm caches for one-at-a-time workers, uneven load for connections that stay.
    #[must_use]
    pub fn exclusive() -> Self {
        Self(())
    }
}

impl Strategy for Prefork {
    fn name(&self) -> &'static str {
        "prefork"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        let listeners = plan.listeners.len() as u64;
        // A worker holds each listener twice: as inherited until it is open, and as watched.
        Ok(Needs { supervisor_descriptors: listeners, worker_descriptors: 2 * listeners })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        setup.listen()
    }

    fn provision(&mut self, setup: &mut Setup<'_>, _worker: WorkerId) -> io::Result<Inherit> {
        let mut inherit = Inherit::new();
        for (index, listener) in setup.listeners().iter().enumerate() {
            inherit.add(listener_name(index), listener)?;
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(PreforkAcceptor::open(inherited)?))
    }
}

/// What a listener is called among the inherited descriptors.
fn listener_name(index: usize) -> String {
    format!("listener.{index}")
}
