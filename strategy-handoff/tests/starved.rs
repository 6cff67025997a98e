//! A worker whose table of descriptors is full when it receives.
//!
//! What it loses is counted, its credit comes back, and it loses nothing more, however long the table stays full. What
//! waits for it goes to others, or comes one by one.
//!
//! This binary is, by what stands in its environment, the test, the service, or its worker.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
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
/// What a worker may open: more than the margin within which it looks before each message.
const FILES: u64 = 256;
/// How often it finds its table full, where that passes.
const SHORTAGES: u32 = 3;
/// What is left of the table, for an event loop.
const SPARE: usize = 3;
/// How often clients come at once, where the table stays full.
const WAVES: usize = 3;
/// Whatever is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the end of a service that has nothing to do any more. It would wait for 30 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The table is full for three messages, after the worker has seen that there was room. The worker connects the
/// clients itself, before it is ready, so that they come at once.
const PASSES: &str = "what_is_lost_for_want_of_descriptors_is_counted";
/// A cache fills the table for good, above a few low holes. The worker has seen that there was room before.
const HOLES: &str = "a_table_that_stays_full_costs_one_message";
/// As before, but it looks first.
const SEEN: &str = "who_looks_first_loses_nothing";
/// The table of the first of two workers is full for good.
const FULL: &str = "a_worker_that_stays_full_keeps_nobody_waiting";

fn main() -> ExitCode {
    let result = match std::env::var(MODE) {
        Ok(mode) => Mode::parse(&mode).and_then(|mode| service(&mode)),
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
    /// One in each message: the first is lost. All in one message: as many as there are no descriptors for.
    const CASES: [(&str, &str, &str, usize); 10] = [
        (PASSES, "handoff", "blocking", 1),
        (PASSES, "pull", "blocking", 1),
        (PASSES, "pull", "tokio", 1),
        (PASSES, "handoff", "tokio", CLIENTS - SPARE),
        (HOLES, "handoff", "tokio", CLIENTS - SPARE),
        (SEEN, "handoff", "tokio", 0),
        (SEEN, "pull", "tokio", 0),
        (FULL, "handoff", "tokio", 0),
        (FULL, "handoff", "blocking", 0),
        (FULL, "pull", "blocking", 0),
    ];
    let _ = writeln!(io::stdout(), "\nrunning {} tests", CASES.len());
    for (case, strategy, runtime, lost) in CASES {
        let name = format!("{case} {strategy} {runtime}");
        let result = if case == PASSES { passes(&name, lost) } else { stays(case, &name, lost) };
        result.map_err(|message| format!("{name}: {message}"))?;
        let _ = writeln!(io::stdout(), "test {strategy} {runtime}: {case} ... ok");
    }
    let _ = writeln!(io::stdout(), "\ntest result: ok. {} passed; 0 failed\n", CASES.len());
    Ok(())
}

/// What a service is run for.
#[derive(Clone, Debug)]
struct Mode {
    case: String,
    strategy: String,
    runtime: String,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ').map(str::to_owned);
        let mut word = || words.next().ok_or_else(|| format!("too few words in {text:?}"));
        Ok(Self { case: word()?, strategy: word()?, runtime: word()? })
    }

    /// How many descriptors its worker finds free. An event loop is sent several at once.
    fn spare(&self) -> usize {
        let is_pull = self.strategy == "pull";
        match (self.case.as_str(), self.runtime.as_str()) {
            // One is there for what one at a time needs.
            (SEEN, "tokio") if is_pull => 1,
            (_, "tokio") if !is_pull => SPARE,
            _ => 0,
        }
    }
}

/// What a handler keeps for good.
static CACHE: OnceLock<Vec<File>> = OnceLock::new();

/// All that the table has room for, but for some. The lowest numbers are free, or the highest.
fn fill(spare: usize, lowest: bool) -> Vec<File> {
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let spare = spare.min(files.len());
    if lowest {
        files.drain(..spare);
    } else {
        files.truncate(files.len() - spare);
    }
    files
}

/// Fills the table when the worker receives.
struct Starved {
    inner: Box<dyn Acceptor>,
    fills: Fills,
    spare: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fills {
    /// Until it was short of descriptors so often more.
    Times(u32),
    ForGood,
    Never,
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
        let files = match self.fills {
            Fills::Times(left) if left > 0 => Some(fill(self.spare, false)),
            Fills::ForGood => {
                CACHE.get_or_init(|| fill(self.spare, true));
                None
            }
            Fills::Times(_) | Fills::Never => None,
        };
        let result = receive(&mut *self.inner);
        let is_short =
            matches!(&result, Err(e) if e.raw_os_error() == Some(Errno::MFILE.raw_os_error()));
        if let Fills::Times(left) = &mut self.fills
            && is_short
        {
            *left = left.saturating_sub(1);
            self.spare = 0;
        }
        drop(files);
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
        let mut inner = self.0.open(inherited)?;
        let mode = mode()?;
        if matches!(mode.case.as_str(), PASSES | HOLES) {
            // It sees that there is room. Nothing is there for it yet.
            inner.woken(&[0]);
            match inner.try_accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Err(io::Error::other(format!("{result:?} before it is ready"))),
            }
        }
        let fills = match (mode.case.as_str(), inherited.meter().worker().slot.0) {
            (PASSES, _) => Fills::Times(SHORTAGES),
            (FULL, 1..) => Fills::Never,
            _ => Fills::ForGood,
        };
        Ok(Box::new(Starved { inner, fills, spare: mode.spare() }))
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
    fn upkeep(&mut self, pokes: &mut Vec<WorkerId>) -> Option<Duration> {
        self.0.upkeep(pokes)
    }
}

fn mode() -> io::Result<Mode> {
    let mode = std::env::var(MODE).map_err(io::Error::other)?;
    Mode::parse(&mode).map_err(io::Error::other)
}

fn service(mode: &Mode) -> Result<(), String> {
    if std::env::var_os(forkherd_core::ENV_WORKER).is_some() {
        let files = Rlimit { current: Some(FILES), maximum: Some(FILES) };
        setrlimit(Resource::Nofile, files).map_err(|e| e.to_string())?;
        if mode.case == PASSES {
            let listener = std::env::var("FORKHERD_LISTENERS").map_err(|e| e.to_string())?;
            let listener: ListenSpec = listener.parse().map_err(|e| format!("{e}"))?;
            let address = listener.address().inet().ok_or("no TCP listener")?;
            let clients = crowd(address)?;
            thread::spawn(move || {
                say(&format!("heard {}", heard(clients)));
                say(&then(address));
            });
        }
    }
    let spec: ListenSpec = "127.0.0.1:0".parse().map_err(|e| format!("{e}"))?;
    let workers = if mode.case == FULL { 2 } else { 1 };
    let service =
        Service::new("starved").listen(spec).workers(workers).observe(|notice| match notice {
            Notice::Serving { listeners } => {
                if let Some(address) = listeners.first().and_then(|one| one.address.inet()) {
                    say(&format!("serving {address}"));
                }
            }
            Notice::Started { worker, pid } => say(&format!("started {worker} {pid}")),
            Notice::Stopped { worker } => say(&format!("stopped {worker}")),
            Notice::Exited { worker, counts, .. } => {
                let (taken, completed, failed) = (counts.taken, counts.completed, counts.failed);
                say(&format!("exited {worker} {taken} {completed} {failed}"));
            }
            _ => {}
        });
    let strategy = if mode.strategy == "pull" { Handoff::pull() } else { Handoff::round_robin() };
    let result = if mode.runtime == "blocking" {
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

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let client = TcpStream::connect(address).map_err(|e| e.to_string())?;
    client.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    Ok(client)
}

fn crowd(address: SocketAddr) -> Result<Vec<TcpStream>, String> {
    (0..CLIENTS).map(|_| connect(address)).collect()
}

/// What became of clients.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Heard {
    answered: usize,
    lost: usize,
    waiting: usize,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {} lost {} waiting", self.answered, self.lost, self.waiting)
    }
}

fn heard(clients: Vec<TcpStream>) -> Heard {
    let mut heard = Heard::default();
    for mut client in clients {
        let mut text = String::new();
        if heard.waiting > 0 {
            // It has failed.
            let _ = client.set_nonblocking(true);
        }
        match client.read_to_string(&mut text) {
            Ok(_) if text == "hello" => heard.answered += 1,
            // Closed before it was read, or still there.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => heard.waiting += 1,
            _ => heard.lost += 1,
        }
    }
    heard
}

/// What becomes of one more.
fn then(address: SocketAddr) -> String {
    let mut text = String::new();
    let last = connect(address).map(|mut client| client.read_to_string(&mut text));
    format!("then {text:?} {}", matches!(last, Ok(Ok(_))))
}

/// A service, which ends whatever becomes of the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(mode: &str) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut child = Command::new(own)
            .env(MODE, mode)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let all = BufReader::new(stdout).lines().map_while(Result::ok);
            // Until nobody reads any more.
            all.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        Ok(Self { child, lines })
    }

    /// The rest of the next line that begins so.
    fn said(&mut self, beginning: &str) -> Result<String, String> {
        loop {
            // Longer than its worker waits for what it says.
            let line = self.lines.recv_timeout(3 * PATIENCE);
            let line = line.map_err(|e| format!("it did not say {beginning:?}: {e}"))?;
            if let Some(rest) = line.strip_prefix(beginning) {
                return Ok(rest.to_owned());
            }
        }
    }

    fn expect(&mut self, beginning: &str, expected: &str) -> Result<(), String> {
        let rest = self.said(beginning)?;
        if rest == expected {
            Ok(())
        } else {
            Err(format!("{beginning}{rest:?} instead of {expected:?}"))
        }
    }

    /// Ends it. All workers together have to have taken and completed so many, of which some failed.
    fn finish(mut self, workers: usize, all: usize, lost: usize) -> Result<(), String> {
        let begin = Instant::now();
        signal(self.child.id(), Signal::SIGTERM)?;
        let mut sums = [0; 3];
        for _ in 0..workers {
            let counts = self.said("exited ")?;
            for (sum, count) in sums.iter_mut().zip(counts.split(' ').skip(1)) {
                *sum += count.parse::<usize>().map_err(|e| format!("{counts:?}: {e}"))?;
            }
        }
        if sums != [all, all, lost] {
            return Err(format!(
                "{sums:?} taken, completed, failed; instead of {all}, {all}, {lost}"
            ));
        }
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if !status.success() || begin.elapsed() > AT_ONCE {
            return Err(format!("the service ended with {status} after {:?}", begin.elapsed()));
        }
        Ok(())
    }
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(pid).map_err(|e| e.to_string())?;
    kill(Pid::from_raw(pid), signal).map_err(|e| e.to_string())
}

fn passes(mode: &str, lost: usize) -> Result<(), String> {
    let mut service = Running::start(mode)?;
    let expected = Heard { answered: CLIENTS - lost, lost, waiting: 0 };
    service.expect("heard ", &expected.to_string())?;
    service.expect("then ", "\"hello\" true")?;
    service.finish(1, CLIENTS + 1, lost)
}

/// Wave after wave of clients, each at once: workers that are stopped have no room, and when they go on each has room
/// for a whole message.
fn stays(case: &str, mode: &str, lost: usize) -> Result<(), String> {
    let workers = if case == FULL { 2 } else { 1 };
    let mut service = Running::start(mode)?;
    let mut pids = Vec::new();
    for _ in 0..workers {
        let started = service.said("started ")?;
        let pid = started.split(' ').nth(1).and_then(|pid| pid.parse::<u32>().ok());
        pids.push(pid.ok_or_else(|| format!("no process id in {started:?}"))?);
    }
    let address = service.said("serving ")?;
    let address: SocketAddr = address.parse().map_err(|e| format!("{address:?}: {e}"))?;
    let mut total = Heard::default();
    for wave in 0..WAVES {
        for &pid in &pids {
            signal(pid, Signal::SIGSTOP)?;
            service.said("stopped ")?;
        }
        let clients = crowd(address)?;
        for &pid in &pids {
            signal(pid, Signal::SIGCONT)?;
        }
        let heard = heard(clients);
        if heard.waiting > 0 {
            return Err(format!("wave {wave}: {heard}"));
        }
        total.answered += heard.answered;
        total.lost += heard.lost;
        let then = then(address);
        if then != "then \"hello\" true" {
            return Err(format!("wave {wave}: {then}"));
        }
    }
    if total.lost != lost {
        return Err(format!("{total}; instead of {lost} lost"));
    }
    service.finish(workers, WAVES * (CLIENTS + 1), lost)
}
