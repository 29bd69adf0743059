//! The directory in PostgreSQL.

use prost::Message;
use sqlx::{PgPool, Postgres, Row, Transaction, postgres::PgRow};
use zonecast_protocol::{Zone, directory::v1::Change};
use zonecast_store::{
    StoreError, Uuid,
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
    transaction: Transaction<'static, Postgres>,
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
    PostgresDirectory, PostgresStep, Postgres, PgPool, PgRow,
    begin: |pool: &PgPool| { let pool = pool.clone(); async move { pool.begin().await } },
    snapshot: |pool: &PgPool| {
        let pool = pool.clone();
        async move { pool.begin_with("begin isolation level repeatable read read only").await }
    },
    now: "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
    lock: " for update"
}
