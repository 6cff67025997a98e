//! A parent that accepts and passes each socket to a worker, which greets the client and closes.
//!
//! ```text
//! cargo run -p forkherd-handoff --example greeter -- [PORT]        (default: 8001; try it with `nc 127.0.0.1 8001`)
//! ```
//!
//! In an essay of 2011 on scaling Python services past the interpreter lock the parent of this
//! program accepted and sent the descriptor through a `multiprocessing` pipe, by `send_handle` and
//! `recv_handle` of `multiprocessing.reduction`, to a child that wrote a greeting.
//!
//! What changed: the supervisor knows who is busy and skips them, and when all are it leaves the
//! client in the listener's backlog. It closes its copy of a socket as soon as that is sent, so the
//! client sees the worker's close at once; and what a worker has not received when it dies is taken
//! back and given to another. And the parent does not greet: it passes on what it accepted and never
//! reads a byte of a client, so nothing a client sends can take it down, and no slow client holds up
//! those that come after.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use forkherd_core::{Blocking, Connection, Notice, Service};
use forkherd_handoff::Handoff;

const WORKERS: u32 = 4;

fn main() -> anyhow::Result<ExitCode> {
    let Ok(port) = std::env::args().nth(1).map_or(Ok(8001), |text| text.parse::<u16>()) else {
        writeln!(io::stderr(), "usage: greeter [PORT]")?;
        return Ok(ExitCode::from(2));
    };
    Service::new("greeter")
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .workers(WORKERS)
        .observe(tell)
        .run(Handoff::round_robin(), Blocking::new(greet))?;
    Ok(ExitCode::SUCCESS)
}

/// Worker: one client. When it returns, the connection is closed.
fn greet(mut client: Connection) -> io::Result<()> {
    let (slot, peer) = (client.worker().slot, client.peer());
    let pid = std::process::id();
    client.write_all(format!("Hello {peer}, this is slot {slot}, pid {pid}.\n").as_bytes())
}

/// Supervisor: what it sees of its workers.
fn tell(notice: &Notice<'_>) {
    let line = match notice {
        Notice::Serving { listeners } => {
            format!("{WORKERS} workers greet at {}, until Ctrl-C", listeners[0].address)
        }
        Notice::Exited { worker, pid, counts, .. } => {
            format!("slot {}, pid {pid}, greeted {}", worker.slot, counts.completed)
        }
        _ => return,
    };
    // Whoever reads this may go away; the service goes on.
    let _ = writeln!(io::stderr(), "{line}");
}
