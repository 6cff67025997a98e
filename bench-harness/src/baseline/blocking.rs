//! Baseline worker, blocking: one connection at a time, the loop every textbook shows.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::apps::hello::{self, After};
use crate::http::{self, Inbox, Parsed};

/// Accepts, answers, goes on; returns only with an error.
pub(super) fn serve(listener: &TcpListener, slot: u32) -> anyhow::Result<()> {
    let mut inbox = Inbox::new();
    let mut out = Vec::with_capacity(1024);
    loop {
        match listener.accept() {
            // A client that goes away or stays silent is its own affair.
            Ok((stream, _)) => drop(converse(stream, slot, &mut inbox, &mut out)),
            Err(error) if super::passes(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One connection from its first request to its close.
fn converse(
    mut stream: TcpStream,
    slot: u32,
    inbox: &mut Inbox,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    inbox.clear();
    loop {
        out.clear();
        let after = match inbox.parse() {
            Parsed::Incomplete => {
                match stream.read(inbox.space())? {
                    0 => return Ok(()),
                    count => inbox.filled(count),
                }
                continue;
            }
            Parsed::Bad(status) => {
                http::refuse(status, out);
                After::Close
            }
            Parsed::Request(request) => {
                let task = hello::task(&request);
                let busy = hello::perform(task);
                let after = hello::answer(&request, task, slot, busy, true, out);
                let length = request.length;
                inbox.consume(length);
                after
            }
        };
        stream.write_all(out)?;
        if after == After::Close {
            return Ok(());
        }
    }
}
