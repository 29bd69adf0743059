//! The outbox: changes that are published because they were committed, and only then.
//!
//! A service [`record`](Record::record)s a change in the transaction that makes it. A [`Relay`] reads what is recorded,
//! publishes it on the broker's topics as a `zonecast.changes.v1.Change`, and deletes it once it is published.
//!
//! - **Nothing is published that was rolled back**: the row goes with its transaction.
//! - **At least once.** A row stays until the broker has said that everyone who listens has processed the event (ack
//!   `processed`). An ack `routed` would not do: what is routed is in the broker's memory only, and a broker that is killed
//!   just then would make the topic a liar. What was published and not deleted, because a process died in between, is
//!   published again, under the same event id.
//! - **In order per store.** Numbers are drawn from one row per store, which a transaction holds until it ends: they rise
//!   in the order of commit and have no gaps. The relay publishes them in that order, on one lane, many at a time; what
//!   must be published again may then come behind later ones.
//! - **One relay at a time** for each store, by a lease in the database, so that replicas do not publish everything twice.
//!   Should a lease run out under a process that was stopped, both publish the same under the same ids.
//!
//! A change that somebody rejects or never finishes must not hold up the rest of the world: each waits by itself for its
//! next attempt while others pass. After [`RelayOptions::attempts_max`] attempts it is *parked*, and so is at once what the
//! broker will never take: kept and not published, logged and counted. Who has looked at it (column `problem`) sends it
//! again with `update outbox set due_at = occurred_at, attempts = 0 where ...`.

mod announce;
mod postgres;
mod relay;
mod sqlite;

use prost::{Message, Name};
use time::OffsetDateTime;
use uuid::Uuid;
use zonecast_protocol::changes::v1::Change;

pub use announce::{Announcement, Announcer, Outcome};
pub use relay::{Relay, RelayCounts, RelayOptions, RelayStats};

use crate::{Database, StoreError, new_id, now, timestamp};

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

/// A change that is committed and not yet published.
#[derive(Debug, Clone, PartialEq)]
struct Pending {
    sequence: i64,
    event_id: Uuid,
    topic: String,
    detail_type: String,
    detail: Vec<u8>,
    occurred_at: OffsetDateTime,
    /// How often it was published and somebody did not process it.
    attempts: i64,
}

/// A change that stays in the outbox after an attempt.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    sequence: i64,
    /// When it may go out again; none: it is parked.
    due_at: Option<OffsetDateTime>,
    problem: String,
}

impl Pending {
    fn announcement(self, store: &str) -> Announcement {
        let change = Change {
            event_id: self.event_id.hyphenated().to_string(),
            store: store.to_owned(),
            sequence: self.sequence.unsigned_abs(),
            occurred_at: Some(timestamp(self.occurred_at)),
            detail: Some(prost_types::Any { type_url: self.detail_type, value: self.detail }),
        };
        Announcement { sequence: self.sequence, topic: self.topic, change }
    }
}

/// What the relay asks of the outbox.
impl Database {
    /// Takes or renews the lease on publishing a store's changes; false while another process has it.
    async fn lease(&self, store: &str, holder: Uuid, millis: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::lease(pool, store, holder, millis).await,
            Self::Postgres(pool) => postgres::lease(pool, store, holder, millis).await,
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

    /// Deletes what is published, and notes an attempt of what is not.
    async fn settle(&self, store: &str, published: &[i64], kept: &[Kept]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pool) => sqlite::settle(pool, store, published, kept).await,
            Self::Postgres(pool) => postgres::settle(pool, store, published, kept).await,
        }
    }
}
