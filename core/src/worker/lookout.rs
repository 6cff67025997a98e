//! A thread that waits where an event loop cannot: in the lane's own epoll.
//!
//! Only a thread that sleeps in `epoll_wait(2)` itself counts for `EPOLLEXCLUSIVE`; an epoll that is
//! watched by another counts as nobody, and the kernel goes on to wake the next worker, and the next.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use tokio::sync::Notify;

use super::lane::wait_for_one;

/// Waits for one event at a time, and only when asked: what it took from the kernel while the event loop
/// is busy would be hoarded.
///
/// Worker. The thread lives as long as the process: it holds the epoll and nothing else.
#[derive(Debug)]
pub(crate) struct Lookout {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoll: Arc<OwnedFd>,
    state: Mutex<State>,
    asked: Condvar,
    seen: Notify,
}

#[derive(Debug)]
enum State {
    Idle,
    Asked,
    Seen(io::Result<u64>),
}

/// It calls `epoll_wait(2)` and two locks.
const STACK_BYTES: usize = 64 * 1024;

impl Lookout {
    pub(crate) fn start(epoll: Arc<OwnedFd>) -> io::Result<Self> {
        let state = Mutex::new(State::Idle);
        let (asked, seen) = (Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { epoll, state, asked, seen });
        let own = Arc::clone(&shared);
        thread::Builder::new()
            .name("lookout".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || own.look_out())?;
        Ok(Self { shared })
    }

    /// The next event. Cancel-safe: one that came meanwhile is given to the next call. It may be about a
    /// source that was left since; then it is one that *may* be ready, as after any departure.
    pub(crate) async fn next_event(&self) -> io::Result<u64> {
        loop {
            {
                let mut state = self.shared.lock();
                match std::mem::replace(&mut *state, State::Asked) {
                    State::Seen(event) => {
                        *state = State::Idle;
                        return event;
                    }
                    State::Idle => self.shared.asked.notify_one(),
                    State::Asked => {}
                }
            }
            self.shared.seen.notified().await;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_out(&self) {
        loop {
            {
                let mut state = self.lock();
                while !matches!(*state, State::Asked) {
                    state = self.asked.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let event = loop {
                match wait_for_one(&self.epoll, None) {
                    Ok(Some(event)) => break Ok(event),
                    Ok(None) => {}
                    Err(error) => break Err(error),
                }
            };
            *self.lock() = State::Seen(event);
            self.seen.notify_one();
        }
    }
}
