//! What `/proc` shows: accept queues, descriptors, environments, and whether somebody lives.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::herd::PATIENCE;

/// A row of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    /// Address and port, as the kernel writes them.
    local: String,
    remote: String,
    port: u16,
    state: u8,
    /// For a listener: the length of its accept queue.
    receive_queue: u32,
    inode: u64,
}

const ESTABLISHED: u8 = 0x01;
const LISTEN: u8 = 0x0a;

fn rows(address: SocketAddr) -> io::Result<Vec<Row>> {
    let path = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    Ok(fs::read_to_string(path)?.lines().skip(1).filter_map(row).collect())
}

fn row(line: &str) -> Option<Row> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    let (_, port) = local.rsplit_once(':')?;
    let state = words.next()?;
    let (_, receive_queue) = words.next()?.split_once(':')?;
    Some(Row {
        local: local.to_owned(),
        remote: remote.to_owned(),
        port: u16::from_str_radix(port, 16).ok()?,
        state: u8::from_str_radix(state, 16).ok()?,
        receive_queue: u32::from_str_radix(receive_queue, 16).ok()?,
        // tr:when, retrnsmt, uid, timeout, inode.
        inode: words.nth(4)?.parse().ok()?,
    })
}

/// How many connections wait in the accept queues of all listeners on this port.
pub(super) fn queued(address: SocketAddr) -> io::Result<u32> {
    let listeners =
        rows(address)?.into_iter().filter(|r| r.port == address.port() && r.state == LISTEN);
    Ok(listeners.map(|row| row.receive_queue).sum())
}

/// The accept queues of a process's listeners on this port, in the order of its descriptors; one that it
/// holds twice counts once.
pub(super) fn queued_by_listener(pid: u32, address: SocketAddr) -> io::Result<Vec<u32>> {
    let rows = rows(address)?;
    let mut seen = BTreeSet::new();
    let mut queues = Vec::new();
    for (_, link) in links(pid)? {
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        let inode = inode.and_then(|digits| digits.parse::<u64>().ok());
        let Some(row) = rows.iter().find(|row| Some(row.inode) == inode) else { continue };
        if row.state == LISTEN && row.port == address.port() && seen.insert(row.inode) {
            queues.push(row.receive_queue);
        }
    }
    Ok(queues)
}

/// How many connections to this address have arrived at its side and are open there, taken or not.
///
/// By their clients: while others come and go the kernel may show one twice. And by the whole address: somebody
/// else's client may have the same port at another.
pub(super) fn arrived(address: SocketAddr) -> io::Result<usize> {
    let local = written(address);
    let here = |row: &Row| row.local == local && row.state == ESTABLISHED;
    let clients = rows(address)?.into_iter().filter(here).map(|row| row.remote);
    Ok(clients.collect::<BTreeSet<String>>().len())
}

/// As the kernel writes it: words of 32 bits in the order of this machine.
fn written(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| {
        let word = [word[0], word[1], word[2], word[3]];
        format!("{:08X}", u32::from_ne_bytes(word))
    });
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

/// A process's descriptors and what they refer to, by number.
fn links(pid: u32) -> io::Result<Vec<(u32, String)>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // One that was closed meanwhile is none.
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        links.push((number, link.to_string_lossy().into_owned()));
    }
    links.sort_unstable();
    Ok(links)
}

/// What a process's descriptors refer to, sorted, without the numbers that differ from one to the next.
pub(super) fn descriptors(pid: u32) -> io::Result<Vec<String>> {
    let kind = |link: String| link.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let mut kinds: Vec<String> = links(pid)?.into_iter().map(|(_, link)| kind(link)).collect();
    kinds.sort_unstable();
    Ok(kinds)
}

/// A process's command line, words separated by blanks.
pub(super) fn command_line(pid: u32) -> io::Result<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/cmdline"))?.replace('\0', " ").trim_end().to_owned())
}

/// A variable in the environment a process was started with.
pub(super) fn variable(pid: u32, name: &str) -> io::Result<Option<String>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let environment = String::from_utf8_lossy(&environment);
    let found = environment.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    Ok(found.map(str::to_owned))
}

/// The parent of a process; `None` if there is no such process, or only its corpse.
pub(super) fn parent(pid: u32) -> Option<u32> {
    let (state, parent) = state_and_parent(pid)?;
    (!matches!(state, 'Z' | 'X')).then_some(parent)
}

/// The signals that each thread of a process blocks: bit n − 1 is signal n.
pub(super) fn blocked_signals(pid: u32) -> io::Result<Vec<u64>> {
    let mut masks = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that has ended meanwhile blocks nothing.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        masks.push(mask.ok_or(io::ErrorKind::InvalidData)?);
    }
    Ok(masks)
}

/// Whether a process waits for something. A worker that serves nobody does so in its wait for
/// connections only.
pub(super) fn is_asleep(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state == 'S')
}

/// Whether a signal has stopped a process.
pub(super) fn is_stopped(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state == 'T')
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// Looks until there is something to see: for what tells nobody when it changes.
pub(super) fn poll_until<T>(
    what: &str,
    mut look: impl FnMut() -> io::Result<Option<T>>,
) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().map_err(|error| format!("{what}: {error}"))? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("not within {PATIENCE:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_accept_queue_is_as_long_as_those_who_wait_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        poll_until("three in the queue", || Ok((queued(address)? == 3).then_some(()))).unwrap();
        poll_until("three have arrived", || Ok((arrived(address)? == 3).then_some(()))).unwrap();
        assert_eq!(queued_by_listener(std::process::id(), address).unwrap(), [3]);
    }

    #[test]
    fn connections_over_ipv6_arrive_too() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            eprintln!("skipped, because there is no IPv6 here");
            return;
        };
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        poll_until("it has arrived", || Ok((arrived(address)? == 1).then_some(()))).unwrap();
    }

    #[test]
    fn this_process_has_a_parent_and_a_variable() {
        let pid = std::process::id();
        assert_eq!(parent(pid), Some(std::os::unix::process::parent_id()));
        assert_eq!(variable(pid, "PATH").unwrap(), std::env::var("PATH").ok());
        assert!(!descriptors(pid).unwrap().is_empty());
    }
}
