//! How an outbox makes room: newer values replace older ones, and transient events give way.

use super::{Entry, Outbox, Pushed, Slot};
use crate::outbound::HeldEvent;

impl Outbox {
    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        let first_seq = |entry: &Entry| match entry {
            Entry::Run(run) => run.first_seq,
            Entry::Slot(slot) => slot.seq,
        };
        let at = self.entries.partition_point(|entry| first_seq(entry) < seq);
        match self.entries.get_mut(at) {
            Some(Entry::Slot(slot)) if slot.seq == seq => Some(slot),
            _ => None,
        }
    }

    pub(super) fn replace(&mut self, seq: u64, event: HeldEvent) -> Pushed {
        let new_bytes = event.bytes().len();
        let bytes_of = |slot: &Slot| slot.event.as_ref().map_or(0, |old| old.bytes().len());
        let old_bytes = self.slot(seq).map_or(0, |slot| bytes_of(slot));
        if !self.make_room(0, new_bytes.saturating_sub(old_bytes)) {
            return Pushed::Overflow;
        }
        // Looked up again: making room may have moved the slots.
        if let Some(slot) = self.slot(seq) {
            slot.resent = event.head().arrival().resent;
            slot.event = Some(event);
            self.waiting_bytes += new_bytes;
            self.waiting_bytes -= old_bytes;
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
        let Some(seq) = self.transient.front().copied() else { return false };
        let Some(event) = self.slot(seq).and_then(|slot| slot.event.take()) else { return false };
        self.forget(seq, &event);
        self.dropped_total += 1;
        self.vacant += 1;
        if self.vacant > self.entries.len() / 2 + 32 {
            self.entries.retain(|entry| !matches!(entry, Entry::Slot(Slot { event: None, .. })));
            self.vacant = 0;
        }
        true
    }
}
