//! Deliveries that come as QUIC datagrams: which of them were named by the delivery stream and have not come.
//!
//! Pure: no runtime, no clock; the time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// How long after it was named a datagram may still come.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);
/// Most datagrams that are remembered until the stream names them; one beyond is dropped, and then a gap.
const EARLY_MAX: usize = 4096;

/// The books of one session. A number is in one of these states: not known, early (received, not yet named), missing
/// (named, not received), or settled (received and named, or declared lost).
#[derive(Default)]
pub(crate) struct Datagrams {
    /// Numbers that were received and are not named yet.
    early: BTreeSet<u64>,
    /// Numbers that were named and not received: first ones of ranges, with the last ones and the end of patience.
    missing: BTreeMap<u64, (u64, Instant)>,
}

impl Datagrams {
    /// A datagram has come; the stream has been read `through` this number. True when it is to be passed on.
    pub(crate) fn arrived(&mut self, seq: u64, through: u64) -> bool {
        if seq > through {
            return self.early.len() < EARLY_MAX && self.early.insert(seq);
        }
        let Some((from, (to, until))) = self.missing.range(..=seq).next_back().map(|(from, range)| (*from, *range))
        else {
            return false;
        };
        if seq > to {
            return false;
        }
        self.missing.remove(&from);
        self.add_missing(from, seq - 1, until);
        if let Some(rest) = seq.checked_add(1) {
            self.add_missing(rest, to, until);
        }
        true
    }

    fn add_missing(&mut self, from: u64, to: u64, until: Instant) {
        if from <= to {
            self.missing.insert(from, (to, until));
        }
    }

    /// The stream says that these went as datagrams. Ranges are named in ascending order, from 1.
    pub(crate) fn named(&mut self, from: u64, to: u64, now: Instant) {
        let until = now + PATIENCE;
        let named = self.early.range(from..=to).copied().collect::<Vec<_>>();
        let mut first = Some(from);
        for seq in named {
            self.early.remove(&seq);
            if let Some(first) = first {
                self.add_missing(first, seq - 1, until);
            }
            first = seq.checked_add(1);
        }
        if let Some(first) = first {
            self.add_missing(first, to, until);
        }
    }

    /// The stream went past this number, without naming datagrams.
    pub(crate) fn passed(&mut self, through: u64) {
        if self.early.first().is_some_and(|first| *first <= through) {
            self.early = self.early.split_off(&through.saturating_add(1));
        }
    }

    /// The first range whose patience has ended; it is settled now.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<(u64, u64)> {
        let first = self.missing.first_entry().filter(|range| range.get().1 <= now)?;
        let (from, (to, _)) = first.remove_entry();
        Some((from, to))
    }

    /// When the next range is overdue. Named in order, the first is the next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.missing.first_key_value().map(|(_, (_, until))| *until)
    }

    /// What was received beyond what the stream has named.
    pub(crate) fn early(&self) -> impl Iterator<Item = u64> {
        self.early.iter().copied()
    }

    /// Ends the session's books: what is missing now will not come.
    pub(crate) fn end(&mut self) -> Vec<(u64, u64)> {
        self.early.clear();
        std::mem::take(&mut self.missing).into_iter().map(|(from, (to, _))| (from, to)).collect()
    }
}

#[cfg(test)]
mod tests;
