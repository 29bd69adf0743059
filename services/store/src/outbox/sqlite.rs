//! The outbox in SQLite.

use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use uuid::Uuid;

use super::{NewChange, Pending, Record};
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

pub(super) async fn pending(pool: &SqlitePool, store: &str, rows_max: i64) -> Result<Vec<Pending>, StoreError> {
    let rows = sqlx::query(
        "select sequence, event_id, topic, detail_type, detail, occurred_at from outbox \
         where store = ? order by sequence limit ?",
    )
    .bind(store)
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
    })
}

pub(super) async fn settle(pool: &SqlitePool, store: &str, through: i64) -> Result<(), StoreError> {
    let settled = sqlx::query("delete from outbox where store = ? and sequence <= ?").bind(store).bind(through);
    settled.execute(pool).await?;
    Ok(())
}
