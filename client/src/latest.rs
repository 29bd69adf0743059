//! The latest value of each key that was received, so that no older one is handed on behind it.
//!
//! An older value comes late when its publisher sends it again and the newer one, which had replaced it on the way, has
//! come already; or when a broker kept it while its receiver was at another one. Handed on, it would stay: nobody sends
//! the newer one again.
//!
//! Pure: no runtime, no clock.

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use crate::event::EventId;

/// Most keys in each of the two halves of the memory. A key is at most 128 bytes.
const KEYS_PER_HALF_MAX: usize = 65_536;

/// How a value relates to those of its key that were received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Nothing is known of the key.
    Unknown,
    /// It is later than all of them.
    Newer,
    /// It is the latest of them.
    Same,
    /// There was a later one.
    Older,
}

/// The greatest number that was received of each key of every lane of every publisher.
///
/// At least the `KEYS_PER_HALF_MAX` keys that were heard last are remembered, at most twice as many: when the younger
/// half is full, it takes the place of the older one, whose keys are forgotten if they were not heard since.
pub(crate) struct Latest {
    young: Half,
    old: Half,
    keys_per_half_max: usize,
}

#[derive(Default)]
struct Half {
    /// Keys are chosen by publishers, hence a map whose order they cannot foresee.
    lanes: FxHashMap<(u64, u8), HashMap<Box<str>, u64>>,
    /// How many keys were put in.
    keys: usize,
}

impl Latest {
    pub(crate) fn new() -> Self {
        Self::with_keys_max(KEYS_PER_HALF_MAX)
    }

    fn with_keys_max(keys_per_half_max: usize) -> Self {
        Self { young: Half::default(), old: Half::default(), keys_per_half_max }
    }

    /// Takes note of a value.
    pub(crate) fn insert(&mut self, id: EventId, key: &str) -> Age {
        let lane = (id.source, id.lane);
        if let Some(greatest) = self.young.lanes.get_mut(&lane).and_then(|keys| keys.get_mut(key)) {
            return raise(greatest, id.lane_seq);
        }
        let known = self.old.lanes.get_mut(&lane).and_then(|keys| keys.remove_entry(key));
        let (key, mut greatest, is_known) = match known {
            Some((key, greatest)) => (key, greatest, true),
            None => (key.into(), id.lane_seq, false),
        };
        let age = raise(&mut greatest, id.lane_seq);
        if self.young.keys >= self.keys_per_half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.lanes.entry(lane).or_default().insert(key, greatest);
        self.young.keys += 1;
        if is_known { age } else { Age::Unknown }
    }

    /// The greatest number of a key, while it is remembered.
    pub(crate) fn greatest(&self, id: EventId, key: &str) -> Option<u64> {
        let find = |half: &Half| half.lanes.get(&(id.source, id.lane)).and_then(|keys| keys.get(key)).copied();
        find(&self.young).or_else(|| find(&self.old))
    }
}

fn raise(greatest: &mut u64, number: u64) -> Age {
    let age = match number.cmp(greatest) {
        std::cmp::Ordering::Less => Age::Older,
        std::cmp::Ordering::Equal => Age::Same,
        std::cmp::Ordering::Greater => Age::Newer,
    };
    *greatest = number.max(*greatest);
    age
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// Every key that was ever heard, with its greatest number, and in which order they were heard.
    #[derive(Default)]
    struct Model {
        greatest: BTreeMap<(u64, u8, String), u64>,
        heard: Vec<(u64, u8, String)>,
    }

    impl Model {
        fn insert(&mut self, id: EventId, key: &str) -> Age {
            let name = (id.source, id.lane, key.to_owned());
            self.heard.push(name.clone());
            let before = self.greatest.get(&name).copied();
            self.greatest.insert(name, before.unwrap_or(0).max(id.lane_seq));
            match before {
                None => Age::Unknown,
                Some(before) if before < id.lane_seq => Age::Newer,
                Some(before) if before == id.lane_seq => Age::Same,
                Some(_) => Age::Older,
            }
        }

        /// Whether it is among so many keys that were heard last, before the present one.
        fn is_recent(&self, name: &(u64, u8, String), keys: usize) -> bool {
            let mut recent = BTreeSet::new();
            for heard in self.heard.iter().rev().skip(1) {
                if heard == name {
                    return true;
                }
                recent.insert(heard);
                if recent.len() >= keys {
                    return false;
                }
            }
            false
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        /// What it says is right; it knows the keys that were heard last, forgets only others, and stays small.
        #[test]
        fn it_knows_what_a_map_knows_of_the_keys_heard_last(
            keys_max in 1..8_usize,
            steps in proptest::collection::vec((0..2_u64, 0..2_u8, 0..6_u8, 1..40_u64), 1..200),
        ) {
            let (mut latest, mut model) = (Latest::with_keys_max(keys_max), Model::default());
            for (source, lane, key, lane_seq) in steps {
                let (id, key) = (EventId { source, lane, lane_seq }, format!("k{key}"));
                let before = latest.greatest(id, &key);
                let (said, expected) = (latest.insert(id, &key), model.insert(id, &key));
                prop_assert_eq!(before.is_none(), said == Age::Unknown);
                if said == Age::Unknown {
                    let name = (source, lane, key.clone());
                    prop_assert!(expected == Age::Unknown || !model.is_recent(&name, keys_max));
                    // What is forgotten begins anew.
                    model.greatest.insert(name, lane_seq);
                } else {
                    prop_assert_eq!(said, expected);
                }
                prop_assert_eq!(latest.greatest(id, &key), model.greatest.get(&(source, lane, key)).copied());
                for half in [&latest.young, &latest.old] {
                    prop_assert!(half.lanes.values().map(HashMap::len).sum::<usize>() <= keys_max);
                }
            }
        }
    }
}
