//! A thread that waits where an event loop cannot: in the lane's own epoll.
//!
//! Only a thread that sleeps in `epoll_wait(2)` itself counts for `EPOLLEXCLUSIVE`; an epoll that is
//! watched by another counts as nobody, and the kernel goes on to wake the next worker, and the next.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

use super::lane::wait_for_one;
use crate::connection::Meter;

/// Waits for one event at a time, and only when asked: what it took from the kernel while the event loop
/// is busy would be hoarded.
///
/// Worker. The thread lives as long as the process: it holds the epoll, and the meter to tell of
/// a wake-up that it could not hand over.
#[derive(Debug)]
pub(crate) struct Lookout {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoll: Arc<OwnedFd>,
    meter: Meter,
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

/// How long an event may lie there until it counts as hoarded.
///
/// 10 ms: an event loop that turns collects it within one, and a client whose wake-up was hoarded waits
/// little longer.
const HOARDED: Duration = Duration::from_millis(10);

/// It calls `epoll_wait(2)` and two locks.
const STACK_BYTES: usize = 64 * 1024;

impl Lookout {
    pub(crate) fn start(epoll: Arc<OwnedFd>, meter: Meter) -> io::Result<Self> {
        let state = Mutex::new(State::Idle);
        let (asked, seen) = (Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { epoll, meter, state, asked, seen });
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
            // The loop may be busy with something else, for long: then the wake-up that was spent on us is
            // somebody else's. What it finds when it comes back is one that *may* be ready, as ever.
            let state = self.lock();
            let uncollected = |state: &mut State| matches!(state, State::Seen(_));
            let (state, waited) = self
                .asked
                .wait_timeout_while(state, HOARDED, uncollected)
                .unwrap_or_else(PoisonError::into_inner);
            drop(state);
            if waited.timed_out() {
                self.meter.pass_wake_up_on();
            }
        }
    }
}
