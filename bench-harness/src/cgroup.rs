//! What cgroups allow this process, version 1 or 2: the least of its group's and all groups above.

use std::fs;
use std::path::{Path, PathBuf};

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
    pub fn of_this_process() -> std::io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self { mount: MOUNT.into(), groups })
    }

    /// Processors' worth of time: `cpu.max`, or quota over period.
    #[must_use]
    pub fn processors(&self) -> Option<f64> {
        let version_2 = self.texts("cpu", "cpu.max");
        let quotas = self.texts("cpu", "cpu.cfs_quota_us");
        let periods = self.texts("cpu", "cpu.cfs_period_us");
        let version_1 =
            quotas.iter().zip(&periods).map(|(quota, period)| format!("{quota} {period}"));
        let all = version_2.into_iter().chain(version_1);
        all.filter_map(|text| share(&text)).min_by(f64::total_cmp)
    }

    /// Bytes of memory: `memory.max`, or `memory.limit_in_bytes`.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.least("memory", &["memory.max", "memory.limit_in_bytes"])
    }

    /// Processes and threads, and how many there are in the nearest group that limits them.
    #[must_use]
    pub fn processes(&self) -> Option<(u64, u64)> {
        let limit = self.least("pids", &["pids.max"])?;
        let now = self.texts("pids", "pids.current");
        // Only a group that limits has one; the count of a wider one is no smaller.
        let now = now.iter().filter_map(|text| text.trim().parse().ok()).min()?;
        Some((limit, now))
    }

    /// The least number that any of `files` holds; `max`, and what version 1 says for it, is no limit.
    fn least(&self, controller: &str, files: &[&str]) -> Option<u64> {
        let texts = files.iter().flat_map(|file| self.texts(controller, file));
        let numbers = texts.filter_map(|text| text.trim().parse::<u64>().ok());
        numbers.filter(|&number| number < UNLIMITED).min()
    }

    /// The texts of a file in this process's group and all above, the nearest first.
    fn texts(&self, controller: &str, file: &str) -> Vec<String> {
        let folders = self.folders(controller).into_iter();
        folders.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()).collect()
    }

    /// The folders of this process's group and all above. In a container the path may be that of the
    /// host, and is not there; the mount's top always is.
    fn folders(&self, controller: &str) -> Vec<PathBuf> {
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
            let own = top.join(path.trim_start_matches('/'));
            folders.extend(
                own.ancestors().take_while(|one| one.starts_with(&top)).map(Path::to_owned),
            );
        }
        folders
    }
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
        assert_eq!(seen.processors(), Some(1.5));
        assert_eq!(seen.memory(), Some(1 << 20));
        assert_eq!(seen.processes(), Some((100, 7)));
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
        assert_eq!(seen.processors(), Some(0.5));
        assert_eq!((seen.memory(), seen.processes()), (None, None));
    }

    #[test]
    fn without_limits_there_are_none() {
        let mount = tempfile::tempdir().unwrap();
        let seen = groups(mount.path(), "0::/\n", &[]);
        assert_eq!((seen.processors(), seen.memory(), seen.processes()), (None, None, None));
        assert!(Cgroups::of_this_process().is_ok());
    }
}
