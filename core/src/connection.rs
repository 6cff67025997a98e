//! One connection in a worker: a guard that knows where it came from and counts itself out.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::board::OwnBoard;
use crate::id::WorkerId;
use crate::listener::Address;
use crate::stream::Stream;

mod counted;

pub(crate) use counted::Counted;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Peer {
    /// A TCP client at this address.
    Inet(SocketAddr),
    /// A client on this machine, through a Unix socket. Such clients have no address as a rule; who it is
    /// says `SO_PEERCRED` on the [`Stream`].
    Unix,
}

impl Peer {
    /// Address and port, where it has them.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(address),
            Self::Unix => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<Option<SocketAddr>> for Peer {
    /// Of what `accept4(2)` said: TCP always names the client's address, a Unix socket never has one.
    fn from(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::Unix, Self::Inet)
    }
}

impl std::fmt::Display for Peer {
    /// The address, or `unix`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A listener as a worker knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerName {
    /// Its name in the service.
    pub name: String,
    /// The address it really has, also where port 0 was asked for.
    pub address: Address,
}

/// A worker's counter of connections.
///
/// Worker · one per process, shared by its lanes. Every connection passes through
/// [`begin`](Self::begin), whatever the strategy.
#[derive(Clone)]
pub struct Meter(Arc<MeterInner>);

struct MeterInner {
    board: OwnBoard,
    kick: OwnedFd,
    worker: WorkerId,
    listeners: Vec<ListenerName>,
    /// For connections that do not inherit it from their listener.
    read_timeout: Option<Duration>,
    /// The epoll of the lane, or what its acceptor waits on itself, once there is one: readable while
    /// connections wait for this worker.
    waiting: OnceLock<Arc<OwnedFd>>,
    /// The worker ends by itself.
    quits: AtomicBool,
    on_completed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Meter {
    pub(crate) fn new(
        board: OwnBoard,
        kick: OwnedFd,
        worker: WorkerId,
        listeners: Vec<ListenerName>,
        read_timeout: Option<Duration>,
    ) -> Self {
        let (waiting, on_completed) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(MeterInner {
            board,
            kick,
            worker,
            listeners,
            read_timeout,
            waiting,
            quits: AtomicBool::new(false),
            on_completed,
        }))
    }

    /// This worker ends by itself: its connections are told as if it had been asked to leave.
    pub(crate) fn quit(&self) {
        self.0.quits.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.0.board.leaving().is_some() || self.0.quits.load(Ordering::Relaxed)
    }

    /// Makes a [`Connection`] of an accepted or received socket and counts it as taken.
    ///
    /// Call it with nothing between `accept4(2)` and here: a worker that is killed in between loses a
    /// connection that no counter shows (*taken, uncounted*). `peer` is what `accept4(2)` or the
    /// message said: `getpeername(2)` would be a call more, and fails once the peer is gone.
    #[must_use]
    pub fn begin(&self, socket: OwnedFd, peer: impl Into<Peer>, listener: usize) -> Connection {
        if self.0.board.count_taken() {
            self.kick();
        }
        let peer = peer.into();
        let stream = Stream::new(socket, peer);
        if peer == Peer::Unix && self.0.read_timeout.is_some() {
            // TCP has it from its listener; an accepted Unix socket inherits nothing. It fails for 0 alone,
            // which the listener's options would have refused.
            let _ = stream.set_read_timeout(self.0.read_timeout);
        }
        let serving = Serving { meter: self.clone() };
        Connection(Counted::new(stream, Info { peer, listener, serving }))
    }

    /// Worker · counts a connection that this worker was sent and cannot have, because the message came
    /// without its descriptor: as taken, failed and completed. Uncounted it would be on its way for ever, and
    /// with it the credit it was sent on.
    pub fn lose(&self) {
        if self.0.board.count_taken() {
            self.kick();
        }
        self.0.board.count_failed();
        drop(Serving { meter: self.clone() });
    }

    /// Wakes the supervisor's dispatcher.
    fn kick(&self) {
        // An eventfd is full only after 2^64 − 2 kicks; a closed one means the supervisor is gone. Neither
        // matters to the connection at hand.
        let _ = rustix::io::write(&self.0.kick, &1_u64.to_ne_bytes());
    }

    pub(crate) fn set_waiting(&self, epoll: Arc<OwnedFd>) {
        // The first lane answers for all.
        let _ = self.0.waiting.set(epoll);
    }

    fn others_wait(&self) -> bool {
        if self.0.board.is_starving() {
            return true;
        }
        let Some(epoll) = self.0.waiting.get() else { return false };
        let mut fds = [PollFd::new(&**epoll, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(count) if count > 0)
    }

    /// Worker · in `open`: calls `hook` whenever a connection has ended, on the thread where it did. For
    /// counters that are kept elsewhere, too; the first hook stays.
    pub fn on_completed(&self, hook: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_completed.set(Box::new(hook));
    }

    /// The fewest connections that any worker has, as the supervisor saw it last; it is seldom older
    /// than a few milliseconds while any gate is closed.
    #[must_use]
    pub fn least(&self) -> u64 {
        self.0.board.least()
    }

    /// Worker · says that this worker does not listen now, because it has more connections than others;
    /// or that it listens again. The supervisor looks at once, so that at least one listens.
    pub fn close_gate(&self, closed: bool) {
        if self.0.board.close_gate(closed) && closed {
            self.kick();
        }
    }

    /// Worker · says that it can take nothing for want of descriptors, and that what waits for it alone is
    /// somebody else's; or that it can again. The supervisor looks at once, whichever it is.
    pub fn say_full(&self, full: bool) {
        if self.0.board.is_full() != full && self.0.board.say_full(full) {
            self.kick();
        }
    }

    /// Whether this worker said so, on whichever lane.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.board.is_full()
    }

    /// Connections this worker has taken and not finished, in all its lanes.
    #[must_use]
    pub fn in_service(&self) -> u32 {
        self.0.board.in_service()
    }

    /// Has the supervisor poke everybody: a wake-up was spent on this worker, which is busy, or cannot accept.
    pub(crate) fn pass_wake_up_on(&self) {
        self.0.board.count_hoarded();
        self.kick();
    }

    pub(crate) fn board(&self) -> &OwnBoard {
        &self.0.board
    }

    /// The worker this is.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.0.worker
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("worker", &self.0.worker).finish_non_exhaustive()
    }
}

/// A connection a worker serves.
///
/// Reads and writes go to the socket. Dropping it counts the connection as completed, tells the supervisor
/// if that waits for room, and *then* closes the socket: the next connection can come on its way meanwhile,
/// and who has seen the end of one finds it counted. That close never waits: a linger time (`SO_LINGER`) that a handler
/// has set is taken off, and the kernel delivers what was sent all the same. Who has to know that the client
/// has it shuts writing down and reads until the client's end.
#[derive(Debug)]
pub struct Connection(Counted<Stream>);

/// What every kind of connection knows about itself.
#[derive(Debug)]
pub(crate) struct Info {
    peer: Peer,
    listener: usize,
    serving: Serving,
}

impl Info {
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.serving.worker()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.serving.is_draining()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn into_serving(self) -> Serving {
        self.serving
    }

    pub(crate) fn listener(&self) -> &ListenerName {
        // `open` makes acceptors only for listeners it was given, in this order.
        &self.serving.meter.0.listeners[self.listener]
    }
}

impl Connection {
    /// The client.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.0.info().peer()
    }

    /// The listener it came through.
    #[must_use]
    pub fn listener(&self) -> &ListenerName {
        self.0.info().listener()
    }

    /// The worker this is.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.0.info().worker()
    }

    /// Whether this worker was told to leave, or ends by itself: finish the request at hand, then close.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.info().is_draining()
    }

    /// A handle on the worker, to be asked while the connection itself is lent to a parser or a library.
    #[must_use]
    pub fn worker_handle(&self) -> WorkerHandle {
        WorkerHandle { meter: self.0.info().serving.meter.clone() }
    }

    /// The socket and the count apart, for libraries that want to own a stream.
    ///
    /// Drop [`Serving`] when you are done with the stream, just before it: the supervisor may send the next
    /// connection as soon as the count ends.
    ///
    /// Do not set `SO_LINGER` on what you take apart. The last of all who hold a socket waits in `close(2)`, and under
    /// handoff that can be the supervisor, which has sent it a moment ago and serves nobody meanwhile.
    #[must_use]
    pub fn into_parts(self) -> (Stream, Serving) {
        let (stream, info) = self.0.into_parts();
        (stream, info.serving)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn into_counted(self) -> Counted<Stream> {
        self.0
    }

    /// The socket, for its options. Who asks for it pays a system call when the connection is dropped, by which it is
    /// seen whether the close would wait.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        self.0.lend()
    }
}

/// Reads and writes go on after a signal: a worker may be sent one while it serves (see
/// [`Interruptible`](crate::Interruptible)), and `SA_RESTART` does not help where a timeout is set.
impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = |stream: &Stream| stream.read_timeout().ok().flatten();
        uninterrupted(self.0.socket_mut(), timeout, |stream| stream.read(buffer))
    }
}

/// Calls again after a signal, but not for ever: each call has its whole timeout anew, so from the first
/// signal on there is one for all. At most twice the timeout, and nothing to pay where no signal comes.
fn uninterrupted(
    stream: &mut Stream,
    timeout: impl Fn(&Stream) -> Option<Duration>,
    mut call: impl FnMut(&mut Stream) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut until = None;
    loop {
        match call(stream) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                let now = Instant::now();
                let deadline =
                    *until.get_or_insert_with(|| timeout(stream).and_then(|t| now.checked_add(t)));
                if deadline.is_some_and(|deadline| deadline <= now) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
            result => return result,
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(self.0.socket_mut(), write_timeout, |stream| stream.write(bytes))
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        uninterrupted(self.0.socket_mut(), write_timeout, |stream| stream.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_timeout(stream: &Stream) -> Option<Duration> {
    stream.write_timeout().ok().flatten()
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.lend().as_fd()
    }
}

/// What a handler may ask of the worker it runs in.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    meter: Meter,
}

impl WorkerHandle {
    /// The worker this is.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.meter.worker()
    }

    /// Whether this worker was told to leave, or ends by itself: finish the request at hand, then close.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.meter.is_draining()
    }

    /// Whether connections wait for this worker: one that serves one at a time and keeps a connection
    /// alive should then close it after the answer at hand. (64 kept connections on 4 one-at-a-time
    /// workers starve 60 clients.) One system call.
    #[must_use]
    pub fn others_wait(&self) -> bool {
        self.meter.others_wait()
    }
}

/// The count of one connection in service; dropping it counts the connection as completed.
pub struct Serving {
    meter: Meter,
}

impl Serving {
    /// The worker this is.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.meter.worker()
    }

    /// Whether this worker was told to leave, or ends by itself.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.meter.is_draining()
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("worker", &self.worker()).finish()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let wanted = self.meter.0.board.count_completed();
        if let Some(hook) = self.meter.0.on_completed.get() {
            hook();
        }
        if wanted {
            self.meter.kick();
        }
    }
}

#[cfg(test)]
impl Meter {
    /// That of a worker without a supervisor.
    pub(crate) fn alone(read_timeout: Option<Duration>) -> Self {
        use rustix::event::{EventfdFlags, eventfd};
        let (_board, worker, supervisor) = crate::board::Board::create().unwrap();
        let board = OwnBoard::map(&worker, &supervisor).unwrap();
        let kick = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let worker = WorkerId { slot: crate::id::SlotId(0), generation: 0 };
        Self::new(board, kick, worker, Vec::new(), read_timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc::{self, RecvTimeoutError};

    use socket2::SockRef;

    use super::*;
    use crate::sys::{Interruptible, signal_on_input};

    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(3));

    #[test]
    fn a_unix_socket_does_not_inherit_the_read_timeout_and_is_told() {
        let path = std::env::temp_dir().join(format!("forkherd-timeout-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        SockRef::from(&listener).set_read_timeout(TIMEOUT).unwrap();
        let client = UnixStream::connect(&path);
        std::fs::remove_file(&path).unwrap();
        let (_client, (accepted, _)) = (client.unwrap(), listener.accept().unwrap());
        assert_eq!(accepted.read_timeout().unwrap(), None);
        let connection = Meter::alone(TIMEOUT).begin(accepted.into(), Peer::Unix, 0);
        assert_eq!(connection.stream().read_timeout().unwrap(), TIMEOUT);
    }

    /// Each signal begins a call anew, and with it its timeout: a worker that is poked again and again would
    /// never be rid of a silent client, or of one that does not read.
    #[test]
    fn a_timeout_ends_reads_and_writes_though_signals_come_all_the_time() {
        const PATIENCE: Duration = Duration::from_secs(20);
        /// Of the pokes: well within the timeout.
        const RHYTHM: Duration = Duration::from_millis(20);

        let (target, _other) = UnixStream::pair().unwrap();
        // As in a worker: without a handler the signal would do nothing at all.
        let _interruptible = Interruptible::new(target.into()).unwrap();
        let (ours, _silent) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut connection = Meter::alone(None).begin(ours.into(), Peer::Unix, 0);
        let (mut control, mut supervisor) = UnixStream::pair().unwrap();
        signal_on_input(&control).unwrap();
        let (is_over, over) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let begun = Instant::now();
            scope.spawn(move || {
                let is_late = || begun.elapsed() > PATIENCE;
                while over.recv_timeout(RHYTHM) == Err(RecvTimeoutError::Timeout) && !is_late() {
                    supervisor.write_all(b"P").unwrap();
                    // A channel that is full would end the pokes.
                    control.read_exact(&mut [0]).unwrap();
                }
            });
            let read = connection.read(&mut [0; 8]).unwrap_err();
            // More than the buffers hold, and nobody reads.
            let write = connection.write_all(&[0; 8 << 20]).unwrap_err();
            let vectored = connection.write_vectored(&[io::IoSlice::new(&[0; 8])]).unwrap_err();
            drop(is_over);
            let ends = [read.kind(), write.kind(), vectored.kind()];
            assert_eq!(ends, [io::ErrorKind::WouldBlock; 3]);
            assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        });
    }

    /// What waits for this worker comes on its way while it closes, and who has seen the end finds it counted.
    #[test]
    fn a_connection_is_counted_and_its_dispatcher_woken_before_it_is_closed() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let meter = Meter::alone(None);
        let connection = meter.begin(ours.into(), None, 0);
        assert_eq!(meter.in_service(), 1);
        let (counted, told) = mpsc::channel();
        let (board, client) = (meter.clone(), theirs.try_clone().unwrap());
        meter.on_completed(move || {
            let seen = (&client).read(&mut [0]).map_err(|error| error.kind());
            counted.send((board.in_service(), seen)).unwrap();
        });
        drop(connection);
        assert_eq!(told.recv().unwrap(), (0, Err(io::ErrorKind::WouldBlock)));
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn who_has_no_address_came_through_a_unix_socket() {
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!(Peer::from(Some(address)).address(), Some(address));
        assert_eq!(Peer::from(None), Peer::Unix);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let connection = Meter::alone(None).begin(ours.into(), None, 0);
        assert_eq!(
            (connection.peer().to_string(), connection.peer().address()),
            ("unix".into(), None)
        );
        assert!(connection.stream().unix().is_some() && connection.stream().tcp().is_none());
    }
}
