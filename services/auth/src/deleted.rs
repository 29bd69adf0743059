//! What is here of a user goes with the user.

use zonecast_protocol::users::v1::UserDeleted;
use zonecast_store::{
    Uuid,
    outbox::{Committed, HandleError, Handler, Within},
};

use crate::{
    Auth,
    store::{Ending, Entry, accounts_postgres, accounts_sqlite, subject},
};

/// The topic that tells of it.
const TOPIC: &str = "users.deleted";

/// Forgets users that are deleted: ways in, logins, bans. Their entries in the audit log stay for their time.
#[derive(Debug, Clone)]
pub(crate) struct UserDeletions {
    auth: Auth,
}

impl UserDeletions {
    /// On behalf of the service.
    pub(crate) fn new(auth: Auth) -> Self {
        Self { auth }
    }

    fn due(&self, deleted: &UserDeleted) -> Option<(Uuid, Ending, Entry)> {
        let user = Uuid::try_parse(&deleted.user.as_ref()?.id).ok()?;
        let ending = self.auth.shared.issuer.ending("user_deleted");
        let entry = Entry {
            at: ending.at,
            event: "user_deleted",
            actor: "service:users".to_owned(),
            subject: subject(user),
            origin: "within".to_owned(),
            outcome: "ok",
            detail: String::new(),
        };
        Some((user, ending, entry))
    }
}

impl Handler for UserDeletions {
    fn wants(&self, topic: &str) -> bool {
        topic == TOPIC
    }

    async fn handle(&self, change: &Committed, within: Within<'_>) -> Result<(), HandleError> {
        let deleted: UserDeleted = change.detail().map_err(|error| HandleError::Failed(error.to_string()))?;
        let Some((user, ending, entry)) = self.due(&deleted) else { return Ok(()) };
        match within {
            Within::Sqlite(connection) => accounts_sqlite::forget(connection, user, &ending, &entry).await?,
            Within::Postgres(connection) => accounts_postgres::forget(connection, user, &ending, &entry).await?,
        }
        Ok(())
    }
}
