//! What one session should receive against what it does.

use std::{collections::VecDeque, time::Instant};

/// What a delivery is, by the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was due; it was published at this time.
    Due(Instant),
    /// It was delivered before.
    Duplicate,
    /// The session should not have received it.
    Unexpected,
}

/// The books of one session, for one publisher that numbers its events upwards on one lane.
///
/// [`expect`](Self::expect) each event that is due before it is published; tell [`receive`](Self::receive) of each
/// delivery. As deliveries keep the order of their lane, whatever is passed over is lost, and a number that does not
/// rise was there before. So the books hold no more than what is under way.
#[derive(Debug, Default)]
pub struct Ledger {
    due: VecDeque<(u64, Instant)>,
    last_received: u64,
    lost: u64,
    duplicated: u64,
    unexpected: u64,
}

impl Ledger {
    /// Notes that the event with this number is due, and when it was published. Numbers must rise from 1.
    pub fn expect(&mut self, number: u64, published: Instant) {
        self.due.push_back((number, published));
    }

    /// Notes a delivery.
    pub fn receive(&mut self, number: u64) -> Verdict {
        if number <= self.last_received {
            self.duplicated += 1;
            return Verdict::Duplicate;
        }
        while self.due.front().is_some_and(|(due, _)| *due < number) {
            self.due.pop_front();
            self.lost += 1;
        }
        match self.due.front().copied() {
            Some((due, published)) if due == number => {
                self.due.pop_front();
                self.last_received = number;
                Verdict::Due(published)
            }
            _ => {
                self.unexpected += 1;
                Verdict::Unexpected
            }
        }
    }

    /// Deliveries that are due and have not come.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.due.len() as u64
    }

    /// When the oldest delivery that has not come was published.
    #[must_use]
    pub fn oldest_outstanding(&self) -> Option<Instant> {
        self.due.front().map(|(_, published)| *published)
    }

    /// Deliveries that did not come, counting those that still might.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost + self.outstanding()
    }

    /// Deliveries that came more than once.
    #[must_use]
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Deliveries that should not have come.
    #[must_use]
    pub fn unexpected(&self) -> u64 {
        self.unexpected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_tell_lost_from_duplicated_from_unexpected() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        for number in [2, 4, 6, 9] {
            ledger.expect(number, now);
        }
        assert_eq!(ledger.receive(2), Verdict::Due(now));
        assert_eq!(ledger.receive(2), Verdict::Duplicate);
        assert_eq!(ledger.receive(6), Verdict::Due(now), "4 is passed over");
        assert_eq!(ledger.receive(4), Verdict::Duplicate, "late is as bad as twice: the lane's order is broken");
        assert_eq!(ledger.receive(7), Verdict::Unexpected);
        assert_eq!((ledger.lost(), ledger.duplicated(), ledger.unexpected()), (2, 2, 1));
        assert_eq!(ledger.outstanding(), 1);
    }
}
