//! `serve` ends without losing what its clients have sent, whatever the strategy and the runtime.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const QUEUED: usize = 10;

/// Ends the service if the test fails.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start(strategy: &str, runtime: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_forkherd-bench"))
            .args(["serve", "--workers", "1", "--listen", "127.0.0.1:0", "--app", "hello"])
            .args(["--strategy", strategy, "--runtime", runtime])
            .args(["--parent", &std::process::id().to_string()])
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, address }
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => error.to_string(),
    }
}

#[test]
fn requests_behind_a_busy_worker_are_answered_though_it_has_to_leave() {
    for strategy in ["prefork", "handoff", "reuseport"] {
        for runtime in ["blocking", "tokio"] {
            for signal in [Signal::SIGHUP, Signal::SIGTERM] {
                let mut service = Service::start(strategy, runtime);
                let busy = service.ask("/spin/300000");
                let queued: Vec<_> = (0..QUEUED).map(|_| service.ask("/")).collect();
                service.signal(signal);
                for (n, stream) in std::iter::once(busy).chain(queued).enumerate() {
                    let text = answer(stream);
                    let good = text.starts_with("HTTP/1.1 200 ");
                    assert!(good, "{strategy}, {runtime}, {signal}: client {n} got {text:?}");
                }
                if signal == Signal::SIGTERM {
                    assert!(service.child.wait().unwrap().success());
                }
            }
        }
    }
}

#[test]
fn a_signal_that_asks_for_more_workers_than_there_may_be_is_answered() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forkherd-bench"))
        .args(["serve", "--strategy=prefork", "--workers=1", "--listen=127.0.0.1:0"])
        .args(["--parent", &std::process::id().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).unwrap();
    let service = Service { child, address: line };
    service.signal(Signal::SIGTTIN);
    let mut lines = BufReader::new(err).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("at most max_workers")), "it said nothing of it");
}
