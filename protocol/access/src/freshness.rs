//! How fresh it is what a verifier goes by.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// When keys and revocations were read last, changed or not, for whoever watches over a verifier. In seconds since 1970; 0
/// for never.
#[derive(Debug, Default)]
pub struct Freshness {
    keys_read_at: AtomicU64,
    revocations_read_at: AtomicU64,
}

impl Freshness {
    /// The keys were read at this time.
    pub fn keys_read(&self, at_s: u64) {
        self.keys_read_at.store(at_s, Relaxed);
    }

    /// The revocations were read at this time.
    pub fn revocations_read(&self, at_s: u64) {
        self.revocations_read_at.store(at_s, Relaxed);
    }

    /// When the keys were read last.
    #[must_use]
    pub fn keys_read_at(&self) -> u64 {
        self.keys_read_at.load(Relaxed)
    }

    /// When the revocations were read last.
    #[must_use]
    pub fn revocations_read_at(&self) -> u64 {
        self.revocations_read_at.load(Relaxed)
    }
}
