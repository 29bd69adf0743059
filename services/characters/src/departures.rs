//! What is here of a user goes with the user.

use zonecast_protocol::users::v1::UserDeleted;
use zonecast_store::{
    Uuid, now,
    outbox::{Committed, HandleError, Handler, Within},
};

use crate::store::{postgres, sqlite};

/// The topic that tells of it.
const TOPIC: &str = "users.deleted";

/// Forgets the characters of users that are deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departures;

impl Handler for Departures {
    fn wants(&self, topic: &str) -> bool {
        topic == TOPIC
    }

    async fn handle(&self, change: &Committed, within: Within<'_>) -> Result<(), HandleError> {
        let deleted: UserDeleted = change.detail().map_err(|error| HandleError::Failed(error.to_string()))?;
        let id = deleted.user.and_then(|user| Uuid::try_parse(&user.id).ok());
        let id = id.ok_or_else(|| HandleError::Failed("the change names no user".to_owned()))?;
        match within {
            Within::Sqlite(connection) => sqlite::forget_user(connection, id, now()).await?,
            Within::Postgres(connection) => postgres::forget_user(connection, id, now()).await?,
        };
        Ok(())
    }
}
