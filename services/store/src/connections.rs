//! Connections with an end to every wait: for one, for a statement, for the way back.

mod backend;
mod bounded;

use std::{fmt, sync::Arc, time::Duration};

use futures_core::{future::BoxFuture, stream::BoxStream};
use sqlx::{Either, Error, Execute, Executor, Pool, SqlStr};

pub use backend::Backend;
pub use bounded::Connection;

use backend::Deadline;
use bounded::Steps;

/// What a statement may take on our side beyond what the database grants it: its way there and back. Longer, and nothing
/// answers at the other end.
const MARGIN: Duration = Duration::from_secs(1);

/// The connections of this process to a database. Cheap to clone.
///
/// It runs single statements itself, as sqlx's pools do, and [`begin`](Self::begin)s transactions. Whatever does not end
/// within the statement timeout and a second more ends with an error, and its connection is closed.
///
/// In SQLite, where one writes at a time, those who write wait for a connection of their own, and take none of those who
/// read: write within a transaction, or by [`writer`](Self::writer). Connections to read by refuse to write.
pub struct Connections<DB: Backend> {
    readers: Pool<DB>,
    /// In PostgreSQL the same.
    writers: Pool<DB>,
    statement_max: Duration,
}

/// Connections to an SQLite file.
pub type SqlitePool = Connections<sqlx::Sqlite>;
/// Connections to a PostgreSQL server.
pub type PgPool = Connections<sqlx::Postgres>;

/// A connection to SQLite.
pub type SqliteConnection = Connection<sqlx::Sqlite>;
/// A connection to PostgreSQL.
pub type PgConnection = Connection<sqlx::Postgres>;

impl<DB: Backend> Connections<DB> {
    pub(crate) fn new(readers: Pool<DB>, writers: Pool<DB>, statement_max: Duration) -> Self {
        Self { readers, writers, statement_max }
    }

    /// A connection to read by.
    ///
    /// # Errors
    /// None was free or could be made in time.
    pub async fn acquire(&self) -> Result<Connection<DB>, Error> {
        self.connection(&self.readers).await
    }

    /// A connection to write by.
    ///
    /// # Errors
    /// None was free or could be made in time.
    pub async fn writer(&self) -> Result<Connection<DB>, Error> {
        self.connection(&self.writers).await
    }

    async fn connection(&self, pool: &Pool<DB>) -> Result<Connection<DB>, Error> {
        let mut inner = pool.acquire().await?;
        let deadline = Arc::new(Deadline::new());
        DB::arm(&mut inner, &deadline).await?;
        Ok(Connection::new(inner, deadline, self.statement_max))
    }

    /// Begins a transaction that may write; in SQLite it has the lock from the beginning on, for a transaction that reads
    /// first could not get it later. It is rolled back unless it is [committed](Transaction::commit).
    ///
    /// # Errors
    /// There is no connection, or the lock cannot be had in time.
    pub async fn begin(&self) -> Result<Transaction<DB>, Error> {
        let mut connection = self.writer().await?;
        connection.begin(DB::BEGIN).await?;
        Ok(Transaction { connection })
    }

    /// Begins a transaction that only reads: all its statements see the same moment, the first one's. It holds up nobody who
    /// writes.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn snapshot(&self) -> Result<Transaction<DB>, Error> {
        let mut connection = self.acquire().await?;
        connection.begin(DB::SNAPSHOT).await?;
        Ok(Transaction { connection })
    }

    /// Ends all connections, in order.
    pub async fn close(&self) {
        self.writers.close().await;
        self.readers.close().await;
    }
}

impl<DB: Backend> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self { readers: self.readers.clone(), writers: self.writers.clone(), statement_max: self.statement_max }
    }
}

impl<DB: Backend> fmt::Debug for Connections<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.readers.size()).finish()
    }
}

/// A transaction; see [`Connections::begin`] and [`Connections::snapshot`]. Statements run on the connection that it is: `&mut *transaction`.
#[derive(Debug)]
pub struct Transaction<DB: Backend> {
    connection: Connection<DB>,
}

impl<DB: Backend> Transaction<DB> {
    /// Makes everything last.
    ///
    /// # Errors
    /// Nothing lasts, or, where the database cannot be reached any more, nobody knows.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.connection.end("commit").await
    }

    /// Undoes everything, at once. Dropping it does so a little later.
    ///
    /// # Errors
    /// The database cannot be reached; it will undo everything by itself.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.connection.end("rollback").await
    }
}

impl<DB: Backend> std::ops::Deref for Transaction<DB> {
    type Target = Connection<DB>;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl<DB: Backend> std::ops::DerefMut for Transaction<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

impl<'p, DB: Backend> Executor<'p> for &'p Connections<DB> {
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        Box::pin(Steps::of(Box::pin(async move {
            let mut connection = self.acquire().await?;
            bounded::collected(connection.fetch_many(query)).await
        })))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, DB>,
    {
        Box::pin(async move { self.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }
}
