//! The machine's steady clock, which all processes of a run share, and a timer on it that is finer than tokio's.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

const NS_PER_S: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * NS_PER_S + now.tv_nsec.unsigned_abs()
}

/// Whole nanoseconds of a number of seconds.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and settings are checked")]
pub fn ns_of(seconds: f64) -> u64 {
    (seconds * NS_PER_S as f64).round() as u64
}

/// Wakes a task at a given time, to some microseconds; tokio's own timer counts in milliseconds.
pub(super) struct Timer {
    timer: AsyncFd<OwnedFd>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Its successor is unsafe, as a type may close or exchange its descriptor. An `OwnedFd` does not, and unsafe code is
        // forbidden here.
        #[allow(deprecated, reason = "sound for an OwnedFd")]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    /// Returns at once when that time has passed.
    pub(super) async fn sleep_until(&mut self, at_ns: u64) -> io::Result<()> {
        if now_ns() >= at_ns {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Duration::from_nanos(at_ns);
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        let at = Timespec { tv_sec: seconds, tv_nsec: at.subsec_nanos().into() };
        let once = Itimerspec { it_interval: zero, it_value: at };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0_u8; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?)) {
                Ok(read) => {
                    // It has expired once, and is set only once: another look would find nothing.
                    ready.clear_ready();
                    return read.map(|_| ());
                }
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_is_never_early_and_finer_than_a_millisecond() {
        let mut timer = Timer::new().unwrap();
        let mut shortest = u64::MAX;
        for _ in 0..50 {
            let begun = now_ns();
            timer.sleep_until(begun + 100_000).await.unwrap();
            let slept = now_ns() - begun;
            assert!(slept >= 100_000, "{slept}");
            shortest = shortest.min(slept);
        }
        assert!(shortest < 900_000, "{shortest}");
        timer.sleep_until(1).await.unwrap();
    }

    #[test]
    fn seconds_become_nanoseconds() {
        assert_eq!((ns_of(0.5), ns_of(2.0), ns_of(0.0)), (500_000_000, 2_000_000_000, 0));
    }
}
