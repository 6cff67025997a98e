//! Baseline worker, tokio: a plain current-thread accept loop, one task per connection.
//!
//! Plain means that every idle worker is woken for every connection (tokio registers the shared
//! listener without `EPOLLEXCLUSIVE`): that is what one gets by default, so it is the yardstick.

use std::io;
use std::time::{Duration, Instant};

use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ::tokio::net::{TcpListener, TcpStream};

use crate::apps::hello::{self, After, Task};
use crate::http::{self, Inbox, Parsed};

/// Accepts and spawns; returns only with an error.
pub(super) fn serve(listener: std::net::TcpListener, slot: u32) -> anyhow::Result<()> {
    let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(::tokio::spawn(converse(stream, slot))),
                Err(error) if super::passes(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// One connection from its first request to its close.
async fn converse(mut stream: TcpStream, slot: u32) -> io::Result<()> {
    let mut inbox = Inbox::new();
    let mut out = Vec::with_capacity(1024);
    loop {
        out.clear();
        let after = match inbox.parse() {
            Parsed::Incomplete => {
                match stream.read(inbox.space()).await? {
                    0 => return Ok(()),
                    count => inbox.filled(count),
                }
                continue;
            }
            Parsed::Bad(status) => {
                http::refuse(status, &mut out);
                After::Close
            }
            Parsed::Request(request) => {
                let task = hello::task(&request);
                let busy = perform(task).await;
                let after = hello::answer(&request, task, slot, busy, true, &mut out);
                let length = request.length;
                inbox.consume(length);
                after
            }
        };
        stream.write_all(&out).await?;
        if after == After::Close {
            return Ok(());
        }
    }
}

/// As [`hello::perform`], but a sleep leaves the thread to the other connections.
async fn perform(task: Task) -> Option<Duration> {
    if let Task::Sleep(work) = task {
        let start = Instant::now();
        ::tokio::time::sleep(work).await;
        return Some(start.elapsed());
    }
    hello::perform(task)
}
