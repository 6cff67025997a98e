//! The binary from outside: the whole path from `compare` to a saved result, wrong usage, Ctrl-C.

mod signals;

use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signals::binary;

const BINARY: &str = env!("CARGO_BIN_EXE_forkherd-bench");

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Processes of this binary whose command line has all of `words`.
fn processes(words: &[&str]) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line: Vec<_> = line.split(|&byte| byte == 0).collect();
        if words.iter().all(|word| line.contains(&word.as_bytes())) {
            found.push(pid);
        }
    }
    found
}

/// Waits until `done` says so.
fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_comparison_of_baselines_accounts_for_everything_and_renders_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let forms = ["html", "csv", "markdown"].map(|form| (form, directory.path().join(form)));
    let files = forms.clone().map(|(form, path)| format!("--{form}={}", path.display()));
    let [html, csv, as_markdown] = files.each_ref().map(String::as_str);
    let output = run(&[
        "compare",
        "--keep-void",
        "--strategies=baseline:again",
        "--scenarios=short-connections,keep-alive",
        "--workers=2",
        "--reps=2",
        "--seed=1",
        html,
        csv,
        as_markdown,
        "--json",
        file.to_str().unwrap(),
    ]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", text(&output.stderr));
    assert!(printed.contains("seed 1"), "{printed}");
    assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");

    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(saved["schema"], "forkherd-bench/2");
    for scenario in saved["scenarios"].as_array().unwrap() {
        assert_eq!(scenario["rows"].as_array().unwrap().len(), 2);
        for row in scenario["rows"].as_array().unwrap() {
            // Two rounds and the warm-up; three slices more where system calls may be counted.
            let counted = if row["syscalls"].is_number() { 3 } else { 0 };
            let made = if scenario["name"] == "keep-alive" { 3 * 64 } else { (3 + counted) * 400 };
            assert_eq!(row["connections"]["served"], made, "{row}");
        }
    }

    let again = run(&["report", file.to_str().unwrap()]);
    assert_eq!(text(&again.stdout), printed);
    for (form, path) in forms {
        let again = run(&["report", &format!("--{form}"), file.to_str().unwrap()]);
        let written = std::fs::read_to_string(path).unwrap();
        assert!(text(&again.stdout) == written && written.contains("baseline:again"), "{form}");
    }
    let same = run(&["diff", file.to_str().unwrap(), file.to_str().unwrap()]);
    assert!(same.status.success() && text(&same.stdout).contains("short-connections"));
}

#[test]
fn a_run_for_which_nobody_is_left_has_no_rounds_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let output = run(&[
        "compare",
        "--strategies=prefork:blocking",
        "--against=prefork:blocking",
        "--scenarios=keep-alive",
        "--json",
        file.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("forkherd-bench: keep-alive: nobody could take part"), "{said}");
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let scenario = &saved["scenarios"][0];
    assert_eq!((&scenario["rounds"], scenario["voids"]["played"].as_u64()), (&0.into(), Some(0)));
    let why = scenario["rows"][0]["skipped"].as_str().unwrap();
    assert!(why.contains("cannot serve the tokio runtime"), "{why}");
}

#[test]
fn a_place_for_a_result_is_looked_at_before_anything_is_measured() {
    for form in ["json", "csv", "markdown", "html"] {
        let output = run(&["compare", &format!("--{form}=/nowhere/result.{form}")]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("cannot write /nowhere/result"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(run(&["compare", "--json", "--html"]).status.code(), Some(2));
    assert_eq!(run(&["compare", "--html", "mistaken.json"]).status.code(), Some(2));
}

#[test]
fn a_result_that_is_larger_than_files_may_be_is_one_clear_error_and_leaves_nothing() {
    let saved = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/result.json");
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page");
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 8; exec \"$0\" \"$@\"", BINARY, "report", saved, "--html"])
        .arg(&page)
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{} {said}", output.status);
    assert!(said.contains("cannot write") && said.lines().count() == 1, "{said}");
    assert!(directory.path().read_dir().unwrap().next().is_none(), "something is left");
}

#[test]
fn wrong_usage_says_what_is_wanted_and_ends_with_2() {
    for (arguments, words) in [
        (&["compare", "--strategies", "nonsense"][..], "no strategy is called"),
        (&["compare", "--scenarios", "nonsense"], "short-connections"),
        (&["compare", "--scenarios", "./nowhere.toml"], "cannot read the scenario ./nowhere.toml"),
        (
            &["compare", "--scenarios", "Cargo.toml"],
            "unknown field `bench`, expected one of `name`",
        ),
        (&["compare", "--workers", "0"], "--workers"),
        (&["compare", "--against", "nonsense"], "no strategy is called"),
        (&["compare", "--scenarios=tail", "--runtime=tokio"], "cannot run on tokio"),
        (&["compare", "--clients=4", "--scenarios=uneven-work"], "--scenarios short-connections"),
        (&["nonsense"], "Usage"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

#[test]
fn a_file_that_is_no_result_is_one_clear_error() {
    for file in ["/nowhere/result.json", "/proc/self/status"] {
        let output = run(&["report", file]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.starts_with("forkherd-bench: ") && said.contains(file), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// As `| head` does, and `| true`.
#[test]
fn a_reader_that_went_away_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let line = "::1 - - [22/Nov/2026:05:41:00 +0000] \"GET / HTTP/1.1\" 200 13 700\n";
    std::fs::write(&log, line.repeat(200)).unwrap();
    for arguments in [&["list"][..], &["record", log.to_str().unwrap()]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = binary().args(arguments).stdout(writer).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let output = run(&["baseline", "--workers=1", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
}

/// A thread whose stack has no room is refused as one too many is, and anywhere.
#[test]
fn a_thread_that_cannot_be_started_is_one_clear_error_and_leaves_nobody() {
    let parent = std::process::id().to_string();
    let hosted = ["host", "--listen=127.0.0.1:1", "--parent", &parent, "--", "sleep", "31536007"];
    for arguments in [&["compare", "--strategies=baseline", "--workers=2"][..], &hosted] {
        let child = binary()
            .args(arguments)
            .env("RUST_MIN_STACK", (1_u64 << 48).to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("Resource temporarily unavailable"), "{said}");
        assert!(processes(&["--parent", &pid]).is_empty() && processes(&["31536007"]).is_empty());
    }
}

/// As a build in another terminal does.
#[test]
fn a_program_that_is_replaced_while_it_measures_goes_on_as_it_is() {
    // Beside the binary, so that it can be the same file: one that was just written may be busy.
    let here = std::path::Path::new(BINARY).parent().unwrap();
    let directory = tempfile::tempdir_in(here).unwrap();
    let (program, other) = (directory.path().join("program"), directory.path().join("other"));
    std::fs::hard_link(BINARY, &program).unwrap();
    std::os::unix::fs::symlink("/bin/false", &other).unwrap();
    let stranger = format!("--external=stranger={BINARY} baseline --listen 127.0.0.1:{{port}}");
    let child = Command::new(&program)
        .args(["compare", "--keep-void", "--scenarios=short-connections", "--reps=2"])
        .args(["--strategies=baseline:again", "--workers=2", &stranger])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let parent = child.id().to_string();
    let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    // Not `exe`, as the kernel would have it.
    let is_called = |pid: &u32| name(pid).is_ok_and(|name| name.trim_end() == "program");
    await_that("nothing was started under our name", || {
        processes(&["--parent", &parent]).iter().any(is_called)
    });
    std::fs::rename(&other, &program).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Starts the baseline and waits until it serves.
fn baseline(workers: &str) -> (Child, String) {
    let mut child = binary()
        .args(["baseline", "--listen=127.0.0.1:0", "--workers", workers])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    (child, address)
}

#[test]
fn the_baseline_dies_whole_when_its_parent_is_killed() {
    let (mut child, _) = baseline("3");
    let parent = child.id().to_string();
    let workers = || processes(&["baseline-worker", &parent]);
    assert_eq!(workers().len(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    await_that("workers outlive their parent", || workers().is_empty());
}

#[test]
fn term_ends_the_baseline_with_0() {
    let (mut child, address) = baseline("2");
    std::net::TcpStream::connect(address).unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_interrupted_comparison_leaves_no_process() {
    for (scenario, delay_ms) in
        [("short-connections", 0), ("keep-alive", 300), ("uneven-work", 900)]
    {
        let child = binary()
            .args(["compare", "--strategies=baseline", "--workers=2", "--scenarios", scenario])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let orchestrator = child.id().to_string();
        let children = || processes(&["--parent", &orchestrator]);
        await_that("nothing was started", || !children().is_empty());
        // Into the middle of things: where exactly does not matter, it must hold anywhere.
        std::thread::sleep(Duration::from_millis(delay_ms));
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{scenario}");
        if scenario == "uneven-work" {
            // Its first block lasts ten seconds.
            let said = text(&output.stderr);
            assert!(said.contains("and no result is written"), "{said}");
        }
        assert!(children().is_empty(), "{scenario}");
    }
}

/// `nohup` has HUP ignored, and a shell has INT for what a script leaves in the background.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_so() {
    for (name, signal) in [("HUP", Signal::SIGHUP), ("INT", Signal::SIGINT)] {
        let mut child = Command::new("sh")
            .args(["-c", &format!("trap '' {name}; exec \"$0\" \"$@\""), BINARY, "compare"])
            .args(["--keep-void", "--strategies=baseline", "--workers=2", "--reps=2"])
            .args(["--scenarios=short-connections"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orchestrator = child.id().to_string();
        await_that("nothing was started", || !processes(&["--parent", &orchestrator]).is_empty());
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

/// A pipe in a directory of its own, and a comparison that is to write to it.
fn compare_into_a_pipe(arguments: &[&str]) -> (tempfile::TempDir, std::path::PathBuf, Child) {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let child = binary()
        .args(["compare", "--keep-void", "--strategies=baseline", "--workers=2", "--reps=2"])
        .args(arguments)
        .args(["--scenarios=short-connections", "--markdown", pipe.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (directory, pipe, child)
}

/// Waits until it ends, and kills it if it does not.
fn status_of(child: &mut Child, what: &str, mut meanwhile: impl FnMut(u32)) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        meanwhile(child.id());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("{what}");
}

#[test]
fn whoever_reads_a_pipe_gets_the_whole_result_and_no_end_before() {
    let (_directory, pipe, mut child) = compare_into_a_pipe(&[]);
    let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).unwrap());
    assert!(status_of(&mut child, "nobody took the result", |_| {}).success());
    assert!(reader.join().unwrap().contains("short-connections"));
}

#[test]
fn a_pipe_that_nobody_reads_is_left_at_ctrl_c() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let json = format!("--json={}", file.display());
    let (_directory, _pipe, mut child) = compare_into_a_pipe(&[&json]);
    let orchestrator = child.id().to_string();
    // It is written first.
    await_that("no result", || file.metadata().is_ok_and(|file| file.len() > 0));
    let status = status_of(&mut child, "Ctrl-C was unheard", |pid| {
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGINT).unwrap();
    });
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
    assert!(processes(&["--parent", &orchestrator]).is_empty());
}

#[test]
fn an_interrupted_comparison_keeps_what_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let mut child = binary()
        .args(["compare", "--strategies=baseline", "--workers=2", "--reps=2"])
        .args(["--scenarios=short-connections,uneven-work", "--json", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let second = said.find(|line| line.as_ref().unwrap().starts_with("uneven-work, 0 of 2"));
    assert!(second.is_some(), "the second scenario never began");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(processes(&["--parent", &child.id().to_string()]).is_empty());
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(saved["interrupted"], "uneven-work");
    let names: Vec<_> = saved["scenarios"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["short-connections"]);
    let again = run(&["report", file.to_str().unwrap()]);
    assert!(text(&again.stdout).contains("interrupted during uneven-work"));
}

/// Interrupts a comparison of `scenario` when `is_time` returns, which is given its process id and what it says.
/// Then nobody is left, and what is saved says how much there is of it.
fn interrupted(
    scenario: &str,
    arguments: &[&str],
    is_time: impl FnOnce(u32, &mut Lines<BufReader<ChildStderr>>),
) -> serde_json::Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    let mut child = binary()
        .args(["compare", "--keep-void", "--workers=2", "--scenarios", scenario])
        .args(arguments)
        .args(["--json", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    is_time(child.id(), &mut said);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{scenario}");
    assert!(processes(&["--parent", &child.id().to_string()]).is_empty(), "{scenario}");
    let saved = std::fs::read_to_string(&file).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved["interrupted"], scenario);
    assert_eq!(saved["scenarios"].as_array().unwrap().len(), 1);
    let seen = &saved["scenarios"][0];
    assert_eq!(seen["failures"], serde_json::json!([]), "{seen}");
    let notes = seen["notes"].to_string();
    let rounds = |rounds: u64| format!("{rounds} round{}", if rounds == 1 { "" } else { "s" });
    let whole = seen["rounds"].as_u64().unwrap();
    let finished = match seen["unfinished"].as_u64() {
        None if scenario == "long-lived" => "1 contestant".to_owned(),
        None => rounds(whole),
        Some(0) => "1 contestant".to_owned(),
        Some(parts) if whole == 1 => format!("{parts} of the 3 kinds of block of the first round"),
        Some(parts) => {
            format!("{} and {parts} of the 3 kinds of block of the next", rounds(whole - 1))
        }
    };
    assert!(notes.contains(&format!("Interrupted with {finished}")), "{notes}");
    let again = run(&["report", file.to_str().unwrap()]);
    let expected = format!("interrupted during {scenario}: it has {finished}");
    assert!(text_of_one_line(&again).contains(&expected), "{}", text(&again.stdout));
    let shown = text(&again.stdout);
    let (_, table) = shown.split_once("Connections by how they ended").unwrap();
    for row in seen["rows"].as_array().unwrap() {
        let is_shown =
            table.lines().any(|line| line.split_whitespace().next() == row["contestant"].as_str());
        let has_some = row["connections"].as_object().is_some_and(|ends| !ends.is_empty());
        assert_eq!(is_shown, has_some, "{row} {table}");
    }
    saved["scenarios"][0].clone()
}

/// What was printed, wherever its lines were broken.
fn text_of_one_line(output: &Output) -> String {
    text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_interrupted_scenario_keeps_its_finished_rounds() {
    // It is told every 10 s how many are done.
    let some_are_done = |scenario: &'static str| {
        move |_, said: &mut Lines<BufReader<ChildStderr>>| {
            let none = format!("{scenario}, 0 of 99999 rounds done");
            let is_later = |line: String| line.starts_with(scenario) && line != none;
            assert!(said.any(|line| is_later(line.unwrap())), "no round of {scenario} was done");
        }
    };
    std::thread::scope(|scope| {
        // What a round measures, where time does not decide.
        for (scenario, argument, measured) in [
            ("short-connections", "--seed=1", Some(400)),
            ("keep-alive", "--seed=1", Some(64 * 24)),
            ("uneven-work", "--seconds=1", None),
        ] {
            scope.spawn(move || {
                let arguments = ["--strategies=baseline:again", "--reps=99999", argument];
                let seen = interrupted(scenario, &arguments, some_are_done(scenario));
                let rounds = seen["rounds"].as_u64().unwrap();
                assert!((1..99_999).contains(&rounds), "{rounds}");
                let rows = seen["rows"].as_array().unwrap();
                assert_eq!(rows.len(), 2);
                for row in rows {
                    assert!(row["connections"]["served"].as_u64() > Some(0), "{row}");
                    assert!(row["cpu_server_us"].as_f64() > Some(0.0), "{row}");
                    if let Some(measured) = measured {
                        assert_eq!(row["latency"]["samples"], rounds * measured, "{row}");
                    }
                }
                if scenario == "uneven-work" {
                    assert_eq!(seen["seeds"].as_array().unwrap().len() as u64, rounds);
                }
            });
        }
    });
}

/// Waits until so many servers have come and gone, and the next one is there.
fn had_turns(orchestrator: u32, turns: usize) {
    let parent = orchestrator.to_string();
    let is_child = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:\t") == Some(&parent))
    };
    let mut seen = std::collections::BTreeSet::new();
    await_that("too few servers", || {
        // Their workers have the same command line.
        let servers = processes(&["--parent", &parent, "--strategy"]);
        seen.extend(servers.into_iter().filter(is_child));
        seen.len() > turns
    });
}

#[test]
fn a_first_round_that_was_interrupted_keeps_who_had_a_turn() {
    let arguments = ["--strategies=prefork,handoff", "--against=prefork", "--seconds=3"];
    let seen = interrupted("uneven-work", &arguments, |orchestrator, _| had_turns(orchestrator, 1));
    assert_eq!((&seen["unfinished"], &seen["rounds"]), (&0.into(), &1.into()), "{seen}");
    assert_eq!(seen["seeds"].as_array().unwrap().len(), 1);
    let rows = seen["rows"].as_array().unwrap();
    assert!(
        rows[0]["skipped"].is_null() && rows[0]["latency"]["samples"].as_u64() > Some(0),
        "{seen}"
    );
    assert_eq!(rows[1]["skipped"], "interrupted before it had finished");
    let names: std::collections::BTreeSet<_> =
        rows.iter().map(|row| row["contestant"].as_str().unwrap()).collect();
    assert_eq!(names, ["handoff", "prefork"].into());
}

#[test]
fn a_round_that_was_interrupted_keeps_the_parts_that_everybody_played() {
    let arguments = ["--strategies=prefork,handoff", "--against=prefork", "--seconds=2"];
    let kept = |turns| {
        let seen =
            interrupted("tail", &arguments, |orchestrator, _| had_turns(orchestrator, turns));
        let figures = seen["rows"].as_array().unwrap().iter().map(|row| {
            assert!(row["skipped"].is_null(), "{row}");
            row["tails"].as_array().unwrap().len()
        });
        let figures = figures.collect::<Vec<_>>();
        assert_eq!(seen["rounds"], seen["seeds"].as_array().unwrap().len(), "{seen}");
        (seen["unfinished"].as_u64(), seen["rounds"].as_u64().unwrap(), figures)
    };
    // Two contestants and three parts, of which the last has two figures.
    std::thread::scope(|scope| {
        let turns = [3, 7, 9].map(|turns| scope.spawn(move || kept(turns)));
        let [second_part, second_round, its_second_part] = turns.map(|one| one.join().unwrap());
        assert_eq!(second_part, (Some(1), 1, vec![1; 2]));
        assert_eq!(second_round, (None, 1, vec![4; 2]));
        assert_eq!(its_second_part, (Some(1), 2, vec![4; 2]));
    });
}

#[test]
fn an_interrupted_scenario_of_connections_that_stay_keeps_who_had_finished() {
    let arguments = ["--strategies=handoff", "--clients=300"];
    let seen = interrupted("long-lived", &arguments, |orchestrator, _| {
        let parent = orchestrator.to_string();
        let second = || processes(&["--parent", &parent, "--strategy", "handoff"]);
        await_that("the second had no turn", || !second().is_empty());
    });
    let rows = seen["rows"].as_array().unwrap();
    assert_eq!(rows[0]["connections"]["served"], 2 * 300 + 30);
    assert!(rows[0]["skipped"].is_null(), "{seen}");
    assert_eq!(rows[1]["contestant"], "handoff");
    assert_eq!(rows[1]["skipped"], "interrupted before it had finished");
}

#[test]
fn connections_of_a_finished_visit_stay_in_the_account_of_who_was_interrupted_in_the_next() {
    // So many that the second visit lasts.
    let arguments = ["--strategies=handoff", "--clients=3000"];
    let seen = interrupted("long-lived", &arguments, |orchestrator, _| {
        let parent = orchestrator.to_string();
        // Workers have the same command line; their supervisor was there before them.
        let all = || processes(&["--parent", &parent, "--strategy", "handoff"]);
        let server = || all().into_iter().min();
        await_that("the second had no turn", || server().is_some());
        let first = server();
        await_that("it had no second visit", || server().is_some_and(|pid| Some(pid) != first));
    });
    let interrupted = &seen["rows"][1];
    assert_eq!(interrupted["skipped"], "interrupted before it had finished");
    assert_eq!(interrupted["connections"]["served"], 3_000 + 300, "{seen}");
    assert_eq!(interrupted["held"], serde_json::json!([]), "{seen}");
}

#[test]
fn a_killed_comparison_leaves_no_process() {
    let mut child = binary()
        .args(["compare", "--strategies=baseline", "--workers=2", "--scenarios=keep-alive"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let orchestrator = child.id().to_string();
    let children = || processes(&["--parent", &orchestrator]);
    await_that("nothing was started", || children().len() == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    await_that("children outlive the orchestrator", || children().is_empty());
}
