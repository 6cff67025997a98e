//! What the kernel says of this machine and of this process: read here and nowhere else, judged by whoever
//! asks ([`report::machine`](crate::report::machine), [`doctor`](crate::doctor), those who choose ports).
//!
//! What cgroups allow is in [`crate::cgroup`].

use std::fs;
use std::str::FromStr;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

/// What a file of `/proc` or `/sys` holds.
///
/// # Errors
/// It cannot be read, with its name.
pub fn text(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))
}

/// A setting as `sysctl(8)` names it, its values with one space between them.
///
/// # Errors
/// This kernel has none of this name.
pub fn sysctl(name: &str) -> anyhow::Result<String> {
    let text = text(&format!("/proc/sys/{}", name.replace('.', "/")))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// `net.core.somaxconn`: the bound of every backlog.
///
/// # Errors
/// It cannot be read, or is no number.
pub fn somaxconn() -> anyhow::Result<u64> {
    number(&sysctl("net.core.somaxconn")?).context("net.core.somaxconn is no number")
}

/// `net.ipv4.ip_local_port_range`: the ports that clients get, both ends included.
///
/// # Errors
/// It cannot be read, or is no range.
pub fn ephemeral_ports() -> anyhow::Result<(u16, u16)> {
    range(&sysctl("net.ipv4.ip_local_port_range")?).context("ip_local_port_range is no range")
}

/// How many processes wanted to run, mean over the last minute.
///
/// # Errors
/// It cannot be read.
pub fn load_average() -> anyhow::Result<f64> {
    let text = text("/proc/loadavg")?;
    text.split(' ').next().and_then(number).context("/proc/loadavg begins with no number")
}

/// The processors that are online.
///
/// # Errors
/// They cannot be read.
pub fn online() -> anyhow::Result<Vec<usize>> {
    text("/sys/devices/system/cpu/online").map(|text| list(text.trim()))
}

/// The processors that this thread may run on.
///
/// # Errors
/// What `sched_getaffinity(2)` said.
pub fn affinity() -> nix::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect())
}

/// Files that this process may have open: soft and hard limit.
///
/// # Errors
/// What `getrlimit(2)` said.
pub fn open_files() -> nix::Result<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE)
}

/// The value of the first line `name: value` of a text.
#[must_use]
pub fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// A number with white space around it.
#[must_use]
pub fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// Numbers as the kernel lists them, `0-3,8`.
#[must_use]
pub fn ranges(numbers: &[usize]) -> String {
    let parts = numbers.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(usize::to_string).collect(),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// The other way round.
fn list(text: &str) -> Vec<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(number::<usize>(first)?..=number(last)?)
    };
    text.split(',').filter_map(part).flatten().collect()
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace();
    Some((number(words.next()?)?, number(words.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(list("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(list(""), Vec::<usize>::new());
        assert_eq!(ranges(&[0, 1, 2, 8]), "0-2,8");
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(range("32768"), None);
        assert_eq!(field("Name:\tx\nCapEff:\t0a\n", "CapEff"), Some("0a"));
        assert_eq!(field("model name\t: Some CPU\n", "model name"), Some("Some CPU"));
        assert_eq!(field("names: x", "name"), None);
    }

    #[test]
    fn this_kernel_says_it_all_and_what_it_does_not_know_is_named() {
        assert!(somaxconn().unwrap() > 0 && load_average().unwrap() >= 0.0);
        let (low, high) = ephemeral_ports().unwrap();
        assert!(low < high);
        let (online, mine) = (online().unwrap(), affinity().unwrap());
        assert!(!mine.is_empty() && mine.iter().all(|cpu| online.contains(cpu)), "{mine:?}");
        let error = sysctl("net.core.nothing").unwrap_err().to_string();
        assert_eq!(error, "/proc/sys/net/core/nothing cannot be read");
    }
}
