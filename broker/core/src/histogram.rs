//! Durations counted in powers of two: a few instructions to record one.

/// Counts of durations, in any one unit, in buckets whose upper bounds are powers of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationHistogram {
    counts: [u64; Self::BUCKETS],
    sum: u64,
}

impl Default for DurationHistogram {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS], sum: 0 }
    }
}

impl DurationHistogram {
    /// Bucket `k` counts durations below 2^k that no smaller bucket counts; the last one all the rest.
    const BUCKETS: usize = 26;

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, duration: u64) {
        self.record_many(duration, 1);
    }

    /// Counts a duration so many times.
    #[inline]
    pub fn record_many(&mut self, duration: u64, count: u64) {
        let bucket = (u64::BITS - duration.leading_zeros()) as usize;
        self.counts[bucket.min(Self::BUCKETS - 1)] += count;
        self.sum = self.sum.saturating_add(duration.saturating_mul(count));
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// For each bucket its upper bound (`None`: unbounded) and its own count.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.counts.iter().enumerate().map(|(at, &count)| ((at + 1 < Self::BUCKETS).then(|| 1 << at), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_below_their_bucket_s_bound() {
        let mut histogram = DurationHistogram::default();
        for duration in [0, 1, 2, 3, 4, u64::MAX] {
            histogram.record(duration);
        }
        let buckets: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(Some(1), 1), (Some(2), 1), (Some(4), 2), (Some(8), 1), (None, 1)]);
        assert_eq!(histogram.sum(), u64::MAX, "it does not go round");
    }

    #[test]
    fn two_are_one_that_counted_all() {
        let (mut one, mut other, mut all) =
            (DurationHistogram::default(), DurationHistogram::default(), DurationHistogram::default());
        for duration in [1, 5, 70] {
            one.record(duration);
            all.record(duration);
        }
        for duration in [5, 1 << 24, 1 << 25, 1 << 40] {
            other.record(duration);
            all.record(duration);
        }
        one.merge(&other);
        assert_eq!(one, all);
        assert_eq!((one.count(), one.sum()), (7, 81 + (1 << 24) + (1 << 25) + (1 << 40)));
        let last: Vec<_> = one.buckets().skip(24).collect();
        assert_eq!(last, [(Some(1 << 24), 0), (None, 3)]);
    }
}
