//! The keys that sign, what is revoked, and what has had its time.

use std::collections::HashSet;

use super::statements;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredKey {
    /// Its place among the keys: one more than the one before.
    pub(crate) generation: i64,
    pub(crate) id: String,
    pub(crate) pkcs8: Vec<u8>,
    /// From when on it signs.
    pub(crate) signs_from: i64,
}

statements! {
    with []

    /// The keys, in the order in which they sign.
    read fn keys(connection) -> Vec<StoredKey> {
        let rows: Vec<(i64, String, Vec<u8>, i64)> =
            sqlx::query_as("select generation, id, pkcs8, signs_from from auth_keys order by generation")
                .fetch_all(connection)
                .await?;
        let key = |(generation, id, pkcs8, signs_from)| StoredKey { generation, id, pkcs8, signs_from };
        Ok(rows.into_iter().map(key).collect())
    }

    /// Adds a key; a duplicate where another process was first.
    change fn add_key(connection, key: &StoredKey) -> () {
        sqlx::query("insert into auth_keys (generation, id, pkcs8, signs_from) values ($1, $2, $3, $4)")
            .bind(key.generation)
            .bind(&key.id)
            .bind(&key.pkcs8)
            .bind(key.signs_from)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Forgets a key.
    change fn drop_key(connection, generation: i64) -> () {
        sqlx::query("delete from auth_keys where generation = $1").bind(generation).execute(connection).await?;
        Ok(())
    }

    /// The logins of which tokens may be about that must not count.
    read fn revoked(connection, now: i64) -> HashSet<String> {
        let logins: Vec<String> = sqlx::query_scalar("select login from auth_revocations where until > $1")
            .bind(now)
            .fetch_all(connection)
            .await?;
        Ok(logins.into_iter().collect())
    }

    /// Takes a login on the list.
    part fn revoke(connection, login: &str, until: i64) -> () {
        sqlx::query("insert into auth_revocations (login, until) values ($1, $2) on conflict (login) do nothing")
            .bind(login)
            .bind(until)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Forgets some nonces that have had their time; how many.
    change fn prune_nonces(connection, now: i64) -> u64 {
        let query = "delete from auth_nonces where hash in (select hash from auth_nonces where expires_at <= $1 limit 1000)";
        Ok(sqlx::query(query).bind(now).execute(connection).await?.rows_affected())
    }

    /// As [`prune_nonces`](Self::prune_nonces), logins.
    change fn prune_logins(connection, now: i64) -> u64 {
        let query = "delete from auth_logins where id in (select id from auth_logins where expires_at <= $1 limit 1000)";
        Ok(sqlx::query(query).bind(now).execute(connection).await?.rows_affected())
    }

    /// As [`prune_nonces`](Self::prune_nonces), revocations.
    change fn prune_revocations(connection, now: i64) -> u64 {
        let query = "delete from auth_revocations where login in (select login from auth_revocations where until <= $1 limit 1000)";
        Ok(sqlx::query(query).bind(now).execute(connection).await?.rows_affected())
    }

    /// As [`prune_nonces`](Self::prune_nonces), entries of the audit log that are older than that.
    change fn prune_audit(connection, from: i64) -> u64 {
        let query = "delete from auth_audit where id in (select id from auth_audit where at < $1 limit 1000)";
        Ok(sqlx::query(query).bind(from).execute(connection).await?.rows_affected())
    }
}
