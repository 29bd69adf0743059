//! One connection, on which nothing lasts for ever.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use futures_core::{Stream, future::BoxFuture, stream::BoxStream};
use sqlx::{Either, Error, Execute, Executor, SqlStr, pool::PoolConnection};
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep, timeout},
};

use super::{
    MARGIN,
    backend::{Backend, Deadline},
};

/// A connection that goes back to where it came from when it is dropped: rolled back where a transaction was not ended, and
/// closed where it does not answer in time.
pub struct Connection<DB: Backend> {
    /// Taken when it is dropped, and not before.
    inner: Option<PoolConnection<DB>>,
    deadline: Arc<Deadline>,
    statement_max: Duration,
    is_in_transaction: bool,
    /// A statement was given up: what comes next on the line nobody knows.
    is_broken: bool,
}

const THERE: &str = "a connection is taken out when it is dropped, and not before";

impl<DB: Backend> Connection<DB> {
    pub(super) fn new(inner: PoolConnection<DB>, deadline: Arc<Deadline>, statement_max: Duration) -> Self {
        Self { inner: Some(inner), deadline, statement_max, is_in_transaction: false, is_broken: false }
    }

    pub(super) async fn begin(&mut self, statement: &'static str) -> Result<(), Error> {
        // Before it is known: whoever gives up meanwhile may leave one behind.
        self.is_in_transaction = true;
        self.execute(statement).await.map(drop)
    }

    pub(super) async fn end(&mut self, statement: &'static str) -> Result<(), Error> {
        self.execute(statement).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// The connection without bounds, gone from among the others.
    pub(crate) fn detach(mut self) -> DB::Connection {
        self.inner.take().expect(THERE).detach()
    }

    /// The parts that a statement needs, from whose beginning on its time runs.
    fn parts(&mut self) -> (&mut DB::Connection, &mut bool, Duration) {
        self.deadline.set(self.statement_max);
        (self.inner.as_mut().expect(THERE), &mut self.is_broken, self.statement_max + MARGIN)
    }
}

impl<DB: Backend> Drop for Connection<DB> {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        let runtime = match Handle::try_current() {
            Ok(runtime) if !self.is_broken => runtime,
            // Closed hard: whatever waits for it on the other side will notice.
            _ => return drop(inner.detach()),
        };
        let (is_in_transaction, bound) = (self.is_in_transaction, self.statement_max + MARGIN);
        self.deadline.set(bound);
        runtime.spawn(async move {
            if is_in_transaction && !matches!(timeout(bound, DB::on(&mut inner).execute("rollback")).await, Ok(Ok(_))) {
                return drop(inner.detach());
            }
            // The driver asks whether it still answers. Given up, what it holds is closed.
            let _ = timeout(bound, inner.return_to_pool()).await;
        });
    }
}

impl<DB: Backend> fmt::Debug for Connection<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_in_transaction", &self.is_in_transaction).finish_non_exhaustive()
    }
}

impl<'c, DB: Backend> Executor<'c> for &'c mut Connection<DB> {
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<DB::QueryResult, DB::Row>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (connection, is_broken, bound) = self.parts();
        let steps = DB::on(connection).fetch_many(query);
        Box::pin(Bounded { steps, bound: Box::pin(sleep(bound)), is_broken, has_ended: false })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, DB>,
    {
        let (connection, is_broken, bound) = self.parts();
        Box::pin(async move {
            let row = timeout(bound, DB::on(connection).fetch_optional(query)).await;
            *is_broken |= row.is_err();
            row.unwrap_or_else(|_| Err(no_answer()))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        'c: 'e,
    {
        let (connection, is_broken, bound) = self.parts();
        Box::pin(async move {
            let statement = timeout(bound, DB::on(connection).prepare_with(sql, parameters)).await;
            *is_broken |= statement.is_err();
            statement.unwrap_or_else(|_| Err(no_answer()))
        })
    }
}

fn no_answer() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time; the connection is given up"))
}

/// The steps of a statement, until it has taken too long.
struct Bounded<'e, T> {
    steps: BoxStream<'e, Result<T, Error>>,
    bound: Pin<Box<Sleep>>,
    is_broken: &'e mut bool,
    has_ended: bool,
}

impl<T> Stream for Bounded<'_, T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(step) = self.steps.as_mut().poll_next(cx) {
            return Poll::Ready(step);
        }
        ready!(self.bound.as_mut().poll(cx));
        *self.is_broken = true;
        self.has_ended = true;
        Poll::Ready(Some(Err(no_answer())))
    }
}

/// All steps of a statement, as they came.
pub(super) async fn collected<T>(mut steps: BoxStream<'_, Result<T, Error>>) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    while let Some(step) = std::future::poll_fn(|cx| steps.as_mut().poll_next(cx)).await {
        all.push(step?);
    }
    Ok(all)
}

/// Steps that are all there once the first is.
pub(super) enum Steps<'e, T> {
    Coming(BoxFuture<'e, Result<Vec<T>, Error>>),
    There(vec::IntoIter<T>),
}

impl<'e, T> Steps<'e, T> {
    pub(super) fn of(steps: BoxFuture<'e, Result<Vec<T>, Error>>) -> Self {
        Self::Coming(steps)
    }
}

// Nothing in it is pinned by itself.
impl<T> Unpin for Steps<'_, T> {}

impl<T> Stream for Steps<'_, T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Self::There(steps) => return Poll::Ready(steps.next().map(Ok)),
                Self::Coming(steps) => {
                    let (steps, error) = match ready!(steps.as_mut().poll(cx)) {
                        Ok(steps) => (steps, None),
                        Err(error) => (Vec::new(), Some(error)),
                    };
                    *self = Self::There(steps.into_iter());
                    if let Some(error) = error {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }
}
