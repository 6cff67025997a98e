//! Looks at this machine: reads `/proc` and `/sys`, judges nothing, changes nothing, opens no port.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use nix::sys::utsname::uname;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use super::facts::Facts;
use super::group::Listening;
use crate::cgroup::Cgroups;
use crate::kernel::{self, field, number};

/// The facts of this machine, for a service of so many workers that is to listen on `listen`.
#[must_use]
pub fn at_this_machine(workers: u32, listen: Option<SocketAddr>) -> Facts {
    let mut facts = Facts { workers, listen, ..Facts::default() };
    let mut look = Look::default();
    facts.somaxconn = look.at("backlog", kernel::somaxconn());
    facts.ephemeral = look.at("ports", kernel::ephemeral_ports());
    facts.load = look.at("load", kernel::load_average());
    if let Some(status) = look.at("eBPF", kernel::text("/proc/self/status")) {
        facts.capabilities =
            field(&status, "CapEff").and_then(|text| u64::from_str_radix(text, 16).ok());
        facts.filtered = field(&status, "Seccomp").is_some_and(|mode| mode != "0");
    }
    let processors = look.at("processors", kernel::online());
    let mine = look.at("processors", kernel::affinity().map_err(Into::into));
    let count = |all: Vec<usize>| u32::try_from(all.len()).unwrap_or(u32::MAX);
    facts.processors = processors.map(count).zip(mine.map(count));
    let paranoid = look.at("tracing", kernel::sysctl("kernel.perf_event_paranoid"));
    facts.paranoid = paranoid.and_then(|text| number(&text));
    limits(&mut facts, &mut look, Cgroups::of_this_process);
    facts.files = look.at("open files", kernel::open_files().map_err(Into::into));
    if let Some(name) = look.at("kernel", uname().map_err(Into::into)) {
        facts.release = name.release().to_string_lossy().into_owned();
    }
    if let Some(listen) = listen {
        facts.listening = look.at("listeners", who_listens(listen)).unwrap_or_default();
    }
    // Absent in older kernels.
    let migrates = kernel::sysctl("net.ipv4.tcp_migrate_req").ok();
    facts.migrates = migrates.and_then(|text| number::<u8>(&text)).map(|value| value != 0);
    facts.tracefs = Path::new("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id").is_file()
        || Path::new("/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id").is_file();
    facts.unread = look.unread;
    facts
}

/// Keeps what could not be read, and why.
#[derive(Default)]
struct Look {
    unread: BTreeMap<&'static str, String>,
}

impl Look {
    fn at<T>(&mut self, check: &'static str, seen: anyhow::Result<T>) -> Option<T> {
        seen.map_err(|error| self.unread.insert(check, format!("{error:#}"))).ok()
    }
}

/// What cgroups allow, each with the check that is about it.
fn limits(facts: &mut Facts, look: &mut Look, groups: impl Fn() -> anyhow::Result<Cgroups>) {
    facts.quota = look.at("processors", groups().and_then(|own| own.processors())).flatten();
    facts.memory = look.at("memory", groups().and_then(|own| own.memory())).flatten();
    facts.pids = look.at("processes", groups().and_then(|own| own.processes())).flatten();
}

/// The sockets that listen where a service on `listen` would.
fn who_listens(listen: SocketAddr) -> anyhow::Result<Vec<Listening>> {
    let mut found = Vec::new();
    found.extend(kernel::text("/proc/net/tcp")?.lines().filter_map(listening));
    // A kernel without IPv6 has none.
    let version_6 = kernel::text("/proc/net/tcp6").unwrap_or_default();
    found.extend(version_6.lines().filter_map(listening));
    found.retain(|(address, _)| meets(*address, listen));
    let mut sockets: Vec<Listening> = found.into_iter().map(|(_, socket)| socket).collect();
    find_holders(&mut sockets)?;
    Ok(sockets)
}

/// Whether two services on these addresses are in each other's way.
fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip().to_canonical() == other.ip().to_canonical())
}

/// A line of `/proc/net/tcp` or `tcp6` whose socket listens.
///
/// `sl local remote st queues timer retransmits uid timeout inode …`; addresses are words of 32 bits as
/// this machine orders their bytes, in hexadecimal.
fn listening(line: &str) -> Option<(SocketAddr, Listening)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (&local, &state) = (words.get(1)?, words.get(3)?);
    let (address, port) = local.split_once(':')?;
    if state != "0A" {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let bytes =
        |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(bytes(0)?).into(),
        32 => {
            let all = [bytes(0)?, bytes(8)?, bytes(16)?, bytes(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(all).ok()?).into()
        }
        _ => return None,
    };
    let uid = number(words.get(7)?)?;
    let inode = number(words.get(9)?)?;
    Some((SocketAddr::new(ip, port), Listening { inode, uid, ..Listening::default() }))
}

/// Looks through the descriptors of all processes that we may see.
fn find_holders(sockets: &mut [Listening]) -> anyhow::Result<()> {
    if sockets.is_empty() {
        return Ok(());
    }
    for process in fs::read_dir("/proc").context("/proc cannot be read")?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(number::<u32>) else { continue };
        // Those of others, and of who ends meanwhile, are not to be seen.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        for file in files.flatten() {
            let Ok(link) = fs::read_link(file.path()) else { continue };
            let Some(inode) = link.to_str().and_then(socket_of) else { continue };
            let Some(socket) = sockets.iter_mut().find(|one| one.inode == inode) else { continue };
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            socket.holders.insert((pid, name.trim().to_owned()));
            if socket.shares_port.is_none() {
                let number = file.file_name().to_str().and_then(number::<i32>);
                socket.shares_port = number.and_then(|number| shares_port(pid, number));
            }
        }
    }
    Ok(())
}

/// The inode in `socket:[123]`.
fn socket_of(link: &str) -> Option<u64> {
    number(link.strip_prefix("socket:[")?.strip_suffix(']')?)
}

/// Whether a socket of another process lets others join its port: asked on a copy of it, if we may have one.
fn shares_port(pid: u32, descriptor: i32) -> Option<bool> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let copy = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty()).ok()?;
    SockRef::from(&copy).reuse_port().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::super::{Level, checks};
    use super::*;

    #[test]
    fn sockets_are_found_in_the_texts_of_the_kernel() {
        assert_eq!(socket_of("socket:[77]"), Some(77));
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33 \
                    0 4711 1 0000000000000000 100 0 0 10 0";
        if cfg!(target_endian = "little") {
            let (address, socket) = listening(line).unwrap();
            assert_eq!(address.to_string(), "127.0.0.1:8080");
            assert_eq!((socket.uid, socket.inode), (33, 4711));
            let line = line.replace("0100007F", "00000000000000000000000001000000");
            assert_eq!(listening(&line).unwrap().0.to_string(), "[::1]:8080");
        }
        assert!(listening(&line.replace(" 0A ", " 01 ")).is_none());
    }

    #[test]
    fn wildcards_are_in_everybodys_way() {
        let meets = |one: &str, other: &str| meets(one.parse().unwrap(), other.parse().unwrap());
        assert!(meets("0.0.0.0:80", "127.0.0.1:80") && meets("127.0.0.1:80", "[::]:80"));
        assert!(
            meets("127.0.0.1:80", "127.0.0.1:80") && meets("127.0.0.1:80", "[::ffff:127.0.0.1]:80")
        );
        assert!(!meets("127.0.0.1:80", "127.0.0.2:80") && !meets("0.0.0.0:80", "0.0.0.0:81"));
    }

    #[test]
    fn a_listener_of_this_process_is_seen_with_its_option() {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        let seen = who_listens(plain.local_addr().unwrap()).unwrap();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].holders.iter().any(|&(pid, _)| pid == std::process::id()));
        assert_eq!(seen[0].shares_port, Some(false));

        let open = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        open.set_reuse_port(true).unwrap();
        open.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        open.listen(1).unwrap();
        let address = open.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(who_listens(address).unwrap()[0].shares_port, Some(true));
    }

    #[test]
    fn limits_that_cannot_be_read_are_unknown_and_not_absent() {
        let (mut facts, mut look) = (at_this_machine(8, None), Look::default());
        limits(&mut facts, &mut look, || anyhow::bail!("/proc/self/cgroup cannot be read"));
        facts.unread = look.unread;
        let findings = checks::all(&facts);
        for check in ["processors", "memory", "processes"] {
            let of = findings.iter().filter(|one| one.check == check);
            let levels: Vec<_> =
                of.map(|one| one.level).filter(|&one| one != Level::Warn).collect();
            assert_eq!(levels, [Level::Unknown], "{check}: {findings:?}");
        }
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts = at_this_machine(8, Some("127.0.0.1:1".parse().unwrap()));
        assert!(facts.unread.is_empty(), "{:?}", facts.unread);
        assert!(facts.version().is_some() && facts.somaxconn.is_some(), "{facts:?}");
        assert!(facts.processors.is_some_and(|(online, mine)| online >= mine && mine > 0));
        assert!(facts.capabilities.is_some() && facts.files.is_some() && facts.ephemeral.is_some());
    }
}
