//! How fast somebody may go on, on average, and how much at once.

/// Microseconds of a second.
const SECOND_US: u128 = 1_000_000;

/// A bucket that fills at a steady rate up to its size, and that things are taken from. Time is an argument, in
/// microseconds on a clock that does not go back; should it do so, it stands still for the bucket.
///
/// Taking is always possible: what is taken beyond the content is owed, and [`wait_us`](Self::wait_us) says for how long
/// to do without. So a batch that is there already is never split, and over any time no more is taken than the rate
/// permits, plus the size, plus one batch.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// Tokens per second; 0 is no limit.
    rate: u32,
    /// Most that the bucket holds, in tokens per million: the content after each microsecond is then a whole number.
    size: u128,
    /// What is in it, or owed when below zero, in tokens per million.
    content: i128,
    /// The time up to which it was filled.
    filled_us: u64,
}

impl TokenBucket {
    /// A full bucket: `per_second` on average (0 is no limit), and at least one, at most `burst`, at once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now_us: u64) -> Self {
        let size = u128::from(burst.max(1)) * SECOND_US;
        Self { rate: per_second, size, content: size.cast_signed(), filled_us: now_us }
    }

    /// Takes so many.
    pub fn take(&mut self, count: u32, now_us: u64) {
        if self.rate == 0 {
            return;
        }
        self.fill(now_us);
        self.content -= i128::from(count) * SECOND_US.cast_signed();
    }

    /// From now on fills at another rate, up to another size. What is owed stays owed, and nothing is given.
    pub fn change(&mut self, per_second: u32, burst: u32, now_us: u64) {
        self.fill(now_us);
        self.rate = per_second;
        self.size = u128::from(burst.max(1)) * SECOND_US;
        self.content = self.content.min(self.size.cast_signed());
    }

    fn fill(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.filled_us);
        let filled = self.content + i128::from(passed) * i128::from(self.rate);
        self.content = filled.min(self.size.cast_signed());
        self.filled_us = self.filled_us.max(now_us);
    }

    /// For how long to take nothing more, from `now_us` on; 0 when more may be taken at once.
    #[must_use]
    pub fn wait_us(&self, now_us: u64) -> u64 {
        let owed = self.content.min(0).unsigned_abs();
        if owed == 0 || self.rate == 0 {
            return 0;
        }
        let until_paid = u64::try_from(owed.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX);
        until_paid.saturating_sub(now_us.saturating_sub(self.filled_us))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_rate_counts() {
        let mut bucket = TokenBucket::new(1_000, 10, 5);
        bucket.take(10, 5);
        assert_eq!(bucket.wait_us(5), 0);
        bucket.take(1, 5);
        assert_eq!(bucket.wait_us(5), 1_000, "one of a thousand per second");
        assert_eq!((bucket.wait_us(505), bucket.wait_us(1_005)), (500, 0));
        bucket.take(4, 1_005);
        assert_eq!(bucket.wait_us(1_005), 4_000);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut bucket = TokenBucket::new(0, 0, 0);
        for _ in 0..10 {
            bucket.take(u32::MAX, 0);
        }
        assert_eq!(bucket.wait_us(0), 0);
    }

    #[test]
    fn another_rate_gives_nothing_and_forgives_nothing() {
        let mut bucket = TokenBucket::new(1_000, 10, 0);
        bucket.change(10, 2, 0);
        bucket.take(3, 0);
        assert_eq!(bucket.wait_us(0), 100_000, "no more than the new size was there");
        bucket.change(1_000, 10, 0);
        assert_eq!(bucket.wait_us(0), 1_000, "the debt is paid at the new rate");
        let mut bucket = TokenBucket::new(0, 100, 0);
        bucket.change(10, 1, 5);
        bucket.take(2, 5);
        assert_eq!(bucket.wait_us(5), 100_000);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut bucket = TokenBucket::new(1_000, 1, 1_000_000);
        bucket.take(2, 0);
        assert_eq!(bucket.wait_us(0), 1_000);
        bucket.take(1, 1_000_500);
        assert_eq!(bucket.wait_us(1_000_500), 1_500);
    }

    proptest! {
        /// Whoever keeps to the waits gets the rate, and no window of time sees more than the rate and one burst.
        #[test]
        fn no_more_than_the_rate_and_a_burst(
            rate in 1_u32..2_000_000,
            burst in 1_u32..10_000,
            steps in proptest::collection::vec((0_u64..50_000, 1_u32..50), 1..200),
            start in 0_u64..1 << 50,
        ) {
            let mut bucket = TokenBucket::new(rate, burst, start);
            let (mut now, mut taken) = (start, Vec::new());
            for (pause, count) in steps {
                now += pause.max(bucket.wait_us(now));
                prop_assert_eq!(bucket.wait_us(now), 0, "after the wait nothing is owed");
                bucket.take(count, now);
                taken.push((now, u128::from(count)));
            }
            for from in 0..taken.len() {
                let (mut sum, begun) = (0, taken[from].0);
                for (at, count) in &taken[from..] {
                    sum += count;
                    let most = u128::from(burst) * SECOND_US + u128::from(at - begun) * u128::from(rate);
                    prop_assert!((sum - count) * SECOND_US <= most, "{sum} within {} us", at - begun);
                }
            }
        }

        /// Nobody waits longer than the debt asks for, to the microsecond.
        #[test]
        fn waits_are_as_short_as_can_be(rate in 1_u32..2_000_000, burst in 1_u32..1_000, count in 1_u32..100_000) {
            let mut bucket = TokenBucket::new(rate, burst, 0);
            bucket.take(count, 0);
            let wait = bucket.wait_us(0);
            let owed = u128::from(count.saturating_sub(burst)) * SECOND_US;
            prop_assert!(u128::from(wait) * u128::from(rate) >= owed);
            prop_assert!(wait == 0 || u128::from(wait - 1) * u128::from(rate) < owed);
            prop_assert_eq!(bucket.wait_us(wait), 0);
        }

        /// Any numbers, in any order.
        #[test]
        fn nothing_overflows(
            rate: u32,
            burst: u32,
            steps in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..50),
        ) {
            let mut bucket = TokenBucket::new(rate, burst, 0);
            for (now, count) in steps {
                bucket.take(count, now);
                let _ = bucket.wait_us(now);
            }
        }
    }
}
