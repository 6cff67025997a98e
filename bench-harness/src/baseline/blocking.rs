//! Baseline worker, blocking: one connection at a time, the loop every textbook shows.

use std::net::TcpListener;
use std::time::Duration;

use crate::apps::conversation::{self, Buffers};
use crate::apps::hello::Hello;
use crate::clock;

/// Accepts, answers, goes on; returns only with an error.
pub(super) fn serve(listener: &TcpListener, slot: u32, burn: Duration) -> anyhow::Result<()> {
    let mut buffers = Buffers::default();
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                clock::burn(burn);
                // A client that goes away or stays silent is its own affair.
                let _ = conversation::blocking(&mut stream, &Hello { slot }, || true, &mut buffers);
                drop(stream);
                buffers.closed();
            }
            Err(error) if super::passes(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
