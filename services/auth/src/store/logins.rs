//! Logins: from the first refresh token to the last, and how they end.

use zonecast_protocol::auth::v1::LoginsRevoked;
use zonecast_store::{
    Uuid, from_micros,
    outbox::{NewChange, Record},
    timestamp,
};

use super::{Entry, StoredIdentity, statements, subject};
use crate::NAME;

/// Most logins of a user at once; with one more the oldest ends.
pub(crate) const PER_USER_MAX: i64 = 100;

/// Most logins in one change: what a topic's event holds with ease.
const PER_CHANGE_MAX: usize = 100;

/// A login as it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewLogin {
    pub(crate) id: Uuid,
    pub(crate) family: [u8; 32],
    pub(crate) turn: [u8; 32],
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    /// Should others have to end for it.
    pub(crate) ending: Ending,
}

/// Why and when logins end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: &'static str,
    pub(crate) at: i64,
    /// When the last token that was given out for them expires.
    pub(crate) until: i64,
}

/// A refresh token, and the one behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextTurn {
    pub(crate) family: [u8; 32],
    pub(crate) turn: [u8; 32],
    pub(crate) next: [u8; 32],
    /// When the login ends if nobody comes again.
    pub(crate) idle_until: i64,
    /// How long it lasts at most.
    pub(crate) lasts: i64,
}

/// What becomes of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoggedIn {
    Done {
        /// Whether others have ended for it.
        others_ended: bool,
    },
    /// Not: banned until then, for this reason.
    Banned(i64, String),
    /// Not: the password or the identity is not that any more, or the nonce does not count.
    Changed,
}

/// What becomes of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// The login goes on until then.
    Done {
        login: Uuid,
        user: Uuid,
        expires_at: i64,
    },
    /// An old token of this user's login came again; the login has ended.
    Reused {
        login: Uuid,
        user: Uuid,
    },
    Unknown,
}

/// The change that tells of logins that have ended.
pub(super) fn revoked(subject: &str, logins: &[String], ending: &Ending) -> NewChange {
    let detail = LoginsRevoked {
        subject: subject.to_owned(),
        logins: logins.to_vec(),
        until: Some(timestamp(from_micros(ending.until))),
        reason: ending.reason.to_owned(),
    };
    NewChange::new(NAME, "auth.revoked", from_micros(ending.at), &detail)
}

statements! {
    with [accounts audit identities issuing]

    /// Begins a login by a password that was found right, if the account still has it.
    change fn log_in(connection, user: Uuid, password_hash: &str, login: &NewLogin, entry: &Entry) -> LoggedIn {
        let account = match accounts::hold(&mut *connection, user).await? {
            Some(account) if account.password_hash.as_deref() == Some(password_hash) => account,
            _ => return Ok(LoggedIn::Changed),
        };
        if account.is_banned(login.created_at) {
            return Ok(LoggedIn::Banned(account.banned_until.unwrap_or_default(), account.ban_reason));
        }
        let others_ended = add(&mut *connection, user, login).await?;
        audit::note(&mut *connection, entry).await?;
        Ok(LoggedIn::Done { others_ended })
    }

    /// Begins a login by an identity, with its nonce.
    change fn log_in_by_identity(
        connection, user: Uuid, identity: &StoredIdentity, nonce: &[u8], login: &NewLogin, entry: &Entry,
    ) -> LoggedIn {
        let Some(account) = accounts::hold(&mut *connection, user).await? else { return Ok(LoggedIn::Changed) };
        if identities::whose(&mut *connection, &identity.issuer, &identity.subject).await? != Some(user)
            || !identities::use_nonce(&mut *connection, &identity.provider, nonce, login.created_at).await?
        {
            return Ok(LoggedIn::Changed);
        }
        if account.is_banned(login.created_at) {
            return Ok(LoggedIn::Banned(account.banned_until.unwrap_or_default(), account.ban_reason));
        }
        let others_ended = add(&mut *connection, user, login).await?;
        audit::note(&mut *connection, entry).await?;
        Ok(LoggedIn::Done { others_ended })
    }

    /// Adds a login; the oldest of too many end. Whether any did.
    part fn add(connection, user: Uuid, login: &NewLogin) -> bool {
        sqlx::query(
            "insert into auth_logins (id, user_id, family_hash, turn_hash, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(login.id)
        .bind(user)
        .bind(&login.family[..])
        .bind(&login.turn[..])
        .bind(login.created_at)
        .bind(login.expires_at)
        .execute(&mut *connection)
        .await?;
        let ended: Vec<Uuid> = sqlx::query_scalar(
            "delete from auth_logins where user_id = $1 and id in \
             (select id from auth_logins where user_id = $1 order by id desc limit 1000 offset $2) returning id",
        )
        .bind(user)
        .bind(PER_USER_MAX)
        .fetch_all(&mut *connection)
        .await?;
        tell(connection, &subject(user), &ended, &login.ending).await?;
        Ok(!ended.is_empty())
    }

    /// Takes these logins on the list of those that are revoked, and records it.
    part fn tell(connection, subject: &str, ended: &[Uuid], ending: &Ending) -> () {
        let logins: Vec<String> = ended.iter().map(|login| login.hyphenated().to_string()).collect();
        for login in &logins {
            issuing::revoke(&mut *connection, login, ending.until).await?;
        }
        for some in logins.chunks(PER_CHANGE_MAX) {
            connection.record(&revoked(subject, some, ending)).await?;
        }
        Ok(())
    }

    /// Ends all logins of a user but this one.
    part fn end(connection, user: Uuid, but: Uuid, ending: &Ending) -> () {
        let ended: Vec<Uuid> = sqlx::query_scalar("delete from auth_logins where user_id = $1 and id <> $2 returning id")
            .bind(user)
            .bind(but)
            .fetch_all(&mut *connection)
            .await?;
        tell(connection, &subject(user), &ended, ending).await
    }

    /// Whether there is a login of this family.
    read fn has_family(connection, family: &[u8]) -> bool {
        let found: Option<i64> = sqlx::query_scalar("select expires_at from auth_logins where family_hash = $1")
            .bind(family)
            .fetch_optional(connection)
            .await?;
        Ok(found.is_some())
    }

    /// The next turn of a login. Where somebody has used the present one already the login ends, and `reused` is noted, with
    /// the user.
    change fn refresh(connection, step: &NextTurn, ending: &Ending, reused: &Entry) -> Refreshed {
        let NextTurn { family, turn, next, idle_until, lasts } = step;
        let now = ending.at;
        let row: Option<(Uuid, Uuid, i64)> = sqlx::query_as(
            "update auth_logins set turn_hash = $1, expires_at = \
             case when created_at + $2 < $3 then created_at + $2 else $3 end \
             where family_hash = $4 and turn_hash = $5 and expires_at > $6 returning id, user_id, expires_at",
        )
        .bind(&next[..])
        .bind(lasts)
        .bind(idle_until)
        .bind(&family[..])
        .bind(&turn[..])
        .bind(now)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some((login, user, expires_at)) = row {
            return Ok(Refreshed::Done { login, user, expires_at });
        }
        let ended: Option<(Uuid, Uuid)> =
            sqlx::query_as("delete from auth_logins where family_hash = $1 and expires_at > $2 returning id, user_id")
                .bind(&family[..])
                .bind(now)
                .fetch_optional(&mut *connection)
                .await?;
        let Some((login, user)) = ended else { return Ok(Refreshed::Unknown) };
        audit::note(&mut *connection, &Entry { subject: subject(user), ..reused.clone() }).await?;
        tell(connection, &subject(user), &[login], ending).await?;
        Ok(Refreshed::Reused { login, user })
    }

    /// Ends the login of a refresh token, and notes it with the user; whose it was, if there was one.
    change fn log_out_family(connection, family: &[u8], ending: &Ending, entry: &Entry) -> Option<Uuid> {
        let row: Option<(Uuid, Uuid)> =
            sqlx::query_as("delete from auth_logins where family_hash = $1 returning id, user_id")
                .bind(family)
                .fetch_optional(&mut *connection)
                .await?;
        let Some((login, user)) = row else { return Ok(None) };
        audit::note(&mut *connection, &Entry { subject: subject(user), ..entry.clone() }).await?;
        tell(connection, &subject(user), &[login], ending).await?;
        Ok(Some(user))
    }

    /// Ends this login of a user, if there is one, and notes it.
    change fn log_out(connection, user: Uuid, login: Uuid, ending: &Ending, entry: &Entry) -> () {
        audit::note(&mut *connection, &Entry { subject: subject(user), ..entry.clone() }).await?;
        let ended: Vec<Uuid> = sqlx::query_scalar("delete from auth_logins where user_id = $1 and id = $2 returning id")
            .bind(user)
            .bind(login)
            .fetch_all(&mut *connection)
            .await?;
        tell(connection, &subject(user), &ended, ending).await
    }

    /// Ends all logins of a user.
    change fn log_out_everywhere(connection, user: Uuid, ending: &Ending, entry: &Entry) -> () {
        accounts::hold(&mut *connection, user).await?;
        audit::note(&mut *connection, entry).await?;
        end(connection, user, Uuid::nil(), ending).await
    }
}
