//! The tokio runtime: many connections at a time on one thread, built in the worker.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::tokio::io::unix::AsyncFd;
use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpStream, UnixStream};
use ::tokio::sync::Notify;
use ::tokio::task::{LocalSet, yield_now};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::lane::Wait;
use super::lookout::Lookout;
use super::sealed::Sealed;
use super::{Lane, Runtime, Turn, WorkerSetup, note_outcome};
use crate::connection::{Connection, Counted, ListenerName, Meter, Peer, Serving};
use crate::error::Error;
use crate::id::WorkerId;
use crate::strategy::RuntimeKind;
use crate::stream::Stream;
use crate::sys::watch;

/// Serves many connections at a time on a current-thread tokio runtime.
///
/// ```no_run
/// use forkherd_core::{AsyncConnection, ListenSpec, Service, Strategy, Tokio};
/// use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
///
/// # fn strategy() -> Box<dyn Strategy> { unimplemented!("forkherd-prefork, -handoff or -reuseport") }
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     Service::new("echo")
///         .listen("127.0.0.1:8080".parse::<ListenSpec>()?)
///         .workers(4)
///         .run(strategy(), Tokio::new(async |mut client: AsyncConnection| {
///             let draining = client.draining();
///             tokio::pin!(draining);
///             let mut bytes = [0; 4096];
///             loop {
///                 let count = tokio::select! {
///                     biased; // what the client has sent is served, whoever is to leave
///                     count = client.read(&mut bytes) => count?,
///                     () = &mut draining => 0,
///                 };
///                 if count == 0 {
///                     return Ok(());
///                 }
///                 client.write_all(&bytes[..count]).await?;
///             }
///         }))?;
///     Ok(())
/// }
/// ```
///
/// The runtime is built in the worker, after the start: tokio forbids its use in a child of a process
/// that used it. So `main` is a plain function, without `#[tokio::main]`. Each connection is a task of its
/// own; futures need not be `Send`. Whoever keeps connections open ends them when
/// [`AsyncConnection::draining`] says so, or a restart waits for them until its deadline.
///
/// tokio's epoll would watch the lane's, and there `EPOLLEXCLUSIVE` is lost: on a *shared* listener every
/// idle worker would wake for each connection (a herd). Where workers share listeners, a second thread
/// waits for the lane and wakes the runtime; it runs no code of yours.
#[derive(Debug)]
pub struct Tokio<H> {
    handler: H,
}

impl<H> Tokio<H>
where
    H: AsyncFn(AsyncConnection) -> io::Result<()> + 'static,
{
    /// A runtime that calls `handler` for each connection.
    pub fn new(handler: H) -> Self {
        Self { handler }
    }
}

impl<H> Runtime for Tokio<H>
where
    H: AsyncFn(AsyncConnection) -> io::Result<()> + 'static,
{
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Tokio
    }
}

impl<H> Sealed for Tokio<H>
where
    H: AsyncFn(AsyncConnection) -> io::Result<()> + 'static,
{
    fn serve(self, setup: WorkerSetup) -> Result<(), Error> {
        let worker = setup.meter.worker();
        drop(setup.control);
        let Some(lane) = setup.lanes.into_iter().next() else { return Ok(()) };
        let failed = |source| Error::Serve { worker, source };
        let runtime =
            ::tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let local = LocalSet::new();
        let (meter, period) = (setup.meter, setup.heartbeat);
        let end = local
            .block_on(&runtime, async {
                ::tokio::select! {
                    end = accept(&meter, lane, self.handler) => end,
                    never = beat(&meter, period) => match never {},
                }
            })
            .map_err(failed)?;
        if let End::Drained(life_line) = end {
            // Only the tasks are left; each is one connection in service.
            runtime
                .block_on(async {
                    ::tokio::select! {
                        () = local => Ok(()),
                        end = orphaned(life_line) => end,
                        never = beat(&meter, period) => match never {},
                    }
                })
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// Waits for the end of a life-line: the supervisor is gone.
async fn orphaned(life_line: OwnedFd) -> io::Result<()> {
    // Without room to watch it there is still the signal that comes with the supervisor's death.
    let Ok(life_line) = watch(life_line) else { return std::future::pending().await };
    loop {
        let mut guard = life_line.readable().await?;
        let mut words = [0_u8; 64];
        match recv(life_line.get_ref(), &mut words[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(()),
            // There is nothing to be told to one who leaves.
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Shows that the loop turns.
async fn beat(meter: &Meter, period: Option<Duration>) -> Infallible {
    let Some(period) = period else { return std::future::pending().await };
    loop {
        meter.board().beat();
        ::tokio::time::sleep(period).await;
    }
}

/// Whether this worker was told to leave, and who waits to hear of it.
#[derive(Debug, Default)]
struct Drain {
    is_told: Cell<bool>,
    waiters: Notify,
}

impl Drain {
    fn tell(&self) {
        if !self.is_told.replace(true) {
            self.waiters.notify_waiters();
        }
    }

    async fn told(&self) {
        // One thread, and no await between the two lines: nothing is told in between.
        if !self.is_told.get() {
            self.waiters.notified().await;
        }
    }
}

#[derive(Debug)]
enum End {
    /// With what is still to be watched.
    Drained(OwnedFd),
    Orphaned,
}

async fn accept<H>(meter: &Meter, mut lane: Lane, handler: H) -> io::Result<End>
where
    H: AsyncFn(AsyncConnection) -> io::Result<()> + 'static,
{
    let handler = Rc::new(handler);
    let ended = Rc::new(Notify::new());
    let drain = Rc::new(Drain::default());
    let watched = if lane.is_contested() {
        Watched::ByThread(Lookout::start(Arc::clone(lane.epoll()), meter.clone())?)
    } else {
        Watched::ByReactor(watch(rustix::io::dup(lane.epoll())?)?)
    };
    let mut wait = lane.arm()?;
    lane.report_ready()?;
    loop {
        let event = match wait {
            Wait::Not => lane.wait(Wait::Not)?,
            _ => idle(&watched, wait, &mut lane, &ended).await?,
        };
        meter.board().beat();
        let turn = lane.turn(event)?;
        // A private channel may end before the control channel says why: that is to leave, too.
        if lane.is_draining() || matches!(turn, Turn::Drained) {
            drain.tell();
        }
        match turn {
            Turn::Serve(connection) => {
                let connection = match AsyncConnection::new(connection, Rc::clone(&drain)) {
                    Ok(connection) => connection,
                    // Its user may watch no more descriptors (`fs.epoll.max_user_watches`): that is the end of
                    // this connection, and not of all others.
                    Err(error) => {
                        lane.cannot_serve(&error);
                        wait = lane.arm()?;
                        continue;
                    }
                };
                let (handler, ended) = (Rc::clone(&handler), Rc::clone(&ended));
                let meter = meter.clone();
                ::tokio::task::spawn_local(async move {
                    note_outcome(&meter, handler(connection).await);
                    ended.notify_one();
                });
                // The new task, and those that became ready, before the next connection.
                yield_now().await;
            }
            Turn::Again => {}
            Turn::Drained => return Ok(End::Drained(lane.into_life_line())),
            Turn::Orphaned => return Ok(End::Orphaned),
        }
        wait = lane.arm()?;
    }
}

/// Waits until the lane's epoll has an event, the time is up, or a connection ended that had kept the
/// lane from accepting.
async fn idle(
    watched: &Watched,
    wait: Wait,
    lane: &mut Lane,
    ended: &Notify,
) -> io::Result<Option<u64>> {
    // A connection that ends leaves room, or ends a pause.
    let limited = matches!(wait, Wait::For(_));
    let pause = async {
        match wait {
            Wait::For(duration) => ::tokio::time::sleep(duration).await,
            Wait::Not | Wait::ForEver => std::future::pending().await,
        }
    };
    ::tokio::select! {
        event = watched.next_event(lane) => event.map(Some),
        () = pause => Ok(None),
        () = ended.notified(), if limited => {
            lane.resume();
            Ok(None)
        }
    }
}

/// Who watches the lane's epoll.
enum Watched {
    ByReactor(AsyncFd<OwnedFd>),
    ByThread(Lookout),
}

impl Watched {
    async fn next_event(&self, lane: &mut Lane) -> io::Result<u64> {
        let watched = match self {
            Self::ByReactor(watched) => watched,
            // To wake the thread and be woken by it costs more than a look.
            Self::ByThread(lookout) => match lane.wait(Wait::Not)? {
                Some(event) => return Ok(event),
                None => return lookout.next_event().await,
            },
        };
        // tokio watches edge-triggered: readiness is forgotten only after a look that found nothing, else
        // what is still ready would never be told again.
        loop {
            let mut guard = watched.readable().await?;
            match lane.wait(Wait::Not)? {
                Some(event) => return Ok(event),
                None => guard.clear_ready(),
            }
        }
    }
}

/// A connection on the tokio runtime: [`Connection`] with asynchronous reads and writes.
///
/// Dropping it counts the connection as completed and closes the socket, in the order in which [`Connection`] does, and
/// waits as little.
pub struct AsyncConnection {
    counted: Counted<AsyncStream>,
    drain: Rc<Drain>,
    taken: Instant,
}

impl AsyncConnection {
    fn new(connection: Connection, drain: Rc<Drain>) -> io::Result<Self> {
        // The acceptor made it non-blocking: it knew the runtime.
        let counted = connection.into_counted().try_map(|stream| match stream {
            Stream::Tcp(stream) => TcpStream::from_std(stream).map(AsyncStream::Tcp),
            Stream::Unix(stream) => UnixStream::from_std(stream).map(AsyncStream::Unix),
        })?;
        Ok(Self { counted, drain, taken: Instant::now() })
    }

    /// The client.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.counted.info().peer()
    }

    /// When this worker took it. The handler begins when those before it let it: what lies between is time that
    /// the client waited for this worker and nobody else.
    #[must_use]
    pub fn taken(&self) -> Instant {
        self.taken
    }

    /// The listener it came through.
    #[must_use]
    pub fn listener(&self) -> &ListenerName {
        self.counted.info().listener()
    }

    /// The worker this is.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.counted.info().worker()
    }

    /// Whether this worker was told to leave: finish the request at hand, then close.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.counted.info().is_draining()
    }

    /// Ends when this worker is told to leave: a connection that is kept alive and idle then should be
    /// closed. Cancel-safe.
    ///
    /// Look at what the client has sent first: a worker that has to leave still takes what was queued, so
    /// a connection may be told to leave before its request was read once.
    pub fn draining(&self) -> impl Future<Output = ()> + use<> {
        let drain = Rc::clone(&self.drain);
        async move { drain.told().await }
    }

    /// The socket, for its options. Who asks for it pays a system call when the connection is dropped, as with
    /// [`Connection::stream`].
    #[must_use]
    pub fn stream(&self) -> &AsyncStream {
        self.counted.lend()
    }

    /// The socket and the count apart, for libraries that want to own a stream. Drop both when you are done, and do
    /// not set `SO_LINGER`: see [`Connection::into_parts`].
    #[must_use]
    pub fn into_parts(self) -> (AsyncStream, Serving) {
        let (stream, info) = self.counted.into_parts();
        (stream, info.into_serving())
    }
}

impl fmt::Debug for AsyncConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncConnection").field("info", self.counted.info()).finish_non_exhaustive()
    }
}

impl AsyncRead for AsyncConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.counted.socket_mut()).poll_read(context, buffer)
    }
}

impl AsyncWrite for AsyncConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.counted.socket_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.counted.socket_mut()).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.counted.socket().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.counted.socket_mut()).poll_shutdown(context)
    }
}

/// The socket of an [`AsyncConnection`].
#[derive(Debug)]
pub enum AsyncStream {
    /// Through a TCP listener; `TCP_NODELAY` is set.
    Tcp(TcpStream),
    /// Through a Unix socket.
    Unix(UnixStream),
}

impl AsyncStream {
    /// The TCP socket, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) => None,
        }
    }

    /// The Unix socket, if it is one.
    #[must_use]
    pub fn unix(&self) -> Option<&UnixStream> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => Some(stream),
        }
    }
}

impl AsFd for AsyncStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for AsyncStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for AsyncStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
