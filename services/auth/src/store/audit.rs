//! The audit log.

use zonecast_protocol::auth::v1::AuditEntry;
use zonecast_store::{Uuid, from_micros, new_id, timestamp};

use super::statements;

/// Something that has happened; see `zonecast.auth.v1.AuditEntry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: i64,
    pub(crate) event: &'static str,
    pub(crate) actor: String,
    pub(crate) subject: String,
    pub(crate) origin: String,
    pub(crate) outcome: &'static str,
    pub(crate) detail: String,
}

type Row = (Uuid, i64, String, String, String, String, String, String);

fn message((id, at, event, actor, subject, origin, outcome, detail): Row) -> AuditEntry {
    let (id, at) = (id.hyphenated().to_string(), Some(timestamp(from_micros(at))));
    AuditEntry { id, at, event, actor, subject, origin, outcome, detail }
}

statements! {
    with []

    /// Notes what has happened.
    change fn note(connection, entry: &Entry) -> () {
        sqlx::query(
            "insert into auth_audit (id, at, event, actor, subject, origin, outcome, detail) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(new_id())
        .bind(entry.at)
        .bind(entry.event)
        .bind(&entry.actor)
        .bind(&entry.subject)
        .bind(&entry.origin)
        .bind(entry.outcome)
        .bind(&entry.detail)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// The entries before this one, newest first.
    read fn audit(connection, before: Uuid, entries_max: u32) -> Vec<AuditEntry> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, at, event, actor, subject, origin, outcome, detail from auth_audit \
             where id < $1 order by id desc limit $2",
        )
        .bind(before)
        .bind(i64::from(entries_max))
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(message).collect())
    }

    /// Those of one subject.
    read fn audit_of(connection, subject: &str, before: Uuid, entries_max: u32) -> Vec<AuditEntry> {
        let rows: Vec<Row> = sqlx::query_as(
            "select id, at, event, actor, subject, origin, outcome, detail from auth_audit \
             where subject = $1 and id < $2 order by id desc limit $3",
        )
        .bind(subject)
        .bind(before)
        .bind(i64::from(entries_max))
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(message).collect())
    }
}
