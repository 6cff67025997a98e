//! The threads runtime: several lanes in one process, each serving one connection at a time.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::blocking::serve_lane;
use super::sealed::Sealed;
use super::{LEFT, Lane, QUITS, READY, Runtime, WorkerSetup};
use crate::connection::Connection;
use crate::error::Error;
use crate::strategy::RuntimeKind;

/// Serves as many connections at a time as it has threads, with ordinary blocking reads and writes.
///
/// Each thread is a lane of its own: it waits, accepts and serves. For handlers that wait much and whose
/// memory is worth sharing; what one thread breaks, it breaks for all threads of this worker, and only
/// for them. A thread that panics ends the worker: the others finish what they serve (connections are told
/// as by a drain), siblings get what would have been its share, and its successor is
/// started at once.
///
/// Strategies give a worker as much as its threads can serve.
#[derive(Debug)]
pub struct Threads<H> {
    threads: NonZeroU32,
    handler: H,
}

impl<H> Threads<H>
where
    H: Fn(Connection) -> io::Result<()> + Sync,
{
    /// A runtime of so many threads, at least one, that all call `handler`.
    pub fn new(threads: u32, handler: H) -> Self {
        Self { threads: NonZeroU32::new(threads).unwrap_or(NonZeroU32::MIN), handler }
    }
}

impl<H> Runtime for Threads<H>
where
    H: Fn(Connection) -> io::Result<()> + Sync,
{
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Threads(self.threads)
    }
}

impl<H> Sealed for Threads<H>
where
    H: Fn(Connection) -> io::Result<()> + Sync,
{
    fn serve(self, setup: WorkerSetup) -> Result<(), Error> {
        let worker = setup.meter.worker();
        let (meter, handler) = (&setup.meter, &self.handler);
        let lanes: Vec<Lane> = setup.lanes;
        let result = thread::scope(|scope| {
            let mut running = Vec::new();
            for (number, lane) in lanes.into_iter().enumerate() {
                let lane = thread::Builder::new()
                    .name(format!("lane-{number}"))
                    .spawn_scoped(scope, move || {
                        // An error ends this lane, its end of the relay closes, and with it the worker.
                        let mut lane = lane;
                        let result = serve_lane(meter, &mut lane, handler);
                        if let Err(error) = result.and_then(|()| lane.say(LEFT)) {
                            tracing::error!(slot = worker.slot.0, number, %error, "a lane ended");
                        }
                    })
                    .map_err(|source| Error::Serve { worker, source })?;
                running.push(lane);
            }
            let end = relay(&setup.control, setup.relays);
            if !matches!(end, Ok(End::Left)) {
                // A lane may serve for long yet, and nobody waits on the others any more.
                meter.quit();
                let _ = send(&setup.control, &[QUITS], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
            // What a panic has to say it has said; here it is an error like any other.
            running.into_iter().for_each(|lane| drop(lane.join()));
            end.map_err(|source| Error::Serve { worker, source })
        });
        match result? {
            End::Left => Ok(()),
            End::LaneFailed => Err(Error::Serve {
                worker,
                source: io::Error::other("one of its lanes ended before it was told to"),
            }),
        }
    }
}

/// How the relaying ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// All lanes have drained, or the supervisor is gone.
    Left,
    /// One ended by itself; the others are ending, too.
    LaneFailed,
}

/// Carries what the supervisor says to every lane, until all lanes have ended. Runs on the first thread,
/// which serves nothing, so a lane in a long request keeps nobody from hearing.
///
/// Each lane has a channel of its own that looks to it like the supervisor's. Dropping them all tells the
/// lanes that the supervisor is gone.
fn relay(control: &OwnedFd, mut relays: Vec<OwnedFd>) -> io::Result<End> {
    let lanes = relays.len();
    let (mut ready, mut left, mut gone) = (0, 0, 0);
    while !relays.is_empty() {
        let mut fds: Vec<PollFd<'_>> = std::iter::once(control)
            .chain(&relays)
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if events[0] {
            let mut words = [0_u8; 64];
            match recv(control, &mut words[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(End::Left),
                Ok((_, length)) => {
                    for lane in &relays {
                        // As in the supervisor: a full channel is one that nobody reads now.
                        let _ =
                            send(lane, &words[..length], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut index = 0;
        relays.retain(|lane| {
            index += 1;
            if !events[index] {
                return true;
            }
            let mut words = [0_u8; 8];
            match recv(lane, &mut words[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => {
                    gone += 1;
                    false
                }
                Ok((_, length)) => {
                    let said = |word| usize::from(words[..length].contains(&word));
                    ready += said(READY);
                    left += said(LEFT);
                    true
                }
                Err(_) => true,
            }
        });
        if ready == lanes {
            ready += 1;
            match send(control, &[READY], SendFlags::NOSIGNAL) {
                Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // One that failed or panicked did not say that it leaves.
        if gone > left {
            return Ok(End::LaneFailed);
        }
    }
    Ok(End::Left)
}
