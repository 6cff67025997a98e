//! Every connection is accounted for, in every scenario that ships and whatever clients do. A comparison counts
//! what it makes and what became of it apart, and fails if the sums differ or somebody was lost. Counts hold on
//! any machine, so void rounds are kept; how long anything took is nobody's concern here.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use forkherd_bench::report::saved;
use forkherd_bench::scenario::builtin;
use forkherd_bench::server::Notice;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockRef;

const BINARY: &str = env!("CARGO_BIN_EXE_forkherd-bench");

/// Comparisons, each with what it asks for. They run at the same time: most of what they do is wait.
type Comparisons = &'static [(&'static str, &'static [&'static str])];

/// Without faults.
const CALM: Comparisons = &[
    ("short-connections,keep-alive", &["--reps=1"]),
    ("uneven-work,slow-clients,closed-loop", &["--seconds=2", "--seeds=1"]),
    ("tail", &["--seconds=2", "--seeds=1"]),
    ("cpu-bound,uneven-keep-alive", &["--seconds=2", "--seeds=1"]),
    ("connection-storm", &["--seconds=2", "--seeds=1"]),
    // Its first burst comes after two seconds.
    ("descriptor-starvation", &["--seconds=3", "--seeds=1"]),
    ("long-lived", &["--clients=300"]),
];

/// With them. A worker hangs for five seconds, whatever is asked for.
const FAULTS: Comparisons = &[
    ("worker-killed", &["--seconds=2", "--seeds=1"]),
    ("worker-hung", &["--seconds=2", "--seeds=1"]),
    // One restart after 0.2 s, and another after 2.2 s.
    ("rolling-restart", &["--seconds=4", "--seeds=1"]),
    // A hundred steps, each of which starts or ends a worker.
    ("scaling", &["--seconds=12", "--seeds=1"]),
];

/// Runs all and looks at each row.
fn all_are_accounted_for(comparisons: Comparisons) {
    thread::scope(|scope| {
        for &(scenarios, arguments) in comparisons {
            scope.spawn(move || compare(scenarios, arguments));
        }
    });
}

fn compare(scenarios: &str, arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let result = directory.path().join("result.json");
    let output = Command::new(BINARY)
        .args(["compare", "--keep-void", "--workers=2", "--scenarios", scenarios])
        .args(["--strategies=handoff", "--against=reuseport"])
        .args(arguments)
        .args(["--json", result.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenarios}: {said}");
    let report = saved::load(&result).unwrap();
    assert_eq!(report.failures().collect::<Vec<_>>(), Vec::<String>::new(), "{scenarios}");
    let seen: Vec<&str> = report.scenarios.iter().map(|scenario| &*scenario.name).collect();
    let asked: BTreeSet<&str> = scenarios.split(',').collect();
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), asked);
    for scenario in &report.scenarios {
        assert!(scenario.rounds > 0 && scenario.rows.len() >= 2, "{scenario:?}");
        for row in &scenario.rows {
            let is_there = row.skipped.is_none() && row.connections.sum() > 0;
            assert!(is_there, "{}: {row:?}", scenario.name);
        }
    }
}

#[test]
fn no_scenario_is_left_out() {
    let named = CALM.iter().chain(FAULTS).flat_map(|(scenarios, _)| scenarios.split(','));
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    let all: BTreeSet<String> = builtin::all().into_iter().map(|spec| spec.name).collect();
    assert_eq!(named, all);
}

#[test]
fn every_connection_is_accounted_for_in_every_scenario() {
    all_are_accounted_for(CALM);
}

#[test]
fn every_connection_is_accounted_for_whatever_is_done_to_workers() {
    all_are_accounted_for(FAULTS);
}

/// A client that goes away: after nothing, half a request, or a whole one.
fn abort(address: &str, turn: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    let texts = ["", "GET / HTTP/1.1\r\nHost: be", "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"];
    stream.write_all(texts[turn % texts.len()].as_bytes()).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Ends the service if the test fails.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves while clients abort; all others are answered, and workers finish what they took.
fn serves_beside_aborting_clients(strategy: &str, runtime: &str) {
    let mut child = Command::new(BINARY)
        .args(["serve", "--events", "--workers=2", "--listen=127.0.0.1:0", "--app=hello"])
        .args(["--strategy", strategy, "--runtime", runtime])
        .args(["--parent", &std::process::id().to_string()])
        .env("RUST_LOG", "error")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut service = Service(child);
    let line = lines.find(|line| line.starts_with("listening on ")).unwrap();
    let address = line.strip_prefix("listening on ").unwrap();
    const ABORTED: usize = 400;
    let load = thread::scope(|scope| {
        scope.spawn(|| (0..ABORTED).for_each(|turn| abort(address, turn)));
        let url = format!("http://{address}/spin/20");
        Command::new(BINARY).args(["load", "--clients=4", "--seconds=1", "--url", &url]).output()
    });
    let load = load.unwrap();
    let said = String::from_utf8_lossy(&load.stderr);
    assert!(load.status.success(), "{strategy}, {runtime}: {said}");
    let pid = i32::try_from(service.0.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(service.0.wait().unwrap().success(), "{strategy}, {runtime}");
    let mut all = 0;
    for line in lines {
        if let Ok(Notice::Exited { taken, completed, status, .. }) = serde_json::from_str(&line) {
            assert_eq!((taken, &*status), (completed, "exit 0"), "{strategy}, {runtime}: {line}");
            all += taken;
        }
    }
    assert!(all > ABORTED as u64, "{strategy}, {runtime}: {all}");
}

#[test]
fn clients_that_abort_cost_nobody_an_answer_and_are_accounted_for() {
    thread::scope(|scope| {
        for strategy in ["prefork", "handoff", "reuseport"] {
            for runtime in ["blocking", "tokio"] {
                scope.spawn(move || serves_beside_aborting_clients(strategy, runtime));
            }
        }
    });
}
