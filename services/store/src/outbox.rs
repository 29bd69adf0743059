//! The outbox: changes that are published because they were committed, and only then, and kept for those who were away.
//!
//! A service [`record`](Record::record)s a change in the transaction that makes it. A [`Relay`] reads what is recorded,
//! publishes it on the broker's topics as a `zonecast.changes.v1.Change`, and notes that it is published.
//!
//! - **Nothing is published that was rolled back**: the row goes with its transaction.
//! - **At least once.** A row waits until the broker has said that everyone who listens has processed the event (ack
//!   `processed`). An ack `routed` would not do: what is routed is in the broker's memory only, and a broker that is killed
//!   just then would make the topic a liar. What was published and not noted, because a process died in between, is
//!   published again, under the same event id.
//! - **In order per store.** Numbers are drawn from one row per store, which a transaction holds until it ends: they rise
//!   in the order of commit and have no gaps. The relay publishes them in that order, on one lane, many at a time; what
//!   must be published again may then come behind later ones.
//! - **One relay at a time** for each store, by a lease in the database, so that replicas do not publish everything twice.
//!   Should a lease run out under a process that was stopped, both publish the same under the same ids.
//! - **Kept for who was away.** The broker delivers to who listens. What is published stays for
//!   [`RelayOptions::retention`], and [`Database::changes`] reads it in order: who sees a number has seen all before it,
//!   for it was drawn when the one before was committed. A [`Follower`] does so for another service of the same database,
//!   and changes what that one keeps in the transaction in which it notes how far it has come: exactly once.
//!
//! A change that somebody rejects or never finishes must not hold up the rest of the world: each waits by itself for its
//! next attempt while others pass. After [`RelayOptions::attempts_max`] attempts it is *parked*, and so is at once what the
//! broker will never take: kept for good and not published, logged and counted. Who has looked at it (column `problem`)
//! sends it again with `update outbox set due_at = occurred_at, attempts = 0 where published_at is null and ...`.

mod announce;
mod follower;
mod lease;
mod postgres;
mod relay;
mod sqlite;

use prost::{DecodeError, Message, Name};
use time::OffsetDateTime;
use uuid::Uuid;
use zonecast_protocol::changes::v1::Change;

pub use announce::{Announcer, Answer, Outcome};
pub use follower::{Follower, FollowerCounts, FollowerStats, HandleError, Handler, Within};
pub use lease::Pace;
pub use relay::{Relay, RelayCounts, RelayOptions, RelayStats};

use crate::{Database, StoreError, new_id, now, timestamp};

/// Most changes that are pruned at a time.
const PRUNED_ROWS_MAX: usize = 500;

/// A change to be published once its transaction is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChange {
    store: &'static str,
    topic: &'static str,
    event_id: Uuid,
    detail_type: String,
    detail: Vec<u8>,
    occurred_at: OffsetDateTime,
}

impl NewChange {
    /// A change of a store, for a topic (`users.created`), with the message that says what has changed.
    #[must_use]
    pub fn new<M: Message + Name>(
        store: &'static str,
        topic: &'static str,
        occurred_at: OffsetDateTime,
        detail: &M,
    ) -> Self {
        let (detail_type, detail) = (M::type_url(), detail.encode_to_vec());
        Self { store, topic, event_id: new_id(), detail_type, detail, occurred_at }
    }
}

/// A connection in a transaction, on which changes are recorded. Record last: from then on other changes of the store wait
/// for the end of the transaction.
pub trait Record {
    /// Records a change, to be published when the transaction is committed.
    ///
    /// # Errors
    /// The database does not do it; the transaction is to be given up.
    fn record(&mut self, change: &NewChange) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A change that is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Its number in its store.
    pub sequence: i64,
    /// Where it is published.
    pub topic: String,
    /// What is said.
    pub change: Change,
}

impl Committed {
    /// What has changed.
    ///
    /// # Errors
    /// It is another message, or none.
    pub fn detail<M: Message + Name + Default>(&self) -> Result<M, DecodeError> {
        self.change.detail.clone().unwrap_or_default().to_msg()
    }
}

/// Changes of a store in the order of their numbers. See [`Database::changes`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// The first of them, without gaps, but for such as are numbered up to `pruned`.
    pub changes: Vec<Committed>,
    /// The number up to which changes are gone, their retention over; 0 where all are there. Who has not read so far has
    /// missed some.
    pub pruned: i64,
    /// The number of the last change of all, of those that are not among these too.
    pub last: i64,
}

/// A change that waits to be published.
#[derive(Debug, Clone, PartialEq)]
struct Pending {
    committed: Committed,
    /// How often it was published and somebody did not process it.
    attempts: i64,
}

/// What pruning asks of a change.
#[derive(Debug, Clone, Copy)]
struct Aged {
    sequence: i64,
    /// When it was published; when it was made where it is parked; none where it waits.
    done_at: Option<OffsetDateTime>,
}

/// A change that stays in the outbox after an attempt.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    sequence: i64,
    /// When it may go out again; none: it is parked.
    due_at: Option<OffsetDateTime>,
    problem: String,
}

/// The columns of a change, as the databases keep them.
struct Row {
    sequence: i64,
    event_id: Uuid,
    topic: String,
    detail_type: String,
    detail: Vec<u8>,
    occurred_at: OffsetDateTime,
}

impl Row {
    fn committed(self, store: &str) -> Committed {
        let change = Change {
            event_id: self.event_id.hyphenated().to_string(),
            store: store.to_owned(),
            sequence: self.sequence.unsigned_abs(),
            occurred_at: Some(timestamp(self.occurred_at)),
            detail: Some(prost_types::Any { type_url: self.detail_type, value: self.detail }),
        };
        Committed { sequence: self.sequence, topic: self.topic, change }
    }
}

impl Database {
    /// Reads the first `changes_max` changes of a store behind a number, published or not, in the order of commit. Whatever
    /// is committed later has a greater number than all that is read.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn changes(&self, store: &str, after: i64, changes_max: u32) -> Result<Changes, StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::changes(pool, store, after, changes_max).await,
            Self::Postgres(pool) => postgres::changes(pool, store, after, changes_max).await,
        }
    }
}

/// What relays and followers ask of the outbox.
impl Database {
    /// Takes or renews the lease on a work; false while another process has it.
    async fn lease(&self, work: &str, holder: Uuid, millis: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::lease(pool, work, holder, millis).await,
            Self::Postgres(pool) => postgres::lease(pool, work, holder, millis).await,
        }
    }

    /// The oldest changes that wait and may go out now.
    async fn pending(&self, store: &str, rows_max: i64) -> Result<Vec<Pending>, StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::pending(pool, store, now(), rows_max).await,
            Self::Postgres(pool) => postgres::pending(pool, store, now(), rows_max).await,
        }
    }

    /// When the oldest change was made that waits, be it for its next attempt.
    async fn oldest(&self, store: &str) -> Result<Option<OffsetDateTime>, StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::oldest(pool, store).await,
            Self::Postgres(pool) => postgres::oldest(pool, store).await,
        }
    }

    /// Notes what is published, and an attempt of what is not.
    async fn settle(&self, store: &str, published: &[i64], kept: &[Kept]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::settle(pool, store, published, kept).await,
            Self::Postgres(pool) => postgres::settle(pool, store, published, kept).await,
        }
    }

    /// Deletes some changes that were published before `cutoff`, from the oldest on; true where there may be more of them.
    async fn prune(&self, store: &str, cutoff: OffsetDateTime) -> Result<bool, StoreError> {
        let rows = match self {
            Self::Sqlite(pool) => sqlite::aged(pool, store, PRUNED_ROWS_MAX).await?,
            Self::Postgres(pool) => postgres::aged(pool, store, PRUNED_ROWS_MAX).await?,
        };
        let is_old = |row: &&Aged| row.done_at.is_some_and(|done_at| done_at < cutoff);
        // Never beyond one that must stay: behind the number up to which is pruned there are no gaps.
        let Some(last) = rows.iter().take_while(is_old).last() else { return Ok(false) };
        match self {
            Self::Sqlite(pool) => sqlite::prune(pool, store, last.sequence, cutoff).await?,
            Self::Postgres(pool) => postgres::prune(pool, store, last.sequence, cutoff).await?,
        }
        Ok(rows.len() >= PRUNED_ROWS_MAX && rows.last().is_some_and(|row| row.sequence == last.sequence))
    }

    /// How far a consumer has come; a new one begins where the store's retention does.
    async fn cursor(&self, consumer: &str, store: &str) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::cursor(pool, consumer, store).await,
            Self::Postgres(pool) => postgres::cursor(pool, consumer, store).await,
        }
    }
}
