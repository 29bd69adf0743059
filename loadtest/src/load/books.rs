//! What one receiver should have got of one publisher, and what it did get.

use std::sync::Arc;

/// Greater numbers are nobody's: no run is that long.
const SEQUENCE_MAX: u64 = 1 << 40;

/// What a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It may well be due.
    First,
    /// It came before.
    Duplicate,
    /// The receiver should not have got it.
    Unexpected,
}

/// The sum of books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Balance {
    /// Deliveries that came and were due.
    pub received: u64,
    /// Deliveries that were due.
    pub due: u64,
    /// Deliveries that were due and did not come.
    pub lost: u64,
    /// Deliveries that came more than once.
    pub duplicated: u64,
    /// Deliveries that should not have come.
    pub unexpected: u64,
}

impl std::ops::AddAssign for Balance {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.due += other.due;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.unexpected += other.unexpected;
    }
}

/// The books of one receiver for one publisher that goes round in a pool of circles.
///
/// As the pool repeats, so does what is due: of each round the same places. One bit per due delivery tells what came,
/// so a book takes a bit per delivery, however long the run. Deliveries mostly come in order, so the next one is
/// guessed before it is searched for.
#[derive(Debug, Clone)]
pub struct Book {
    pool_len: u64,
    /// The places in the pool whose events the receiver may get, ascending.
    places: Arc<[u32]>,
    seen: Vec<u64>,
    received: u64,
    duplicated: u64,
    unexpected: u64,
    /// The guess: a number, and its rank among all that may come.
    next: (u64, u64),
}

impl Book {
    /// A book for a pool of that many circles, of which those at `places` (ascending) concern the receiver.
    #[must_use]
    pub fn new(pool_len: u32, places: Arc<[u32]>) -> Self {
        let next = (places.first().map_or(u64::MAX, |place| u64::from(*place)), 0);
        Self {
            pool_len: u64::from(pool_len),
            places,
            seen: Vec::new(),
            received: 0,
            duplicated: 0,
            unexpected: 0,
            next,
        }
    }

    /// Enters a delivery.
    pub fn enter(&mut self, sequence: u64) -> Entry {
        let rank = if sequence == self.next.0 { Some(self.next.1) } else { self.rank(sequence) };
        let Some(rank) = rank.filter(|_| sequence < SEQUENCE_MAX) else {
            self.unexpected += 1;
            return Entry::Unexpected;
        };
        self.next = self.at_rank(rank + 1);
        let (word, bit) = ((rank / 64) as usize, 1_u64 << (rank % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return Entry::Duplicate;
        }
        self.seen[word] |= bit;
        self.received += 1;
        Entry::First
    }

    /// How many different events came.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many events are due after so many were published.
    #[must_use]
    pub fn due(&self, published: u64) -> u64 {
        let within = published % self.pool_len;
        let of_round = self.places.partition_point(|place| u64::from(*place) < within) as u64;
        published / self.pool_len * self.places.len() as u64 + of_round
    }

    /// What there is to say after so many were published, when each of the places is due.
    #[must_use]
    pub fn balance(&self, published: u64) -> Balance {
        let due = self.due(published);
        let seen = self.seen_below(due);
        Balance {
            received: seen,
            due,
            lost: due - seen,
            duplicated: self.duplicated,
            // What was never published cannot be due.
            unexpected: self.unexpected + (self.received - seen),
        }
    }

    /// As [`balance`](Self::balance) where only `verdict` knows whether an event was due: `Some(true)`, must not come:
    /// `Some(false)`, or may do either: `None`, in which case it counts as due if it came.
    pub fn balance_by(&self, published: u64, mut verdict: impl FnMut(u64) -> Option<bool>) -> Balance {
        let ranks = self.due(published);
        let mut balance = Balance {
            duplicated: self.duplicated,
            unexpected: self.unexpected + (self.received - self.seen_below(ranks)),
            ..Balance::default()
        };
        for rank in 0..ranks {
            let came = self.has(rank);
            let verdict = verdict(self.at_rank(rank).0);
            balance.due += u64::from(verdict == Some(true) || (verdict.is_none() && came));
            balance.received += u64::from(came && verdict != Some(false));
            balance.lost += u64::from(!came && verdict == Some(true));
            balance.unexpected += u64::from(came && verdict == Some(false));
        }
        balance
    }

    fn has(&self, rank: u64) -> bool {
        self.seen.get((rank / 64) as usize).is_some_and(|word| word >> (rank % 64) & 1 == 1)
    }

    fn seen_below(&self, rank: u64) -> u64 {
        let whole = (rank / 64) as usize;
        let ones = self.seen.iter().take(whole).map(|word| u64::from(word.count_ones())).sum::<u64>();
        let rest = self.seen.get(whole).map_or(0, |word| word & ((1 << (rank % 64)) - 1));
        ones + u64::from(rest.count_ones())
    }

    fn rank(&self, sequence: u64) -> Option<u64> {
        let place = u32::try_from(sequence % self.pool_len).ok()?;
        let index = self.places.binary_search(&place).ok()?;
        Some(sequence / self.pool_len * self.places.len() as u64 + index as u64)
    }

    /// The number of the event at this rank, with the rank.
    fn at_rank(&self, rank: u64) -> (u64, u64) {
        let per_round = self.places.len() as u64;
        let place = self.places[(rank % per_round) as usize];
        (rank / per_round * self.pool_len + u64::from(place), rank)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_book_expects_nothing() {
        let mut book = Book::new(8, Arc::from([]));
        assert_eq!(book.due(1000), 0);
        for sequence in [0, 7, 8, SEQUENCE_MAX - 1, SEQUENCE_MAX, u64::MAX] {
            assert_eq!(book.enter(sequence), Entry::Unexpected);
        }
        assert_eq!(book.balance(1000), Balance { unexpected: 6, ..Balance::default() });
    }

    #[test]
    fn lost_duplicated_and_unexpected_are_told_apart() {
        let mut book = Book::new(4, Arc::from([1, 3]));
        for (sequence, entry) in
            [(1, Entry::First), (3, Entry::First), (3, Entry::Duplicate), (2, Entry::Unexpected), (9, Entry::First)]
        {
            assert_eq!(book.enter(sequence), entry, "{sequence}");
        }
        assert_eq!(book.balance(8), Balance { received: 2, due: 4, lost: 2, duplicated: 1, unexpected: 2 });
        assert_eq!(book.balance(10), Balance { received: 3, due: 5, lost: 2, duplicated: 1, unexpected: 1 });
    }

    proptest! {
        /// Against the plainest model: a map from each number to how often it came.
        #[test]
        fn books_agree_with_a_plain_count(
            pool_len in 1_u32..80,
            bits in any::<u128>(),
            published in 0_u64..400,
            came in prop::collection::vec(0_u64..500, 0..400),
            in_order in any::<bool>(),
        ) {
            let places: Vec<u32> = (0..pool_len).filter(|place| bits >> place & 1 == 1).collect();
            let concerns = |sequence: u64| places.binary_search(&((sequence % u64::from(pool_len)) as u32)).is_ok();
            let mut came = came;
            if in_order {
                came.sort_unstable();
            }
            let mut book = Book::new(pool_len, places.clone().into());
            let mut model = BTreeMap::<u64, u64>::new();
            for sequence in came {
                book.enter(sequence);
                *model.entry(sequence).or_default() += 1;
            }
            let is_due = |sequence: u64| sequence < published && concerns(sequence);
            let due = (0..published).filter(|sequence| is_due(*sequence)).count() as u64;
            let received = model.keys().filter(|sequence| is_due(**sequence)).count() as u64;
            let again = model.iter().filter(|(sequence, _)| concerns(**sequence)).map(|(_, times)| times - 1).sum();
            let never = model.iter().filter(|(sequence, _)| !concerns(**sequence)).map(|(_, times)| *times).sum::<u64>();
            let early = model.keys().filter(|sequence| concerns(**sequence) && **sequence >= published).count() as u64;
            let expected = Balance { received, due, lost: due - received, duplicated: again, unexpected: never + early };
            prop_assert_eq!(book.balance(published), expected);
            prop_assert_eq!(book.balance_by(published, |_| Some(true)), expected);
        }

        #[test]
        fn an_uncertain_delivery_is_neither_lost_nor_unexpected(came in prop::collection::btree_set(0_u64..100, 0..60)) {
            let mut book = Book::new(10, (0..10).collect());
            for sequence in &came {
                book.enter(*sequence);
            }
            let verdict = |sequence: u64| match sequence % 3 { 0 => Some(true), 1 => Some(false), _ => None };
            let balance = book.balance_by(100, verdict);
            let count = |kind: Option<bool>, here: bool|
                (0..100).filter(|n| verdict(*n) == kind && came.contains(n) == here).count() as u64;
            prop_assert_eq!(balance.lost, count(Some(true), false));
            prop_assert_eq!(balance.unexpected, count(Some(false), true));
            prop_assert_eq!(balance.received, count(Some(true), true) + count(None, true));
            prop_assert_eq!(balance.due, balance.received + balance.lost);
        }
    }
}
