//! The outbox in SQLite.

use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Kept, NewChange, Pending, Record};
use crate::{StoreError, from_micros, to_micros};

impl Record for SqliteConnection {
    async fn record(&mut self, change: &NewChange) -> Result<(), StoreError> {
        let sequence: i64 = sqlx::query_scalar(
            "insert into outbox_heads (store, sequence) values (?, 1) \
             on conflict (store) do update set sequence = sequence + 1 returning sequence",
        )
        .bind(change.store)
        .fetch_one(&mut *self)
        .await?;
        sqlx::query(
            "insert into outbox (store, sequence, event_id, topic, detail_type, detail, occurred_at) \
             values (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(change.store)
        .bind(sequence)
        .bind(change.event_id)
        .bind(change.topic)
        .bind(&change.detail_type)
        .bind(&change.detail)
        .bind(to_micros(change.occurred_at))
        .execute(&mut *self)
        .await?;
        Ok(())
    }
}

pub(super) async fn lease(pool: &SqlitePool, store: &str, holder: Uuid, millis: i64) -> Result<bool, StoreError> {
    let taken = sqlx::query(
        "insert into outbox_relays (store, holder, until) \
         values (?1, ?2, cast(unixepoch('subsec') * 1000 as integer) + ?3) \
         on conflict (store) do update set holder = excluded.holder, until = excluded.until \
         where holder = excluded.holder or until < cast(unixepoch('subsec') * 1000 as integer)",
    )
    .bind(store)
    .bind(holder)
    .bind(millis)
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() > 0)
}

pub(super) async fn pending(
    pool: &SqlitePool,
    store: &str,
    due: OffsetDateTime,
    rows_max: i64,
) -> Result<Vec<Pending>, StoreError> {
    let rows = sqlx::query(
        "select sequence, event_id, topic, detail_type, detail, occurred_at, attempts from outbox \
         where store = ? and due_at is not null and due_at <= ? order by sequence limit ?",
    )
    .bind(store)
    .bind(to_micros(due))
    .bind(rows_max)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &SqliteRow) -> Result<Pending, sqlx::Error> {
    Ok(Pending {
        sequence: row.try_get(0)?,
        event_id: row.try_get(1)?,
        topic: row.try_get(2)?,
        detail_type: row.try_get(3)?,
        detail: row.try_get(4)?,
        occurred_at: from_micros(row.try_get(5)?),
        attempts: row.try_get(6)?,
    })
}

pub(super) async fn oldest(pool: &SqlitePool, store: &str) -> Result<Option<OffsetDateTime>, StoreError> {
    let oldest: Option<i64> = sqlx::query_scalar(
        "select occurred_at from outbox where store = ? and due_at is not null order by sequence limit 1",
    )
    .bind(store)
    .fetch_optional(pool)
    .await?;
    Ok(oldest.map(from_micros))
}

pub(super) async fn settle(pool: &SqlitePool, store: &str, published: &[i64], kept: &[Kept]) -> Result<(), StoreError> {
    let mut transaction = pool.begin_with("begin immediate").await?;
    for sequence in published {
        let delete = sqlx::query("delete from outbox where store = ? and sequence = ?").bind(store).bind(sequence);
        delete.execute(&mut *transaction).await?;
    }
    for kept in kept {
        sqlx::query(
            "update outbox set attempts = attempts + 1, due_at = ?, problem = ? where store = ? and sequence = ?",
        )
        .bind(kept.due_at.map(to_micros))
        .bind(&kept.problem)
        .bind(store)
        .bind(kept.sequence)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(())
}
