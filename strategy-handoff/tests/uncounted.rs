//! A worker that is killed between receiving a message and counting what was in it: its supervisor knows
//! exactly what is lost.
//!
//! This binary is, by what stands in its environment, the test, the service, or a worker of it. The first worker
//! is none of Forkherd's making: it says *ready*, receives one message, counts nothing, and kills itself.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::fd::RawFd;
use std::process::{Child, Command, ExitCode, Stdio};

use forkherd_core::{AsyncConnection, ListenSpec, Notice, Service, Tokio};
use forkherd_handoff::Handoff;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::socket::{MsgFlags, recvmsg, send};
use nix::unistd::Pid;

const MODE: &str = "FORKHERD_TEST_MODE";
/// All of them fit into one message.
const CLIENTS: usize = 10;
/// Longer than a message of so many.
const BYTES: usize = 1024;

fn main() -> ExitCode {
    let is_service = std::env::var_os(MODE).is_some();
    let worker = std::env::var(forkherd_core::ENV_WORKER);
    let result = match worker.as_deref() {
        Ok("0.0") if is_service => doomed(),
        _ if is_service => service(),
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

fn service() -> Result<(), String> {
    let spec: ListenSpec = "127.0.0.1:0".parse().map_err(|e| format!("{e}"))?;
    Service::new("uncounted")
        .listen(spec)
        .workers(1)
        .observe(|notice| {
            if let Notice::Exited { worker, counts, .. } = notice {
                let in_service = counts.in_service();
                let _ = writeln!(io::stdout(), "exited {worker} {} {in_service}", counts.taken);
            }
        })
        .run(Handoff::least(), Tokio::new(|_client: AsyncConnection| async { Ok(()) }))
        .map_err(|error| format!("{error:?}"))
        .map(drop)
}

/// Waits in the backlog with so many clients, lets them come, and dies with them in its hands.
fn doomed() -> Result<(), String> {
    // Whatever it waits for: a test that hangs says nothing.
    nix::unistd::alarm::set(30);
    let variable = |name| std::env::var(name).map_err(|e| format!("{name}: {e}"));
    let listener: ListenSpec =
        variable("FORKHERD_LISTENERS")?.parse().map_err(|e| format!("{e}"))?;
    let address = listener.address().inet().ok_or("no TCP listener")?;
    let connect = |_| TcpStream::connect(address).map_err(|e| e.to_string());
    let clients = (0..CLIENTS).map(connect).collect::<Result<Vec<_>, _>>()?;

    let listed = variable("FORKHERD_FDS")?;
    let pairs = listed.split(':').filter_map(|pair| pair.split_once('='));
    let numbers: BTreeMap<&str, RawFd> =
        pairs.filter_map(|(name, number)| Some((name, number.parse().ok()?))).collect();
    send(numbers["forkherd-control"], b"R", MsgFlags::MSG_NOSIGNAL).map_err(|e| e.to_string())?;
    let mut bytes = [0; BYTES];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([RawFd; CLIENTS]);
    let message =
        recvmsg::<()>(numbers["channel"], &mut parts, Some(&mut space), MsgFlags::empty())
            .map_err(|e| e.to_string())?;
    let received: usize = message
        .cmsgs()
        .map_err(|e| e.to_string())?
        .map(|part| match part {
            nix::sys::socket::ControlMessageOwned::ScmRights(sockets) => sockets.len(),
            _ => 0,
        })
        .sum();
    writeln!(io::stdout(), "received {received}").map_err(|e| e.to_string())?;
    raise(Signal::SIGKILL).map_err(|e| e.to_string())?;
    drop(clients);
    Err("it outlived its own SIGKILL".to_owned())
}

/// Ends the service, whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn test() -> Result<(), String> {
    let name = "what_was_received_and_not_counted_is_known";
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let child = Command::new(own)
        .env(MODE, "service")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut service = Running(child);
    let stdout = service.0.stdout.take().ok_or("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut next = || lines.next().and_then(Result::ok).ok_or("the service said nothing more");
    let (received, exited) = (next()?, next()?);
    let expected = (format!("received {CLIENTS}"), format!("exited 0.0 {CLIENTS} {CLIENTS}"));
    if (&received, &exited) != (&expected.0, &expected.1) {
        return Err(format!("{received:?} and {exited:?} instead of {expected:?}"));
    }
    let pid = i32::try_from(service.0.id()).map_err(|e| e.to_string())?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| e.to_string())?;
    let status = service.0.wait().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("the service ended with {status}"));
    }
    let _ = writeln!(
        io::stdout(),
        "\nrunning 1 test\ntest {name} ... ok\n\ntest result: ok. 1 passed; 0 failed\n"
    );
    Ok(())
}
