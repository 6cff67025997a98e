//! The harness with a strategy of your own among the contestants: whoever comes first takes the connection.
//!
//! `cargo run --release -p forkherd-bench --example own_strategy -- compare --strategies mine,prefork`

use std::{io, net::SocketAddr, process::ExitCode};

use forkherd_bench::{cli::Runtime, registry::Entry, registry::Registry};
use forkherd_core as core;
use rustix::net::{SocketFlags, acceptfrom_with};

/// Supervisor and worker: one listener for all.
#[derive(Debug)]
struct Mine;

impl core::Strategy for Mine {
    fn name(&self) -> &'static str {
        "mine"
    }

    fn fits(&self, _plan: &core::Plan) -> Result<core::Needs, core::Unsupported> {
        Ok(core::Needs { supervisor_descriptors: 1, worker_descriptors: 2, ..Default::default() })
    }

    fn prepare(&mut self, setup: &mut core::Setup<'_>) -> io::Result<()> {
        setup.listen()
    }

    fn provision(
        &mut self,
        setup: &mut core::Setup<'_>,
        _: core::WorkerId,
    ) -> io::Result<core::Inherit> {
        let mut inherit = core::Inherit::new();
        inherit.add("door", &setup.listeners()[0])?;
        Ok(inherit)
    }

    fn open(&self, inherited: &core::Inherited) -> io::Result<Box<dyn core::Acceptor>> {
        let door = core::Source { fd: inherited.descriptor("door")?, wake: core::Wake::Shared };
        let nonblocking = inherited.runtime().wants_nonblocking();
        let flags = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        let (meter, left) = (inherited.meter().clone(), None);
        Ok(Box::new(Door { door: [door], flags: flags | SocketFlags::CLOEXEC, meter, left }))
    }
}

/// Worker: the listener, and how many more to take before leaving.
#[derive(Debug)]
struct Door {
    door: [core::Source; 1],
    flags: SocketFlags,
    meter: core::Meter,
    left: Option<u32>,
}

impl core::Acceptor for Door {
    fn sources(&self) -> &[core::Source] {
        &self.door
    }

    fn arm(&mut self, load: core::Load<'_>, interest: &mut core::Interest) {
        interest.set_all(load.room > 0 && self.left.is_none());
    }

    fn woken(&mut self, _ready: &[core::SourceId]) {}

    fn try_accept(&mut self) -> io::Result<Option<core::Connection>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        match acceptfrom_with(&self.door[0].fd, self.flags) {
            Ok((socket, peer)) => {
                self.left = self.left.map(|left| left - 1);
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                Ok(Some(self.meter.begin(socket, peer, 0)))
            }
            Err(_) if self.left.is_some() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn close(&mut self, leaving: core::Leaving) {
        let last = leaving == core::Leaving::ServiceEnds;
        self.left = Some(if last { core::queue_bound(&self.door[0].fd) } else { 0 });
    }
}

pub(crate) fn main() -> ExitCode {
    let mine = Entry {
        name: "mine",
        variant: "first",
        line: "one honest sentence about it, for `list`",
        runtimes: &[Runtime::Blocking, Runtime::Tokio],
        make: || Box::new(Mine),
        choice: None,
    };
    forkherd_bench::main(&Registry::builtin().with(mine))
}
