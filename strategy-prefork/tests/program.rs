//! Another program as the worker: it knows `LISTEN_FDS` and nothing of Forkherd.
//!
//! This binary is, by what stands in its environment, the test, the service, or that program.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use forkherd_core::{ListenSpec, Notice, Program, Service};
use forkherd_prefork::Prefork;
use listenfd::ListenFd;
use rustix::process::{Pid, Signal, kill_process};

const MODE: &str = "FORKHERD_TEST_MODE";
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let result = match std::env::var(MODE).as_deref() {
        Ok("service") => service(),
        Ok("program") => program().map_err(|error| error.to_string()),
        _ => test(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

/// The worker: answers each client with its process id.
fn program() -> io::Result<()> {
    let mut listeners = ListenFd::from_env();
    let none = || io::Error::other("no listener came by LISTEN_FDS");
    let listener: TcpListener = listeners.take_tcp_listener(0)?.ok_or_else(none)?;
    for client in listener.incoming() {
        writeln!(client?, "{}", std::process::id())?;
    }
    Ok(())
}

fn service() -> Result<(), String> {
    let path = std::env::var_os("FORKHERD_TEST_PROGRAM").ok_or("no program")?;
    let spec: ListenSpec = "127.0.0.1:0".parse().map_err(|e| format!("{e}"))?;
    Service::new("foreign")
        .listen(spec)
        .workers(2)
        .observe(|notice| {
            if let Notice::Serving { listeners } = notice {
                let _ = writeln!(io::stdout(), "{}", listeners[0].address);
            }
        })
        .run_program(Prefork::exclusive(), Program::new(path))
        .map_err(|error| format!("{error:?}"))
}

fn start(program: impl AsRef<std::ffi::OsStr>) -> Result<Child, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    // A shell sets what the program is to be, which the service must not be.
    Command::new(own)
        .env(MODE, "service")
        .env("FORKHERD_TEST_PROGRAM", program)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())
}

fn ask(address: SocketAddr) -> Result<String, String> {
    let mut answer = String::new();
    let mut client = TcpStream::connect(address).map_err(|e| e.to_string())?;
    client.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    client.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer.trim().to_owned())
}

fn test() -> Result<(), String> {
    let name = "a_program_that_knows_listen_fds_is_started_replaced_and_ended";
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
    let script = directory.path().join("program");
    let text = format!("#!/bin/sh\n{MODE}=program exec '{}'\n", own.display());
    std::fs::write(&script, text).map_err(|e| e.to_string())?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, permissions).map_err(|e| e.to_string())?;

    let mut child = start(&script)?;
    let mut line = String::new();
    let stdout = child.stdout.take().ok_or("no stdout")?;
    BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
    let address: SocketAddr = line.trim().parse().map_err(|_| format!("not served: {line:?}"))?;
    let first = ask(address)?;
    let victim: i32 = first.parse().map_err(|_| format!("no process id: {first:?}"))?;
    let victim = Pid::from_raw(victim).ok_or("no process id")?;
    kill_process(victim, Signal::KILL).map_err(|e| e.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    let mut killed = BTreeSet::from([first]);
    // Its sibling serves on, and when that is killed, too, its successor has to. What a program took on its way down
    // it may answer still, or leave without an answer: it was taken.
    while killed.len() < 3 {
        if let Ok(answer) = ask(address)
            && let Ok(pid) = answer.parse()
            && killed.insert(answer)
        {
            let sibling = Pid::from_raw(pid).ok_or("no process id")?;
            kill_process(sibling, Signal::KILL).map_err(|e| e.to_string())?;
        }
        if Instant::now() > deadline {
            return Err(format!("never replaced: {killed:?}"));
        }
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
    kill_process(pid, Signal::TERM).map_err(|e| e.to_string())?;
    let status = child.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("the service ended with {status}"));
    }

    let output = start("/nonexistent/program")?.wait().map_err(|e| e.to_string())?;
    if output.success() {
        return Err("a program that does not exist was started".to_owned());
    }
    let _ = writeln!(
        io::stdout(),
        "\nrunning 1 test\ntest {name} ... ok\n\ntest result: ok. 1 passed; 0 failed\n"
    );
    Ok(())
}
