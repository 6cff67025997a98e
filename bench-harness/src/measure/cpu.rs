//! CPU time of a process tree, in nanoseconds, from the scheduler's own account.
//!
//! Field 1 of `/proc/PID/task/TID/schedstat` is run time in nanoseconds; `/proc/PID/stat` counts
//! ticks of 10 ms and is useless for slices of 25 ms. The account of a thread that runs right now
//! lacks its current stretch, so it is read a little after the load has ended ([`SETTLE`]).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// How long after a slice the servers' CPU time is read: workers are then asleep again.
pub const SETTLE: Duration = Duration::from_micros(2_500);

/// A process and its descendants at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(Vec<u32>);

impl Tree {
    /// The process `root` and all its descendants.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(root: u32) -> anyhow::Result<Self> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let name = entry.context("cannot read /proc")?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that ends while we look is not in the tree.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if let Some(parent) = parent_of(&stat) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Ok(Self(descend(root, &children)))
    }

    /// CPU time of all its threads so far, in nanoseconds.
    ///
    /// # Errors
    /// One of its processes is gone: its time is lost, and with it the measurement.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for pid in &self.0 {
            let gone = || format!("process {pid} of a measured server is gone");
            for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(gone)? {
                let path = task.with_context(gone)?.path().join("schedstat");
                sum += run_time(&fs::read_to_string(path).with_context(gone)?)
                    .context("a schedstat line has no number")?;
            }
        }
        Ok(sum)
    }
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

/// The first field of a `schedstat` line.
fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        assert_eq!(parent_of("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(run_time("119603 99987 2\n"), Some(119_603));
    }

    #[test]
    fn grandchildren_belong_to_the_tree() {
        let children = BTreeMap::from([(1, vec![2, 3]), (3, vec![4]), (9, vec![10])]);
        assert_eq!(descend(1, &children), [1, 2, 3, 4]);
    }

    #[test]
    fn this_process_has_used_cpu() {
        let tree = Tree::of(std::process::id()).unwrap();
        assert!(tree.cpu_ns().unwrap() > 0);
    }
}
