//! The directory in PostgreSQL.

use prost::Message;
use sqlx::{Postgres, Row, postgres::PgRow};
use zonecast_protocol::{Zone, directory::v1::Change};
use zonecast_store::{
    PgPool, StoreError, Transaction, Uuid,
    outbox::{NewChange, Record},
};

use super::{DirectoryStep, DirectoryStore, Everything, Head, StoredKey, StoredServer, StoredZone, change, unreadable};

/// [`DirectoryStore`] in PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresDirectory {
    pool: PgPool,
}

/// [`DirectoryStep`] in PostgreSQL.
#[derive(Debug)]
pub struct PostgresStep {
    transaction: Transaction<Postgres>,
    head: Head,
}

impl PostgresDirectory {
    /// The directory in this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

implement! {
    PostgresDirectory, PostgresStep, PgRow,
    now: "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
    lock: " for update"
}
