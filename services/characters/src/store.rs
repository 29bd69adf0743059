//! What is kept of characters: one trait, and an implementation for each database.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use prost::Message;
use time::OffsetDateTime;
use zonecast_names::Name;
use zonecast_protocol::characters::v1::{
    Appearance, Body, Character, CharacterCreated, CharacterDeleted, CharacterUpdated, Outfit, Place,
};
use zonecast_store::{Etag, StoreError, Uuid, outbox::NewChange, timestamp};

pub use postgres::PostgresCharacters;
pub use sqlite::SqliteCharacters;

use crate::NAME;

/// A character as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCharacter {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user: Uuid,
    /// Where it lives.
    pub world: String,
    /// Its name as it is shown.
    pub name: String,
    /// How it is built.
    pub body: Body,
    /// What it looks like.
    pub appearance: Appearance,
    /// What it wears.
    pub outfit: Outfit,
    /// Where it was last.
    pub place: Option<Place>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Which state this is.
    pub etag: Etag,
}

/// A character that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its id.
    pub id: Uuid,
    /// Whose it is to be.
    pub user: Uuid,
    /// Where it is to live.
    pub world: String,
    /// Its name.
    pub name: Name,
    /// How it is built.
    pub body: Body,
    /// What it looks like.
    pub appearance: Appearance,
    /// What it wears.
    pub outfit: Outfit,
}

/// How many characters a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// In one world.
    pub per_world_max: u32,
    /// In all worlds.
    pub per_user_max: u32,
}

/// What became of a character that was to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// It was made.
    Done(Box<StoredCharacter>),
    /// The user has as many in this world as permitted.
    WorldIsFull,
    /// The user has as many in all as permitted.
    UserIsFull,
    /// The user was deleted.
    UserIsGone,
}

/// What is to be different. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// Another name.
    pub name: Option<Name>,
    /// Another body.
    pub body: Option<Body>,
    /// Another appearance.
    pub appearance: Option<Appearance>,
    /// Another outfit.
    pub outfit: Option<Outfit>,
}

/// What became of a change to a character that may have changed meanwhile, or gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// The character as it is now; as it was last where it was deleted.
    Done(Box<StoredCharacter>),
    /// There is no such character.
    NotFound,
    /// It is in another state than the caller thinks.
    Stale,
}

/// The characters of a database. Every change but that of a place records itself in the outbox, in its own transaction.
///
/// A name that is taken in its world, or looks like one that is, is [`StoreError::Duplicate`].
pub trait CharacterStore: Clone + Send + Sync + 'static {
    /// Makes a character at this time, within the quota, however many are made at once.
    fn create(
        &self,
        draft: &Draft,
        quota: Quota,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Created, StoreError>> + Send;

    /// The character with this id.
    fn by_id(&self, id: Uuid) -> impl Future<Output = Result<Option<StoredCharacter>, StoreError>> + Send;

    /// The user's first characters behind this id, of this world or of all, in the order of ids, which is that of creation.
    fn list(
        &self,
        user: Uuid,
        world: Option<&str>,
        after: Option<Uuid>,
        characters_max: u32,
    ) -> impl Future<Output = Result<Vec<StoredCharacter>, StoreError>> + Send;

    /// Changes a character. What is as it is to be already changes nothing.
    fn update(
        &self,
        id: Uuid,
        etag: Etag,
        change: &Change,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Changed, StoreError>> + Send;

    /// Deletes a character, in whatever state where no etag is given.
    fn delete(
        &self,
        id: Uuid,
        etag: Option<Etag>,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Changed, StoreError>> + Send;

    /// Notes where a character is; false where there is none with this id in the place's world.
    fn save_place(&self, id: Uuid, place: &Place) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes all characters of a user who was deleted, and sees to it that none is made any more. How many there were; 0
    /// when it is done again.
    fn forget_user(&self, user: Uuid, now: OffsetDateTime) -> impl Future<Output = Result<usize, StoreError>> + Send;
}

impl StoredCharacter {
    /// As the protocol has it.
    #[must_use]
    pub fn message(&self) -> Character {
        Character {
            id: self.id.hyphenated().to_string(),
            user_id: self.user.hyphenated().to_string(),
            world: self.world.clone(),
            name: self.name.clone(),
            body: Some(self.body),
            appearance: Some(self.appearance.clone()),
            outfit: Some(self.outfit.clone()),
            place: self.place.clone(),
            created_at: Some(timestamp(self.created_at)),
            updated_at: Some(timestamp(self.updated_at)),
            etag: self.etag.to_string(),
        }
    }

    fn new(draft: &Draft, now: OffsetDateTime) -> Self {
        let Draft { id, user, world, name, body, appearance, outfit } = draft.clone();
        let (name, etag) = (name.shown().to_owned(), Etag::of_revision(1));
        let (created_at, updated_at, place) = (now, now, None);
        Self { id, user, world, name, body, appearance, outfit, place, created_at, updated_at, etag }
    }

    /// After a change; none where it changes nothing. Time does not run backwards, whatever the clock says.
    fn changed(&self, change: &Change, now: OffsetDateTime) -> Option<Self> {
        let Change { name, body, appearance, outfit } = change.clone();
        let mut after = self.clone();
        after.name = name.map_or(after.name, |name| name.shown().to_owned());
        after.body = body.unwrap_or(after.body);
        after.appearance = appearance.unwrap_or(after.appearance);
        after.outfit = outfit.unwrap_or(after.outfit);
        if after == *self {
            return None;
        }
        (after.updated_at, after.etag) = (now.max(self.updated_at), Etag::of_revision(self.etag.revision() + 1));
        Some(after)
    }
}

/// A user's quota, judged by how many there are in the world and in all.
fn room(quota: Quota, in_world: i64, in_all: i64) -> Option<Created> {
    if in_world >= i64::from(quota.per_world_max) {
        Some(Created::WorldIsFull)
    } else if in_all >= i64::from(quota.per_user_max) {
        Some(Created::UserIsFull)
    } else {
        None
    }
}

/// A message as it is kept.
fn kept<M: Message + Default>(bytes: &[u8]) -> Result<M, sqlx::Error> {
    M::decode(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A place as it is kept: whole or absent.
fn place(world: &str, [x, y, heading]: [Option<f64>; 3]) -> Option<Place> {
    Some(Place { world: world.to_owned(), x: x?, y: y?, heading: heading? })
}

fn created(character: &StoredCharacter) -> NewChange {
    let detail = CharacterCreated { character: Some(character.message()) };
    NewChange::new(NAME, "characters.created", character.created_at, &detail)
}

fn updated(before: &StoredCharacter, after: &StoredCharacter) -> NewChange {
    let detail = CharacterUpdated { character: Some(after.message()), previous_name: before.name.clone() };
    NewChange::new(NAME, "characters.updated", after.updated_at, &detail)
}

fn deleted(character: &StoredCharacter, now: OffsetDateTime) -> NewChange {
    NewChange::new(NAME, "characters.deleted", now, &CharacterDeleted { character: Some(character.message()) })
}
