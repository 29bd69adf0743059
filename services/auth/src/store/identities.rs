//! Who somebody is at other providers, and the nonces for finding out.

use zonecast_protocol::auth::v1::Identity;
use zonecast_store::{Uuid, from_micros, timestamp};

use super::{Entry, statements};

/// Most identities of a user.
pub(crate) const PER_USER_MAX: i64 = 16;

/// An identity as it is kept: its name is issuer and subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredIdentity {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) provider: String,
    pub(crate) linked_at: i64,
}

impl StoredIdentity {
    pub(crate) fn message(&self) -> Identity {
        Identity {
            provider: self.provider.clone(),
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            linked_at: Some(timestamp(from_micros(self.linked_at))),
        }
    }
}

/// What becomes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linked {
    Done,
    /// The nonce does not count.
    Nonce,
    /// The user has as many as there may be.
    TooMany,
    /// There is no such user.
    NoAccount,
}

/// What becomes of a link that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unlinked {
    Done,
    NotFound,
    /// It is the last way in.
    Last,
}

statements! {
    with [accounts audit]

    /// A nonce for a provider.
    change fn add_nonce(connection, hash: &[u8], provider: &str, expires_at: i64) -> () {
        sqlx::query("insert into auth_nonces (hash, provider, expires_at) values ($1, $2, $3)")
            .bind(hash)
            .bind(provider)
            .bind(expires_at)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Uses a nonce up; false where there is none such.
    part fn use_nonce(connection, provider: &str, hash: &[u8], now: i64) -> bool {
        let used = sqlx::query("delete from auth_nonces where hash = $1 and provider = $2 and expires_at > $3")
            .bind(hash)
            .bind(provider)
            .bind(now)
            .execute(connection)
            .await?;
        Ok(used.rows_affected() > 0)
    }

    /// Whether there is such a nonce: asked before a provider is.
    read fn has_nonce(connection, provider: &str, hash: &[u8], now: i64) -> bool {
        let found: Option<i64> = sqlx::query_scalar(
            "select expires_at from auth_nonces where hash = $1 and provider = $2 and expires_at > $3",
        )
        .bind(hash)
        .bind(provider)
        .bind(now)
        .fetch_optional(connection)
        .await?;
        Ok(found.is_some())
    }

    /// Who has an identity.
    read fn whose(connection, issuer: &str, subject: &str) -> Option<Uuid> {
        Ok(sqlx::query_scalar("select user_id from auth_identities where issuer = $1 and subject = $2")
            .bind(issuer)
            .bind(subject)
            .fetch_optional(connection)
            .await?)
    }

    /// Adds an identity; a duplicate where somebody has it.
    part fn add(connection, user: Uuid, identity: &StoredIdentity) -> () {
        sqlx::query(
            "insert into auth_identities (issuer, subject, user_id, provider, linked_at) values ($1, $2, $3, $4, $5)",
        )
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .bind(user)
        .bind(&identity.provider)
        .bind(identity.linked_at)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// How many identities a user has.
    part fn count(connection, user: Uuid) -> i64 {
        Ok(sqlx::query_scalar("select count(*) from auth_identities where user_id = $1")
            .bind(user)
            .fetch_one(connection)
            .await?)
    }

    /// Links an identity, with its nonce.
    change fn link(connection, user: Uuid, identity: &StoredIdentity, nonce: &[u8], entry: &Entry) -> Linked {
        if accounts::hold(&mut *connection, user).await?.is_none() {
            return Ok(Linked::NoAccount);
        }
        if count(&mut *connection, user).await? >= PER_USER_MAX {
            return Ok(Linked::TooMany);
        }
        if !use_nonce(&mut *connection, &identity.provider, nonce, identity.linked_at).await? {
            return Ok(Linked::Nonce);
        }
        add(&mut *connection, user, identity).await?;
        audit::note(&mut *connection, entry).await?;
        Ok(Linked::Done)
    }

    /// Takes an identity from a user, unless it is the last way in.
    change fn unlink(connection, user: Uuid, issuer: &str, subject: &str, entry: &Entry) -> Unlinked {
        let Some(account) = accounts::hold(&mut *connection, user).await? else { return Ok(Unlinked::NotFound) };
        if whose(&mut *connection, issuer, subject).await? != Some(user) {
            return Ok(Unlinked::NotFound);
        }
        if account.password_hash.is_none() && count(&mut *connection, user).await? < 2 {
            return Ok(Unlinked::Last);
        }
        sqlx::query("delete from auth_identities where issuer = $1 and subject = $2")
            .bind(issuer)
            .bind(subject)
            .execute(&mut *connection)
            .await?;
        audit::note(&mut *connection, entry).await?;
        Ok(Unlinked::Done)
    }

    /// The identities of a user, oldest first.
    read fn identities(connection, user: Uuid) -> Vec<StoredIdentity> {
        let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
            "select issuer, subject, provider, linked_at from auth_identities where user_id = $1 \
             order by linked_at, issuer, subject",
        )
        .bind(user)
        .fetch_all(connection)
        .await?;
        let identity = |(issuer, subject, provider, linked_at)| StoredIdentity { issuer, subject, provider, linked_at };
        Ok(rows.into_iter().map(identity).collect())
    }
}
