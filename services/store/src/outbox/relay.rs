//! The relay: from the outbox to the topics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{interval, sleep},
};
use uuid::Uuid;

use super::{Announcement, Announcer, Published, Setback};
use crate::{Database, StoreError, new_id, now, to_micros};

/// Most changes that are under way at once.
const BATCH_ROWS_MAX: i64 = 64;

/// How a relay goes about it. [`RelayOptions::default`] suits all but tests.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// How often it looks for changes that other processes have made; its own process wakes it. Default: 250 ms.
    pub poll_interval: Duration,
    /// How long other processes leave the store to it after its last sign of life. Default: 6 s.
    pub lease: Duration,
    /// The first wait after a setback; it doubles up to `backoff_max`. Default: 100 ms.
    pub backoff_base: Duration,
    /// The longest wait. Default: 5 s.
    pub backoff_max: Duration,
    /// Times that a change is published which somebody does not process, before the relay goes on. Default: 5.
    pub attempts_max: u32,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(250),
            lease: Duration::from_secs(6),
            backoff_base: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            attempts_max: 5,
        }
    }
}

/// How a relay fares; it changes as the relay works.
#[derive(Debug, Default)]
pub struct RelayStats {
    published: AtomicU64,
    given_up: AtomicU64,
    setbacks: AtomicU64,
    holds_lease: AtomicBool,
    /// When the oldest change that waits was made, in microseconds since 1970; 0 where none waits.
    oldest: AtomicI64,
}

/// [`RelayStats`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelayCounts {
    /// Changes published and processed.
    pub published: u64,
    /// Changes given up after they were published several times and somebody did not process them.
    pub given_up: u64,
    /// Batches that were not published to their end, and times that the database failed.
    pub setbacks: u64,
    /// Whether this process publishes the store's changes; at most one does.
    pub holds_lease: bool,
    /// How old the oldest change is that waits, as this relay last saw it, in seconds; 0 where none waits.
    pub oldest_seconds: f64,
}

impl RelayStats {
    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        let oldest = self.oldest.load(Relaxed);
        let age = if oldest == 0 { 0 } else { (to_micros(now()) - oldest).max(0) };
        RelayCounts {
            published: self.published.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            setbacks: self.setbacks.load(Relaxed),
            holds_lease: self.holds_lease.load(Relaxed),
            oldest_seconds: Duration::from_micros(age.unsigned_abs()).as_secs_f64(),
        }
    }
}

/// Publishes the changes of one store.
#[derive(Debug)]
pub struct Relay<A> {
    database: Database,
    store: &'static str,
    announcer: A,
    options: RelayOptions,
    holder: Uuid,
    wake: Arc<Notify>,
    stats: Arc<RelayStats>,
    /// The change that stands first, and how often somebody has not processed it.
    unconfirmed: (i64, u32),
}

/// What a look at the outbox has come to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Nothing waits, or another process sees to it.
    Nothing,
    /// There may be more.
    More,
    /// It must be tried again later.
    Setback,
}

impl<A: Announcer> Relay<A> {
    /// A relay for a store. It works while [`run`](Self::run) does.
    #[must_use]
    pub fn new(database: Database, store: &'static str, announcer: A, options: RelayOptions) -> Self {
        let (wake, stats) = (Arc::default(), Arc::default());
        Self { database, store, announcer, options, holder: new_id(), wake, stats, unconfirmed: (0, 0) }
    }

    /// What the service notifies after it has committed a change, so that it is published at once.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// How it fares.
    #[must_use]
    pub fn stats(&self) -> Arc<RelayStats> {
        Arc::clone(&self.stats)
    }

    /// Publishes until it is told to stop; then it looks a last time, and leaves the store to other processes.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let mut setbacks = 0_u32;
        let mut stopping = false;
        loop {
            let look = self.look().await.unwrap_or_else(|error| {
                self.setback(error.kind());
                Look::Setback
            });
            setbacks = if look == Look::Setback { setbacks.saturating_add(1) } else { 0 };
            if stopping && look != Look::More {
                break;
            }
            let pause = match look {
                Look::More => continue,
                Look::Nothing => self.options.poll_interval,
                Look::Setback => {
                    let doubled = self.options.backoff_base.saturating_mul(1 << setbacks.min(16));
                    doubled.min(self.options.backoff_max)
                }
            };
            tokio::select! {
                () = &mut stop, if !stopping => stopping = true,
                () = self.wake.notified(), if look == Look::Nothing => {}
                () = sleep(pause) => {}
            }
        }
        // Where that fails, the lease runs out by itself.
        let _ = self.database.lease(self.store, self.holder, 0).await;
        self.stats.holds_lease.store(false, Relaxed);
    }

    /// Publishes one batch.
    async fn look(&mut self) -> Result<Look, StoreError> {
        let holds_lease = self.renew().await?;
        self.stats.holds_lease.store(holds_lease, Relaxed);
        if !holds_lease {
            self.stats.oldest.store(0, Relaxed);
            return Ok(Look::Nothing);
        }
        let pending = self.database.pending(self.store, BATCH_ROWS_MAX).await?;
        self.stats.oldest.store(pending.first().map_or(0, |first| to_micros(first.occurred_at)), Relaxed);
        if pending.is_empty() {
            return Ok(Look::Nothing);
        }
        let batch: Vec<_> = pending.into_iter().map(|pending| pending.announcement(self.store)).collect();
        let Published { confirmed, setback } = self.announce(&batch).await?;
        if let Some(last) = confirmed.checked_sub(1).and_then(|last| batch.get(last)) {
            self.database.settle(self.store, last.sequence).await?;
            self.stats.published.fetch_add(confirmed as u64, Relaxed);
        }
        match (setback, batch.get(confirmed)) {
            (Some(setback), Some(next)) => self.met(&setback, next).await,
            _ => Ok(Look::More),
        }
    }

    async fn renew(&self) -> Result<bool, StoreError> {
        let millis = i64::try_from(self.options.lease.as_millis()).unwrap_or(i64::MAX);
        self.database.lease(self.store, self.holder, millis).await
    }

    /// Publishes a batch and keeps the lease alive meanwhile.
    async fn announce(&self, batch: &[Announcement]) -> Result<Published, StoreError> {
        let announcing = self.announcer.announce(batch);
        tokio::pin!(announcing);
        let mut renewals = interval(self.options.lease / 3);
        loop {
            tokio::select! {
                published = &mut announcing => return Ok(published),
                _ = renewals.tick() => drop(self.renew().await?),
            }
        }
    }

    async fn met(&mut self, setback: &Setback, next: &Announcement) -> Result<Look, StoreError> {
        let problem = match setback {
            Setback::Unconfirmed(problem) => problem,
            Setback::Unpublished(problem) => {
                self.setback(problem);
                return Ok(Look::Setback);
            }
        };
        let times = if self.unconfirmed.0 == next.sequence { self.unconfirmed.1 + 1 } else { 1 };
        self.unconfirmed = (next.sequence, times);
        self.stats.setbacks.fetch_add(1, Relaxed);
        let (store, topic, sequence) = (self.store, &next.topic, next.sequence);
        let event_id = &next.change.event_id;
        if times < self.options.attempts_max {
            tracing::warn!(store, topic, sequence, event_id, times, problem, "a change is published again");
            return Ok(Look::Setback);
        }
        tracing::error!(
            store,
            topic,
            sequence,
            event_id,
            times,
            problem,
            "a change was published and somebody who listens did not process it; the relay goes on with the next"
        );
        self.database.settle(store, sequence).await?;
        self.stats.given_up.fetch_add(1, Relaxed);
        Ok(Look::More)
    }

    /// One line for each doubling: while the broker is away there would be one every few seconds.
    fn setback(&self, problem: &str) {
        let count = self.stats.setbacks.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(store = self.store, problem, count, "changes wait; publishing them is tried again");
        }
    }
}
