//! CPU time and context switches of a process tree, from the scheduler's own account.
//!
//! The CPU clock of a process (`clock_getcpuclockid(3)`) counts nanoseconds, those of threads that have ended
//! among them; `/proc/PID/stat` counts ticks of 10 ms and is useless for slices of 25 ms. It is read a little
//! after the load has ended ([`SETTLE`]). Context switches, voluntary and not, are in
//! `/proc/PID/task/TID/status`: those of threads that have ended are missing.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::report::Caution;

/// How long after a slice the servers' CPU time is read: workers are then asleep again.
pub const SETTLE: Duration = Duration::from_micros(2_500);

/// What is to be known of the stranger `label` where [`Account::used_since`] told nothing.
#[must_use]
pub fn in_no_account(label: &str) -> Caution {
    Caution::new(
        format!("{label} started or ended processes under load."),
        "What those used is in no account, so there is no figure of its CPU time, nor of its context switches.",
        "Let it start all its processes beforehand, if it can.",
    )
}

/// A process and its descendants at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pids: Vec<u32>,
    /// Page faults of children that they have waited for: more of them, and somebody came and went.
    of_the_dead: u64,
}

impl Tree {
    /// The process `root` and all its descendants.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(root: u32) -> anyhow::Result<Self> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut faults: BTreeMap<u32, u64> = BTreeMap::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let name = entry.context("cannot read /proc")?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that ends while we look is not in the tree.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if let Some(parent) = parent_of(&stat) {
                children.entry(parent).or_default().push(pid);
                faults.extend(faults_of_the_dead(&stat).map(|count| (pid, count)));
            }
        }
        let pids = descend(root, &children);
        let of_the_dead = pids.iter().filter_map(|pid| faults.get(pid)).sum();
        Ok(Self { pids, of_the_dead })
    }

    /// The same process and its descendants now.
    fn as_it_is(&self) -> anyhow::Result<Self> {
        self.pids.first().map_or_else(|| Ok(self.clone()), |&root| Self::of(root))
    }

    /// Its processes, parents before their children.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// What all its threads have used so far.
    ///
    /// # Errors
    /// One of its processes is gone: its time is lost, and with it the measurement.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = Usage::default();
        for &pid in &self.pids {
            usage.cpu_ns.push(cpu_time(pid)?);
            for task in tasks(pid)? {
                // A thread that ends while we look is not there.
                let status = fs::read_to_string(format!("/proc/{pid}/task/{task}/status"));
                usage.switches += status.map_or(0, |status| switches(&status));
            }
        }
        Ok(usage)
    }

    /// The process ids of all but the root.
    #[must_use]
    pub fn workers(&self) -> &[u32] {
        self.pids.get(1..).unwrap_or_default()
    }

    /// The ids of all its threads.
    ///
    /// # Errors
    /// One of its processes is gone.
    pub fn threads(&self) -> anyhow::Result<Vec<u32>> {
        let mut all = Vec::new();
        for &pid in &self.pids {
            all.extend(tasks(pid)?);
        }
        Ok(all)
    }
}

/// The account of a server's processes around what is measured.
#[derive(Clone, Debug)]
pub struct Account {
    tree: Tree,
    /// Whether they are a stranger's, who may start and end others at any time.
    is_strange: bool,
}

impl Account {
    /// Of the process `root` and all its descendants, as they are now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(root: u32, is_strange: bool) -> anyhow::Result<Self> {
        Ok(Self { tree: Tree::of(root)?, is_strange })
    }

    /// Whose account it is.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whoever a stranger has started by now belongs to it from now on.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn renew(&mut self) -> anyhow::Result<()> {
        if self.is_strange {
            self.tree = self.tree.as_it_is()?;
        }
        Ok(())
    }

    /// What they have used so far; nothing if one of a stranger's is gone.
    ///
    /// # Errors
    /// One of ours is gone: its time is lost, and with it the measurement.
    pub fn look(&self) -> anyhow::Result<Option<Usage>> {
        match self.tree.usage() {
            Err(_) if self.is_strange => Ok(None),
            usage => usage.map(Some),
        }
    }

    /// What they have used since `before`; nothing if a stranger's came or went, for it would be too little.
    ///
    /// # Errors
    /// As [`Self::look`], or `/proc` cannot be read.
    pub fn used_since(&self, before: Option<&Usage>) -> anyhow::Result<Option<Usage>> {
        let (Some(before), Some(now)) = (before, self.look()?) else { return Ok(None) };
        // After the look, or whoever came in between would be missed. Ours start nobody unasked.
        let is_whole = !self.is_strange || self.tree.as_it_is()? == self.tree;
        Ok(is_whole.then(|| now.since(before)))
    }
}

/// What a tree has used, or used between two looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in nanoseconds by process: the root first, then its workers.
    pub cpu_ns: Vec<u64>,
    /// Context switches, voluntary and involuntary.
    pub switches: u64,
}

impl Usage {
    /// What was used since `earlier`, a look at the same tree.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.cpu_ns.iter().zip(&earlier.cpu_ns);
        Self {
            cpu_ns: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            switches: self.switches.saturating_sub(earlier.switches),
        }
    }

    /// CPU time of all processes, in nanoseconds.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.cpu_ns.iter().sum()
    }

    /// CPU time of all but the root, in nanoseconds.
    #[must_use]
    pub fn workers_ns(&self) -> &[u64] {
        self.cpu_ns.get(1..).unwrap_or_default()
    }
}

fn gone(pid: u32) -> String {
    format!("process {pid} of a measured server is gone")
}

/// The threads of a process.
fn tasks(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut tasks = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| gone(pid))? {
        let name = task.with_context(|| gone(pid))?.file_name();
        tasks.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(tasks)
}

/// `root` and everything below it.
fn descend(root: u32, children: &BTreeMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        tree.extend(children.get(&tree[next]).into_iter().flatten());
        next += 1;
    }
    tree
}

/// The parent in a line of `/proc/PID/stat`; the name before it may contain anything.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The page faults of children that were waited for, in the same line (`cminflt`).
fn faults_of_the_dead(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(8)?.parse().ok()
}

/// What a process has used, in nanoseconds.
fn cpu_time(pid: u32) -> anyhow::Result<u64> {
    let time = || {
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
        let time = Duration::from(clock_gettime(clock).ok()?);
        u64::try_from(time.as_nanos()).ok()
    };
    time().with_context(|| gone(pid))
}

/// The sum of both lines of a `status` that count switches.
fn switches(status: &str) -> u64 {
    let counts = status.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.ends_with("voluntary_ctxt_switches").then(|| value.trim().parse::<u64>().ok())?
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};

    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let stat = "12 (a) b (c) S 7 12 12 0 -1 4194304 150 99 0 0";
        assert_eq!((parent_of(stat), faults_of_the_dead(stat)), (Some(7), Some(99)));
        let status = "Name:\ta\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(switches(status), 157);
    }

    #[test]
    fn what_was_used_between_two_looks() {
        let then = Usage { cpu_ns: vec![1, 2, 3], switches: 4 };
        let used = Usage { cpu_ns: vec![2, 5, 3], switches: 9 }.since(&then);
        assert_eq!((used.total_ns(), used.workers_ns(), used.switches), (4, &[3, 0][..], 5));
    }

    #[test]
    fn grandchildren_belong_to_the_tree() {
        let children = BTreeMap::from([(1, vec![2, 3]), (3, vec![4]), (9, vec![10])]);
        assert_eq!(descend(1, &children), [1, 2, 3, 4]);
    }

    #[test]
    fn where_somebody_came_or_went_a_stranger_has_no_account() {
        let script = "read x; sleep 300 & echo came; read x; kill $!; wait $!; echo went; read x; sleep 0; \
                      echo came and went; read x";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            // A shell may tell of whom it was told to kill.
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        for expected in ["came", "went", "came and went"] {
            let strange = Account::of(child.id(), true).unwrap();
            let before = strange.look().unwrap();
            assert!(strange.used_since(before.as_ref()).unwrap().is_some(), "{expected}");
            writeln!(input).unwrap();
            assert_eq!(said.next().unwrap().unwrap(), expected);
            assert!(strange.used_since(before.as_ref()).unwrap().is_none(), "{expected}");
            let mut renewed = strange.clone();
            renewed.renew().unwrap();
            let before = renewed.look().unwrap();
            assert!(renewed.used_since(before.as_ref()).unwrap().is_some(), "{expected}");
            // Of ours nobody goes without being missed.
            let ours = Account { is_strange: false, ..strange };
            assert_eq!(ours.look().is_err(), expected == "went");
        }
        writeln!(input).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn threads_that_have_ended_are_in_the_account() {
        let own = std::process::id();
        let before = cpu_time(own).unwrap();
        std::thread::spawn(|| {
            let begin = thread_time();
            while thread_time() < begin + Duration::from_millis(20) {
                std::hint::spin_loop();
            }
        })
        .join()
        .unwrap();
        assert!(cpu_time(own).unwrap() - before >= 20_000_000);
    }

    fn thread_time() -> Duration {
        clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }

    #[test]
    fn a_process_has_used_cpu() {
        // Not this one: threads of other tests end while one looks.
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let usage = Tree::of(child.id()).and_then(|tree| tree.usage());
        drop(child.stdin.take());
        child.wait().unwrap();
        let usage = usage.unwrap();
        assert!(usage.total_ns() > 0, "{usage:?}");
    }
}
