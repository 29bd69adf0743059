//! The connections to the database.

use std::{fs::OpenOptions, path::Path, time::Duration};

use sqlx::{
    Connection as _,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{sleep, timeout};

use crate::{Connections, DatabaseUrl, PgPool, SqlitePool, StoreError};

/// Times that a change is tried which the database gives up in favour of another.
const ATTEMPTS: u32 = 4;

/// Longest pause before the second attempt; before the third it is twice as long, and so on.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How the database is used. [`DatabaseOptions::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Where it is.
    pub url: DatabaseUrl,
    /// Most connections of this process. Default: 10.
    pub connections_max: u32,
    /// How long a statement may run; for a lock it may wait two thirds of that. Default: 3 s.
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

    fn lock_timeout(&self) -> Duration {
        self.statement_timeout * 2 / 3
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
                make_for_us_alone(path);
                let connect = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // Of a machine that loses power, not of a process that is killed, this could lose the last commits;
                    // what was published of them would then be a lie.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(options.lock_timeout());
                let pool = |connections_max, connect| {
                    SqlitePoolOptions::new()
                        .max_connections(connections_max)
                        .acquire_timeout(options.acquire_timeout)
                        // It is a file: it answers.
                        .test_before_acquire(false)
                        .connect_lazy_with(connect)
                };
                // Who would write beside the one writer, and meet its lock, is told so by the first test.
                let reading = connect.clone().pragma("query_only", "on");
                let (readers, writer) = (pool(options.connections_max, reading), pool(1, connect));
                Self::Sqlite(Connections::new(readers, writer, options.statement_timeout))
            }
            DatabaseUrl::Postgres(connect) => {
                let millis = |bound: Duration| bound.as_millis().max(1).to_string();
                let connect = (**connect).clone().options([
                    ("statement_timeout", millis(options.statement_timeout)),
                    // Shorter: who waits for a lock is told that the database is busy, and not that nobody knows.
                    ("lock_timeout", millis(options.lock_timeout())),
                    // A transaction that a stopped process leaves open holds its locks for so long and no longer.
                    ("idle_in_transaction_session_timeout", millis(options.statement_timeout)),
                ]);
                // Of connections that died unseen, several must be found out while one is waited for.
                let answers_within = options.acquire_timeout / 4;
                let pool = PgPoolOptions::new()
                    .max_connections(options.connections_max)
                    .acquire_timeout(options.acquire_timeout)
                    .test_before_acquire(false)
                    .before_acquire(move |connection, _| {
                        Box::pin(async move {
                            let answer = timeout(answers_within, connection.ping()).await;
                            // With an error it is closed without a farewell, for which a dead one would wait.
                            answer.map_err(|_| sqlx::Error::WorkerCrashed)?.map(|()| true)
                        })
                    })
                    .connect_lazy_with(connect);
                Self::Postgres(Connections::new(pool.clone(), pool, options.statement_timeout))
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

/// Makes the file of a database that is not there yet: what is in it is for nobody else on this machine. What SQLite makes
/// beside it gets the same permissions.
fn make_for_us_alone(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Where it is there already, or cannot be made, opening it will tell.
    let _ = options.open(path);
}

/// Does it, and once more where the database gave it up in favour of another transaction (a serialisation failure or a
/// deadlock, which undo it whole), up to four times in all, after a pause by chance, so that those who met do not meet
/// again.
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
            Err(StoreError::Contention) if left > 0 => {
                sleep(PAUSE_MAX.mul_f64(fastrand::f64()) * (ATTEMPTS - left)).await;
            }
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
