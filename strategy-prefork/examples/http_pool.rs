//! A pool of HTTP servers that share one port and serve a directory.
//!
//! ```text
//! cargo run -p forkherd-prefork --example http_pool -- [DIRECTORY [PORT]]        (default: . 8000)
//! ```
//!
//! In an essay of 2011 on scaling Python services past the interpreter lock this was a
//! `multiprocessing` pool: the parent bound one socket, each child ran `HTTPServer.serve_forever` on
//! it with `SimpleHTTPServer`'s handler, and the parent then did the same, as one server more.
//!
//! What changed: a worker that dies is replaced, Ctrl-C lets all finish what they serve, and SIGHUP
//! replaces them one by one. And the parent does not serve. It only supervises and never reads a byte
//! that a client sent, so nothing a client sends can take down the process that starts the others.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use forkherd_core::{AsyncConnection, Notice, Service, Tokio};
use forkherd_prefork::Prefork;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::endpoint::StaticFilesEndpoint;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request};
use tracing::info;

const WORKERS: u32 = 4;

fn main() -> anyhow::Result<ExitCode> {
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false);
    log.with_ansi(io::stderr().is_terminal()).log_internal_errors(false).init();
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| ".".to_owned());
    let port = arguments.next().map_or(Ok(8000_u16), |text| text.parse());
    let (Ok(port), true) = (port, std::path::Path::new(&directory).is_dir()) else {
        writeln!(io::stderr(), "usage: http_pool [DIRECTORY [PORT]]")?;
        return Ok(ExitCode::from(2));
    };
    let files = StaticFilesEndpoint::new(directory).index_file("index.html");
    let files = Arc::new(files.show_files_listing().redirect_to_slash_directory());
    Service::new("http_pool")
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .workers(WORKERS)
        .observe(|notice| {
            if let Notice::Serving { listeners } = notice {
                info!("{WORKERS} workers at http://{}, until Ctrl-C", listeners[0].address);
            }
        })
        .run(Prefork::default(), Tokio::new(async move |c| serve(c, &files).await))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(client: AsyncConnection, files: &Arc<StaticFilesEndpoint>) -> io::Result<()> {
    let draining = client.draining();
    // It listens on TCP, so both have an address.
    let addresses = client.listener().address.inet().zip(client.peer().address());
    let (local, remote) = addresses.ok_or(io::ErrorKind::Unsupported)?;
    let answer = service_fn(async |request| {
        let (local, remote_addr) = (LocalAddr(local.into()), RemoteAddr(remote.into()));
        let request = Request::from((request, local, remote_addr, Scheme::HTTP));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = files.get_response(request).await;
        let (status, pid) = (response.status().as_u16(), std::process::id());
        // The line begins with the worker's slot and generation, as every line a worker logs.
        info!(pid, "{remote} {method} {path} {status}");
        Ok::<_, Infallible>(hyper::Response::from(response))
    });
    let mut talk = pin!(http1::Builder::new().serve_connection(TokioIo::new(client), answer));
    tokio::select! {
        end = talk.as_mut() => return end.map_err(io::Error::other),
        // This worker is to leave: answer the request at hand, then close.
        () = draining => talk.as_mut().graceful_shutdown(),
    }
    talk.await.map_err(io::Error::other)
}
