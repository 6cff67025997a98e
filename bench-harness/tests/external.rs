//! Servers that are not ours, from outside: measured, refused in one clear sentence, and never left behind.

mod signals;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signals::binary;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(|one| &**one).collect::<Vec<_>>()[..] {
        [_, RESTLESS, kind, port] => serve_restlessly(kind == "stays", port.parse().unwrap()),
        [_, SLOW, port, file] => return answer_slowly(port, Path::new(file)),
        _ => {}
    }
    let test = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        test(
            "a_stranger_is_measured_as_far_as_its_answers_go",
            a_stranger_is_measured_as_far_as_its_answers_go,
        ),
        test(
            "a_stranger_that_serves_one_kept_connection_at_a_time_is_not_asked_for_many",
            a_stranger_that_serves_one_kept_connection_at_a_time_is_not_asked_for_many,
        ),
        test(
            "a_stranger_that_starts_others_under_load_has_no_figure_of_cpu",
            a_stranger_that_starts_others_under_load_has_no_figure_of_cpu,
        ),
        test(
            "what_keeps_a_stranger_from_serving_is_one_clear_error",
            what_keeps_a_stranger_from_serving_is_one_clear_error,
        ),
        test(
            "a_command_that_cannot_be_meant_is_wrong_usage",
            a_command_that_cannot_be_meant_is_wrong_usage,
        ),
        test("nobody_is_left_however_a_comparison_ends", nobody_is_left_however_a_comparison_ends),
        test("a_stranger_hears_that_it_is_to_leave", a_stranger_hears_that_it_is_to_leave),
        test(
            "ctrl_c_is_heard_while_a_slow_stranger_is_asked",
            ctrl_c_is_heard_while_a_slow_stranger_is_asked,
        ),
        with_python(
            "a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it",
            a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it,
        ),
        with_python(
            "what_a_program_prints_is_taken_for_nothing",
            what_a_program_prints_is_taken_for_nothing,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test that starts a program in Python.
fn with_python(name: &'static str, test: fn()) -> Trial {
    Trial::ignorable_test(name, move || {
        if Command::new("python3").arg("--version").output().is_err() {
            let why = "there is no python3";
            let _ = writeln!(io::stderr(), "{name}: skipped, because {why}");
            return Ok(Completion::ignored_with(why));
        }
        test();
        Ok(Completion::Completed)
    })
}

const BINARY: &str = env!("CARGO_BIN_EXE_forkherd-bench");

/// Makes this program a stranger that starts a process at every hundredth request: one that stays, or is gone before
/// the answer.
const RESTLESS: &str = "restless";

fn serve_restlessly(stays: bool, port: u16) -> ! {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for turn in 1_u32.. {
        let (stream, _) = listener.accept().unwrap();
        thread::spawn(move || answer(&stream, (turn % 100 == 0).then_some(stays)));
    }
    panic!("that was the last turn");
}

/// Answers one request; starts a process for it if that is said to stay, or not to.
fn answer(stream: &TcpStream, starts: Option<bool>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    lines.find(String::is_empty);
    if let Some(us) = first.strip_prefix("GET /sleep/").and_then(|rest| rest.split(' ').next()) {
        thread::sleep(Duration::from_micros(us.parse().unwrap()));
    }
    match starts {
        Some(true) => drop(Command::new("sleep").arg("600").spawn().unwrap()),
        Some(false) => assert!(Command::new("true").status().unwrap().success()),
        None => {}
    }
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let mut stream = stream;
    // Whoever is gone needs no answer.
    let _ = stream.write_all(text.as_bytes());
}

/// Stands for anybody's server: it answers as `hello` does, and nobody here is told that it is ours.
fn stranger(before: &str) -> String {
    stranger_on("tokio", before)
}

fn stranger_on(runtime: &str, before: &str) -> String {
    format!(
        "--external=stranger=sh -c '{before} exec {BINARY} baseline --listen 127.0.0.1:{{port}} \
         --runtime {runtime} --workers {{workers}}'"
    )
}

fn compare(arguments: &[&str]) -> Output {
    // What is counted here is so on any machine: void rounds are kept.
    let common = ["compare", "--keep-void", "--strategies=prefork", "--workers=2", "--reps=1"];
    binary().args(common).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Processes with this word in their command line.
fn processes(word: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let has_word = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|one| one == word.as_bytes())
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has_word).collect()
}

fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The rows of a saved comparison that are called `name`.
fn rows(file: &Path, name: &str) -> Vec<serde_json::Value> {
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let scenarios = saved["scenarios"].as_array().unwrap().iter();
    let rows = scenarios.flat_map(|scenario| scenario["rows"].as_array().unwrap().clone());
    rows.filter(|row| row["contestant"] == name).collect()
}

fn only_served(row: &serde_json::Value) {
    let connections = row["connections"].as_object().unwrap();
    let served = connections.get("served").and_then(serde_json::Value::as_u64);
    assert!(connections.len() == 1 && served > Some(0), "{row}");
}

fn a_stranger_is_measured_as_far_as_its_answers_go() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let output = compare(&[
        &stranger(""),
        "--scenarios=short-connections,keep-alive,uneven-work,worker-killed",
        "--seconds=1",
        "--json",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let rows = rows(&file, "stranger");
    let [short, kept, uneven, killed] = &rows[..] else { panic!("four rows: {rows:?}") };
    for row in [short, kept, uneven] {
        only_served(row);
        // Which of its processes are workers is its own affair.
        assert!(row["share"]["jain"].is_null(), "{row}");
        assert!(row["cpu_server_us"].as_f64() > Some(0.0), "{row}");
    }
    assert!(killed["skipped"].as_str().unwrap().contains("no supervisor"), "{killed}");
}

/// Its connections stay, and each keeps a worker: two of 64 would be served.
fn a_stranger_that_serves_one_kept_connection_at_a_time_is_not_asked_for_many() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let output = compare(&[
        &stranger_on("blocking", ""),
        "--scenarios=short-connections,keep-alive",
        "--json",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let rows = rows(&file, "stranger");
    let [short, kept] = &rows[..] else { panic!("two rows: {rows:?}") };
    only_served(short);
    assert!(kept["skipped"].as_str().unwrap().contains("keeps its worker"), "{kept}");
}

fn a_stranger_that_starts_others_under_load_has_no_figure_of_cpu() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let this = std::env::current_exe().unwrap();
    let kinds = ["stays", "goes"];
    let strangers = kinds
        .map(|kind| format!("--external={kind}='{}' {RESTLESS} {kind} {{port}}", this.display()));
    let output = compare(&[
        &strangers[0],
        &strangers[1],
        "--scenarios=short-connections,uneven-work",
        "--seconds=1",
        "--json",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    for kind in kinds {
        let rows = rows(&file, kind);
        assert_eq!(rows.len(), 2);
        for row in rows {
            only_served(&row);
            assert!(row["latency"]["p50_us"].as_f64() > Some(0.0), "{row}");
            for figure in ["cpu_server_us", "cpu_both_us", "switches"] {
                assert!(row[figure].is_null(), "{figure}: {row}");
            }
            for ratio in ["cpu_server", "cpu_both"] {
                assert!(row["ratios"][ratio].is_null(), "{ratio}: {row}");
            }
        }
        let said = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        let caution = format!("! {kind} started or ended processes under load. What those used is");
        assert_eq!(said.matches(&caution).count(), 2, "{said}");
    }
    assert!(rows(&file, "prefork").iter().all(|row| row["cpu_server_us"].as_f64() > Some(0.0)));
}

fn what_keeps_a_stranger_from_serving_is_one_clear_error() {
    let port = "127.0.0.1:{port}";
    for (command, words) in [
        ("sh -c 'echo the disk is full >&2; exit 3' {port}".to_owned(), "exit status: 3"),
        ("sh -c 'echo the disk is full >&2; exit 3' {port}".to_owned(), "the disk is full"),
        ("/nowhere/server {port}".to_owned(), "cannot execute /nowhere/server"),
        (format!("{BINARY} serve --strategy prefork --app echo --listen {port}"), "no HTTP answer"),
        (
            format!("{BINARY} serve --strategy prefork --app files:/nowhere --listen {port}"),
            "/nowhere",
        ),
    ] {
        let output = compare(&[&format!("--external=stranger={command}")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("stranger") && said.contains(words), "{command}: {said}");
        assert_eq!(said.lines().count(), 1, "{command}: {said}");
    }
}

fn a_command_that_cannot_be_meant_is_wrong_usage() {
    for (argument, words) in [
        ("--external=nginx", "NAME='COMMAND {port} {workers}'"),
        ("--external=a=server", "has no {port}"),
        ("--external=prefork=server {port}", "somebody is called so already"),
        ("--app=it's", "a quote is not closed"),
    ] {
        let output = compare(&[argument]);
        assert_eq!(output.status.code(), Some(2), "{argument}");
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

/// A stranger that starts somebody in a session of its own, who cannot be asked to leave: he ignores it.
fn nobody_is_left_however_a_comparison_ends() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        // A word that nobody else's command line has.
        let word = format!("3{}.{}", std::process::id(), signal as i32);
        let before = format!("trap \"\" TERM; setsid sleep {word} & trap - TERM;");
        let mut child = binary()
            .args(["compare", "--strategies=prefork", "--workers=2", "--scenarios=keep-alive"])
            .arg(stranger(&before))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        await_that("nothing was started", || !processes(&word).is_empty());
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), (signal == Signal::SIGINT).then_some(130), "{signal}");
        await_that("somebody is left", || processes(&word).is_empty());
    }
}

/// Its signals are not those that its host has blocked.
fn a_stranger_hears_that_it_is_to_leave() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heard");
    let output = compare(&[
        "--scenarios=short-connections",
        &format!(
            "--external=stranger=sh -c 'trap \"echo > {}; kill \\$!; exit\" TERM; {BINARY} baseline --listen \
             127.0.0.1:{{port}} --runtime tokio --workers {{workers}} & wait'",
            file.display()
        ),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(file.exists(), "it was killed");
}

/// What makes this program a server that is slow.
const SLOW: &str = "answer-slowly";

/// Answers everything after 1.8 s, which is still in time; `file` is there once it was asked for the fifth
/// time, when kept connections are counted.
fn answer_slowly(port: &str, file: &Path) -> ExitCode {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    // Whoever started it ends it long before.
    for (number, stream) in listener.incoming().take(1_000).enumerate() {
        if number == 4 {
            std::fs::write(file, "").unwrap();
        }
        std::thread::spawn(move || {
            let mut stream = stream.unwrap();
            let mut request = [0; 1_024];
            while matches!(stream.read(&mut request), Ok(1..)) {
                std::thread::sleep(Duration::from_millis(1_800));
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    break;
                }
            }
        });
    }
    ExitCode::SUCCESS
}

/// It neither waits for the answer nor takes its absence for one.
fn ctrl_c_is_heard_while_a_slow_stranger_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (file, own) = (directory.path().join("asked"), std::env::current_exe().unwrap());
    let mut child = binary()
        .args(["compare", "--strategies=prefork", "--workers=2", "--scenarios=keep-alive"])
        .arg(format!("--external=slow={} {SLOW} {{port}} {}", own.display(), file.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    await_that("it was not asked", || file.exists());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let told = Instant::now();
    await_that("it does not end", || child.try_wait().unwrap().is_some());
    let took = told.elapsed();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    // The server is asked to leave, and leaves at once.
    assert!(took < Duration::from_millis(1_500), "{took:?}");
}

fn a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/external/listen_fds.py");
    let output = binary()
        .args(["compare", "--keep-void", "--workers=2", "--reps=1", "--seconds=1"])
        .args(["--scenarios=short-connections,uneven-work,keep-alive"])
        .arg(format!("--app=python3 '{worker}'"))
        .args(["--json", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let rows = rows(&file, "prefork");
    assert_eq!(rows.len(), 3);
    for row in rows {
        match row["skipped"].as_str() {
            Some(reason) => assert!(reason.contains("closes a connection after one"), "{row}"),
            None => only_served(&row),
        }
    }
}

fn what_a_program_prints_is_taken_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/external/listen_fds.py");
    let forged = r#"{"event":"scaled","workers":9}"#;
    for said in ["hello from my service", "listening on :8080", forged] {
        let output = binary()
            .args(["compare", "--keep-void", "--workers=2", "--reps=1"])
            .args(["--scenarios=short-connections", "--strategies=prefork"])
            .arg(format!("--app=sh -c 'echo \"$1\"; exec python3 \"$2\"' - '{said}' '{worker}'"))
            .args(["--json", file.to_str().unwrap()])
            .output()
            .unwrap();
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{said}: {}{errors}", text(&output.stdout));
        assert!(!errors.contains(said), "{errors}");
        rows(&file, "prefork").iter().for_each(only_served);
    }
}
