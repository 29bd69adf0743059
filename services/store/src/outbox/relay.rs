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

use super::{Announcement, Announcer, Kept, Outcome};
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
    /// The first wait after a setback, of all or of one change alone; it doubles up to `backoff_max`. Default: 100 ms.
    pub backoff_base: Duration,
    /// The longest wait. Default: 5 s.
    pub backoff_max: Duration,
    /// Times that a change is published which somebody does not process, before it is parked. Default: 5.
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
    parked: AtomicU64,
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
    /// Changes parked: somebody did not process them, several times, or the broker will never take them.
    pub parked: u64,
    /// Attempts at a change that somebody did not process, batches that found no broker, and times that the database
    /// failed.
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
            parked: self.parked.load(Relaxed),
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
        Self { database, store, announcer, options, holder: new_id(), wake, stats }
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
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let mut setbacks = 0_i64;
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
                Look::Setback => self.pause(setbacks),
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
    async fn look(&self) -> Result<Look, StoreError> {
        let holds_lease = self.renew().await?;
        self.stats.holds_lease.store(holds_lease, Relaxed);
        if !holds_lease {
            self.stats.oldest.store(0, Relaxed);
            return Ok(Look::Nothing);
        }
        let oldest = self.database.oldest(self.store).await?;
        self.stats.oldest.store(oldest.map_or(0, to_micros), Relaxed);
        let pending = self.database.pending(self.store, BATCH_ROWS_MAX).await?;
        if pending.is_empty() {
            return Ok(Look::Nothing);
        }
        let attempts: Vec<i64> = pending.iter().map(|pending| pending.attempts).collect();
        let batch: Vec<_> = pending.into_iter().map(|pending| pending.announcement(self.store)).collect();
        let outcomes = self.announce(&batch).await?;
        let (mut published, mut kept, mut unpublished) = (Vec::new(), Vec::new(), None);
        for ((announcement, attempts), outcome) in batch.iter().zip(attempts).zip(outcomes) {
            match outcome {
                Outcome::Confirmed => published.push(announcement.sequence),
                Outcome::Unconfirmed(problem) => kept.push(self.unconfirmed(announcement, attempts + 1, problem)),
                Outcome::Refused(problem) => kept.push(parked(announcement, problem)),
                Outcome::Unpublished(problem) => unpublished = unpublished.or(Some(problem)),
            }
        }
        self.database.settle(self.store, &published, &kept).await?;
        self.stats.published.fetch_add(published.len() as u64, Relaxed);
        let parked = kept.iter().filter(|kept| kept.due_at.is_none()).count() as u64;
        self.stats.parked.fetch_add(parked, Relaxed);
        match unpublished {
            Some(problem) => {
                self.setback(&problem);
                Ok(Look::Setback)
            }
            None => Ok(Look::More),
        }
    }

    async fn renew(&self) -> Result<bool, StoreError> {
        let millis = i64::try_from(self.options.lease.as_millis()).unwrap_or(i64::MAX);
        self.database.lease(self.store, self.holder, millis).await
    }

    /// Publishes a batch and keeps the lease alive meanwhile.
    async fn announce(&self, batch: &[Announcement]) -> Result<Vec<Outcome>, StoreError> {
        let announcing = self.announcer.announce(batch);
        tokio::pin!(announcing);
        let mut renewals = interval(self.options.lease / 3);
        loop {
            tokio::select! {
                outcomes = &mut announcing => return Ok(outcomes),
                _ = renewals.tick() => drop(self.renew().await?),
            }
        }
    }

    /// What somebody did not process waits by itself for the next attempt, and after the last is parked.
    fn unconfirmed(&self, announcement: &Announcement, attempts: i64, problem: String) -> Kept {
        self.stats.setbacks.fetch_add(1, Relaxed);
        if attempts >= i64::from(self.options.attempts_max) {
            return parked(announcement, problem);
        }
        let Announcement { sequence, topic, change } = announcement;
        let (store, event_id) = (&change.store, &change.event_id);
        tracing::warn!(store, topic, sequence, event_id, attempts, problem, "a change will be published again");
        Kept { sequence: *sequence, due_at: Some(now() + self.pause(attempts)), problem }
    }

    /// The wait after so many setbacks.
    fn pause(&self, setbacks: i64) -> Duration {
        self.options.backoff_base.saturating_mul(1 << setbacks.clamp(0, 16)).min(self.options.backoff_max)
    }

    /// One line for each doubling: while the broker is away there would be one every few seconds.
    fn setback(&self, problem: &str) {
        let count = self.stats.setbacks.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(store = self.store, problem, count, "changes wait; publishing them is tried again");
        }
    }
}

/// Keeps a change and publishes it no more.
fn parked(announcement: &Announcement, problem: String) -> Kept {
    let Announcement { sequence, topic, change } = announcement;
    let (store, event_id) = (&change.store, &change.event_id);
    tracing::error!(store, topic, sequence, event_id, problem, "a change is parked: it is kept and published no more");
    Kept { sequence: *sequence, due_at: None, problem }
}
