//! Baseline worker, tokio: a plain current-thread accept loop, one task per connection.
//!
//! Plain means that every idle worker is woken for every connection (tokio registers the shared
//! listener without `EPOLLEXCLUSIVE`): that is what one gets by default, so it is the yardstick.

use std::future::pending;
use std::time::{Duration, Instant};

use ::tokio::net::TcpListener;

use crate::apps::conversation;
use crate::apps::hello::Hello;
use crate::clock;

/// Accepts and spawns; returns only with an error.
pub(super) fn serve(
    listener: std::net::TcpListener,
    slot: u32,
    burn: Duration,
) -> anyhow::Result<()> {
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                Ok((mut stream, _)) => {
                    let taken = Instant::now();
                    drop(::tokio::spawn(async move {
                        clock::burn(burn);
                        let hello = Hello { slot };
                        conversation::on_tokio(&mut stream, &hello, taken, pending()).await
                    }));
                }
                Err(error) if super::passes(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}
