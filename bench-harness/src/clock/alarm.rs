//! Sleeps on tokio that end when they should. Tokio's own timers ring on whole milliseconds, and never too early: work
//! of 2 ms took 3.05 ms, and a load of 0.7 was one of 1.07.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// Everybody on this thread who sleeps, and the one timer that wakes them.
struct Alarm {
    /// A timerfd. To tokio a pipe is what it waits on and reads from, and that suits this one as well.
    timer: pipe::Receiver,
    /// By when they want to be woken. A sleeper that was dropped meanwhile is woken like any other.
    sleepers: Mutex<BTreeMap<Timespec, Vec<oneshot::Sender<()>>>>,
}

thread_local! {
    /// Owned by its own task, so that it ends with the tokio runtime it belongs to.
    static ALARM: RefCell<Weak<Alarm>> = const { RefCell::new(Weak::new()) };
}

/// As [`sleep`](super::sleep), on a current-thread runtime of tokio. Corresponds to `timerfd_settime(2)` with
/// `TFD_TIMER_ABSTIME`; one descriptor for each thread, whose sleepers share it. Where there is none left it is
/// tokio's own sleep.
pub async fn sleep_on_tokio(length: Duration) {
    let woken = Timespec::try_from(length).ok().and_then(|length| {
        let alarm = Alarm::of_this_thread().ok()?;
        alarm.wake_at(clock_gettime(ClockId::Monotonic) + length).ok()
    });
    let rang = match woken {
        Some(woken) => woken.await.is_ok(),
        None => false,
    };
    if !rang {
        tokio::time::sleep(length).await;
    }
}

impl Alarm {
    fn of_this_thread() -> io::Result<Arc<Self>> {
        if let Some(alarm) = ALARM.with_borrow(Weak::upgrade) {
            return Ok(alarm);
        }
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let timer = pipe::Receiver::from_owned_fd_unchecked(timer)?;
        let alarm = Arc::new(Self { timer, sleepers: Mutex::default() });
        ALARM.set(Arc::downgrade(&alarm));
        drop(tokio::spawn(Arc::clone(&alarm).ring()));
        Ok(alarm)
    }

    fn wake_at(&self, end: Timespec) -> io::Result<oneshot::Receiver<()>> {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        if sleepers.keys().next().is_none_or(|&first| end < first) {
            self.set(end)?;
        }
        let (wake, woken) = oneshot::channel();
        sleepers.entry(end).or_default().push(wake);
        Ok(woken)
    }

    fn set(&self, end: Timespec) -> io::Result<()> {
        let once = Itimerspec { it_interval: Timespec::default(), it_value: end };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }

    /// Wakes whoever has slept enough, whenever the timer rings; as long as the runtime lives, or until the timer
    /// fails, and then they sleep on by tokio's.
    async fn ring(self: Arc<Self>) {
        while self.timer.readable().await.is_ok() {
            match self.timer.try_read(&mut [0; 8]) {
                Ok(_) => {}
                // It was set anew since it rang.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock_gettime(ClockId::Monotonic);
            while let Some(first) = sleepers.first_entry().filter(|first| *first.key() <= now) {
                // Whoever was dropped does not listen.
                for wake in first.remove() {
                    let _ = wake.send(());
                }
            }
            let next = sleepers.keys().next().copied();
            if next.is_some_and(|next| self.set(next).is_err()) {
                break;
            }
        }
        // Those who still wait hear that nobody will wake them.
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn on_tokio(task: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task);
    }

    /// Those that tokio's own timers would not tell apart; twice, since the second runtime on a thread needs an alarm
    /// of its own.
    #[test]
    fn sleepers_wake_in_the_order_of_microseconds() {
        for _ in 0..2 {
            on_tokio(async {
                let alarm = Alarm::of_this_thread().unwrap();
                let now = clock_gettime(ClockId::Monotonic);
                let order = Arc::new(Mutex::new(Vec::new()));
                let sleepers = [5_900, 5_100, 5_500, 5_300, 5_700].map(|us| {
                    let end = now + Timespec::try_from(Duration::from_micros(us)).unwrap();
                    let (woken, order) = (alarm.wake_at(end).unwrap(), Arc::clone(&order));
                    tokio::spawn(async move {
                        woken.await.unwrap();
                        assert!(clock_gettime(ClockId::Monotonic) >= end);
                        order.lock().unwrap().push(us);
                    })
                });
                for sleeper in sleepers {
                    sleeper.await.unwrap();
                }
                assert_eq!(*order.lock().unwrap(), [5_100, 5_300, 5_500, 5_700, 5_900]);
            });
        }
    }

    #[test]
    fn a_sleep_is_never_too_short() {
        on_tokio(async {
            let start = Instant::now();
            sleep_on_tokio(Duration::from_micros(2_300)).await;
            assert!(start.elapsed() >= Duration::from_micros(2_300));
        });
    }

    #[test]
    fn who_gives_up_keeps_nobody_asleep() {
        on_tokio(async {
            let brief = Duration::from_millis(1);
            let given_up = tokio::time::timeout(brief, sleep_on_tokio(50 * brief)).await;
            assert!(given_up.is_err());
            sleep_on_tokio(100 * brief).await;
        });
    }
}
