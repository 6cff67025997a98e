//! The blocking runtime: one connection at a time.

use std::io;

use super::lane::Wait;
use super::sealed::Sealed;
use super::{Runtime, Turn, WorkerSetup, note_outcome};
use crate::connection::{Connection, Meter};
use crate::error::Error;
use crate::strategy::RuntimeKind;
use crate::worker::Lane;

/// Serves one connection at a time, with ordinary blocking reads and writes.
///
/// The handler is called for each connection; when it returns, the connection is closed (dropping it
/// closes it) and the next one is taken. An error it returns is counted and logged at debug level: most
/// are clients that went away.
///
/// One slow client occupies the worker. Run more workers than cores, and keep connections short.
#[derive(Debug)]
pub struct Blocking<H> {
    handler: H,
}

impl<H> Blocking<H>
where
    H: FnMut(Connection) -> io::Result<()>,
{
    /// A runtime that calls `handler` for each connection.
    pub fn new(handler: H) -> Self {
        Self { handler }
    }
}

impl<H> Runtime for Blocking<H>
where
    H: FnMut(Connection) -> io::Result<()>,
{
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Blocking
    }
}

impl<H> Sealed for Blocking<H>
where
    H: FnMut(Connection) -> io::Result<()>,
{
    fn serve(self, setup: WorkerSetup) -> Result<(), Error> {
        let worker = setup.meter.worker();
        drop(setup.control);
        let mut handler = self.handler;
        setup
            .lanes
            .into_iter()
            .try_for_each(|mut lane| {
                // The only lane, so the only thread that waits.
                lane.wait_in_acceptor()?;
                serve_lane(&setup.meter, &mut lane, &mut handler)
            })
            .map_err(|source| Error::Serve { worker, source })
    }
}

/// Serves what comes on one lane, one connection at a time, until it has drained or its supervisor is gone.
pub(super) fn serve_lane(
    meter: &Meter,
    lane: &mut Lane,
    mut handler: impl FnMut(Connection) -> io::Result<()>,
) -> io::Result<()> {
    let mut wait = if lane.waits() { Wait::Not } else { lane.arm()? };
    lane.report_ready()?;
    loop {
        let turn = if lane.waits() {
            lane.turn_waiting()
        } else {
            lane.wait(wait).and_then(|event| lane.turn(event))
        };
        match turn? {
            Turn::Serve(connection) => {
                meter.board().count_call();
                let outcome = handler(connection);
                meter.board().count_return();
                note_outcome(meter, outcome);
            }
            Turn::Again => {}
            Turn::Drained | Turn::Orphaned => return Ok(()),
        }
        if !lane.waits() {
            wait = lane.arm()?;
        }
    }
}
