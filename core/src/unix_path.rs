//! The path of a Unix socket: taken under a lock, given back at the end.
//!
//! # Why this is hard
//!
//! A socket that its process leaves behind stays in the file system, and `bind(2)` refuses the path for ever
//! after. Whoever removes it first must know that it is *stale*, and two that look at the same time both
//! see that it is: the second then removes what the first has just bound. So whoever wants the path takes
//! a lock beside it, and keeps that for life; a lock ends with its process, however that ends.
//!
//! # Correct order
//!
//! 1. lock `PATH.lock`; who does not get it is a second instance, and is refused;
//! 2. look at PATH: nothing there, or a socket nobody listens on, which is removed; else refuse;
//! 3. `bind(2)`; 4. `chmod(2)`, whatever the umask is; 5. `listen(2)`.
//!
//! The workers of a killed supervisor end some milliseconds after it. So whoever finds that somebody listens
//! waits for the end of that, 2 s at most, and refuses then. A lock that is taken is refused at once: nothing
//! tells its end. (A child that the supervisor was just starting has it until the `exec`.)
//!
//! Nobody can connect before 5 (`ECONNREFUSED`), so nobody gets in by permissions that are not there yet;
//! a temporary name and a rename would add nothing, and shorten the longest path. At the end the path goes
//! first, if it is still ours, then the lock.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// The right to a path, and what is bound there.
///
/// Supervisor · from before `bind(2)` to its end; drop it before the socket, which as long as it is open keeps
/// its inode from becoming somebody else's. Dropping it removes the socket, if that is still the one it
/// bound, and the lock; in a forked child it only closes its copy, which does not unlock.
#[derive(Debug)]
pub(crate) struct UnixPath {
    path: PathBuf,
    lock_path: PathBuf,
    /// The lock is that of the open file; nobody else has it.
    _lock: OwnedFd,
    /// Device and inode of the socket, once bound.
    bound: Option<(u64, u64)>,
    owner: u32,
}

/// How often the lock's file may be replaced under our hands, or what we connected to end: each time another
/// instance has just ended.
const ATTEMPTS: u32 = 16;

/// How long the workers of a killed supervisor may take to end.
const ORPHANS: Duration = Duration::from_secs(2);

impl UnixPath {
    /// Takes the path, and removes what an earlier owner has left there.
    ///
    /// # Errors
    /// `AddrInUse`: another instance or program serves it. `AlreadyExists`: what is there is no socket.
    /// Otherwise that of `open(2)`, `flock(2)` or `unlink(2)`.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(&lock_path)?;
        let taken = Self {
            path: path.to_owned(),
            lock_path,
            _lock: lock,
            bound: None,
            owner: std::process::id(),
        };
        remove_stale(path)?;
        Ok(taken)
    }

    /// Binds a socket there that lets in whom `mode` says. Nobody can connect before it listens.
    ///
    /// # Errors
    /// That of `bind(2)` or `chmod(2)`.
    pub(crate) fn bind(&mut self, socket: &Socket, mode: u32) -> io::Result<()> {
        socket.bind(&SockAddr::unix(&self.path)?)?;
        let found = fs::symlink_metadata(&self.path)?;
        self.bound = Some((found.dev(), found.ino()));
        // The umask took from what `bind(2)` gave; to change that would be to change it for every thread.
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
    }
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino())).ok();
        let is_ours = self.bound.is_some() && self.bound == found;
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
        // Still locked: whoever opened it meanwhile finds that it is no longer there, and takes another.
        if let Err(error) = fs::remove_file(&self.lock_path) {
            tracing::debug!(path = %self.lock_path.display(), %error, "cannot remove the lock");
        }
    }
}

fn lock(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let about = |why: &dyn std::fmt::Display, kind| {
        let text = format!("its lock {}: {why}: remove it, or choose another path", path.display());
        io::Error::new(kind, text)
    };
    for _ in 0..ATTEMPTS {
        let file = match open(path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => file,
            // Something is there that can be no lock.
            Err(error @ (Errno::ISDIR | Errno::LOOP | Errno::NXIO)) => {
                return Err(about(&error, io::ErrorKind::AlreadyExists));
            }
            Err(error) => return Err(error.into()),
        };
        let found = fstat(&file)?;
        if rustix::fs::FileType::from_raw_mode(found.st_mode) != rustix::fs::FileType::RegularFile
            || found.st_size != 0
        {
            return Err(about(
                &"what is there is no lock, and was left alone",
                io::ErrorKind::AlreadyExists,
            ));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => return Err(in_use("another instance serves it")),
            Err(error) => return Err(error.into()),
        }
        // Its last owner removes it while it has the lock: then this one is nobody's file.
        let ours = fstat(&file)?;
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino) => {
                return Ok(file);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(in_use("other instances come and go there"))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "what is there is no socket, and was left alone: remove it, or choose another path",
        ));
    }
    let deadline = Instant::now() + ORPHANS;
    for _ in 0..ATTEMPTS {
        // A program that knows nothing of our lock may listen there. One connection is what it sees of us;
        // were its queue full, a blocking call would wait for it.
        let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        match probe.connect(&SockAddr::unix(path)?) {
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                tracing::info!(path = %path.display(), "taking over the socket that a former owner left");
                return fs::remove_file(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Ok(()) if ends(&probe, deadline)? => {}
            _ => break,
        }
    }
    Err(in_use("another program listens there"))
}

/// Waits until the connection ends, as it does at the latest when nobody has its listener any more.
fn ends(probe: &Socket, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .map_err(io::Error::other)?;
        let mut one = [PollFd::new(probe, PollFlags::empty())];
        match poll(&mut one, Some(&left)) {
            Ok(ended) => return Ok(ended > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn in_use(why: &str) -> io::Error {
    let text = format!("{why}: stop it, or choose another path");
    io::Error::new(io::ErrorKind::AddrInUse, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory for one test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir()
                .join(format!("forkherd-unix-path-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("a.sock")
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn socket() -> Socket {
        Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None).unwrap()
    }

    #[test]
    fn permissions_are_as_asked_before_anybody_can_connect() {
        let folder = Folder::new();
        for mode in [0o600, 0o666, 0o777, 0o000] {
            let socket = socket();
            let mut taken = UnixPath::take(&folder.path()).unwrap();
            taken.bind(&socket, mode).unwrap();
            assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, mode);
            let early = UnixStream::connect(folder.path()).unwrap_err();
            assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
            socket.listen(1).unwrap();
            UnixStream::connect(folder.path()).unwrap();
        }
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }

    #[test]
    fn a_path_has_one_owner() {
        let folder = Folder::new();
        let first = UnixPath::take(&folder.path()).unwrap();
        let error = UnixPath::take(&folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("stop it, or choose another path"), "{error}");
        drop(first);
        UnixPath::take(&folder.path()).unwrap();
    }

    #[test]
    fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let folder = Folder::new();
        let alive = UnixListener::bind(folder.path()).unwrap();
        assert_eq!(UnixPath::take(&folder.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // Closed, and left behind as by a process that was killed.
        drop(alive);
        UnixPath::take(&folder.path()).unwrap().bind(&socket(), 0o600).unwrap();

        let _datagrams = UnixDatagram::bind(folder.path()).unwrap();
        assert_eq!(UnixPath::take(&folder.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_end_of_a_former_owner_is_waited_for() {
        let folder = Folder::new();
        let path = folder.path();
        let worker = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| drop((worker.accept().unwrap(), worker)));
            UnixPath::take(&path).unwrap();
        });
        assert_eq!(folder.names(), Vec::<String>::new());
    }

    #[test]
    fn a_full_queue_is_somebody() {
        let folder = Folder::new();
        let path = folder.path();
        let worker = socket();
        worker.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        worker.listen(0).unwrap();
        let waits = UnixStream::connect(&path).unwrap();
        assert_eq!(UnixPath::take(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((worker, waits));
        UnixPath::take(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new();
        let target = folder.0.join("target");
        drop(UnixListener::bind(&target).unwrap());
        let make: [fn(&Path, &Path); 3] = [
            |_, path| fs::write(path, "precious").unwrap(),
            |_, path| fs::create_dir(path).unwrap(),
            |target, path| std::os::unix::fs::symlink(target, path).unwrap(),
        ];
        for make in make {
            make(&target, &folder.path());
            let error = UnixPath::take(&folder.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            assert!(fs::symlink_metadata(folder.path()).is_ok());
            let _ = fs::remove_file(folder.path());
            let _ = fs::remove_dir(folder.path());
        }
        assert_eq!(folder.names(), ["target"]);
    }

    /// The name of the lock is ours to choose, what stands there may be somebody's.
    #[test]
    fn what_is_no_lock_of_ours_is_left_alone() {
        let folder = Folder::new();
        let lock = folder.0.join("a.sock.lock");
        let target = folder.0.join("target");
        fs::write(&target, "").unwrap();
        let make: [fn(&Path, &Path); 4] = [
            |_, lock| fs::write(lock, "precious").unwrap(),
            |_, lock| fs::create_dir(lock).unwrap(),
            |target, lock| std::os::unix::fs::symlink(target, lock).unwrap(),
            |_, lock| drop(UnixListener::bind(lock).unwrap()),
        ];
        for make in make {
            make(&target, &lock);
            let before = fs::symlink_metadata(&lock).unwrap();
            let error = UnixPath::take(&folder.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            let text = error.to_string();
            let says = [lock.to_str().unwrap(), "remove it, or choose another path"];
            assert!(says.iter().all(|part| text.contains(part)), "{text}");
            let after = fs::symlink_metadata(&lock).unwrap();
            assert_eq!((before.ino(), before.len()), (after.ino(), after.len()));
            let _ = fs::remove_file(&lock);
            let _ = fs::remove_dir(&lock);
        }
        assert_eq!(folder.names(), ["target"]);
    }

    #[test]
    fn what_somebody_else_put_there_meanwhile_stays() {
        let folder = Folder::new();
        let (socket, mut taken) = (socket(), UnixPath::take(&folder.path()).unwrap());
        taken.bind(&socket, 0o600).unwrap();
        fs::remove_file(folder.path()).unwrap();
        let other = UnixListener::bind(folder.path()).unwrap();
        drop(taken);
        assert_eq!(folder.names(), ["a.sock"]);
        drop((socket, other));
    }

    /// Instances that come and go at the same time: never two at once, and each gets its turn or a refusal.
    #[test]
    fn of_many_who_race_for_a_path_one_has_it() {
        let folder = Folder::new();
        let (owners, served) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let Ok(mut taken) = UnixPath::take(&folder.path()) else { continue };
                        assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0);
                        let socket = socket();
                        taken.bind(&socket, 0o600).unwrap();
                        socket.listen(1).unwrap();
                        UnixStream::connect(folder.path()).unwrap();
                        if served.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
                            // As if killed: the path stays, and nobody listens.
                            taken.bound = None;
                        }
                        drop(socket);
                        owners.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(served.into_inner() > 0);
    }
}
