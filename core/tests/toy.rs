//! A fourth strategy, written against the trait alone, keeps every promise of the suite: one listener,
//! watched by all without `EPOLLEXCLUSIVE`, and whoever comes first takes the connection.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use forkherd_core::conformance::{self, Queue, Spread, Subject};
use forkherd_core::{
    Acceptor, Connection, Inherit, Inherited, Interest, Leaving, Load, Meter, Needs, Plan,
    RuntimeKind, Setup, Source, SourceId, Strategy, Unsupported, Wake, WorkerId, queue_bound,
};
use rustix::net::{SocketFlags, acceptfrom_with};

fn main() -> ExitCode {
    conformance::main(Subject {
        make: || Box::new(Toy),
        runtimes: &[RuntimeKind::Blocking, RuntimeKind::Tokio],
        spread: |_| Spread::Any,
        queue: Queue::Shared,
    })
}

/// Wakes everybody for everything.
#[derive(Debug)]
struct Toy;

impl Strategy for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        let listeners = plan.listeners.len() as u64;
        Ok(Needs {
            supervisor_descriptors: listeners,
            worker_descriptors: 2 * listeners,
            ..Needs::default()
        })
    }

    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        setup.listen()
    }

    fn provision(&mut self, setup: &mut Setup<'_>, _worker: WorkerId) -> io::Result<Inherit> {
        let mut inherit = Inherit::new();
        for (index, listener) in setup.listeners().iter().enumerate() {
            inherit.add(format!("door-{index}"), listener)?;
        }
        Ok(inherit)
    }

    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        let open = |index| {
            let fd = inherited.descriptor(&format!("door-{index}"))?;
            Ok(Source { fd, wake: Wake::Shared })
        };
        let doors = (0..inherited.listeners()).map(open).collect::<io::Result<Vec<_>>>()?;
        let mut flags = SocketFlags::CLOEXEC;
        if inherited.runtime().wants_nonblocking() {
            flags |= SocketFlags::NONBLOCK;
        }
        let meter = inherited.meter().clone();
        Ok(Box::new(Doors { doors, flags, meter, left: None }))
    }
}

/// The listeners, each tried whenever anything may have happened.
#[derive(Debug)]
struct Doors {
    doors: Vec<Source>,
    flags: SocketFlags,
    meter: Meter,
    /// How many more to take before leaving.
    left: Option<u32>,
}

impl Acceptor for Doors {
    fn sources(&self) -> &[Source] {
        &self.doors
    }

    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        interest.set_all(load.room > 0 && self.left.is_none());
    }

    fn woken(&mut self, _ready: &[SourceId]) {}

    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        for (index, door) in self.doors.iter().enumerate() {
            match acceptfrom_with(&door.fd, self.flags) {
                Ok((socket, peer)) => {
                    self.left = self.left.map(|left| left - 1);
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    return Ok(Some(self.meter.begin(socket, peer, index)));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.left {
            Some(_) => Ok(None),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn close(&mut self, leaving: Leaving) {
        self.left = Some(match leaving {
            // Everybody was woken for what waits here: leaving swallows no wake-up.
            Leaving::OthersStay => 0,
            Leaving::ServiceEnds => self.doors.iter().map(|door| queue_bound(&door.fd)).sum(),
        });
    }
}
