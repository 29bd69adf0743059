//! What a set would know of numbers that were received: for the tests, and for fuzzing.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub(super) fn id(source: u64, lane: u8, lane_seq: u64) -> EventId {
    EventId { source, lane, lane_seq }
}

/// Every number that a lane ever brought.
#[derive(Default)]
struct Model {
    lanes: BTreeMap<(u64, u8), BTreeSet<u64>>,
}

impl Model {
    fn insert(&mut self, id: EventId, resent: bool) -> bool {
        let numbers = self.lanes.entry((id.source, id.lane)).or_default();
        match numbers.last() {
            Some(greatest) if greatest.saturating_sub(id.lane_seq) >= 16_384 => !resent,
            _ => numbers.insert(id.lane_seq),
        }
    }
}

/// Each step goes on from the number before, and says of which source and lane the event is, and whether it was resent:
/// the memory knows exactly what a set knows, and is no larger than the window.
pub(crate) fn run(start: u64, steps: impl IntoIterator<Item = (i64, u64, u8, bool)>) {
    let (mut seen, mut model) = (Seen::new(), Model::default());
    let mut number = start;
    for (step, source, lane, resent) in steps {
        number = number.saturating_add_signed(step);
        let id = id(source, lane, number);
        assert_eq!(seen.insert(id, resent), model.insert(id, resent), "{id}");
    }
    for window in seen.young.values() {
        assert!(window.words.len() as u64 <= NUMBERS / WORD_BITS + 1, "no larger than the window");
    }
}
