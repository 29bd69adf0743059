//! The lease by which one process at a time sees to a store's changes, and the pace at which it does.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::{Database, StoreError, new_id};

/// How often a process looks for changes, and how long it waits. [`Pace::default`] suits all but tests.
#[derive(Debug, Clone)]
pub struct Pace {
    /// How often it looks for changes that other processes have made; its own process wakes it. Default: 250 ms.
    pub poll_interval: Duration,
    /// How long other processes leave the work to it after its last sign of life, which it gives three times as often.
    /// Default: 6 s.
    pub lease: Duration,
    /// The first wait after a setback; it doubles up to `backoff_max`. Default: 100 ms.
    pub backoff_base: Duration,
    /// The longest wait. Default: 5 s.
    pub backoff_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            lease: Duration::from_secs(6),
            backoff_base: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
        }
    }
}

impl Pace {
    /// The wait after so many setbacks.
    pub(super) fn pause(&self, setbacks: i64) -> Duration {
        self.backoff_base.saturating_mul(1 << setbacks.clamp(0, 16)).min(self.backoff_max)
    }
}

/// A lease that this process has, or would have. Should it run out under a process that was stopped, two processes do the
/// same for a moment: what they do must bear that.
#[derive(Debug)]
pub(super) struct Lease {
    database: Database,
    work: String,
    holder: Uuid,
    length: Duration,
    /// When it was last asked for and had.
    renewed_at: Option<Instant>,
}

impl Lease {
    /// On a work of this name.
    pub(super) fn new(database: Database, work: String, length: Duration) -> Self {
        Self { database, work, holder: new_id(), length, renewed_at: None }
    }

    /// Whether this process has it. The database is asked only where there is none, or a third of it has gone.
    pub(super) async fn is_held(&mut self) -> Result<bool, StoreError> {
        let asked_at = Instant::now();
        if self.renewed_at.is_some_and(|renewed_at| asked_at - renewed_at < self.length / 3) {
            return Ok(true);
        }
        let millis = i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX);
        let is_held = self.database.lease(&self.work, self.holder, millis).await?;
        self.renewed_at = is_held.then_some(asked_at);
        Ok(is_held)
    }

    /// Leaves it to other processes, where it is held.
    pub(super) async fn leave(&mut self) {
        if self.renewed_at.take().is_some() {
            // Where that fails, the lease runs out by itself.
            let _ = self.database.lease(&self.work, self.holder, 0).await;
        }
    }
}
