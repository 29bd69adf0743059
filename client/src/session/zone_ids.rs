//! By which number a zone goes on the wire.
//!
//! A zone that was handed over has an id from the broker's range, which holds for that session only: on the next
//! connection the client must bring the zone under an id from its own range, and the broker may give the old id to
//! another zone. The application knows each zone by one id for good; this is the difference between the two.

use std::collections::{BTreeMap, BTreeSet};

use zonecast_protocol::{HANDED_OVER_ZONE_ID_MIN, wire};

/// Ids that differ between application and wire, on this connection. Most do not, and are not listed.
#[derive(Debug)]
pub(super) struct ZoneIds {
    wire_of: BTreeMap<u32, u32>,
    /// The inverse of `wire_of`.
    known_as: BTreeMap<u32, u32>,
    /// Ids from the top of the client's range, far from where applications count, are used for renewed zones.
    next_wire: u32,
    /// Ids from the top of the broker's range are made up for the application when the broker's own is taken.
    next_known: u32,
}

impl ZoneIds {
    pub(super) fn new() -> Self {
        Self {
            wire_of: BTreeMap::new(),
            known_as: BTreeMap::new(),
            next_wire: HANDED_OVER_ZONE_ID_MIN - 1,
            next_known: u32::MAX,
        }
    }

    /// Begins a connection, on which zones of these ids will be held.
    pub(super) fn start(&mut self, held: &BTreeMap<u32, wire::Zone>) {
        self.wire_of.clear();
        self.known_as.clear();
        self.next_wire = HANDED_OVER_ZONE_ID_MIN - 1;
        for id in held.range(HANDED_OVER_ZONE_ID_MIN..).map(|(id, _)| *id) {
            self.insert_own(id, |wire| held.contains_key(&wire));
        }
    }

    /// Makes sure that a zone which the application names has a wire id of its own. `taken` knows the application's ids.
    pub(super) fn assign(&mut self, id: u32, taken: impl Fn(u32) -> bool) {
        if self.known_as.contains_key(&id) && !self.wire_of.contains_key(&id) {
            self.insert_own(id, taken);
        }
    }

    /// Takes note of a zone that the broker brings under `wire`, and says by which id the application will know it.
    ///
    /// `held` are the application's zones, `mentioned` ids in operations under way: on the wire those mean what they
    /// meant when they were sent. `None` when the id is not the broker's to give.
    pub(super) fn receive(
        &mut self,
        wire: u32,
        held: &BTreeMap<u32, wire::Zone>,
        mentioned: &BTreeSet<u32>,
    ) -> Option<u32> {
        if wire < HANDED_OVER_ZONE_ID_MIN {
            return None;
        }
        if let Some(id) = self.known_as.get(&wire) {
            return (!held.contains_key(id)).then_some(*id);
        }
        let in_use = |id: &u32| held.contains_key(id) || mentioned.contains(id);
        match self.wire_of.get(&wire).copied() {
            None => (!held.contains_key(&wire)).then_some(wire),
            // The application knows another zone by this number.
            Some(_) if in_use(&wire) => {
                while in_use(&self.next_known) || self.wire_of.contains_key(&self.next_known) {
                    let next = self.next_known.checked_sub(1).filter(|id| *id >= HANDED_OVER_ZONE_ID_MIN);
                    self.next_known = next.unwrap_or(u32::MAX);
                }
                self.insert(self.next_known, wire);
                Some(self.next_known)
            }
            Some(former) => {
                self.wire_of.remove(&wire);
                self.known_as.remove(&former);
                Some(wire)
            }
        }
    }

    /// The id on the wire.
    pub(super) fn on_wire(&self, id: u32) -> u32 {
        self.wire_of.get(&id).copied().unwrap_or(id)
    }

    pub(super) fn zone_on_wire(&self, zone: &wire::Zone) -> wire::Zone {
        wire::Zone { id: self.on_wire(zone.id), ..zone.clone() }
    }

    fn insert_own(&mut self, id: u32, taken: impl Fn(u32) -> bool) {
        // There are more ids than zones fit in memory, so this ends.
        while taken(self.next_wire) || self.known_as.contains_key(&self.next_wire) {
            self.next_wire = if self.next_wire == 1 { HANDED_OVER_ZONE_ID_MIN - 1 } else { self.next_wire - 1 };
        }
        self.insert(id, self.next_wire);
    }

    fn insert(&mut self, id: u32, wire: u32) {
        self.wire_of.insert(id, wire);
        self.known_as.insert(wire, id);
    }
}
