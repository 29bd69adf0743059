//! The outbox in PostgreSQL.

use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Kept, NewChange, Pending, Record};
use crate::StoreError;

impl Record for PgConnection {
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

pub(super) async fn lease(pool: &PgPool, store: &str, holder: Uuid, millis: i64) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "insert into outbox_relays as relay (store, holder, until) \
         values ($1, $2, clock_timestamp() + $3 * interval '1 millisecond') \
         on conflict (store) do update set holder = excluded.holder, until = excluded.until \
         where relay.holder = excluded.holder or relay.until < clock_timestamp()",
    )
    .bind(store)
    .bind(holder)
    .bind(millis)
    .execute(pool)
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
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &PgRow) -> Result<Pending, sqlx::Error> {
    Ok(Pending {
        sequence: row.try_get(0)?,
        event_id: row.try_get(1)?,
        topic: row.try_get(2)?,
        detail_type: row.try_get(3)?,
        detail: row.try_get(4)?,
        occurred_at: row.try_get(5)?,
        attempts: row.try_get(6)?,
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
    let delete = sqlx::query("delete from outbox where store = $1 and sequence = any($2)").bind(store).bind(published);
    delete.execute(&mut *transaction).await?;
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
