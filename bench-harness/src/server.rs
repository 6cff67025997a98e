//! A contestant while it runs: its process, its address, what its supervisor tells.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::cli::Runtime;
use crate::contestant::{Contestant, Launch};
use crate::external::{host, offers};
use crate::interrupt::Interrupt;
use crate::kernel;
use crate::load::protocol::{Answers, Target};
use crate::measure::cpu::Account;
use crate::process::{Guarded, Program};

/// Longest a server may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The first port to try. Listener ports must lie outside the ephemeral range, or the load
/// process's own connections take them.
const PORT_BASE: u16 = 18_000;

/// Ports tried, from [`PORT_BASE`] on.
const PORT_COUNT: u16 = 2_000;

/// The first port that anybody may take.
const UNPRIVILEGED: u16 = 1_024;

/// One line of `serve --events`: a notice of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Notice {
    /// A worker process was started.
    Started {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
    },
    /// It serves.
    Ready {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
    },
    /// It ended and was reaped.
    Exited {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
        /// Connections it took, by its board.
        taken: u64,
        /// Connections it finished, by its board.
        completed: u64,
        /// `exit 0`, `signal 9`.
        status: String,
        /// When, in microseconds of the clock that all processes share.
        at_us: u64,
    },
    /// It was stopped (`SIGSTOP`).
    Stopped {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
    },
    /// Nothing got done in it for too long.
    Hung {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
    },
    /// One that hung goes on.
    Recovered {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
    },
    /// So many workers there are to be from now on.
    Scaled {
        /// How many.
        workers: u32,
    },
    /// A rolling restart has replaced every worker.
    Restarted,
    /// A rolling restart ended early: the successor on this slot failed.
    RestartAborted {
        /// Its seat.
        slot: u32,
    },
    /// What the strategy wants known.
    Remark {
        /// A sentence.
        text: String,
    },
    /// It goes on.
    Continued {
        /// Its seat.
        slot: u32,
        /// How often the seat was refilled.
        generation: u64,
        /// Its process id.
        pid: i32,
    },
}

/// A running contestant; dropping it ends the whole tree.
#[derive(Debug)]
pub struct Server {
    process: Guarded,
    address: SocketAddrV4,
    answers: Answers,
    /// Notices that came before it served, to be given out first.
    early: VecDeque<Notice>,
    /// What its strategy wants known, as far as notices were read.
    remarks: Vec<String>,
    /// After the process: its port is free by then.
    _claim: UnixListener,
}

impl Server {
    /// Starts `contestant`, which `program` knows how to serve, and waits until it serves.
    ///
    /// # Errors
    /// It could not be started, ended before it served (what it said is on stderr), or took too
    /// long; or we were interrupted.
    pub fn start(
        program: &Program,
        contestant: &Contestant,
        workers: u32,
        runtime: Runtime,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        Self::start_with(program, contestant, workers, runtime, &[], interrupt)
    }

    /// As [`Self::start`], with further arguments for `serve` or `baseline`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        program: &Program,
        contestant: &Contestant,
        workers: u32,
        runtime: Runtime,
        options: &[&str],
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let label = contestant.label();
        let strategy = contestant.strategy();
        let (address, claim) = free_address()?;
        let mut command = program.command();
        let count = workers.to_string();
        let ours = ["--workers", &count, "--runtime", runtime.word()];
        match &contestant.launch {
            Launch::Serve => {
                command.args(["serve", "--app", "hello", "--events", "--strategy", &strategy]);
                command.args(ours);
            }
            Launch::App(app) => {
                let app = format!("program:{app}");
                command.args(["serve", "--app", &app, "--events", "--strategy", &strategy]);
                command.args(["--workers", &count]);
            }
            Launch::Baseline => {
                command.arg("baseline").args(ours);
            }
            Launch::External(_) => {
                command.arg("host");
            }
        }
        command.args(["--listen", &address.to_string()]);
        command.args(["--parent", &std::process::id().to_string()]).args(options);
        if let Launch::External(words) = &contestant.launch {
            command.arg("--").args(words.filled_in(address.port(), workers));
        }
        // Its log would drown the progress; whoever wants it says so.
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "error");
        }
        let process =
            Guarded::start(&mut command, false).with_context(|| format!("cannot start {label}"))?;
        let deadline = Instant::now() + START_TIMEOUT;
        let (mut early, mut remarks) = (VecDeque::new(), Vec::new());
        loop {
            let line = interrupt
                .receive(process.lines(), deadline)
                .with_context(|| format!("{label} did not come up"))?
                .with_context(|| format!("{label} did not serve within {START_TIMEOUT:?}"))?;
            if line.starts_with("listening on ") {
                break;
            }
            if let Some(why) = line.strip_prefix(host::FAILED) {
                bail!("{label} did not come up: {why}");
            }
            match parse(&line).with_context(|| label.clone())? {
                Notice::Remark { text } => remarks.push(text),
                notice => early.push_back(notice),
            }
        }
        let answers = contestant.launch.answers();
        if answers == Answers::Any {
            // That its port accepts says little of a stranger.
            offers::await_answer(address, process.pid(), interrupt)
                .with_context(|| format!("{label} cannot be measured"))?;
        }
        Ok(Self { process, address, answers, early, remarks, _claim: claim })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// What the load process has to know of it.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { address: self.address, answers: self.answers }
    }

    /// The process at the root of its tree.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The account of its processes' CPU time, as they are now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn account(&self) -> anyhow::Result<Account> {
        Account::of(self.pid(), self.answers == Answers::Any)
    }

    /// The next notice that is there already.
    ///
    /// # Errors
    /// A line that is no notice, or the server has ended.
    pub fn try_notice(&mut self) -> anyhow::Result<Option<Notice>> {
        if let Some(notice) = self.early.pop_front() {
            return Ok(Some(notice));
        }
        match self.process.lines().try_recv() {
            Ok(line) => self.note(&line).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => bail!("the server has ended"),
        }
    }

    /// The next notice, if one comes before `deadline`.
    ///
    /// # Errors
    /// A line that is no notice, the server has ended, or we were interrupted.
    pub fn notice(
        &mut self,
        deadline: Instant,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<Notice>> {
        if let Some(notice) = self.early.pop_front() {
            return Ok(Some(notice));
        }
        let line = interrupt.receive(self.process.lines(), deadline)?;
        line.map(|line| self.note(&line)).transpose()
    }

    /// What its strategy wants known, as far as notices were read.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// One line; remarks are kept.
    fn note(&mut self, line: &str) -> anyhow::Result<Notice> {
        let notice = parse(line)?;
        if let Notice::Remark { text } = &notice {
            self.remarks.push(text.clone());
        }
        Ok(notice)
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end with status 0.
    pub fn end(mut self) -> anyhow::Result<()> {
        let status = self.process.end()?;
        if !status.success() {
            bail!("the server ended with {status} instead of exit status 0");
        }
        Ok(())
    }
}

/// One line of `serve --events`.
fn parse(line: &str) -> anyhow::Result<Notice> {
    serde_json::from_str(line).with_context(|| format!("{line:?} is no notice"))
}

/// A free loopback address outside the ephemeral range, if there is room, and the claim to it: no other
/// comparison takes it while that is open. To look whether a port is free says little, for a whole start
/// lies between the look and the server that binds it.
fn free_address() -> anyhow::Result<(SocketAddrV4, UnixListener)> {
    // Linux's default if it cannot be read.
    let base = base_beside(kernel::ephemeral_ports().unwrap_or((32_768, 60_999)));
    // Start where the last search did not: a server that just ended may still hold its port.
    let first = u16::try_from(std::process::id() % u32::from(PORT_COUNT)).unwrap_or(0);
    for step in 0..PORT_COUNT {
        let port = base + (first + step) % PORT_COUNT;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let name = format!("forkherd-bench port {port}");
        let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        if let Ok(claim) = UnixListener::bind_addr(&name)
            && TcpListener::bind(address).is_ok()
        {
            return Ok((address, claim));
        }
    }
    bail!("no free port between {base} and {}", base + PORT_COUNT - 1)
}

/// The first of [`PORT_COUNT`] ports beside those that clients get, from `low` to `high`: below them, or
/// above. Where clients get nearly all, they are the usual ones, and may meet a client's.
fn base_beside((low, high): (u16, u16)) -> u16 {
    if low >= PORT_BASE + PORT_COUNT || high < PORT_BASE {
        PORT_BASE
    } else if low >= UNPRIVILEGED + PORT_COUNT {
        low - PORT_COUNT
    } else if high <= u16::MAX - PORT_COUNT {
        high + 1
    } else {
        PORT_BASE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read() {
        let line = r#"{"event":"exited","slot":2,"generation":1,"pid":77,"taken":9,"completed":8,"status":"signal 9","at_us":99}"#;
        assert_eq!(
            parse(line).unwrap(),
            Notice::Exited {
                slot: 2,
                generation: 1,
                pid: 77,
                taken: 9,
                completed: 8,
                status: "signal 9".to_owned(),
                at_us: 99
            }
        );
        let line = r#"{"event":"ready","slot":0,"generation":0,"pid":5}"#;
        assert_eq!(parse(line).unwrap(), Notice::Ready { slot: 0, generation: 0, pid: 5 });
        assert!(parse("hello").is_err());
    }

    #[test]
    fn ports_lie_beside_those_that_clients_get() {
        for (clients, base) in [
            ((32_768, 60_999), 18_000),
            ((10_000, 65_535), 8_000),
            ((20_000, 30_000), 18_000),
            ((1_024, 30_000), 30_001),
            ((1_024, 17_000), 18_000),
            // Nowhere else is room.
            ((1_024, 65_535), 18_000),
        ] {
            assert_eq!(base_beside(clients), base, "{clients:?}");
        }
        let (address, _claim) = free_address().unwrap();
        let base = base_beside(kernel::ephemeral_ports().unwrap());
        assert!((base..base + PORT_COUNT).contains(&address.port()), "{address}");
    }

    #[test]
    fn a_port_that_somebody_is_about_to_take_is_not_free() {
        let found = [(); 3].map(|()| free_address().unwrap());
        let ports: std::collections::BTreeSet<u16> =
            found.iter().map(|(address, _)| address.port()).collect();
        assert_eq!(ports.len(), found.len(), "{found:?}");
    }
}
