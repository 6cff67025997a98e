//! A worker whose table of descriptors is full just when it receives: what it loses is counted, its credit
//! comes back, and it loses nothing more while the table stays full.
//!
//! This binary is, by what stands in its environment, the test, the service, or its worker. The worker
//! connects the clients itself, before it is ready, so that they come at once.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use forkherd_core::{
    Acceptor, AsyncConnection, Blocking, Connection, Dispatcher, Inherit, Inherited, Interest,
    Leaving, ListenSpec, Load, Needs, Notice, Plan, Service, Setup, Source, SourceId, Strategy,
    Tokio, Unsupported, Waiter, WorkerId,
};
use forkherd_handoff::Handoff;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, Rlimit, setrlimit};

const MODE: &str = "FORKHERD_TEST_MODE";
/// All of them fit into one message.
const CLIENTS: usize = 10;
/// What a worker may open.
const FILES: u64 = 128;
/// How often it finds its table full.
const SHORTAGES: u32 = 3;
/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is tried: its name, and how many of the clients are lost.
const CASES: [(&str, usize); 4] = [
    // One in each message: the first is lost.
    ("handoff blocking", 1),
    ("pull blocking", 1),
    ("pull tokio", 1),
    // All in one message, and three descriptors for them.
    ("handoff tokio", CLIENTS - SPARE),
];
const SPARE: usize = 3;

fn main() -> ExitCode {
    let result = match std::env::var(MODE) {
        Ok(mode) => service(&mode),
        Err(_) => tests(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

fn tests() -> Result<(), String> {
    let count = CASES.len();
    let _ = writeln!(io::stdout(), "\nrunning {count} tests");
    for (mode, lost) in CASES {
        test(mode, lost).map_err(|message| format!("{mode}: {message}"))?;
    }
    let _ = writeln!(io::stdout(), "\ntest result: ok. {count} passed; 0 failed\n");
    Ok(())
}

/// Fills the table whenever the worker receives, until it was short of descriptors often enough.
struct Starved {
    inner: Box<dyn Acceptor>,
    left: u32,
    spare: usize,
}

impl fmt::Debug for Starved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Starved {
    fn receive(
        &mut self,
        receive: impl FnOnce(&mut dyn Acceptor) -> io::Result<Option<Connection>>,
    ) -> io::Result<Option<Connection>> {
        let mut files = Vec::new();
        if self.left > 0 {
            files.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
            files.truncate(files.len().saturating_sub(self.spare));
        }
        let result = receive(&mut *self.inner);
        if matches!(&result, Err(e) if e.raw_os_error() == Some(Errno::MFILE.raw_os_error())) {
            self.left = self.left.saturating_sub(1);
            self.spare = 0;
        }
        result
    }
}

impl Acceptor for Starved {
    fn sources(&self) -> &[Source] {
        self.inner.sources()
    }
    fn arm(&mut self, load: Load<'_>, interest: &mut Interest) {
        self.inner.arm(load, interest);
    }
    fn woken(&mut self, ready: &[SourceId]) {
        self.inner.woken(ready);
    }
    fn try_accept(&mut self) -> io::Result<Option<Connection>> {
        self.receive(|inner| inner.try_accept())
    }
    fn close(&mut self, leaving: Leaving) {
        self.inner.close(leaving);
    }
    fn is_contested(&self) -> bool {
        self.inner.is_contested()
    }
    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        if self.inner.waiter().is_some() { Some(self) } else { None }
    }
}

impl Waiter for Starved {
    fn accept_waiting(&mut self) -> io::Result<Option<Connection>> {
        self.receive(|inner| match inner.waiter() {
            Some(waiter) => waiter.accept_waiting(),
            None => Err(io::ErrorKind::WouldBlock.into()),
        })
    }
}

/// Handoff, with workers that starve.
#[derive(Debug)]
struct Starving(Handoff);

impl Strategy for Starving {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn fits(&self, plan: &Plan) -> Result<Needs, Unsupported> {
        self.0.fits(plan)
    }
    fn prepare(&mut self, setup: &mut Setup<'_>) -> io::Result<()> {
        self.0.prepare(setup)
    }
    fn provision(&mut self, setup: &mut Setup<'_>, worker: WorkerId) -> io::Result<Inherit> {
        self.0.provision(setup, worker)
    }
    fn open(&self, inherited: &Inherited) -> io::Result<Box<dyn Acceptor>> {
        let inner = self.0.open(inherited)?;
        Ok(Box::new(Starved { inner, left: SHORTAGES, spare: spare(&mode()?) }))
    }
    fn admit(&mut self, worker: WorkerId) -> io::Result<()> {
        self.0.admit(worker)
    }
    fn avoid(&mut self, worker: WorkerId, on: bool) -> io::Result<()> {
        self.0.avoid(worker, on)
    }
    fn retire(&mut self, worker: WorkerId) -> io::Result<()> {
        self.0.retire(worker)
    }
    fn taken(&self, worker: WorkerId) -> Option<u64> {
        self.0.taken(worker)
    }
    fn release(&mut self, worker: WorkerId) {
        self.0.release(worker);
    }
    fn dispatcher(&mut self) -> Option<&mut dyn Dispatcher> {
        self.0.dispatcher()
    }
}

fn mode() -> io::Result<String> {
    std::env::var(MODE).map_err(io::Error::other)
}

fn spare(mode: &str) -> usize {
    if mode == "handoff tokio" { SPARE } else { 0 }
}

fn service(mode: &str) -> Result<(), String> {
    if std::env::var_os(forkherd_core::ENV_WORKER).is_some() {
        let files = Rlimit { current: Some(FILES), maximum: Some(FILES) };
        setrlimit(Resource::Nofile, files).map_err(|e| e.to_string())?;
        let listener = std::env::var("FORKHERD_LISTENERS").map_err(|e| e.to_string())?;
        let listener: ListenSpec = listener.parse().map_err(|e| format!("{e}"))?;
        let address = listener.address().inet().ok_or("no TCP listener")?;
        let clients = (0..CLIENTS).map(|_| connect(address)).collect::<Result<Vec<_>, _>>()?;
        thread::spawn(move || said(clients, address));
    }
    let spec: ListenSpec = "127.0.0.1:0".parse().map_err(|e| format!("{e}"))?;
    let service = Service::new("starved").listen(spec).workers(1).observe(|notice| {
        if let Notice::Exited { counts, .. } = notice {
            let (taken, completed, failed) = (counts.taken, counts.completed, counts.failed);
            let _ = writeln!(io::stdout(), "{taken} taken {completed} completed {failed} failed");
        }
    });
    let strategy = if mode.starts_with("pull") { Handoff::pull() } else { Handoff::least() };
    let result = if mode.ends_with("blocking") {
        let hello = |mut client: Connection| client.write_all(b"hello");
        service.run(Starving(strategy), Blocking::new(hello))
    } else {
        let hello = |client: AsyncConnection| async move {
            // So little fits into every socket.
            Ok(send(client.stream(), b"hello", SendFlags::NOSIGNAL).map(drop)?)
        };
        service.run(Starving(strategy), Tokio::new(hello))
    };
    result.map(drop).map_err(|error| format!("{error:?}"))
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let client = TcpStream::connect(address).map_err(|e| e.to_string())?;
    client.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(client)
}

/// What becomes of the first clients, and then of one more.
fn said(clients: Vec<TcpStream>, address: SocketAddr) {
    let mut counts = [0, 0, 0];
    for mut client in clients {
        let mut text = String::new();
        let what = match client.read_to_string(&mut text) {
            Ok(_) if text == "hello" => 0,
            Ok(_) => 1,
            // Closed before it was read, or still there.
            Err(error) => 1 + usize::from(error.kind() != io::ErrorKind::ConnectionReset),
        };
        counts[what] += 1;
    }
    let [answered, lost, waiting] = counts;
    let _ = writeln!(io::stdout(), "{answered} answered {lost} lost {waiting} waiting");
    let mut text = String::new();
    let last = connect(address).map(|mut client| client.read_to_string(&mut text));
    let _ = writeln!(io::stdout(), "then {text:?} {}", matches!(last, Ok(Ok(_))));
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

fn test(mode: &str, lost: usize) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let child = Command::new(own)
        .env(MODE, mode)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut service = Running(child);
    let stdout = service.0.stdout.take().ok_or("no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut expect = |expected: String| match lines.next() {
        Some(Ok(line)) if line == expected => Ok(()),
        line => Err(format!("{line:?} instead of {expected:?}")),
    };
    expect(format!("{} answered {lost} lost 0 waiting", CLIENTS - lost))?;
    expect("then \"hello\" true".to_owned())?;
    let pid = i32::try_from(service.0.id()).map_err(|e| e.to_string())?;
    let begin = Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| e.to_string())?;
    let all = CLIENTS + 1;
    expect(format!("{all} taken {all} completed {lost} failed"))?;
    let status = service.0.wait().map_err(|e| e.to_string())?;
    if !status.success() || begin.elapsed() > PATIENCE {
        return Err(format!("the service ended with {status} after {:?}", begin.elapsed()));
    }
    let name = "what_is_lost_for_want_of_descriptors_is_counted";
    let _ = writeln!(io::stdout(), "test {mode}: {name} ... ok");
    Ok(())
}
