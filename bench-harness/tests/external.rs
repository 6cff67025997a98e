//! Servers that are not ours, from outside: measured, refused in one clear sentence, and never left behind.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn main() -> ExitCode {
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
            "what_keeps_a_stranger_from_serving_is_one_clear_error",
            what_keeps_a_stranger_from_serving_is_one_clear_error,
        ),
        test(
            "a_command_that_cannot_be_meant_is_wrong_usage",
            a_command_that_cannot_be_meant_is_wrong_usage,
        ),
        test("nobody_is_left_however_a_comparison_ends", nobody_is_left_however_a_comparison_ends),
        Trial::ignorable_test(
            "a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it",
            || {
                if Command::new("python3").arg("--version").output().is_err() {
                    let why = "there is no python3";
                    let _ = writeln!(
                        io::stderr(),
                        "a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it: skipped, because {why}"
                    );
                    return Ok(Completion::ignored_with(why));
                }
                a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it();
                Ok(Completion::Completed)
            },
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const BINARY: &str = env!("CARGO_BIN_EXE_forkherd-bench");

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
    Command::new(BINARY).args(common).args(arguments).output().unwrap()
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
        let mut child = Command::new(BINARY)
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

fn a_program_of_ones_own_is_measured_under_each_strategy_that_lets_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let worker = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/external/listen_fds.py");
    let output = Command::new(BINARY)
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
