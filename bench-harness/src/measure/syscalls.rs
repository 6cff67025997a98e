//! System calls of a process tree, counted by the kernel.
//!
//! The tracepoint `raw_syscalls:sys_enter`, counted for each thread by `perf_event_open(2)`. That
//! costs a little at every call, so it is done in a pass of its own whose times nobody reads. It
//! needs tracefs to be mounted (it tells the tracepoint's number) and root, or `CAP_PERFMON`.

use std::fs;

use anyhow::Context as _;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

use super::cpu::Tree;

/// A counter on each thread of a tree, and on those they start.
#[derive(Debug)]
pub struct Counters(Vec<Counter>);

impl Counters {
    /// Counts for `tree` from now on.
    ///
    /// # Errors
    /// Why it cannot be counted, and what to do about it.
    pub fn on(tree: &Tree) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
        let tracefs = tracefs(&mounts).context(
            "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing, as root",
        )?;
        let path = format!("{tracefs}/events/raw_syscalls/sys_enter/id");
        let id = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let id = id.trim().parse().with_context(|| format!("{path} holds no number"))?;
        let mut counters = Vec::new();
        for thread in tree.threads()? {
            let mut builder = Builder::new(Tracepoint::with_id(id));
            // The tracepoint is reached in kernel mode, which is left out unless one says so.
            builder.observe_pid(i32::try_from(thread)?).any_cpu().inherit(true).include_kernel();
            let mut counter = builder
                .build()
                .context("perf_event_open was refused: it takes root, or CAP_PERFMON")?;
            counter.enable().context("cannot switch a counter on")?;
            counters.push(counter);
        }
        Ok(Self(counters))
    }

    /// How many calls there have been.
    ///
    /// # Errors
    /// What `read(2)` of a counter said.
    pub fn read(&mut self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for counter in &mut self.0 {
            sum += counter.read().context("cannot read a counter")?;
        }
        Ok(sum)
    }
}

/// Where tracefs is mounted, by `/proc/self/mounts`.
fn tracefs(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "tracefs").then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracefs_is_found_wherever_it_is() {
        let mounts = "proc /proc proc rw 0 0\nnone /sys/kernel/tracing tracefs rw 0 0\n";
        assert_eq!(tracefs(mounts), Some("/sys/kernel/tracing"));
        assert_eq!(tracefs("proc /proc proc rw 0 0\n"), None);
    }

    /// Where it is not permitted, the reason is a sentence instead.
    #[test]
    fn calls_are_counted_or_it_is_said_why_not() {
        // The thread that calls is the one that is counted, but so are the other tests: at least.
        let tree = Tree::of(std::process::id()).unwrap();
        match Counters::on(&tree) {
            Ok(mut counters) => {
                let before = counters.read().unwrap();
                (0..100).for_each(|_| drop(fs::metadata("/proc/self")));
                assert!(counters.read().unwrap() - before >= 100);
            }
            Err(error) => {
                let text = format!("{error:#}");
                assert!(
                    ["tracefs", "CAP_PERFMON", "is gone"].iter().any(|word| text.contains(word))
                );
            }
        }
    }
}
