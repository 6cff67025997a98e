//! How a machine is looked at: the texts of `/proc` and `/sys`, and what they mean.

use std::collections::BTreeMap;
use std::fs;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;
use nix::unistd::Pid;

use super::{Machine, YES};

/// Settings of the kernel that decide what a connection meets.
const SYSCTLS: [&str; 6] = [
    "net.core.somaxconn",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_migrate_req",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
];

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let kernel = uname().map_or_else(
            |_| "unknown".to_owned(),
            |name| {
                let words = [name.sysname(), name.release(), name.machine()];
                words.map(|word| word.to_string_lossy().into_owned()).join(" ")
            },
        );
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let sysctl = |name: &str| {
            let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
            Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        let sysctls: BTreeMap<_, _> = SYSCTLS.into_iter().filter_map(sysctl).collect();
        let cpuinfo = read("/proc/cpuinfo");
        let online = read("/sys/devices/system/cpu/online");
        let online = list(online.trim());
        let mine = affinity();
        let groups = read("/proc/self/cgroup");
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let mib = |bytes: u64| bytes / (1 << 20);
        let memory = memory_kib(&read("/proc/meminfo")).unwrap_or_default() / 1024;
        let allowed = cgroup(&groups, "memory", &["memory.max", "memory.limit_in_bytes"])
            .and_then(|text| text.trim().parse().ok());
        Self {
            kernel,
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            online: online.len(),
            pinned: (mine.len() < online.len()).then(|| ranges(&mine)),
            cpu_limit: cgroup(&groups, "cpu", &["cpu.max"])
                .and_then(|text| quota(&text))
                .or_else(|| quota_v1(&groups)),
            governor: some(&governor),
            model: model_name(&cpuinfo).unwrap_or("unknown processor").to_owned(),
            virtual_on: virtual_on(
                &cpuinfo,
                &[read("/sys/class/dmi/id/sys_vendor"), read("/sys/class/dmi/id/product_name")],
                &read("/sys/hypervisor/type"),
            ),
            memory_mib: allowed.map_or(memory, |bytes| mib(bytes).min(memory)),
            somaxconn: sysctls.get(SYSCTLS[0]).cloned().unwrap_or_default(),
            sysctls,
            open_files: getrlimit(Resource::RLIMIT_NOFILE).ok(),
        }
    }
}

/// How many processes wanted to run in the last minute; absent if `/proc` does not tell.
#[must_use]
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The first `model name` of `/proc/cpuinfo` (other architectures have none).
fn model_name(cpuinfo: &str) -> Option<&str> {
    field(cpuinfo, "model name")
}

/// The value of the first line `name : value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// `MemTotal` of `/proc/meminfo`.
fn memory_kib(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemTotal")?.split(' ').next()?.parse().ok()
}

/// Who made the machine below this one: the firmware's words, else the hypervisor's, else just that
/// there is one.
fn virtual_on(cpuinfo: &str, dmi: &[String; 2], hypervisor: &str) -> Option<String> {
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    let is_virtual =
        flags.split(' ').any(|flag| flag == "hypervisor") || some(hypervisor).is_some();
    let dmi = dmi.iter().filter_map(|text| some(text)).collect::<Vec<_>>().join(" ");
    is_virtual.then(|| some(&dmi).or(some(hypervisor)).unwrap_or_else(|| YES.to_owned()))
}

/// The text, if there is any.
fn some(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Processors' worth of time by `cpu.max`: `150000 100000`, or `max 100000`.
fn quota(cpu_max: &str) -> Option<f64> {
    let mut words = cpu_max.split_whitespace();
    let (quota, period) = (words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// The same in a version 1 hierarchy; −1 is no limit.
fn quota_v1(groups: &str) -> Option<f64> {
    let of = |file| cgroup(groups, "cpu", &[file])?.trim().parse::<f64>().ok();
    let (quota, period) = (of("cpu.cfs_quota_us")?, of("cpu.cfs_period_us")?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// The content of the first of `files` that this process's cgroup has: version 2, else the hierarchy of
/// `controller`. Within a container the group's own files may be at the mount's top.
fn cgroup(groups: &str, controller: &str, files: &[&str]) -> Option<String> {
    directories(groups, controller).iter().find_map(|directory| {
        files.iter().find_map(|file| fs::read_to_string(format!("{directory}/{file}")).ok())
    })
}

/// Where the files of this process's group may be, the nearest first, by `/proc/self/cgroup`.
fn directories(groups: &str, controller: &str) -> Vec<String> {
    let mut places = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let top = if names.is_empty() {
            "/sys/fs/cgroup".to_owned()
        } else if names.split(',').any(|name| name == controller) {
            format!("/sys/fs/cgroup/{names}")
        } else {
            continue;
        };
        places.push(format!("{top}{}", path.trim_end_matches('/')));
        places.push(top);
    }
    places
}

/// The processors this thread may run on.
fn affinity() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect()
}

/// The numbers of a list like `0-3,8`.
fn list(text: &str) -> Vec<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(part).flatten().collect()
}

/// The other way round.
fn ranges(numbers: &[usize]) -> String {
    let parts = numbers.chunk_by(|one, next| one + 1 == *next).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(usize::to_string).collect(),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Some CPU\n"), Some("Some CPU"));
        assert_eq!(model_name(""), None);
        assert_eq!(memory_kib("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(quota("150000 100000\n"), Some(1.5));
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(list("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(ranges(&[0, 1, 2, 8]), "0-2,8");
        assert_eq!(list(""), Vec::<usize>::new());
    }

    #[test]
    fn a_cgroups_files_are_looked_for_near_before_far() {
        let groups = "5:cpu,cpuacct:/pod/x\n4:memory:/\n0::/slice\n";
        assert_eq!(
            directories(groups, "cpu"),
            [
                "/sys/fs/cgroup/cpu,cpuacct/pod/x",
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/slice",
                "/sys/fs/cgroup"
            ]
        );
        assert_eq!(quota_v1("0::/nowhere"), None);
    }

    #[test]
    fn a_virtual_machine_says_on_what_if_it_knows() {
        let flags = "flags\t\t: fpu hypervisor sse\n";
        let dmi = |vendor: &str, product: &str| [vendor.to_owned(), product.to_owned()];
        let on = |flags, dmi, kind| virtual_on(flags, &dmi, kind);
        assert_eq!(on("flags : fpu", dmi("ACME\n", "Board"), ""), None);
        assert_eq!(on(flags, dmi("QEMU\n", "Standard PC\n"), ""), Some("QEMU Standard PC".into()));
        assert_eq!(on(flags, dmi("", ""), "xen\n"), Some("xen".into()));
        assert_eq!(on(flags, dmi("", ""), ""), Some("yes".into()));
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(machine.cpus > 0 && machine.online > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(!machine.somaxconn.is_empty() && machine.open_files.is_some(), "{machine:?}");
    }
}
