//! Listening sockets, owned for the life of the supervisor.
//!
//! Workers hold duplicates. A listener that its dying worker owned would reset what is queued on it (20
//! of 40 clients; held here, 0 of 40; Linux 6.18).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::connection::ListenerName;
use crate::id::SlotId;
use crate::listener::{Address, ListenSpec};
use crate::strategy::Plan;
use crate::sys::queue_len;
use crate::unix_path::UnixPath;

/// Most connections that may wait in one accept queue, if the system allows so many.
///
/// 4096 is the kernel's own default limit (`net.core.somaxconn`) since Linux 5.4.
pub const BACKLOG: u32 = 4096;

/// A listening socket of the pool.
#[derive(Debug)]
pub struct Listener {
    // The order matters: the path of a Unix socket is removed before the socket is closed, so that nobody
    // comes whom nobody will answer.
    _path: Option<UnixPath>,
    socket: Socket,
    name: String,
    address: Address,
}

impl Listener {
    /// Its name in the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address it really has.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) plain: Vec<Listener>,
    pub(crate) by_slot: Vec<Vec<Listener>>,
}

impl Pool {
    pub(crate) fn listen(&mut self, plan: &Plan, blocking: bool) -> io::Result<()> {
        for spec in &plan.listeners {
            let opened = match spec.address() {
                Address::Inet(address) => {
                    open(*address, Group::Alone, plan).map(|socket| (socket, None))
                }
                Address::Unix(path) => {
                    open_unix(path, spec.mode()).map(|(socket, path)| (socket, Some(path)))
                }
            };
            let (socket, path) = opened.map_err(|error| explain(spec, error))?;
            socket.set_nonblocking(!(blocking || plan.is_foreign))?;
            self.plain.push(named(spec, socket, path)?);
        }
        Ok(())
    }

    pub(crate) fn listen_per_slot(&mut self, plan: &Plan) -> io::Result<()> {
        self.by_slot.resize_with(plan.slots as usize, Vec::new);
        for spec in &plan.listeners {
            let Address::Inet(address) = *spec.address() else {
                return Err(explain(spec, io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
            };
            // Two supervisors that start at the same moment can both lose (8 of 1,000 races; both won:
            // 0), so a lost race is tried once more.
            let members = open_group(address, plan)
                .or_else(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => open_group(address, plan),
                    _ => Err(error),
                })
                .map_err(|error| explain(spec, error))?;
            for (slot, socket) in self.by_slot.iter_mut().zip(members) {
                socket.set_nonblocking(!plan.is_foreign)?;
                slot.push(named(spec, socket, None)?);
            }
        }
        Ok(())
    }

    /// What a worker of this slot listens on, in the order of the plan.
    pub(crate) fn of(&self, slot: SlotId) -> &[Listener] {
        self.by_slot.get(slot.index()).map_or(&self.plain, |listeners| listeners)
    }

    /// How many connections wait to be accepted; not those of Unix sockets, whose queues do not tell.
    pub(crate) fn waiting(&self) -> u64 {
        waiting_on(self.plain.iter().chain(self.by_slot.iter().flatten()))
    }

    /// The listeners by name, with their real addresses, in the order of the plan.
    pub(crate) fn names(&self) -> Vec<ListenerName> {
        let listeners =
            if self.plain.is_empty() { self.by_slot.first() } else { Some(&self.plain) };
        listeners
            .into_iter()
            .flatten()
            .map(|l| ListenerName { name: l.name.clone(), address: l.address.clone() })
            .collect()
    }
}

/// How many connections wait on these. A queue that cannot be looked at counts as empty.
pub(crate) fn waiting_on<'a>(listeners: impl Iterator<Item = &'a Listener>) -> u64 {
    listeners.map(|listener| u64::from(queue_len(listener).unwrap_or(0))).sum()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Alone,
    Joins,
}

/// The first member binds and listens *without* `SO_REUSEPORT`, which a second instance cannot do while
/// we live, and only then opens the group for the others.
fn open_group(address: SocketAddr, plan: &Plan) -> io::Result<Vec<Socket>> {
    let first = open(address, Group::Alone, plan)?;
    first.set_reuse_port(true)?;
    let address = bound_address(&first)?;
    let mut members = vec![first];
    for _ in 1..plan.slots {
        members.push(open(address, Group::Joins, plan)?);
    }
    Ok(members)
}

fn open(address: SocketAddr, group: Group, plan: &Plan) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // One spec, one family: whoever wants both says both, whatever net.ipv6.bindv6only is.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if group == Group::Joins {
        socket.set_reuse_port(true)?;
    }
    // Inherited by every accepted connection, at no call per connection.
    socket.set_tcp_nodelay(true)?;
    if plan.read_timeout.is_some() {
        socket.set_read_timeout(plan.read_timeout)?;
    }
    socket.bind(&SockAddr::from(address))?;
    listen(&socket)?;
    Ok(socket)
}

/// What it accepts inherits neither options nor timeouts: [`Meter::begin`](crate::Meter::begin) sets them.
fn open_unix(path: &Path, mode: u32) -> io::Result<(Socket, UnixPath)> {
    let mut path = UnixPath::take(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    path.bind(&socket, mode)?;
    listen(&socket)?;
    Ok((socket, path))
}

fn listen(socket: &Socket) -> io::Result<()> {
    // The kernel clamps it to net.core.somaxconn by itself.
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))
}

fn named(spec: &ListenSpec, socket: Socket, path: Option<UnixPath>) -> io::Result<Listener> {
    let address = match spec.address() {
        Address::Inet(_) => bound_address(&socket)?.into(),
        path @ Address::Unix(_) => path.clone(),
    };
    Ok(Listener { _path: path, socket, name: spec.name().to_owned(), address })
}

fn bound_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("a listener without an address"))
}

/// An error of `bind(2)` or `listen(2)` with the listener it is about and what helps.
#[derive(Debug)]
struct ListenError {
    spec: ListenSpec,
    source: io::Error,
}

fn explain(spec: &ListenSpec, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), ListenError { spec: spec.clone(), source })
}

impl ListenError {
    /// What helps, where we know it.
    fn advice(&self) -> Option<&'static str> {
        let address = self.spec.address();
        let is_unix = address.path().is_some();
        Some(match self.source.raw_os_error()? {
            libc::ENOENT | libc::ENOTDIR if is_unix => {
                "its directory does not exist: create that, or choose another path"
            }
            libc::EACCES | libc::EPERM | libc::EROFS if is_unix => {
                "no right to do so: choose a directory that this user may write in, and a socket or lock there \
                 that is this user's"
            }
            libc::EOPNOTSUPP if is_unix => {
                "a Unix socket can be bound once, and the strategy wants one per slot: choose another strategy"
            }
            libc::EADDRINUSE => {
                "the port is in use, perhaps by another instance: stop it, or choose another port"
            }
            libc::EACCES if address.inet().is_some_and(|address| address.port() < 1024) => {
                "no right to bind a port below 1024: choose a higher one, or grant CAP_NET_BIND_SERVICE"
            }
            libc::EADDRNOTAVAIL => {
                "no interface of this machine has that address: choose one that it has"
            }
            libc::EMFILE => {
                "no descriptor is left for it: raise the limit (`ulimit -n`) or ask for fewer workers"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spec, source } = self;
        write!(f, "cannot listen on {} (listener `{}`): ", spec.address(), spec.name())?;
        match self.advice() {
            Some(advice) => f.write_str(advice),
            None => write!(f, "{source}"),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // Without advice the message is the cause already; whoever prints both would say it twice.
        self.advice().map(|_| &self.source as _)
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::Timespec;

    use super::*;
    use crate::strategy::RuntimeKind;

    fn plan(specs: &[&str], workers: u32) -> Plan {
        let listeners = specs.iter().map(|text| text.parse().unwrap()).collect();
        Plan {
            listeners,
            workers,
            slots: workers,
            runtime: RuntimeKind::Blocking,
            is_foreign: false,
            read_timeout: None,
        }
    }

    fn inet(listener: &Listener) -> SocketAddr {
        listener.address().inet().unwrap()
    }

    #[test]
    fn all_slots_share_the_port_the_kernel_chose() {
        let mut pool = Pool::default();
        pool.listen_per_slot(&plan(&["127.0.0.1:0"], 4)).unwrap();
        let ports: Vec<_> = pool.by_slot.iter().map(|l| inet(&l[0]).port()).collect();
        assert_ne!(ports[0], 0);
        assert!(ports.iter().all(|&port| port == ports[0]), "{ports:?}");
        assert_eq!(pool.names().len(), 1);
    }

    #[test]
    fn a_second_instance_is_refused_with_and_without_a_group() {
        let mut first = Pool::default();
        first.listen_per_slot(&plan(&["127.0.0.1:0"], 2)).unwrap();
        let taken = plan(&[&first.by_slot[0][0].address().to_string()], 2);
        for attempt in
            [Pool::default().listen_per_slot(&taken), Pool::default().listen(&taken, false)]
        {
            let error = attempt.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains("stop it, or choose another port"), "{error}");
        }
    }

    #[test]
    fn a_unix_socket_is_refused_with_what_helps_and_once() {
        let folder = std::env::temp_dir().join(format!("forkherd-pool-{}", std::process::id()));
        let text = format!("unix:{}/a.sock", folder.display());
        let refusal = || {
            let error = Pool::default().listen(&plan(&[&text], 1), false).unwrap_err();
            let inner = error.get_ref().unwrap();
            (error.to_string(), inner.source().map(ToString::to_string))
        };
        let (message, cause) = refusal();
        assert!(message.ends_with("create that, or choose another path"), "{message}");
        assert_eq!(cause.as_deref(), Some("No such file or directory (os error 2)"));

        std::fs::create_dir(&folder).unwrap();
        let mut pool = Pool::default();
        pool.listen(&plan(&[&text], 1), false).unwrap();
        let (message, cause) = refusal();
        assert!(message.ends_with("another instance serves it: stop it, or choose another path"));
        assert_eq!(cause, None);
        assert_eq!(pool.plain[0].address().to_string(), text);
        drop(pool);
        // Nothing is left in it.
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn both_families_may_have_the_same_port() {
        let mut pool = Pool::default();
        pool.listen(&plan(&["[::]:0"], 1), false).unwrap();
        let port = inet(&pool.plain[0]).port();
        pool.listen(&plan(&[&format!("four=0.0.0.0:{port}")], 1), false).unwrap();
    }

    #[test]
    fn those_who_wait_are_counted_on_all_listeners() {
        let mut pool = Pool::default();
        pool.listen_per_slot(&plan(&["127.0.0.1:0"], 1)).unwrap();
        pool.listen(&plan(&["127.0.0.1:0"], 1), false).unwrap();
        assert_eq!(pool.waiting(), 0);
        let _clients = [&pool.by_slot[0][0], &pool.plain[0]].map(|listener| {
            let client = std::net::TcpStream::connect(inet(listener)).unwrap();
            let mut fds = [PollFd::new(listener, PollFlags::IN)];
            let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
            assert_eq!(poll(&mut fds, Some(&patience)), Ok(1), "it does not arrive");
            client
        });
        assert_eq!(pool.waiting(), 2);
    }

    #[test]
    fn what_a_listener_accepts_inherits_its_options() {
        let mut pool = Pool::default();
        let timeout = Some(std::time::Duration::from_secs(3));
        pool.listen(&Plan { read_timeout: timeout, ..plan(&["127.0.0.1:0"], 1) }, false).unwrap();
        let listener = &pool.plain[0];
        let _client = std::net::TcpStream::connect(inet(listener)).unwrap();
        let (accepted, _) = listener.socket.accept().unwrap();
        assert_eq!(accepted.read_timeout().unwrap(), timeout);
        assert!(accepted.tcp_nodelay().unwrap());
    }
}
