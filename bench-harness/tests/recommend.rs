//! `recommend` and `record` from outside: from a log to a profile to an answer, and wrong usage.

use std::fs;
use std::process::{Command, Output, Stdio};

use forkherd_bench::profile::file;
use forkherd_bench::recommend::answer::{Answer, SCHEMA};

fn run(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_forkherd-bench");
    Command::new(binary).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_log_becomes_a_profile_and_the_profile_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let line = |number: u32| {
        let second = number / 100;
        let us = 500 + number * 37 % 3_000;
        format!("::1 - - [22/Nov/2026:05:41:{second:02} +0000] \"GET / HTTP/1.1\" 200 13 {us}\n")
    };
    let log: String = (0..2_000).map(line).collect();
    fs::write(path("access.log"), log + "broken\n").unwrap();
    let output = run(&["record", &path("access.log"), "-o", &path("mine.toml")]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("1 of 2001 lines were left out, the first of them line 2001"));
    let profile = file::read(path("mine.toml").as_ref()).unwrap();
    assert!((profile.rate() - 100.0).abs() < 1.0, "{profile:?}");

    // Only one strategy brings clients to the same worker: it is the answer, whatever was measured.
    let profile = path("mine.toml");
    let arguments = ["recommend", "--profile", &profile, "--sticky=yes", "--goal=cost"];
    let output = run(&[&arguments[..], &["--seconds=10", "--json", "--seed=1"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let answer: Answer = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&*answer.schema, &*answer.take), (SCHEMA, "handoff:hash"));
    assert!(answer.standings[0].figure > 1.0, "{answer:?}");
    assert!(answer.pruned.iter().any(|one| one.reason.contains("same client")), "{answer:?}");
    assert!(answer.main.contains("Handoff::client_hash()"));
}

#[test]
fn wrong_usage_is_one_line_that_says_what_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.toml");
    fs::write(&bad, "workers = 4\nspeed = 9\n[work]\nmean_us = 1\n").unwrap();
    let bad = bad.to_str().unwrap();
    for (arguments, status, words) in [
        (&["recommend"][..], 2, "standard input is no terminal"),
        (&["recommend"], 2, "--work-us, --cv, --cpu, --runtime"),
        (&["recommend", "--goal=fast"], 2, "tail, cost, spread, robustness"),
        (&["recommend", "--load=3"], 2, "more workers"),
        (&["recommend", "--profile", bad], 2, "bad.toml, line 2: unknown field `speed`"),
        (&["recommend", "--profile", "/nowhere.toml"], 1, "cannot read profile /nowhere.toml"),
        (&["record", "/nowhere.log"], 1, "cannot read /nowhere.log"),
        (&["record", bad], 1, "holds no request: 4 of 4 lines were left out"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
        assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
    }
}

#[test]
fn a_log_is_not_overwritten_by_its_profile() {
    let directory = tempfile::tempdir().unwrap();
    let (log, link) = (directory.path().join("access.log"), directory.path().join("a link"));
    let line = r#"{"time":1,"request_time":0.5}"#.to_owned() + "\n";
    fs::write(&log, line.repeat(200)).unwrap();
    std::os::unix::fs::symlink(&log, &link).unwrap();
    let before = fs::read(&log).unwrap();
    for output in [&log, &link] {
        let output = run(&["record", log.to_str().unwrap(), "-o", output.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("would overwrite"), "{}", said(&output));
        assert!(fs::read(&log).unwrap() == before, "the log is gone");
    }
}

#[test]
fn the_profiles_that_ship_are_sound_and_span_the_goals() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
    let mut goals = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        goals.push(format!("{:?}", file::read(&entry.unwrap().path()).unwrap().goal));
    }
    assert_eq!(goals.len(), 8);
    for goal in ["Tail", "Cost", "Spread", "Robustness"] {
        assert!(goals.iter().any(|one| one == goal), "{goals:?}");
    }
}
