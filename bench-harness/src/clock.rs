//! The clock that all processes of a machine share, and sleeps that end when they should.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

mod alarm;

pub use alarm::sleep_on_tokio;

/// Microseconds of `CLOCK_MONOTONIC`: what one process says can be compared with what another says.
#[must_use]
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000
}

/// Sleeps for `length`, until a time and not for a time: what happens before the thread is asleep
/// does not make it longer.
///
/// Corresponds to `clock_nanosleep(2)` with `TIMER_ABSTIME`. How late it wakes up is the timer
/// slack's affair: 50 µs unless `prctl(PR_SET_TIMERSLACK)` said otherwise.
pub fn sleep(length: Duration) {
    let Ok(length) = Timespec::try_from(length) else { return };
    let end = clock_gettime(ClockId::Monotonic) + length;
    while clock_nanosleep_absolute(ClockId::Monotonic, &end) == Err(Errno::INTR) {}
}

/// Burns `length` of CPU time on this thread, however often it is interrupted, and says how much it
/// burnt.
///
/// Corresponds to `clock_gettime(2)` with `CLOCK_THREAD_CPUTIME_ID`, a system call of 0.2 µs, again
/// and again. By the clock on the wall two threads could burn the same core at the same time.
#[must_use]
pub fn spin(length: Duration) -> Duration {
    let start = thread_cpu();
    loop {
        let burnt = thread_cpu().saturating_sub(start);
        if burnt >= length {
            return burnt;
        }
    }
}

/// CPU time of this thread so far.
fn thread_cpu() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Burns processor time for `length` by the clock on the wall, at no system call; nothing for zero.
///
/// For a few microseconds: [`spin`] would overshoot them by its own calls. Whoever is preempted meanwhile
/// burns less.
pub fn burn(length: Duration) {
    let start = Instant::now();
    while !length.is_zero() && start.elapsed() < length {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_takes_its_time() {
        let start = Instant::now();
        burn(Duration::from_micros(300));
        assert!(start.elapsed() >= Duration::from_micros(300));
    }

    #[test]
    fn a_sleep_is_never_too_short() {
        let (start, start_us) = (Instant::now(), monotonic_us());
        sleep(Duration::from_millis(3));
        assert!(start.elapsed() >= Duration::from_millis(3));
        assert!(monotonic_us() - start_us >= 3_000);
    }
}
