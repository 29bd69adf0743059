//! When deliveries that may wait for others have waited enough.

use zonecast_core::Outbox;

use super::Session;

/// Bytes of deliveries per write, more or less; so many are worth one of their own.
pub(crate) const WRITE_BYTES: usize = 64 << 10;

/// Whether enough waits that waiting for more would bring nothing.
pub(super) fn is_much(outbox: &Outbox) -> bool {
    outbox.bytes() >= WRITE_BYTES
}

impl Session {
    /// Waits until enough waits, publishers are held back by it, or nothing more will come.
    pub(crate) async fn enough_waits(&self) {
        while !is_much(&self.outbox.borrow()) && self.over_since.get().is_none() && !self.closing.get() {
            self.outbox_filled.notified().await;
        }
    }
}
