//! The relay: from the outbox to the topics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Announcer, Committed, Kept, Outcome, Pace, Pending, lease::Lease};
use crate::{Database, StoreError, now, to_micros};

/// Most changes that are under way at once.
const BATCH_ROWS_MAX: usize = 64;
/// How long an answer waits for others, to be noted together with them.
const SETTLED_WITHIN: Duration = Duration::from_millis(5);

/// How a relay goes about it. [`RelayOptions::default`] suits all but tests.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// How often it looks, and how long it waits after a setback, of all or of one change alone.
    pub pace: Pace,
    /// Times that a change is published which somebody does not process, before it is parked. Default: 5.
    pub attempts_max: u32,
    /// How long changes are kept once they are published, for those who were away. Default: 7 days.
    pub retention: Duration,
    /// How often it looks for changes whose retention is over. Default: 1 min.
    pub prune_interval: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            attempts_max: 5,
            retention: Duration::from_secs(7 * 24 * 3_600),
            prune_interval: Duration::from_secs(60),
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
    lease: Lease,
    /// When to look next for changes whose retention is over.
    prune_at: Instant,
    /// What was sent and is not answered yet, by number.
    under_way: BTreeMap<i64, Pending>,
    answers: JoinSet<(i64, Outcome)>,
    /// Since something last went well.
    setbacks: i64,
    paused_until: Instant,
    wake: Arc<Notify>,
    stats: Arc<RelayStats>,
}

impl<A: Announcer> Relay<A> {
    /// A relay for a store. It works while [`run`](Self::run) does.
    #[must_use]
    pub fn new(database: Database, store: &'static str, announcer: A, options: RelayOptions) -> Self {
        let (wake, stats, now) = (Arc::default(), Arc::default(), Instant::now());
        let lease = Lease::new(database.clone(), store.to_owned(), options.pace.lease);
        Self {
            database,
            store,
            announcer,
            options,
            lease,
            prune_at: now,
            under_way: BTreeMap::new(),
            answers: JoinSet::new(),
            setbacks: 0,
            paused_until: now,
            wake,
            stats,
        }
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
        let mut is_stopping = false;
        loop {
            let has_sent = self.look().await.unwrap_or_else(|error| {
                self.setback(error.kind());
                false
            });
            let has_room = self.under_way.len() < BATCH_ROWS_MAX;
            if has_sent && has_room {
                continue;
            }
            if is_stopping && !has_sent && self.under_way.is_empty() {
                break;
            }
            let until = self.paused_until.max(Instant::now() + self.options.pace.poll_interval);
            let is_paused = self.is_paused();
            tokio::select! {
                () = &mut stop, if !is_stopping => is_stopping = true,
                Some(answer) = self.answers.join_next() => self.answered(answer).await,
                () = self.wake.notified(), if has_room && !is_paused => {}
                () = sleep_until(until) => {}
            }
        }
        self.lease.leave().await;
        self.stats.holds_lease.store(false, Relaxed);
    }

    /// Sends what waits and is not under way, as far as there is room; false where there was nothing to send.
    async fn look(&mut self) -> Result<bool, StoreError> {
        let holds_lease = self.lease.is_held().await?;
        self.stats.holds_lease.store(holds_lease, Relaxed);
        if !holds_lease {
            self.stats.oldest.store(0, Relaxed);
            return Ok(false);
        }
        self.prune().await?;
        let room = BATCH_ROWS_MAX - self.under_way.len();
        if room == 0 || self.is_paused() {
            return Ok(false);
        }
        let oldest = self.database.oldest(self.store).await?;
        self.stats.oldest.store(oldest.map_or(0, to_micros), Relaxed);
        // What is under way still waits in the outbox.
        let mut pending = self.database.pending(self.store, i64::try_from(BATCH_ROWS_MAX).unwrap_or(i64::MAX)).await?;
        pending.retain(|pending| !self.under_way.contains_key(&pending.committed.sequence));
        pending.truncate(room);
        let batch: Vec<_> = pending.iter().map(|pending| pending.committed.clone()).collect();
        let answers = self.announcer.announce(&batch).await;
        for (pending, answer) in pending.into_iter().zip(answers) {
            let sequence = pending.committed.sequence;
            self.under_way.insert(sequence, pending);
            self.answers.spawn(async move { (sequence, answer.await) });
        }
        Ok(!batch.is_empty())
    }

    /// Notes what has become of a change, and of those whose answers come right behind.
    async fn answered(&mut self, first: Result<(i64, Outcome), JoinError>) {
        let mut answers = vec![first];
        let soon = Instant::now() + SETTLED_WITHIN;
        // Many come together; noting them together spares the database.
        while let Ok(Some(next)) = timeout_at(soon, self.answers.join_next()).await {
            answers.push(next);
        }
        let (mut published, mut kept, mut unpublished) = (Vec::new(), Vec::new(), None);
        for (sequence, outcome) in answers.into_iter().flatten() {
            let Some(Pending { committed, attempts }) = self.under_way.remove(&sequence) else { continue };
            match outcome {
                Outcome::Confirmed => published.push(sequence),
                Outcome::Unconfirmed(problem) => kept.push(self.unconfirmed(&committed, attempts + 1, problem)),
                Outcome::Refused(problem) => kept.push(parked(&committed, problem)),
                Outcome::Unpublished(problem) => unpublished = unpublished.or(Some(problem)),
            }
        }
        if let Err(error) = self.database.settle(self.store, &published, &kept).await {
            return self.setback(error.kind());
        }
        self.stats.published.fetch_add(published.len() as u64, Relaxed);
        let parked = kept.iter().filter(|kept| kept.due_at.is_none()).count() as u64;
        self.stats.parked.fetch_add(parked, Relaxed);
        match unpublished {
            Some(problem) => self.setback(&problem),
            None => self.setbacks = 0,
        }
    }

    fn is_paused(&self) -> bool {
        Instant::now() < self.paused_until
    }

    /// Deletes some of the changes whose retention is over.
    async fn prune(&mut self) -> Result<(), StoreError> {
        if Instant::now() < self.prune_at {
            return Ok(());
        }
        let may_be_more = self.database.prune(self.store, now() - self.options.retention).await?;
        if !may_be_more {
            self.prune_at = Instant::now() + self.options.prune_interval;
        }
        Ok(())
    }

    /// What somebody did not process waits by itself for the next attempt, and after the last is parked.
    fn unconfirmed(&self, committed: &Committed, attempts: i64, problem: String) -> Kept {
        self.stats.setbacks.fetch_add(1, Relaxed);
        if attempts >= i64::from(self.options.attempts_max) {
            return parked(committed, problem);
        }
        let Committed { sequence, topic, change } = committed;
        let (store, event_id) = (&change.store, &change.event_id);
        tracing::warn!(store, topic, sequence, event_id, attempts, problem, "a change will be published again");
        Kept { sequence: *sequence, due_at: Some(now() + self.options.pace.pause(attempts)), problem }
    }

    /// Pauses. One line for each doubling: while the broker is away there would be one every few seconds.
    fn setback(&mut self, problem: &str) {
        self.setbacks = self.setbacks.saturating_add(1);
        self.paused_until = Instant::now() + self.options.pace.pause(self.setbacks);
        let count = self.stats.setbacks.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(store = self.store, problem, count, "changes wait; publishing them is tried again");
        }
    }
}

/// Keeps a change and publishes it no more.
fn parked(committed: &Committed, problem: String) -> Kept {
    let Committed { sequence, topic, change } = committed;
    let (store, event_id) = (&change.store, &change.event_id);
    tracing::error!(store, topic, sequence, event_id, problem, "a change is parked: it is kept and published no more");
    Kept { sequence: *sequence, due_at: None, problem }
}
