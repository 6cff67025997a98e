//! The blocking runtime: one connection at a time.

use std::io;

use super::lane::Wait;
use super::sealed::Sealed;
use super::{Runtime, Turn, WorkerSetup, note_outcome};
use crate::connection::Connection;
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
    fn serve(mut self, setup: WorkerSetup, mut lane: Lane) -> Result<(), Error> {
        let worker = setup.meter.worker();
        let failed = |source| Error::Serve { worker, source };
        lane.wait_in_acceptor().map_err(failed)?;
        let mut wait = if lane.waits() { Wait::Not } else { lane.arm().map_err(failed)? };
        lane.report_ready().map_err(failed)?;
        loop {
            let turn = if lane.waits() {
                lane.turn_waiting()
            } else {
                lane.wait(wait).and_then(|event| lane.turn(event))
            };
            match turn.map_err(failed)? {
                Turn::Serve(connection) => note_outcome(&setup.meter, (self.handler)(connection)),
                Turn::Again => {}
                Turn::Drained | Turn::Orphaned => return Ok(()),
            }
            if !lane.waits() {
                wait = lane.arm().map_err(failed)?;
            }
        }
    }
}
