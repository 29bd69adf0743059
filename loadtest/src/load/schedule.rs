//! When events are to be sent, fixed before the run, so that a slow broker cannot slow its own measure down.

/// The times at which one of several publishers sends, who take turns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    start_ns: u64,
    end_ns: u64,
    /// From one event of anybody to the next.
    spacing_ns: f64,
    publishers: u32,
    publisher: u32,
    next: u64,
}

impl Schedule {
    /// Publisher `publisher` of `publishers`, who together send `per_second` events from `start_ns` until before
    /// `end_ns`.
    #[must_use]
    pub fn new(per_second: f64, publisher: u32, publishers: u32, start_ns: u64, end_ns: u64) -> Self {
        Self { start_ns, end_ns, spacing_ns: 1e9 / per_second, publishers, publisher, next: 0 }
    }

    /// When the next event is to be sent; `None` when there are no more.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no run lasts 2^53 ns, and none is negative"
    )]
    pub fn next_ns(&self) -> Option<u64> {
        let turn = self.next * u64::from(self.publishers) + u64::from(self.publisher);
        // From the start each time: sums of rounded steps would drift.
        let at = self.start_ns + (turn as f64 * self.spacing_ns).round() as u64;
        (at < self.end_ns).then_some(at)
    }

    /// The time of the next event, if that has come; the one after is then the next.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let at = self.next_ns().filter(|at| *at <= now_ns)?;
        self.next += 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_take_turns_at_even_distances() {
        let mut all = Vec::new();
        for publisher in 0..3 {
            let mut schedule = Schedule::new(1000.0, publisher, 3, 5_000, 1_000_005_000);
            assert_eq!(schedule.take_due(4_999), None);
            while let Some(at) = schedule.next_ns() {
                assert_eq!(schedule.take_due(at - 1), None, "nothing is sent early");
                assert_eq!(schedule.take_due(at + 77), Some(at), "however late it is asked for");
                all.push(at);
            }
        }
        all.sort_unstable();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().enumerate().all(|(n, at)| *at == 5_000 + n as u64 * 1_000_000));
    }

    #[test]
    fn odd_rates_do_not_drift() {
        let mut schedule = Schedule::new(333.3, 0, 1, 0, 100_000_000_000);
        let mut count = 0;
        while schedule.take_due(u64::MAX).is_some() {
            count += 1;
        }
        assert_eq!(count, 33_330);
    }
}
