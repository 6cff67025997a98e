//! A server's bytes on the wire: the strictness of `http` seen through a socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Server(Child, String);

impl Server {
    fn start(runtime: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_forkherd-bench"))
            .args(["baseline", "--listen=127.0.0.1:0", "--workers=1", "--runtime", runtime])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().strip_prefix("listening on ").unwrap().to_owned())
    }

    /// Sends `bytes` and reads until the server closes.
    fn exchange(&self, pieces: &[&str]) -> String {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).unwrap();
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // TERM, so that it reaps its worker.
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn both_runtimes_answer_alike() {
    for runtime in ["blocking", "tokio"] {
        let server = Server::start(runtime);
        let last = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let answer = server.exchange(&[last]);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{runtime}: {answer}");
        assert!(answer.ends_with("\r\nX-Worker: 0\r\nConnection: close\r\n\r\nHello, world!"));

        // Pipelined, and cut in the middle of a line.
        let answer = server.exchange(&["GET / HTTP/1.1\r\nHo", "st: h\r\n\r\n", last]);
        assert_eq!(answer.matches("Hello, world!").count(), 2, "{runtime}: {answer}");

        let sleep = "GET /sleep/2000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let answer = server.exchange(&[sleep]);
        let us = answer.split("X-Service-Us: ").nth(1).unwrap().split('\r').next().unwrap();
        assert!(us.parse::<u64>().unwrap() >= 2_000, "{runtime}: {answer}");

        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET /none HTTP/1.0\r\n\r\n", "404"),
            ("PUT / HTTP/1.1\r\nHost: h\r\n\r\n", "405"),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "501"),
            ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", "505"),
        ] {
            let answer = server.exchange(&[request]);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{runtime}: {answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{runtime}: {answer}");
        }
    }
}
