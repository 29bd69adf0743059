//! What a set would know of numbers that were received: for the tests, and for fuzzing.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

pub(super) fn id(source: u64, lane: u8, lane_seq: u64) -> EventId {
    EventId { source, lane, lane_seq }
}

/// Every number that lanes ever brought, and the greatest of those that keep to the order.
#[derive(Default)]
struct Model {
    lanes: BTreeMap<(u64, u8), BTreeSet<u64>>,
    latest: BTreeMap<(u64, u8), u64>,
}

/// What comes: so far from the number before, of which source and lane, keeping to the order or not, resent or not.
pub(crate) type Step = (i64, u64, u8, bool, bool);

impl Model {
    fn insert(&mut self, id: EventId, ordered: bool, resent: bool) -> Verdict {
        let latest = self.latest.get(&(id.source, id.lane)).copied().unwrap_or(0);
        match self.remember(id, resent) {
            Verdict::New if ordered && id.lane_seq < latest => Verdict::Late,
            Verdict::New if ordered => {
                self.latest.insert((id.source, id.lane), id.lane_seq);
                Verdict::New
            }
            verdict => verdict,
        }
    }

    fn remember(&mut self, id: EventId, resent: bool) -> Verdict {
        let numbers = self.lanes.entry((id.source, id.lane)).or_default();
        match numbers.last().copied() {
            Some(greatest) if greatest.saturating_sub(id.lane_seq) >= 16_384 => match resent {
                true => Verdict::TooLate,
                false => Verdict::New,
            },
            _ if numbers.insert(id.lane_seq) => Verdict::New,
            _ => Verdict::Duplicate,
        }
    }
}

/// The memory knows exactly what a set knows, and is no larger than the window.
pub(crate) fn run(start: u64, steps: impl IntoIterator<Item = Step>) {
    let (mut seen, mut model) = (Seen::new(), Model::default());
    let mut number = start;
    for (step, source, lane, ordered, resent) in steps {
        number = number.saturating_add_signed(step);
        let id = id(source, lane, number);
        assert_eq!(seen.insert(id, ordered, resent), model.insert(id, ordered, resent), "{id}");
    }
    for window in seen.young.values() {
        assert!(window.words.len() as u64 <= NUMBERS / WORD_BITS + 1, "no larger than the window");
    }
}
