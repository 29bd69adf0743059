//! The follower: from the outbox of one store to another service of the same database.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use thiserror::Error;
use tokio::{sync::Notify, time::sleep};

use super::{Committed, Pace, lease::Lease, postgres, sqlite};
use crate::{Connection, Database, StoreError};

/// Most changes that are read at once.
const BATCH_ROWS_MAX: u32 = 64;

/// The transaction in which a change is handled; with it the follower notes that it is.
#[derive(Debug)]
pub enum Within<'c> {
    /// In SQLite.
    Sqlite(&'c mut Connection<sqlx::Sqlite>),
    /// In PostgreSQL.
    Postgres(&'c mut Connection<sqlx::Postgres>),
}

/// Why a change was not handled. It is handed over again, and none behind it before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Anything else, in words for the log.
    #[error("{0}")]
    Failed(String),
}

impl From<sqlx::Error> for HandleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a service does upon the changes of another.
pub trait Handler: Send + Sync + 'static {
    /// Whether changes of this topic concern it at all; others are passed over.
    fn wants(&self, topic: &str) -> bool;

    /// What lies outside of the database, such as a call of another service: before the transaction, and again where the
    /// process ends before the transaction does.
    ///
    /// # Errors
    /// It is to be tried again.
    fn before(&self, change: &Committed) -> impl Future<Output = Result<(), HandleError>> + Send {
        let _ = change;
        std::future::ready(Ok(()))
    }

    /// What changes in the database: within the transaction, exactly once. It may record changes of its own store.
    ///
    /// # Errors
    /// It is to be tried again; nothing of it was done.
    fn handle(&self, change: &Committed, within: Within<'_>) -> impl Future<Output = Result<(), HandleError>> + Send;

    /// These changes are gone: nobody followed while they were kept. The follower has told of it in the log, and goes on
    /// behind them; who can find out otherwise what has happened does so here, within the transaction.
    ///
    /// # Errors
    /// It is to be tried again.
    fn missed(
        &self,
        sequences: RangeInclusive<i64>,
        within: Within<'_>,
    ) -> impl Future<Output = Result<(), HandleError>> + Send {
        let _ = (sequences, within);
        std::future::ready(Ok(()))
    }
}

/// How a follower fares; it changes as the follower works.
#[derive(Debug, Default)]
pub struct FollowerStats {
    handled: AtomicU64,
    missed: AtomicU64,
    setbacks: AtomicU64,
    sequence: AtomicI64,
    behind: AtomicI64,
    holds_lease: AtomicBool,
}

/// [`FollowerStats`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerCounts {
    /// Changes handled by this process.
    pub handled: u64,
    /// Changes that were gone before they were read.
    pub missed: u64,
    /// Attempts that failed.
    pub setbacks: u64,
    /// The number up to which changes are handled, as this process last saw it.
    pub sequence: i64,
    /// How many changes it is behind the last one, as this process last saw it; 0 where another process follows.
    pub behind: i64,
    /// Whether this process follows; at most one does.
    pub holds_lease: bool,
}

impl FollowerStats {
    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> FollowerCounts {
        FollowerCounts {
            handled: self.handled.load(Relaxed),
            missed: self.missed.load(Relaxed),
            setbacks: self.setbacks.load(Relaxed),
            sequence: self.sequence.load(Relaxed),
            behind: self.behind.load(Relaxed),
            holds_lease: self.holds_lease.load(Relaxed),
        }
    }
}

/// Follows the changes of a store for a consumer, one after the other, each exactly once, from where it was left.
///
/// How far it has come is kept in the table `outbox_followers`. A change that cannot be handled is tried again and again and
/// holds up those behind it: order is what it is for. Who must get past one moves the number there by hand.
pub struct Follower<H> {
    database: Database,
    consumer: &'static str,
    store: &'static str,
    handler: H,
    pace: Pace,
    lease: Lease,
    /// How far it has come; none where the database must be asked.
    cursor: Option<i64>,
    changed: Arc<Notify>,
    wake: Arc<Notify>,
    stats: Arc<FollowerStats>,
}

/// Why the cursor moves on.
enum Work<'a> {
    Handle(&'a Committed),
    Miss(RangeInclusive<i64>),
    /// Over what concerns the handler nothing.
    Pass,
}

/// A change that was not handled.
struct Setback {
    error: HandleError,
    sequence: i64,
}

impl<H: Handler> Follower<H> {
    /// A follower of `store` on behalf of `consumer`, the name of a service. It works while [`run`](Self::run) does.
    ///
    /// `changed` is notified after each change that is handled: the consumer's relay, for what it has recorded then.
    #[must_use]
    pub fn new(
        database: Database,
        consumer: &'static str,
        store: &'static str,
        handler: H,
        changed: Arc<Notify>,
        pace: Pace,
    ) -> Self {
        let lease = Lease::new(database.clone(), format!("{store} for {consumer}"), pace.lease);
        let (wake, stats) = (Arc::default(), Arc::default());
        Self { database, consumer, store, handler, pace, lease, cursor: None, changed, wake, stats }
    }

    /// What is notified when the store has changed, so that it is handled at once.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// How it fares.
    #[must_use]
    pub fn stats(&self) -> Arc<FollowerStats> {
        Arc::clone(&self.stats)
    }

    /// Follows until it is told to stop; then it gives up what it is at, and leaves the store to other processes.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        let mut setbacks = 0_i64;
        loop {
            let look = tokio::select! {
                () = &mut stop => break,
                look = self.look() => look,
            };
            self.stats.sequence.store(self.cursor.unwrap_or_default(), Relaxed);
            setbacks = if look.is_err() { setbacks.saturating_add(1) } else { 0 };
            let pause = match look {
                Ok(true) => continue,
                Ok(false) => self.pace.poll_interval,
                Err(setback) => {
                    self.cursor = None;
                    self.setback(&setback);
                    self.pace.pause(setbacks)
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = self.wake.notified(), if setbacks == 0 => {}
                () = sleep(pause) => {}
            }
        }
        self.lease.leave().await;
        self.stats.holds_lease.store(false, Relaxed);
    }

    /// Handles some changes; true where there may be more.
    async fn look(&mut self) -> Result<bool, Setback> {
        let at = self.cursor.unwrap_or_default();
        let failed = |sequence| move |error: StoreError| Setback { error: error.into(), sequence };
        if !self.is_in_charge().await.map_err(failed(at))? {
            return Ok(false);
        }
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.database.cursor(self.consumer, self.store).await.map_err(failed(at))?,
        };
        self.cursor = Some(cursor);
        let read = self.database.changes(self.store, cursor, BATCH_ROWS_MAX).await.map_err(failed(cursor))?;
        self.stats.behind.store(read.last - cursor, Relaxed);
        if read.pruned > cursor {
            return self.miss(cursor, read.pruned).await;
        }
        let is_last = read.changes.len() < BATCH_ROWS_MAX as usize;
        let last = read.changes.last().map_or(cursor, |change| change.sequence);
        for change in &read.changes {
            if !self.handler.wants(&change.topic) {
                continue;
            }
            let failed = |error| Setback { error, sequence: change.sequence };
            if !self.is_in_charge().await.map_err(|error| failed(error.into()))? {
                return Ok(false);
            }
            self.handler.before(change).await.map_err(failed)?;
            if !self.step(cursor, change.sequence, Work::Handle(change)).await.map_err(failed)? {
                return Ok(false);
            }
            self.stats.handled.fetch_add(1, Relaxed);
            self.changed.notify_one();
            cursor = change.sequence;
        }
        if last > cursor {
            let passed = self.step(cursor, last, Work::Pass).await;
            passed.map_err(|error| Setback { error, sequence: last })?;
        }
        self.stats.behind.store(read.last - last.max(cursor), Relaxed);
        Ok(!is_last)
    }

    async fn is_in_charge(&mut self) -> Result<bool, StoreError> {
        let is_in_charge = self.lease.is_held().await?;
        self.stats.holds_lease.store(is_in_charge, Relaxed);
        if !is_in_charge {
            self.cursor = None;
            self.stats.behind.store(0, Relaxed);
        }
        Ok(is_in_charge)
    }

    /// Goes on behind what is gone, and says so as loudly as it can.
    async fn miss(&mut self, cursor: i64, pruned: i64) -> Result<bool, Setback> {
        let (consumer, store, count) = (self.consumer, self.store, (pruned - cursor).unsigned_abs());
        let moved = self.step(cursor, pruned, Work::Miss(cursor + 1..=pruned)).await;
        if !moved.map_err(|error| Setback { error, sequence: pruned })? {
            return Ok(false);
        }
        let (first, last) = (cursor + 1, pruned);
        tracing::error!(
            consumer,
            store,
            first,
            last,
            "changes were missed: they are gone, their retention was over before they were read"
        );
        self.stats.missed.fetch_add(count, Relaxed);
        Ok(true)
    }

    /// Works in a transaction that moves the cursor; false where another process has moved it, and nothing was done.
    async fn step(&mut self, from: i64, to: i64, work: Work<'_>) -> Result<bool, HandleError> {
        let (consumer, store) = (self.consumer, self.store);
        let is_moved = match &self.database {
            Database::Sqlite(pool) => {
                let mut transaction = pool.begin().await?;
                let is_moved = sqlite::advance(&mut transaction, consumer, store, (from, to)).await?;
                if is_moved {
                    self.work(work, Within::Sqlite(&mut transaction)).await?;
                    transaction.commit().await?;
                }
                is_moved
            }
            Database::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let is_moved = postgres::advance(&mut transaction, consumer, store, (from, to)).await?;
                if is_moved {
                    self.work(work, Within::Postgres(&mut transaction)).await?;
                    transaction.commit().await?;
                }
                is_moved
            }
        };
        self.cursor = is_moved.then_some(to);
        Ok(is_moved)
    }

    async fn work(&self, work: Work<'_>, within: Within<'_>) -> Result<(), HandleError> {
        match work {
            Work::Handle(change) => self.handler.handle(change, within).await,
            Work::Miss(sequences) => self.handler.missed(sequences, within).await,
            Work::Pass => Ok(()),
        }
    }

    /// One line for each doubling: it may take hours.
    fn setback(&self, Setback { error, sequence }: &Setback) {
        let count = self.stats.setbacks.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            let (consumer, store) = (self.consumer, self.store);
            tracing::warn!(consumer, store, sequence, %error, count, "a change could not be handled; it is tried again");
        }
    }
}

impl<H> fmt::Debug for Follower<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Follower({} for {})", self.store, self.consumer)
    }
}
