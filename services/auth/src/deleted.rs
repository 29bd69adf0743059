//! What is here of a user goes with the user.

use zonecast_protocol::users::v1::UserDeleted;
use zonecast_store::{PgConnection, SqliteConnection, StoreError, Uuid};

use crate::{
    Auth,
    store::{Ending, Entry, accounts_postgres, accounts_sqlite, subject},
};

/// The topic that tells of it.
const TOPIC: &str = "users.deleted";

/// Forgets users that are deleted: ways in, logins, bans. Their entries in the audit log stay for their time.
#[derive(Debug, Clone)]
pub struct UserDeletions {
    auth: Auth,
}

impl UserDeletions {
    /// On behalf of the service.
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        Self { auth }
    }

    /// Whether changes on this topic are to be handed over.
    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        topic == TOPIC
    }

    /// In a transaction of SQLite. However often, it comes to the same.
    ///
    /// # Errors
    /// The database does not do it.
    pub async fn in_sqlite(&self, deleted: &UserDeleted, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let Some((user, ending, entry)) = self.due(deleted) else { return Ok(()) };
        accounts_sqlite::forget(connection, user, &ending, &entry).await
    }

    /// In a transaction of PostgreSQL. However often, it comes to the same.
    ///
    /// # Errors
    /// The database does not do it.
    pub async fn in_postgres(&self, deleted: &UserDeleted, connection: &mut PgConnection) -> Result<(), StoreError> {
        let Some((user, ending, entry)) = self.due(deleted) else { return Ok(()) };
        accounts_postgres::forget(connection, user, &ending, &entry).await
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
