//! What cgroups allow this process, version 1 or 2: the least of its group's and all groups above.
//!
//! A file that is not there is no limit: the top has none, and a controller may be off. One that is there and
//! cannot be read is an error, and so is a hierarchy that is mounted nowhere: the limits are then not known.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::kernel;

/// Where the hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The groups of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    mount: PathBuf,
    /// `/proc/self/cgroup`.
    groups: String,
}

impl Cgroups {
    /// This process's.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of_this_process() -> anyhow::Result<Self> {
        Ok(Self { mount: MOUNT.into(), groups: kernel::text("/proc/self/cgroup")? })
    }

    /// Processors' worth of time, if that is limited: `cpu.max`, or quota over period.
    ///
    /// # Errors
    /// It cannot be known.
    pub fn processors(&self) -> anyhow::Result<Option<f64>> {
        let mut shares = Vec::new();
        for folder in self.folders("cpu")? {
            shares.extend(text(&folder, "cpu.max")?.and_then(|text| share(&text)));
            let quota = text(&folder, "cpu.cfs_quota_us")?;
            let period = text(&folder, "cpu.cfs_period_us")?;
            let both = quota.zip(period).map(|(quota, period)| format!("{quota} {period}"));
            shares.extend(both.and_then(|text| share(&text)));
        }
        Ok(shares.into_iter().min_by(f64::total_cmp))
    }

    /// Bytes of memory, if that is limited: `memory.max`, or `memory.limit_in_bytes`.
    ///
    /// # Errors
    /// It cannot be known.
    pub fn memory(&self) -> anyhow::Result<Option<u64>> {
        let mut limits = Vec::new();
        for folder in self.folders("memory")? {
            for file in ["memory.max", "memory.limit_in_bytes"] {
                limits.extend(number(&folder, file)?.filter(|&limit| limit < UNLIMITED));
            }
        }
        Ok(limits.into_iter().min())
    }

    /// Processes and threads, if they are limited, and how many there are: those of the group that has the
    /// least room.
    ///
    /// # Errors
    /// It cannot be known.
    pub fn processes(&self) -> anyhow::Result<Option<(u64, u64)>> {
        let mut limits = Vec::new();
        for folder in self.folders("pids")? {
            let Some(limit) = number(&folder, "pids.max")? else { continue };
            let now = number(&folder, "pids.current")?;
            limits.push((
                limit,
                now.with_context(|| format!("{}: no pids.current", folder.display()))?,
            ));
        }
        // There may be more than allowed: a limit that is lowered ends nobody.
        Ok(limits.into_iter().min_by_key(|&(limit, now)| limit.saturating_sub(now)))
    }

    /// The folders of this process's group and all above, the nearest first. In a container the path may be
    /// that of the host, and is not there; the mount's top always is.
    fn folders(&self, controller: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for line in self.groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(names), Some(path)) = (parts.next(), parts.next()) else { continue };
            let top = if names.is_empty() {
                self.mount.clone()
            } else if names.split(',').any(|name| name == controller) {
                self.mount.join(names)
            } else {
                continue;
            };
            if !top.is_dir() {
                bail!("{} cannot be read: nothing is mounted there", top.display());
            }
            let own = top.join(path.trim_start_matches('/'));
            folders.extend(
                own.ancestors().take_while(|one| one.starts_with(&top)).map(Path::to_owned),
            );
        }
        Ok(folders)
    }
}

/// What a file of a group holds, if there is one.
fn text(folder: &Path, file: &str) -> anyhow::Result<Option<String>> {
    let path = folder.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// The number in a file of a group, if there is one; `max` is none.
fn number(folder: &Path, file: &str) -> anyhow::Result<Option<u64>> {
    Ok(text(folder, file)?.and_then(|text| text.trim().parse().ok()))
}

/// Version 1 says about 2⁶³ where there is no limit.
const UNLIMITED: u64 = 1 << 60;

/// `150000 100000`: quota over period; `max` and −1 are no limit.
fn share(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let (quota, period) = (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(mount: &Path, groups: &str, files: &[(&str, &str)]) -> Cgroups {
        for (file, text) in files {
            let path = mount.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Cgroups { mount: mount.to_owned(), groups: groups.to_owned() }
    }

    #[test]
    fn version_2_counts_what_is_above_too() {
        let mount = tempfile::tempdir().unwrap();
        let files = [
            ("a/cpu.max", "150000 100000\n"),
            ("a/b/cpu.max", "max 100000\n"),
            ("a/b/memory.max", "1048576\n"),
            ("a/memory.max", "max\n"),
            ("a/b/pids.max", "100\n"),
            ("a/b/pids.current", "7\n"),
        ];
        let seen = groups(mount.path(), "0::/a/b\n", &files);
        assert_eq!(seen.processors().unwrap(), Some(1.5));
        assert_eq!(seen.memory().unwrap(), Some(1 << 20));
        assert_eq!(seen.processes().unwrap(), Some((100, 7)));
    }

    #[test]
    fn the_group_with_the_least_room_counts_with_its_own_processes() {
        let mount = tempfile::tempdir().unwrap();
        let files = [
            ("a/pids.max", "100\n"),
            ("a/pids.current", "95\n"),
            ("a/b/pids.max", "50\n"),
            ("a/b/pids.current", "5\n"),
            ("a/b/c/pids.max", "max\n"),
            ("a/b/c/pids.current", "3\n"),
        ];
        let seen = groups(mount.path(), "0::/a/b/c\n", &files);
        assert_eq!(seen.processes().unwrap(), Some((100, 95)));
        let lowered = [("a/b/pids.current", "60\n")];
        let seen = groups(mount.path(), "0::/a/b/c\n", &lowered);
        assert_eq!(seen.processes().unwrap(), Some((50, 60)));
    }

    #[test]
    fn what_is_there_and_cannot_be_read_is_not_unlimited() {
        let mount = tempfile::tempdir().unwrap();
        // A folder of that name can be read by nobody, not even root.
        let files = ["cpu.max", "memory.max", "pids.max"].map(|file| format!("a/{file}/x"));
        let files = files.each_ref().map(|file| (&**file, ""));
        let seen = groups(mount.path(), "0::/a\n", &files);
        let errors = [
            seen.processors().unwrap_err(),
            seen.memory().unwrap_err(),
            seen.processes().unwrap_err(),
        ];
        for (error, file) in errors.iter().zip(["cpu.max", "memory.max", "pids.max"]) {
            assert!(error.to_string().ends_with(&format!("a/{file} cannot be read")), "{error}");
        }
        let nowhere = groups(&mount.path().join("nowhere"), "0::/\n", &[]);
        let error = nowhere.memory().unwrap_err().to_string();
        assert!(error.ends_with("nowhere cannot be read: nothing is mounted there"), "{error}");
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each() {
        let mount = tempfile::tempdir().unwrap();
        let files = [
            ("cpu,cpuacct/x/cpu.cfs_quota_us", "50000\n"),
            ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let text = "4:memory:/not/there\n3:cpu,cpuacct:/x\n1:name=systemd:/\n";
        let seen = groups(mount.path(), text, &files);
        assert_eq!(seen.processors().unwrap(), Some(0.5));
        assert_eq!((seen.memory().unwrap(), seen.processes().unwrap()), (None, None));
    }

    #[test]
    fn without_limits_there_are_none() {
        let mount = tempfile::tempdir().unwrap();
        let seen = groups(mount.path(), "0::/\n", &[]);
        let (processors, memory) = (seen.processors().unwrap(), seen.memory().unwrap());
        assert_eq!((processors, memory, seen.processes().unwrap()), (None, None, None));
        assert!(Cgroups::of_this_process().is_ok());
    }
}
