//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Exponential backoff with full jitter: before round `n`, a uniformly random time from 0 to `min(cap, base * 2^n)`.
///
/// Full jitter spreads the clients of a restarted broker best and costs the fewest calls of the variants compared by
/// Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        Self { base, cap, failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// The wait after one more failure.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let ceiling = self.base.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(self.random.f64())
    }

    /// A uniformly random time from 0 to `longest`.
    pub(crate) fn spread(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.f64())
    }

    /// Starts again from the base: the last connection held.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The longest wait.
    pub(crate) fn cap(&self) -> Duration {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_ceiling_that_doubles_up_to_the_cap() {
        let (base, cap) = (Duration::from_millis(50), Duration::from_secs(5));
        let mut highest = Vec::new();
        for failures in 0..40 {
            let ceiling = base.saturating_mul(1 << failures.min(20)).min(cap);
            let mut longest = Duration::ZERO;
            for seed in 0..200 {
                let mut backoff = Backoff::new(base, cap, seed);
                backoff.failures = failures;
                longest = longest.max(backoff.next_wait());
            }
            assert!(longest <= ceiling && longest > ceiling / 2, "{failures}: {longest:?} of {ceiling:?}");
            highest.push(longest);
        }
        assert!(highest[39] <= cap);
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), seed);
            (0..20).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
