//! The connections to the database.

use std::time::Duration;

use sqlx::{
    Connection, PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::timeout;

use crate::{DatabaseUrl, StoreError};

/// Times that a change is tried which the database gives up in favour of another.
const ATTEMPTS: u32 = 4;

/// How the database is used. [`DatabaseOptions::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Where it is.
    pub url: DatabaseUrl,
    /// Most connections of this process. Default: 10.
    pub connections_max: u32,
    /// How long a statement may run, and how long it may wait for a lock. Default: 3 s.
    pub statement_timeout: Duration,
    /// How long a request waits for a connection, a new one counted in. Default: 2 s.
    pub acquire_timeout: Duration,
}

impl DatabaseOptions {
    /// The defaults.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        let (statement_timeout, acquire_timeout) = (Duration::from_secs(3), Duration::from_secs(2));
        Self { url, connections_max: 10, statement_timeout, acquire_timeout }
    }
}

/// An open database. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub enum Database {
    /// SQLite: write-ahead log, foreign keys, one writer at a time, for whom the others wait.
    Sqlite(SqlitePool),
    /// PostgreSQL.
    Postgres(PgPool),
}

impl Database {
    /// Opens the database, and finds out whether it answers.
    ///
    /// # Errors
    /// It cannot be reached or opened.
    pub async fn open(options: &DatabaseOptions) -> Result<Self, StoreError> {
        let database = Self::open_lazily(options);
        database.ping().await?;
        Ok(database)
    }

    /// As [`open`](Self::open), without asking: connections are made when they are wanted.
    #[must_use]
    pub fn open_lazily(options: &DatabaseOptions) -> Self {
        match &options.url {
            DatabaseUrl::Sqlite(path) => {
                let connect = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // Of a machine that loses power, not of a process that is killed, this could lose the last commits;
                    // what was published of them would then be a lie.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(options.statement_timeout);
                let pool = SqlitePoolOptions::new()
                    .max_connections(options.connections_max)
                    .acquire_timeout(options.acquire_timeout)
                    // SQLite ends a transaction by itself when the disk is full, and the driver, which then cannot, takes
                    // the connection for one within a transaction for ever. Such a one is given up.
                    .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }));
                Self::Sqlite(pool.connect_lazy_with(connect))
            }
            DatabaseUrl::Postgres(connect) => {
                let millis = options.statement_timeout.as_millis().to_string();
                // A transaction that a stopped process leaves open holds its locks for so long and no longer.
                let bounds = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
                let connect = (**connect).clone().options(bounds.map(|bound| (bound, millis.as_str())));
                let pool = PgPoolOptions::new()
                    .max_connections(options.connections_max)
                    .acquire_timeout(options.acquire_timeout);
                Self::Postgres(pool.connect_lazy_with(connect))
            }
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not, within 5 s.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let answer = async {
            match self {
                Self::Sqlite(pool) => sqlx::query("select 1").execute(pool).await.map(|_| ()),
                Self::Postgres(pool) => sqlx::query("select 1").execute(pool).await.map(|_| ()),
            }
        };
        timeout(Duration::from_secs(5), answer).await.map_err(|_| StoreError::TimedOut)?.map_err(StoreError::from)
    }

    /// The database's name, for logs and metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Ends all connections, in order.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Does it, and once more where the database gave it up in favour of another transaction (a serialisation failure or a
/// deadlock, which undo it whole), up to four times in all.
///
/// # Errors
/// What it comes to in the end.
pub async fn attempts<T, W, F>(mut work: F) -> Result<T, StoreError>
where
    F: FnMut() -> W,
    W: Future<Output = Result<T, StoreError>>,
{
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match work().await {
            Err(StoreError::Contention) if left > 0 => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn only_what_was_undone_in_favour_of_another_is_tried_again() {
        let times = Cell::new(0);
        let work = |outcome: fn(u32) -> Result<u32, StoreError>| {
            times.set(times.get() + 1);
            std::future::ready(outcome(times.get()))
        };
        let third = |time| if time < 3 { Err(StoreError::Contention) } else { Ok(time) };
        assert_eq!(attempts(|| work(third)).await.unwrap(), 3);
        times.set(0);
        assert!(matches!(attempts(|| work(|_| Err(StoreError::Contention))).await, Err(StoreError::Contention)));
        assert_eq!(times.get(), ATTEMPTS);
        assert!(matches!(attempts(|| work(|_| Err(StoreError::Busy))).await, Err(StoreError::Busy)));
        assert_eq!(times.get(), ATTEMPTS + 1);
    }
}
