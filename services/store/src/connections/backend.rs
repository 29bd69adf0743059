//! What the two databases have each in its own way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sqlx::{Error, Executor, PgConnection, Postgres, Sqlite, SqliteConnection};

/// Steps of SQLite's machine between two looks at the time: some ten microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// When the statement must end that runs on a connection.
#[derive(Debug)]
pub struct Deadline {
    began: Instant,
    millis: AtomicU64,
}

impl Deadline {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), millis: AtomicU64::new(u64::MAX) }
    }

    pub(super) fn set(&self, from_now: Duration) {
        let millis = (self.began.elapsed() + from_now).as_millis();
        self.millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    fn has_passed(&self) -> bool {
        self.began.elapsed().as_millis() > u128::from(self.millis.load(Relaxed))
    }
}

/// One of the two databases.
pub trait Backend: sqlx::Database {
    /// How a transaction begins that may write.
    const BEGIN: &'static str;

    /// How a transaction begins that reads, and sees one moment throughout.
    const SNAPSHOT: &'static str;

    /// Has the database itself end statements at the deadline.
    #[doc(hidden)]
    fn arm(
        connection: &mut Self::Connection,
        deadline: &Arc<Deadline>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The connection as what runs statements.
    #[doc(hidden)]
    fn on(connection: &mut Self::Connection) -> impl Executor<'_, Database = Self>;
}

impl Backend for Sqlite {
    const BEGIN: &'static str = "begin immediate";
    const SNAPSHOT: &'static str = "begin";

    async fn arm(connection: &mut SqliteConnection, deadline: &Arc<Deadline>) -> Result<(), Error> {
        let deadline = Arc::clone(deadline);
        connection.lock_handle().await?.set_progress_handler(STEPS_BETWEEN_LOOKS, move || !deadline.has_passed());
        Ok(())
    }

    fn on(connection: &mut SqliteConnection) -> impl Executor<'_, Database = Self> {
        connection
    }
}

impl Backend for Postgres {
    const BEGIN: &'static str = "begin";
    const SNAPSHOT: &'static str = "begin isolation level repeatable read, read only";

    /// The server has the bound from each connection's beginning: `statement_timeout`.
    async fn arm(_: &mut PgConnection, _: &Arc<Deadline>) -> Result<(), Error> {
        Ok(())
    }

    fn on(connection: &mut PgConnection) -> impl Executor<'_, Database = Self> {
        connection
    }
}
