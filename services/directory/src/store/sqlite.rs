//! The directory in SQLite.

use prost::Message;
use sqlx::{Row, Sqlite, SqlitePool, Transaction, sqlite::SqliteRow};
use zonecast_protocol::{Zone, directory::v1::Change};
use zonecast_store::{
    StoreError, Uuid,
    outbox::{NewChange, Record},
};

use super::{DirectoryStep, DirectoryStore, Everything, Head, StoredKey, StoredServer, StoredZone, change, unreadable};

/// [`DirectoryStore`] in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteDirectory {
    pool: SqlitePool,
}

/// [`DirectoryStep`] in SQLite.
#[derive(Debug)]
pub struct SqliteStep {
    transaction: Transaction<'static, Sqlite>,
    head: Head,
}

impl SqliteDirectory {
    /// The directory in this database.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
}

implement! {
    SqliteDirectory, SqliteStep, Sqlite, SqlitePool, SqliteRow,
    // With the lock: a transaction that reads first could not get it later.
    begin: |pool: &SqlitePool| { let pool = pool.clone(); async move { pool.begin_with("begin immediate").await } },
    snapshot: |pool: &SqlitePool| { let pool = pool.clone(); async move { pool.begin().await } },
    now: "cast(unixepoch('subsec') * 1000000 as integer)",
    lock: ""
}
