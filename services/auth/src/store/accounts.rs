//! Who can log in: passwords, bans, and users that are being made.

use zonecast_store::Uuid;

use super::{Ending, Entry, NewLogin, identities::StoredIdentity};

use super::statements;

/// What an account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) password_hash: Option<String>,
    pub(crate) banned_until: Option<i64>,
    pub(crate) ban_reason: String,
}

impl Account {
    pub(crate) fn is_banned(&self, now: i64) -> bool {
        self.banned_until.is_some_and(|until| until > now)
    }
}

/// How a user who is being made will log in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WayIn<'a> {
    /// By a password with this hash.
    Password(&'a str),
    /// By an identity, which this nonce belongs to.
    Identity(&'a StoredIdentity, &'a [u8]),
}

statements! {
    with [audit identities logins]

    /// The account of a user, if it has one.
    read fn account(connection, user: Uuid) -> Option<Account> {
        let row: Option<(Option<String>, Option<i64>, String)> =
            sqlx::query_as("select password_hash, banned_until, ban_reason from auth_accounts where user_id = $1")
                .bind(user)
                .fetch_optional(connection)
                .await?;
        Ok(row.map(|(password_hash, banned_until, ban_reason)| Account { password_hash, banned_until, ban_reason }))
    }

    /// As [`account`], and nobody else changes it until the end of the transaction.
    part fn hold(connection, user: Uuid) -> Option<Account> {
        let row: Option<(Option<String>, Option<i64>, String)> = sqlx::query_as(
            "update auth_accounts set revision = revision + 1 where user_id = $1 \
             returning password_hash, banned_until, ban_reason",
        )
        .bind(user)
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|(password_hash, banned_until, ban_reason)| Account { password_hash, banned_until, ban_reason }))
    }

    /// A user is about to be made.
    change fn begin_registration(connection, user: Uuid, now: i64) -> () {
        sqlx::query("insert into auth_registrations (user_id, started_at) values ($1, $2)")
            .bind(user)
            .bind(now)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// The user was not made, or is deleted again.
    change fn forget_registration(connection, user: Uuid) -> () {
        sqlx::query("delete from auth_registrations where user_id = $1").bind(user).execute(connection).await?;
        Ok(())
    }

    /// The user is made: now it can log in, and has. False where that took so long that it was given up, or the nonce does
    /// not count; nothing has changed then.
    change fn register(connection, user: Uuid, way: WayIn<'_>, login: &NewLogin, entry: &Entry) -> bool {
        if let WayIn::Identity(identity, nonce) = way
            && !identities::use_nonce(&mut *connection, &identity.provider, nonce, login.created_at).await?
        {
            return Ok(false);
        }
        let pending = sqlx::query("delete from auth_registrations where user_id = $1 and given_up = 0")
            .bind(user)
            .execute(&mut *connection)
            .await?;
        if pending.rows_affected() == 0 {
            return Ok(false);
        }
        let password_hash = match way {
            WayIn::Password(hash) => Some(hash),
            WayIn::Identity(..) => None,
        };
        sqlx::query("insert into auth_accounts (user_id, password_hash, created_at) values ($1, $2, $3)")
            .bind(user)
            .bind(password_hash)
            .bind(login.created_at)
            .execute(&mut *connection)
            .await?;
        if let WayIn::Identity(identity, _) = way {
            identities::add(&mut *connection, user, identity).await?;
        }
        let _ = logins::add(&mut *connection, user, login).await?;
        audit::note(&mut *connection, entry).await?;
        Ok(true)
    }

    /// Gives up the registrations that began before: nobody completes them any more. These are the users, some of whom may
    /// have been made, and when each began.
    change fn interrupted(connection, before: i64) -> Vec<(Uuid, i64)> {
        let rows = sqlx::query_as(
            "update auth_registrations set given_up = 1 where user_id in \
             (select user_id from auth_registrations where started_at < $1 order by user_id limit 100) \
             returning user_id, started_at",
        )
        .bind(before)
        .fetch_all(connection)
        .await?;
        Ok(rows)
    }

    /// Gives the account another password, if it still has the old one, and ends all logins but one.
    change fn set_password(
        connection, user: Uuid, old: Option<&str>, new: &str, but: Uuid, ending: &Ending, entry: &Entry,
    ) -> bool {
        match hold(&mut *connection, user).await? {
            Some(account) if account.password_hash.as_deref() == old => {}
            _ => return Ok(false),
        }
        sqlx::query("update auth_accounts set password_hash = $1 where user_id = $2")
            .bind(new)
            .bind(user)
            .execute(&mut *connection)
            .await?;
        audit::note(&mut *connection, entry).await?;
        logins::end(&mut *connection, user, but, ending).await?;
        Ok(true)
    }

    /// Bans a user, whether it has an account or not, and ends its logins.
    change fn ban(connection, user: Uuid, until: i64, reason: &str, ending: &Ending, entry: &Entry) -> () {
        sqlx::query(
            "insert into auth_accounts (user_id, banned_until, ban_reason, created_at) values ($1, $2, $3, $4) \
             on conflict (user_id) do update set banned_until = excluded.banned_until, \
             ban_reason = excluded.ban_reason, revision = auth_accounts.revision + 1",
        )
        .bind(user)
        .bind(until)
        .bind(reason)
        .bind(entry.at)
        .execute(&mut *connection)
        .await?;
        audit::note(&mut *connection, entry).await?;
        logins::end(&mut *connection, user, Uuid::nil(), ending).await
    }

    /// Ends a ban.
    change fn lift_ban(connection, user: Uuid, entry: &Entry) -> () {
        sqlx::query("update auth_accounts set banned_until = null, ban_reason = '' where user_id = $1")
            .bind(user)
            .execute(&mut *connection)
            .await?;
        audit::note(&mut *connection, entry).await
    }

    /// Forgets all that there is of a user but its audit log, and ends its logins.
    part fn forget(connection, user: Uuid, ending: &Ending, entry: &Entry) -> () {
        sqlx::query("delete from auth_registrations where user_id = $1").bind(user).execute(&mut *connection).await?;
        if hold(&mut *connection, user).await?.is_none() {
            return Ok(());
        }
        audit::note(&mut *connection, entry).await?;
        logins::end(&mut *connection, user, Uuid::nil(), ending).await?;
        sqlx::query("delete from auth_accounts where user_id = $1").bind(user).execute(&mut *connection).await?;
        Ok(())
    }
}
