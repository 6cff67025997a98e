//! One HTTP connection from its first request to its close, for blocking and for tokio servers.
//!
//! The same steps twice, once waiting in the calls and once awaiting them; everything that decides is
//! in [`crate::http`] and in the [`Site`].

use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::hello::{self, After, Task, Told};
use crate::clock;
use crate::http::{self, Inbox, Parsed, Request};

/// What is answered.
pub trait Site {
    /// What has to be done before the answer can be given.
    fn task(&self, request: &Request<'_>) -> Task {
        let _ = request;
        Task::Greet
    }

    /// Appends an answer's head, or all of it, to `out`. `told`: what was measured if the task was
    /// work. `keep_alive`: whether the server would like to go on.
    fn answer(
        &self,
        request: &Request<'_>,
        task: Task,
        told: Option<Told>,
        keep_alive: bool,
        out: &mut Vec<u8>,
    ) -> Answer;
}

/// What is left to do once the bytes are written.
#[derive(Debug)]
pub struct Answer {
    /// Whether the connection goes on.
    pub after: After,
    /// A file whose first so many bytes follow.
    pub file: Option<(File, u64)>,
}

impl From<After> for Answer {
    fn from(after: After) -> Self {
        Self { after, file: None }
    }
}

/// What a conversation reads into and writes from; kept from one connection to the next.
#[derive(Debug, Default)]
pub struct Buffers {
    inbox: Inbox,
    out: Vec<u8>,
    /// When the last work of the connection at hand ended.
    served: Option<Instant>,
    /// What was needed from there until the connection was closed, to be told with the next answer.
    after: Option<Duration>,
}

impl Buffers {
    /// The connection is closed now. Measures what a one-at-a-time worker needs after each service,
    /// which is time in which it can serve nobody.
    pub fn closed(&mut self) {
        if let Some(served) = self.served.take() {
            self.after = Some(served.elapsed());
        }
    }
}

/// Longest a client may take from one answer to its next whole request.
pub const IDLE: Duration = Duration::from_secs(30);

/// Longest a request may take to arrive once it has begun: a client that sends a byte now and then must
/// not keep a worker.
pub const HEAD: Duration = Duration::from_secs(10);

/// Longest a worker that has to leave, or that others wait for, waits for the first request of a connection
/// that it took, or for the rest of one that has begun: a packet that was lost comes again after 0.2 s, or
/// after 3 s if the one after that was lost, too, as where a listen queue overflows.
pub const GRACE: Duration = Duration::from_secs(5);

/// Converses with blocking reads and writes.
///
/// A read that times out ([`Service::read_timeout`](forkherd_core::Service::read_timeout)) is the
/// moment to ask `go_on` again: a silent client must not keep a worker that is told to leave, or that
/// others wait for, beyond [`GRACE`].
///
/// # Errors
/// That of the stream: the client went away.
pub fn blocking(
    stream: &mut (impl Read + Write),
    site: &impl Site,
    go_on: impl Fn() -> bool,
    buffers: &mut Buffers,
) -> io::Result<()> {
    let Buffers { inbox, out, served, after } = buffers;
    inbox.clear();
    let taken = Instant::now();
    let mut since = taken;
    let mut answered = false;
    loop {
        out.clear();
        let answer = match inbox.parse() {
            Parsed::Incomplete => {
                match stream.read(inbox.space()) {
                    Ok(0) => return Ok(()),
                    Ok(count) => {
                        if inbox.is_empty() {
                            // From its first byte on a request has its own time, however long the
                            // connection was idle before.
                            since = Instant::now();
                        }
                        inbox.filled(count);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if !go_on() && since.elapsed() >= patience(answered, inbox) {
                            return Ok(());
                        }
                    }
                    Err(error) => return Err(error),
                }
                let most = if inbox.is_empty() { IDLE } else { HEAD };
                if since.elapsed() >= most {
                    return Ok(());
                }
                continue;
            }
            Parsed::Bad(status) => {
                http::refuse(status, out);
                After::Close.into()
            }
            Parsed::Request(request) => {
                let task = site.task(&request);
                let told = hello::perform(task).map(|work| {
                    *served = Some(Instant::now());
                    Told { work, taken_us: ago(taken), after: after.take() }
                });
                // Asked only of clients that would stay: it may cost a system call.
                let keep_alive = request.keep_alive && go_on();
                let answer = site.answer(&request, task, told, keep_alive, out);
                let length = request.length;
                inbox.consume(length);
                answer
            }
        };
        stream.write_all(out)?;
        if let Some((file, length)) = answer.file {
            whole(io::copy(&mut file.take(length), stream)?, length)?;
        }
        if answer.after == After::Close {
            return Ok(());
        }
        answered = true;
        since = Instant::now();
    }
}

/// Converses on tokio. `taken`: when the worker took the connection. `leave` ends when the worker is told to
/// leave: an idle connection is closed then.
///
/// # Errors
/// That of the stream: the client went away.
pub async fn on_tokio(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    site: &impl Site,
    taken: Instant,
    leave: impl Future<Output = ()>,
) -> io::Result<()> {
    let Buffers { mut inbox, mut out, .. } = Buffers::default();
    let mut leave = pin!(leave);
    let mut leaving = false;
    // One timer per connection, moved on only when it rings: that is 2 % of the server's CPU time per
    // kept-alive request, a new one for each read would be 4 % (paired slices, 500 rounds, 2 cores).
    let mut end = Instant::now() + IDLE;
    let mut bell = pin!(tokio::time::sleep(IDLE));
    let mut answered = false;
    loop {
        out.clear();
        let answer = match inbox.parse() {
            Parsed::Incomplete => {
                tokio::select! {
                    // In this order: a client that is never silent must not drown the word to leave,
                    // and where bytes are there already no timer is started.
                    biased;
                    () = &mut leave, if !leaving => {
                        leaving = true;
                        // What is there already is answered, and a connection that was taken from the
                        // queue just now is not idle: its request may be there in a moment.
                        end = Instant::now() + patience(answered, &inbox);
                        bell.as_mut().reset(end.into());
                    }
                    count = stream.read(inbox.space()) => match count? {
                        0 => return Ok(()),
                        count => {
                            if inbox.is_empty() && !leaving {
                                end = Instant::now() + HEAD;
                            }
                            inbox.filled(count);
                        }
                    },
                    () = &mut bell => {
                        if Instant::now() >= end {
                            return Ok(());
                        }
                        bell.as_mut().reset(end.into());
                    }
                }
                continue;
            }
            Parsed::Bad(status) => {
                http::refuse(status, &mut out);
                After::Close.into()
            }
            Parsed::Request(request) => {
                let task = site.task(&request);
                let told = perform(task).await;
                let told = told.map(|work| Told { work, taken_us: ago(taken), after: None });
                let answer = site.answer(&request, task, told, !leaving, &mut out);
                let length = request.length;
                inbox.consume(length);
                answer
            }
        };
        stream.write_all(&out).await?;
        if let Some((file, length)) = answer.file {
            let file = tokio::fs::File::from_std(file);
            whole(tokio::io::copy(&mut file.take(length), stream).await?, length)?;
        }
        if answer.after == After::Close {
            return Ok(());
        }
        answered = true;
        end = Instant::now() + IDLE;
    }
}

/// How much longer a client that is to go may take: none if it is idle, its last request answered and no other
/// begun.
fn patience(answered: bool, inbox: &Inbox) -> Duration {
    if answered && inbox.is_empty() { Duration::ZERO } else { GRACE }
}

/// A time that has passed, in microseconds of the clock that all processes share.
fn ago(time: Instant) -> u64 {
    let passed = u64::try_from(time.elapsed().as_micros()).unwrap_or_default();
    clock::monotonic_us().saturating_sub(passed)
}

/// A file that became shorter while it was sent: the client was promised more, so the connection ends here.
fn whole(sent: u64, promised: u64) -> io::Result<()> {
    if sent == promised { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// As [`hello::perform`], but a sleep leaves the thread to the other connections.
async fn perform(task: Task) -> Option<Duration> {
    if let Task::Sleep(work) = task {
        let start = Instant::now();
        clock::sleep_on_tokio(work).await;
        return Some(start.elapsed());
    }
    hello::perform(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that sends these, in between nothing for as long as a read waits.
    struct Client {
        sends: Vec<Option<&'static [u8]>>,
        receives: Vec<u8>,
    }

    impl Client {
        /// What it received until its connection ended, where others wait for the worker.
        fn served(sends: &[Option<&'static [u8]>]) -> String {
            Self::served_while(sends, || false)
        }

        /// The same, where that holds only once `go_on` says no.
        fn served_while(sends: &[Option<&'static [u8]>], go_on: impl Fn() -> bool) -> String {
            let mut client = Self { sends: sends.to_vec(), receives: Vec::new() };
            client.sends.reverse();
            let hello = hello::Hello { slot: 0 };
            blocking(&mut client, &hello, go_on, &mut Buffers::default()).unwrap();
            String::from_utf8(client.receives).unwrap()
        }
    }

    impl Read for Client {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.sends.pop() {
                Some(Some(bytes)) => {
                    into[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                Some(None) => Err(ErrorKind::WouldBlock.into()),
                None => {
                    std::thread::sleep(Duration::from_millis(10));
                    Err(ErrorKind::WouldBlock.into())
                }
            }
        }
    }

    impl Write for Client {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.receives.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_is_late_with_the_first_request_is_served_though_others_wait() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(Client::served(&[None, Some(whole)]).starts_with("HTTP/1.1 200 "));
        let (begin, end) = whole.split_at(9);
        assert!(Client::served(&[Some(begin), None, Some(end)]).starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn a_second_request_that_has_begun_is_served_though_others_wait_meanwhile() {
        let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (begin, end) = whole.split_at(9);
        let asked = std::cell::Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) == 0;
        let sends = [Some(&whole[..]), Some(begin), None, Some(end)];
        let answers = Client::served_while(&sends, go_on);
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
        // Nothing has begun: it is let go at once.
        let asked = std::cell::Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) == 0;
        let answers = Client::served_while(&[Some(whole), None, Some(whole)], go_on);
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1, "{answers}");
    }

    #[test]
    fn who_says_nothing_keeps_no_worker_that_others_wait_for() {
        let start = Instant::now();
        assert_eq!(Client::served(&[]), "");
        assert!(start.elapsed() >= GRACE);
    }
}
