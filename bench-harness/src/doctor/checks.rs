//! What facts may mean: each check a pure function, with a made-up machine that fails it.

use super::facts::{BPF, Facts, PERFMON};
use super::group::parties;
use super::{Finding, Level};
use crate::report::Caution;

/// The backlog a service asks for, where the kernel lets it.
const BACKLOG: u64 = 4096;

/// Open files below which a server that keeps connections is in trouble.
const FILES: u64 = 4096;

/// What `compare` needs in one process for its largest scenario: 10,000 connections that stay.
const FILES_HELD: u64 = 10_100;

/// Where listeners of `compare` go, and the ports below the ephemeral range that takes.
const PORTS_BELOW: u16 = 4_000;

/// What a worker and its share of the supervisor take at most, a little app included.
const WORKER_BYTES: u64 = 16 << 20;

/// The oldest Linux that Forkherd runs on.
const KERNEL: (u32, u32) = (5, 11);

/// Every check, in the order of the report.
#[must_use]
pub fn all(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Option<Finding>; 12] = [
        kernel, backlog, migration, files, ports, processors, load, memory, processes, bpf,
        tracing, listeners,
    ];
    // What was read in part may be a warning, but is no good news.
    let is_told =
        |finding: &Finding| finding.level != Level::Ok || !facts.unread.contains_key(finding.check);
    checks.iter().filter_map(|check| check(facts)).filter(is_told).chain(unread(facts)).collect()
}

fn ok(check: &'static str, seen: impl Into<String>) -> Option<Finding> {
    Some(Finding { check, level: Level::Ok, caution: Caution::new(seen, "", "") })
}

fn warn(check: &'static str, caution: Caution) -> Option<Finding> {
    Some(Finding { check, level: Level::Warn, caution })
}

fn kernel(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "kernel";
    let (major, minor, _) = facts.version()?;
    let release = &facts.release;
    if (major, minor) < KERNEL {
        let (needed, at_least) = KERNEL;
        return warn(
            CHECK,
            Caution::new(
                format!("Linux {release}."),
                format!("No service of Forkherd starts below {needed}.{at_least}."),
                "Take a newer kernel.",
            ),
        );
    }
    // What needs more than that is none today: eBPF by CAP_BPF came with 5.8.
    ok(CHECK, format!("Linux {release} has all that any variant uses (5.11 and newer)."))
}

fn backlog(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "backlog";
    let somaxconn = facts.somaxconn?;
    if somaxconn >= BACKLOG {
        return ok(
            CHECK,
            format!("net.core.somaxconn is {somaxconn}; services ask for {BACKLOG}."),
        );
    }
    warn(
        CHECK,
        Caution::new(
            format!("net.core.somaxconn is {somaxconn}, and services ask for {BACKLOG}."),
            format!(
                "Of a burst beyond {somaxconn} connections per listener the rest is dropped, and comes \
                 again after 1 s and 3 s: a tail that no worker made."
            ),
            format!("sysctl -w net.core.somaxconn={BACKLOG}"),
        ),
    )
}

fn migration(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "migration";
    match (facts.migrates?, facts.version()) {
        (false, _) => ok(
            CHECK,
            "net.ipv4.tcp_migrate_req is off; Forkherd closes no listener before its end and needs none.",
        ),
        (true, Some(version)) if version >= (6, 18, 44) => {
            ok(CHECK, "net.ipv4.tcp_migrate_req is on, and this kernel wakes who inherits.")
        }
        (true, _) => warn(
            CHECK,
            Caution::new(
                "net.ipv4.tcp_migrate_req is on.",
                "On kernels without the mend of CVE-2026-46015 (in 6.18.44) a connection that moves to \
                 another listener wakes nobody and waits for the next.",
                "sysctl -w net.ipv4.tcp_migrate_req=0, or take a mended kernel",
            ),
        ),
    }
}

fn files(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "open files";
    let (soft, hard) = facts.files?;
    if soft < FILES {
        return warn(
            CHECK,
            Caution::new(
                format!("A process may open {soft} files (hard limit {hard})."),
                format!(
                    "A worker that keeps connections stops accepting at about {soft}, and the rest waits \
                     in the backlog."
                ),
                "ulimit -n 65536 in the shell that starts it, or LimitNOFILE=65536 in its unit",
            ),
        );
    }
    if hard < FILES_HELD {
        return warn(
            CHECK,
            Caution::new(
                format!("A process may open {hard} files at most."),
                "The scenario of 10,000 connections that stay refuses to run.",
                format!("As root: ulimit -Hn {FILES_HELD}, or ask for fewer by --clients"),
            ),
        );
    }
    ok(CHECK, format!("A process may open {soft} files, {hard} if it asks."))
}

fn ports(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "ports";
    let (low, high) = facts.ephemeral?;
    if let Some(listen) = facts.listen.filter(|listen| (low..=high).contains(&listen.port())) {
        let port = listen.port();
        return warn(
            CHECK,
            Caution::new(
                format!("Port {port} lies within {low}-{high}, from which clients get theirs."),
                "Now and then a client's connection holds it when the service starts, which then fails \
                 with \"address in use\".",
                format!(
                    "Listen below {low}, or: sysctl -w net.ipv4.ip_local_reserved_ports={port}"
                ),
            ),
        );
    }
    if low < PORTS_BELOW {
        return warn(
            CHECK,
            Caution::new(
                format!("Clients get their ports from {low}-{high}, nearly all there are."),
                "Every listener lies within, and may meet a client's connection on its port.",
                "sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
            ),
        );
    }
    ok(CHECK, format!("Clients get their ports from {low}-{high}; listeners lie below."))
}

fn processors(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "processors";
    let (online, mine) = facts.processors?;
    if let Some(quota) = facts.quota.filter(|&quota| quota < f64::from(mine)) {
        return warn(
            CHECK,
            Caution::new(
                format!(
                    "The cgroup allows the time of {quota:.2} processors, and {mine} are seen."
                ),
                "Who counts processors starts too many workers; whoever uses the time up stands still \
                 until the next period, up to 0.1 s, which looks like a tail.",
                format!("Start {:.0} workers, or raise cpu.max", quota.max(1.0).floor()),
            ),
        );
    }
    if mine < online {
        return warn(
            CHECK,
            Caution::new(
                format!("Of {online} processors this process may run on {mine}."),
                "So may all that it starts: affinity is inherited.",
                "Intended? If not, look for taskset, cpuset or a container's --cpuset-cpus.",
            ),
        );
    }
    if mine < 2 {
        return warn(
            CHECK,
            Caution::new(
                "There is one processor.",
                "Server and client take turns on it, and every latency holds both.",
                "Measure cost here, and tails elsewhere.",
            ),
        );
    }
    ok(CHECK, format!("{mine} processors, and no cgroup limits their time."))
}

fn load(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "load";
    let load = facts.load?;
    let (_, processors) = facts.processors?;
    if load > 0.5 * f64::from(processors) {
        return warn(
            CHECK,
            Caution::new(
                format!(
                    "In the last minute {load:.1} processes wanted to run, on {processors} processors."
                ),
                "What else runs takes time from servers and client, and not from all alike.",
                "Wait until the machine is quiet before you measure.",
            ),
        );
    }
    ok(CHECK, format!("In the last minute {load:.1} processes wanted to run."))
}

fn memory(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "memory";
    let Some(limit) = facts.memory else { return ok(CHECK, "No cgroup limits memory.") };
    let mib = limit >> 20;
    let needed = WORKER_BYTES * u64::from(facts.workers + 1);
    if limit < needed {
        return warn(
            CHECK,
            Caution::new(
                format!("The cgroup allows {mib} MiB for {} workers.", facts.workers),
                "At the limit the kernel kills the largest process, a worker if you are lucky: what it \
                 serves is lost, and again when its successor has grown.",
                format!("Fewer workers, or raise memory.max to {} MiB or more", needed >> 20),
            ),
        );
    }
    ok(CHECK, format!("The cgroup allows {mib} MiB."))
}

fn processes(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "processes";
    let Some((limit, now)) = facts.pids else { return ok(CHECK, "No cgroup limits processes.") };
    // During a rolling restart there are twice as many; a comparison has several services at once.
    let needed = 2 * u64::from(facts.workers) + 8;
    if now + needed > limit {
        return warn(
            CHECK,
            Caution::new(
                format!("The cgroup allows {limit} processes and threads, and {now} are there."),
                format!("A rolling restart of {} workers may fail to fork.", facts.workers),
                format!("Raise pids.max (a container's --pids-limit) by {needed} or more"),
            ),
        );
    }
    ok(CHECK, format!("The cgroup allows {limit} processes and threads; {now} are there."))
}

fn bpf(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "eBPF";
    facts.capabilities?;
    let meaning = "Variants that let the kernel choose by load refuse to start, or fall back and say so \
                   (`list` says CAP_BPF).";
    if !facts.can(BPF) {
        return warn(
            CHECK,
            Caution::new(
                "CAP_BPF is not in effect.",
                meaning,
                "Start as root or with AmbientCapabilities=CAP_BPF; all others need no privilege.",
            ),
        );
    }
    if facts.filtered {
        return warn(
            CHECK,
            Caution::new(
                "CAP_BPF is in effect, but a seccomp filter is, too, as in most containers.",
                meaning,
                "If they refuse: let the container's profile pass bpf(2).",
            ),
        );
    }
    ok(CHECK, "CAP_BPF is in effect.")
}

fn tracing(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "tracing";
    let remedy = "Run `compare` as root, with: mount -t tracefs tracefs /sys/kernel/tracing";
    let meaning = "The report says nothing about system calls per connection.";
    let may = facts.can(PERFMON) || facts.paranoid? < 0;
    if !facts.tracefs {
        return warn(CHECK, Caution::new("tracefs cannot be read.", meaning, remedy));
    }
    if !may {
        let seen = format!("kernel.perf_event_paranoid is {}.", facts.paranoid?);
        return warn(CHECK, Caution::new(seen, meaning, remedy));
    }
    ok(CHECK, "System calls can be counted.")
}

fn listeners(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "listeners";
    let listen = facts.listen?;
    let parties = parties(&facts.listening);
    let words: Vec<_> = parties.iter().map(super::group::Party::words).collect();
    let seen = format!("{listen} is listened on by {}.", words.join(" and by "));
    match &parties[..] {
        [] => ok(CHECK, format!("Nobody listens on {listen}.")),
        [_] if facts.listening.iter().any(|one| one.shares_port == Some(true)) => warn(
            CHECK,
            Caution::new(
                seen,
                "Its sockets let others of the same user join: a second server there starts without an \
                 error, and each gets a share of the connections.",
                "If it is not the service you mean, end it; a service of ours refuses to join.",
            ),
        ),
        [_] => warn(
            CHECK,
            Caution::new(
                seen,
                "Another service cannot start there.",
                "If it is not the service you mean, end it, or listen elsewhere.",
            ),
        ),
        _ => warn(
            CHECK,
            Caution::new(
                seen,
                "They share one port and know nothing of each other: the kernel gives each its share of \
                 the connections, and none can take what waits for another.",
                "End all but one: an old process that a restart left behind, most likely.",
            ),
        ),
    }
}

/// What could not be looked at.
fn unread(facts: &Facts) -> impl Iterator<Item = Finding> {
    facts.unread.iter().map(|(&check, why)| Finding {
        check,
        level: Level::Unknown,
        caution: Caution::new(
            format!("{why}."),
            "Whether something is wrong there is not known.",
            "Mount /proc and /sys as usual, or run as root.",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::group::Listening;
    use super::*;

    /// A machine on which nothing bites.
    fn healthy() -> Facts {
        Facts {
            workers: 8,
            release: "6.18.44-amd64".to_owned(),
            somaxconn: Some(4096),
            migrates: Some(false),
            ephemeral: Some((32_768, 60_999)),
            files: Some((65_536, 524_288)),
            processors: Some((4, 4)),
            quota: None,
            load: Some(0.3),
            memory: None,
            pids: None,
            capabilities: Some((1 << BPF) | (1 << PERFMON)),
            filtered: false,
            tracefs: true,
            paranoid: Some(2),
            listen: Some("127.0.0.1:8080".parse().unwrap()),
            listening: Vec::new(),
            unread: BTreeMap::new(),
        }
    }

    fn socket(inode: u64, holder: u32, shares_port: bool) -> Listening {
        let holders = [(holder, "web".to_owned())].into();
        Listening { inode, uid: 33, holders, shares_port: Some(shares_port) }
    }

    /// The one warning of a healthy machine with something changed: its check, what it saw and what to do.
    fn check(change: impl FnOnce(&mut Facts), check: &str, seen: &str, remedy: &str) {
        let mut facts = healthy();
        change(&mut facts);
        let warnings: Vec<_> =
            all(&facts).into_iter().filter(|finding| finding.level == Level::Warn).collect();
        let [Finding { check: which, caution, .. }] = &warnings[..] else {
            panic!("one warning is wanted: {warnings:?}");
        };
        assert_eq!(*which, check);
        assert!(caution.seen.contains(seen), "{caution}");
        assert!(!caution.meaning.is_empty() && caution.remedy.contains(remedy), "{caution}");
        assert!(!caution.remedy.contains('\n'));
    }

    #[test]
    fn a_healthy_machine_is_told_so_in_every_respect() {
        let findings = all(&healthy());
        assert_eq!(findings.len(), 12);
        for finding in findings {
            assert_eq!(finding.level, Level::Ok, "{finding:?}");
            assert!(!finding.caution.seen.is_empty());
        }
    }

    #[test]
    fn an_old_kernel() {
        check(|f| f.release = "5.10.0-30".to_owned(), "kernel", "Linux 5.10.0-30", "newer");
    }

    #[test]
    fn a_short_backlog() {
        let sysctl = "sysctl -w net.core.somaxconn=4096";
        check(|f| f.somaxconn = Some(128), "backlog", "somaxconn is 128", sysctl);
    }

    #[test]
    fn migration_that_wakes_nobody() {
        let old = |f: &mut Facts| {
            f.migrates = Some(true);
            f.release = "6.12.1".to_owned();
        };
        check(old, "migration", "tcp_migrate_req is on", "tcp_migrate_req=0");
        let mended = Facts { migrates: Some(true), ..healthy() };
        assert!(all(&mended).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn too_few_files() {
        check(|f| f.files = Some((1024, 524_288)), "open files", "1024", "LimitNOFILE");
        check(|f| f.files = Some((4096, 4096)), "open files", "4096 files at most", "ulimit -Hn");
    }

    #[test]
    fn a_listener_among_clients_ports() {
        let within = |f: &mut Facts| f.listen = Some("127.0.0.1:40000".parse().unwrap());
        check(within, "ports", "Port 40000 lies within", "reserved_ports=40000");
        check(|f| f.ephemeral = Some((1024, 65_535)), "ports", "1024-65535", "Listen below 1024");
        let none = |f: &mut Facts| (f.ephemeral, f.listen) = (Some((1024, 65_535)), None);
        let mut facts = healthy();
        none(&mut facts);
        let warned =
            all(&facts).into_iter().any(|one| one.check == "ports" && one.level == Level::Warn);
        assert!(warned);
    }

    #[test]
    fn fewer_processors_than_are_seen() {
        check(|f| f.quota = Some(1.5), "processors", "1.50 processors, and 4", "Start 1 workers");
        check(|f| f.processors = Some((8, 4)), "processors", "Of 8 processors", "taskset");
        check(|f| f.processors = Some((1, 1)), "processors", "one processor", "tails elsewhere");
    }

    #[test]
    fn a_busy_machine() {
        check(|f| f.load = Some(2.1), "load", "2.1 processes", "quiet");
    }

    #[test]
    fn narrow_cgroups() {
        check(|f| f.memory = Some(64 << 20), "memory", "64 MiB for 8 workers", "144 MiB");
        check(|f| f.pids = Some((40, 30)), "processes", "allows 40", "by 24 or more");
        let wide = Facts { memory: Some(1 << 30), pids: Some((1_000, 30)), ..healthy() };
        assert!(all(&wide).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn no_ebpf() {
        check(
            |f| f.capabilities = Some(1 << PERFMON),
            "eBPF",
            "not in effect",
            "AmbientCapabilities",
        );
        check(|f| f.filtered = true, "eBPF", "seccomp", "bpf(2)");
    }

    #[test]
    fn system_calls_that_cannot_be_counted() {
        check(|f| f.tracefs = false, "tracing", "tracefs", "mount -t tracefs");
        check(|f| f.capabilities = Some(1 << BPF), "tracing", "paranoid is 2", "as root");
    }

    #[test]
    fn somebody_else_on_the_address() {
        let one = |f: &mut Facts| f.listening = vec![socket(1, 7, false)];
        check(one, "listeners", "by web (process 7, user 33).", "listen elsewhere");
        let open = |f: &mut Facts| f.listening = vec![socket(1, 7, true), socket(2, 7, true)];
        check(open, "listeners", "by web (process 7, user 33).", "refuses to join");
        let two = |f: &mut Facts| f.listening = vec![socket(1, 7, true), socket(2, 8, true)];
        check(two, "listeners", "process 7, user 33) and by web (process 8", "End all but one");
    }

    #[test]
    fn what_could_not_be_read_is_no_good_news() {
        let mut facts = Facts { somaxconn: None, ..healthy() };
        facts.unread.insert("backlog", "cannot read it".to_owned());
        let findings = all(&facts);
        let backlog: Vec<_> = findings.iter().filter(|one| one.check == "backlog").collect();
        assert_eq!(backlog.len(), 1);
        assert_eq!(backlog[0].level, Level::Unknown);
        let levels = |facts: &Facts| {
            let of = all(facts).into_iter().filter(|one| one.check == "processors");
            of.map(|one| one.level).collect::<Vec<_>>()
        };
        facts.unread.insert("processors", "/proc/self/cgroup cannot be read".to_owned());
        assert_eq!(levels(&facts), [Level::Unknown]);
        facts.processors = Some((1, 1));
        assert_eq!(levels(&facts), [Level::Warn, Level::Unknown]);
    }
}
