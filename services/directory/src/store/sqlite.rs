//! The directory in SQLite.

use prost::Message;
use sqlx::{Row, Sqlite, sqlite::SqliteRow};
use zonecast_protocol::{Zone, directory::v1::Change};
use zonecast_store::{
    SqlitePool, StoreError, Transaction, Uuid,
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
    transaction: Transaction<Sqlite>,
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
    SqliteDirectory, SqliteStep, SqliteRow,
    now: "cast(unixepoch('subsec') * 1000000 as integer)",
    lock: ""
}
