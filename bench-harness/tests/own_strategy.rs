//! A stranger's strategy in the harness: the example, compared with one of ours, from the binary it is.
//!
//! This binary is, by what stands in its environment, the test or the example. So is every process that the
//! example starts, since children are this binary again and inherit the variable.

use std::io::{self, Write as _};
use std::process::{Command, ExitCode};

#[path = "../examples/own_strategy.rs"]
mod example;

const IS_EXAMPLE: &str = "FORKHERD_TEST_IS_EXAMPLE";

fn main() -> ExitCode {
    if std::env::var_os(IS_EXAMPLE).is_some() {
        return example::main();
    }
    match a_strangers_strategy_is_listed_and_compared() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(own)
        .args(arguments)
        .env(IS_EXAMPLE, "1")
        .output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        Ok(out)
    } else {
        Err(format!("{arguments:?}: {}\n{out}\n{err}", output.status))
    }
}

fn a_strangers_strategy_is_listed_and_compared() -> Result<(), String> {
    let list = run(&["list"])?;
    if !list.contains("mine:first") {
        return Err(format!("it is not listed:\n{list}"));
    }
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = directory.path().join("result.json");
    run(&[
        "compare",
        "--keep-void",
        "--strategies=mine,prefork",
        "--scenarios=short-connections,keep-alive",
        "--workers=2",
        "--reps=1",
        "--json",
        &file.to_string_lossy(),
    ])?;
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let saved: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let scenarios = saved["scenarios"].as_array().ok_or("no scenarios")?;
    for scenario in scenarios {
        let rows = scenario["rows"].as_array().ok_or("no rows")?;
        let mine = rows.iter().find(|row| row["contestant"] == "mine").ok_or("it has no row")?;
        let connections = mine["connections"].as_object().ok_or("no account")?;
        // More than none, and none but served.
        if connections.len() != 1 || connections["served"].as_u64() < Some(1) {
            return Err(format!("not all were served: {mine}"));
        }
    }
    if scenarios.len() == 2 { Ok(()) } else { Err("a scenario is missing".to_owned()) }
}
