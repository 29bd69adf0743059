//! How an outbox makes room: newer values replace older ones, and transient events give way.

use super::{Outbox, Pushed};
use crate::OutboundEvent;

impl Outbox {
    fn slot_of(&self, seq: u64) -> Option<usize> {
        let at = self.slots.partition_point(|slot| slot.seq < seq);
        self.slots.get(at).is_some_and(|slot| slot.seq == seq).then_some(at)
    }

    pub(super) fn replace(&mut self, seq: u64, event: OutboundEvent) -> Pushed {
        let old_bytes = |outbox: &Self, at: usize| outbox.slots[at].event.as_ref().map_or(0, |old| old.bytes().len());
        let grows_by = self.slot_of(seq).map_or(0, |at| event.bytes().len().saturating_sub(old_bytes(self, at)));
        if !self.make_room(0, grows_by) {
            return Pushed::Overflow;
        }
        // Looked up again: making room may have moved the slots.
        if let Some(at) = self.slot_of(seq) {
            self.waiting_bytes += event.bytes().len();
            self.waiting_bytes -= old_bytes(self, at);
            self.slots[at].resent = event.arrival().resent;
            self.slots[at].event = Some(event);
        }
        Pushed::Replaced
    }

    /// Drops the oldest transient events until so many more deliveries and bytes fit; none when that would not do.
    pub(super) fn make_room(&mut self, deliveries: usize, bytes: usize) -> bool {
        let (deliveries_max, bytes_max) = (self.limits.deliveries_max, self.limits.bytes_max);
        let (lasting, lasting_bytes) = self.lasting();
        if lasting + deliveries > deliveries_max || lasting_bytes + bytes > bytes_max {
            return false;
        }
        while lasting + self.transient.len() + deliveries > deliveries_max
            || lasting_bytes + self.transient_bytes + bytes > bytes_max
        {
            if !self.drop_oldest_transient() {
                return false;
            }
        }
        true
    }

    fn drop_oldest_transient(&mut self) -> bool {
        let Some(at) = self.transient.front().and_then(|&seq| self.slot_of(seq)) else { return false };
        let Some(event) = self.slots[at].event.take() else { return false };
        let seq = self.slots[at].seq;
        self.forget(seq, &event);
        self.dropped_total += 1;
        if self.slots.len() > 2 * self.waiting + 64 {
            self.slots.retain(|slot| slot.event.is_some());
        }
        true
    }
}
