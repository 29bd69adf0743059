//! The outbox in PostgreSQL.

use sqlx::{Postgres, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Aged, Changes, Kept, NewChange, Pending, Record, Row as Columns};
use crate::{Connection, PgPool, StoreError, now};

const OF_CURSOR: &str = "select sequence from outbox_followers where consumer = $1 and store = $2";

impl Record for Connection<Postgres> {
    async fn record(&mut self, change: &NewChange) -> Result<(), StoreError> {
        let sequence: i64 = sqlx::query_scalar(
            "insert into outbox_heads as head (store, sequence) values ($1, 1) \
             on conflict (store) do update set sequence = head.sequence + 1 returning sequence",
        )
        .bind(change.store)
        .fetch_one(&mut *self)
        .await?;
        sqlx::query(
            "insert into outbox (store, sequence, event_id, topic, detail_type, detail, occurred_at) \
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(change.store)
        .bind(sequence)
        .bind(change.event_id)
        .bind(change.topic)
        .bind(&change.detail_type)
        .bind(&change.detail)
        .bind(change.occurred_at)
        .execute(&mut *self)
        .await?;
        Ok(())
    }
}

pub(super) async fn lease(pool: &PgPool, work: &str, holder: Uuid, millis: i64) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "insert into outbox_relays as relay (store, holder, until) \
         values ($1, $2, clock_timestamp() + $3 * interval '1 millisecond') \
         on conflict (store) do update set holder = excluded.holder, until = excluded.until \
         where relay.holder = excluded.holder or relay.until < clock_timestamp()",
    )
    .bind(work)
    .bind(holder)
    .bind(millis)
    .execute(&mut pool.writer().await?)
    .await?;
    Ok(taken.rows_affected() > 0)
}

pub(super) async fn pending(
    pool: &PgPool,
    store: &str,
    due: OffsetDateTime,
    rows_max: i64,
) -> Result<Vec<Pending>, StoreError> {
    let rows = sqlx::query(
        "select sequence, event_id, topic, detail_type, detail, occurred_at, attempts from outbox \
         where store = $1 and due_at is not null and due_at <= $2 order by sequence limit $3",
    )
    .bind(store)
    .bind(due)
    .bind(rows_max)
    .fetch_all(pool)
    .await?;
    let read = |row| Ok(Pending { committed: columns(row)?.committed(store), attempts: row.try_get(6)? });
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

fn columns(row: &PgRow) -> Result<Columns, sqlx::Error> {
    Ok(Columns {
        sequence: row.try_get(0)?,
        event_id: row.try_get(1)?,
        topic: row.try_get(2)?,
        detail_type: row.try_get(3)?,
        detail: row.try_get(4)?,
        occurred_at: row.try_get(5)?,
    })
}

pub(super) async fn oldest(pool: &PgPool, store: &str) -> Result<Option<OffsetDateTime>, StoreError> {
    let oldest = sqlx::query_scalar(
        "select occurred_at from outbox where store = $1 and due_at is not null order by sequence limit 1",
    )
    .bind(store)
    .fetch_optional(pool)
    .await?;
    Ok(oldest)
}

pub(super) async fn settle(pool: &PgPool, store: &str, published: &[i64], kept: &[Kept]) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("update outbox set published_at = $1, due_at = null where store = $2 and sequence = any($3)")
        .bind(now())
        .bind(store)
        .bind(published)
        .execute(&mut *transaction)
        .await?;
    for kept in kept {
        sqlx::query(
            "update outbox set attempts = attempts + 1, due_at = $1, problem = $2 where store = $3 and sequence = $4",
        )
        .bind(kept.due_at)
        .bind(&kept.problem)
        .bind(store)
        .bind(kept.sequence)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn changes(pool: &PgPool, store: &str, after: i64, changes_max: u32) -> Result<Changes, StoreError> {
    let rows = sqlx::query(
        "select sequence, event_id, topic, detail_type, detail, occurred_at from outbox \
         where store = $1 and sequence > $2 order by sequence limit $3",
    )
    .bind(store)
    .bind(after)
    .bind(i64::from(changes_max))
    .fetch_all(pool)
    .await?;
    // After them: what was pruned since may only be said of too much.
    let query = sqlx::query_as("select pruned, sequence from outbox_heads where store = $1");
    let head: Option<(i64, i64)> = query.bind(store).fetch_optional(pool).await?;
    let (pruned, last) = head.unwrap_or_default();
    let read = |row| Ok(columns(row)?.committed(store));
    let changes = rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?;
    Ok(Changes { changes, pruned, last })
}

pub(super) async fn aged(pool: &PgPool, store: &str, rows_max: usize) -> Result<Vec<Aged>, StoreError> {
    let rows = sqlx::query(
        "select sequence, case when due_at is null then coalesce(published_at, occurred_at) end from outbox \
         where store = $1 and sequence > (select pruned from outbox_heads where store = $1) \
         order by sequence limit $2",
    )
    .bind(store)
    .bind(i64::try_from(rows_max).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let read = |row: &PgRow| Ok(Aged { sequence: row.try_get(0)?, done_at: row.try_get(1)? });
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

pub(super) async fn prune(pool: &PgPool, store: &str, to: i64, cutoff: OffsetDateTime) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    // Also what was parked when its turn came, and was published later.
    sqlx::query("delete from outbox where store = $1 and sequence <= $2 and due_at is null and published_at < $3")
        .bind(store)
        .bind(to)
        .bind(cutoff)
        .execute(&mut *transaction)
        .await?;
    // Last, for every change of the store waits for this row.
    sqlx::query("update outbox_heads set pruned = $1 where store = $2 and pruned < $1")
        .bind(to)
        .bind(store)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn cursor(pool: &PgPool, consumer: &str, store: &str) -> Result<i64, StoreError> {
    let known: Option<i64> = sqlx::query_scalar(OF_CURSOR).bind(consumer).bind(store).fetch_optional(pool).await?;
    if let Some(sequence) = known {
        return Ok(sequence);
    }
    sqlx::query(
        "insert into outbox_followers (consumer, store, sequence) \
         values ($1, $2, coalesce((select pruned from outbox_heads where store = $2), 0)) on conflict do nothing",
    )
    .bind(consumer)
    .bind(store)
    .execute(&mut pool.writer().await?)
    .await?;
    Ok(sqlx::query_scalar(OF_CURSOR).bind(consumer).bind(store).fetch_one(pool).await?)
}

/// Moves a consumer on, within a transaction; false where another process has moved it meanwhile.
pub(super) async fn advance(
    connection: &mut Connection<Postgres>,
    consumer: &str,
    store: &str,
    (from, to): (i64, i64),
) -> Result<bool, StoreError> {
    let moved =
        sqlx::query("update outbox_followers set sequence = $1 where consumer = $2 and store = $3 and sequence = $4")
            .bind(to)
            .bind(consumer)
            .bind(store)
            .bind(from)
            .execute(connection)
            .await?;
    Ok(moved.rows_affected() > 0)
}
