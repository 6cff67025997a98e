//! This machine, as the head of a report has it: what the kernel tells, and what it means.

use std::collections::BTreeMap;

use nix::sys::utsname::uname;

use super::{Machine, YES};
use crate::cgroup::Cgroups;
use crate::kernel::{self, field};

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
        let read = |path: &str| kernel::text(path).unwrap_or_default();
        let sysctl = |name: &str| Some((name.to_owned(), kernel::sysctl(name).ok()?));
        let sysctls: BTreeMap<_, _> = SYSCTLS.into_iter().filter_map(sysctl).collect();
        let cpuinfo = read("/proc/cpuinfo");
        let online = kernel::online().unwrap_or_default();
        let mine = kernel::affinity().unwrap_or_default();
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let memory_mib = memory_kib(&read("/proc/meminfo")).unwrap_or_default() / 1024;
        let groups = Cgroups::of_this_process().ok();
        let allowed = groups.as_ref().and_then(|groups| groups.memory().ok().flatten());
        Self {
            kernel,
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            online: online.len(),
            pinned: (mine.len() < online.len()).then(|| kernel::ranges(&mine)),
            cpu_limit: groups.as_ref().and_then(|groups| groups.processors().ok().flatten()),
            governor: some(&governor),
            model: model_name(&cpuinfo).unwrap_or("unknown processor").to_owned(),
            virtual_on: virtual_on(
                &cpuinfo,
                &[read("/sys/class/dmi/id/sys_vendor"), read("/sys/class/dmi/id/product_name")],
                &read("/sys/hypervisor/type"),
            ),
            memory_mib: allowed.map_or(memory_mib, |bytes| (bytes >> 20).min(memory_mib)),
            somaxconn: sysctls.get(SYSCTLS[0]).cloned().unwrap_or_default(),
            sysctls,
            open_files: kernel::open_files().ok(),
        }
    }
}

/// The first `model name` of `/proc/cpuinfo` (other architectures have none).
fn model_name(cpuinfo: &str) -> Option<&str> {
    field(cpuinfo, "model name")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Some CPU\n"), Some("Some CPU"));
        assert_eq!(model_name(""), None);
        assert_eq!(memory_kib("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16_384));
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
        // Those of the groups above count, too.
        let groups = Cgroups::of_this_process().unwrap();
        assert_eq!(machine.cpu_limit, groups.processors().unwrap());
    }
}
