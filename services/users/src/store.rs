//! What is kept of users: one trait, and an implementation for each database.

mod postgres;
mod sqlite;

use time::OffsetDateTime;
use zonecast_names::Name;
use zonecast_protocol::users::v1::{User, UserCreated, UserDeleted, UserUpdated};
use zonecast_store::{Etag, StoreError, Uuid, outbox::NewChange, timestamp};

pub use postgres::PostgresUsers;
pub use sqlite::SqliteUsers;

use crate::NAME;

/// A user as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUser {
    /// Its id.
    pub id: Uuid,
    /// Its name as it is shown.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Which state this is.
    pub etag: Etag,
}

/// What became of a change to a user that may have changed meanwhile, or gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The user as it is now; as it was last where it was deleted.
    Done(StoredUser),
    /// There is no such user.
    NotFound,
    /// It is in another state than the caller thinks.
    Stale,
}

/// The users of a database. Every change records itself in the outbox, in its own transaction.
///
/// A name that is taken is [`StoreError::Duplicate`] of [`NAME_KEY`](Self::NAME_KEY), one that looks like another's of
/// [`LOOKALIKE`](Self::LOOKALIKE).
pub trait UserStore: Clone + Send + Sync + 'static {
    /// The column that is unique by the name's key.
    const NAME_KEY: &'static str = "name_key";
    /// The column that is unique by the name's look.
    const LOOKALIKE: &'static str = "lookalike";

    /// Makes a user with this id, at this time.
    fn create(
        &self,
        id: Uuid,
        name: &Name,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<StoredUser, StoreError>> + Send;

    /// The user with this id.
    fn by_id(&self, id: Uuid) -> impl Future<Output = Result<Option<StoredUser>, StoreError>> + Send;

    /// The user whose name has this key.
    fn by_key(&self, key: &str) -> impl Future<Output = Result<Option<StoredUser>, StoreError>> + Send;

    /// Gives a user another name. The name that it has already changes nothing.
    fn rename(
        &self,
        id: Uuid,
        etag: Etag,
        name: &Name,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Changed, StoreError>> + Send;

    /// The first users behind this id, in the order of ids, which is that of creation.
    fn list(
        &self,
        after: Option<Uuid>,
        users_max: u32,
    ) -> impl Future<Output = Result<Vec<StoredUser>, StoreError>> + Send;

    /// Deletes a user, in whatever state where no etag is given.
    fn delete(
        &self,
        id: Uuid,
        etag: Option<Etag>,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Changed, StoreError>> + Send;
}

impl StoredUser {
    /// As the protocol has it.
    #[must_use]
    pub fn message(&self) -> User {
        User {
            id: self.id.hyphenated().to_string(),
            name: self.name.clone(),
            created_at: Some(timestamp(self.created_at)),
            updated_at: Some(timestamp(self.updated_at)),
            etag: self.etag.to_string(),
        }
    }

    fn new(id: Uuid, name: &Name, now: OffsetDateTime) -> Self {
        let etag = Etag::of_revision(1);
        Self { id, name: name.shown().to_owned(), created_at: now, updated_at: now, etag }
    }

    /// After a change of name. Time does not run backwards, whatever the clock says.
    fn renamed(&self, name: &Name, now: OffsetDateTime) -> Self {
        let (updated_at, etag) = (now.max(self.updated_at), Etag::of_revision(self.etag.revision() + 1));
        Self { name: name.shown().to_owned(), updated_at, etag, ..self.clone() }
    }
}

fn created(user: &StoredUser) -> NewChange {
    NewChange::new(NAME, "users.created", user.created_at, &UserCreated { user: Some(user.message()) })
}

fn updated(before: &StoredUser, user: &StoredUser) -> NewChange {
    let previous_name = before.name.clone();
    NewChange::new(NAME, "users.updated", user.updated_at, &UserUpdated { user: Some(user.message()), previous_name })
}

fn deleted(user: &StoredUser, now: OffsetDateTime) -> NewChange {
    NewChange::new(NAME, "users.deleted", now, &UserDeleted { user: Some(user.message()) })
}
