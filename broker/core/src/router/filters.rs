//! The kind filters of zones, each kept once.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use zonecast_protocol::Kind;

use crate::KindFilter;

/// The kind filters in use. Zones share them: a game server wants the same kinds in all its zones, so the few filters
/// that there are stay in the processor's cache, and a zone on the tree needs four bytes for its own.
#[derive(Debug)]
pub(super) struct Filters {
    /// By id. The first is [`KindFilter::All`] for ever.
    slots: Vec<Slot>,
    by_kinds: FxHashMap<Arc<[Kind]>, FilterId>,
    /// Slots to use again.
    free: Vec<FilterId>,
}

#[derive(Debug)]
struct Slot {
    filter: KindFilter,
    /// Zones that have it. Not counted for [`KindFilter::All`].
    zones: usize,
}

/// Names a filter in [`Filters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FilterId(u32);

impl FilterId {
    const ALL: Self = Self(0);

    fn slot(self) -> usize {
        self.0 as usize
    }
}

impl Default for Filters {
    fn default() -> Self {
        let all = Slot { filter: KindFilter::All, zones: 0 };
        Self { slots: vec![all], by_kinds: FxHashMap::default(), free: Vec::new() }
    }
}

impl Filters {
    /// Whether no zone has a filter other than [`KindFilter::All`].
    pub(super) fn is_empty(&self) -> bool {
        self.by_kinds.is_empty() && self.slots.len() == self.free.len() + 1
    }

    /// Whether an event of this kind (empty: not stated) passes.
    #[inline]
    pub(super) fn passes(&self, id: FilterId, kind: &str) -> bool {
        self.slots[id.slot()].filter.passes(kind)
    }

    /// Counts one more zone with the filter.
    pub(super) fn acquire(&mut self, filter: &KindFilter) -> FilterId {
        let KindFilter::Only(kinds) = filter else { return FilterId::ALL };
        if let Some(id) = self.by_kinds.get(kinds) {
            self.slots[id.slot()].zones += 1;
            return *id;
        }
        let slot = Slot { filter: filter.clone(), zones: 1 };
        let id = if let Some(id) = self.free.pop() {
            self.slots[id.slot()] = slot;
            id
        } else {
            let id = u32::try_from(self.slots.len()).expect("a filter has a zone, and memory ends before 2^32 zones");
            self.slots.push(slot);
            FilterId(id)
        };
        self.by_kinds.insert(Arc::clone(kinds), id);
        id
    }

    /// Counts one zone with the filter less, and says under which id it had it.
    pub(super) fn release(&mut self, filter: &KindFilter) -> FilterId {
        let KindFilter::Only(kinds) = filter else { return FilterId::ALL };
        let id = *self.by_kinds.get(kinds).expect("released once for each time it was acquired");
        let slot = &mut self.slots[id.slot()];
        slot.zones -= 1;
        if slot.zones == 0 {
            slot.filter = KindFilter::All;
            self.by_kinds.remove(kinds);
            self.free.push(id);
        }
        id
    }
}
