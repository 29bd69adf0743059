//! Characters in PostgreSQL.

use prost::Message;
use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use zonecast_names::Name;
use zonecast_protocol::characters::v1::Place;
use zonecast_store::{Etag, PgConnection, PgPool, StoreError, Uuid, outbox::Record};

use super::{
    Change, Changed, CharacterStore, Created, Draft, Quota, StoredCharacter, created, deleted, kept, place, room,
    updated,
};

/// [`CharacterStore`] in PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresCharacters {
    pool: PgPool,
}

impl PostgresCharacters {
    /// Characters in this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl CharacterStore for PostgresCharacters {
    async fn create(&self, draft: &Draft, quota: Quota, now: OffsetDateTime) -> Result<Created, StoreError> {
        let character = StoredCharacter::new(draft, now);
        let mut transaction = self.pool.begin().await?;
        take_turns(&mut transaction, draft.user).await?;
        let gone = sqlx::query("select 1 from characters_gone_users where user_id = $1").bind(draft.user);
        if gone.fetch_optional(&mut *transaction).await?.is_some() {
            return Ok(Created::UserIsGone);
        }
        let (in_world, in_all) =
            sqlx::query_as("select count(*) filter (where world = $1), count(*) from characters where user_id = $2")
                .bind(&draft.world)
                .bind(draft.user)
                .fetch_one(&mut *transaction)
                .await?;
        if let Some(full) = room(quota, in_world, in_all) {
            return Ok(full);
        }
        sqlx::query(
            "insert into characters (id, user_id, world, name, name_key, lookalike, body, appearance, outfit, \
             created_at, updated_at, revision) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(character.id)
        .bind(character.user)
        .bind(&character.world)
        .bind(&character.name)
        .bind(draft.name.key())
        .bind(draft.name.lookalike())
        .bind(character.body.encode_to_vec())
        .bind(character.appearance.encode_to_vec())
        .bind(character.outfit.encode_to_vec())
        .bind(character.created_at)
        .bind(character.updated_at)
        .bind(character.etag.revision())
        .execute(&mut *transaction)
        .await?;
        transaction.record(&created(&character)).await?;
        transaction.commit().await?;
        Ok(Created::Done(Box::new(character)))
    }

    async fn by_id(&self, id: Uuid) -> Result<Option<StoredCharacter>, StoreError> {
        let query = sqlx::query("select * from characters where id = $1").bind(id);
        Ok(query.fetch_optional(&self.pool).await?.as_ref().map(read).transpose()?)
    }

    async fn list(
        &self,
        user: Uuid,
        world: Option<&str>,
        after: Option<Uuid>,
        characters_max: u32,
    ) -> Result<Vec<StoredCharacter>, StoreError> {
        // The least id of all is nobody's.
        let rows = sqlx::query(
            "select * from characters where user_id = $1 and id > $2 and ($3::text is null or world = $3) order by id limit $4",
        )
        .bind(user)
        .bind(after.unwrap_or_default())
        .bind(world)
        .bind(i64::from(characters_max))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    async fn update(&self, id: Uuid, etag: Etag, change: &Change, now: OffsetDateTime) -> Result<Changed, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let query = sqlx::query("select * from characters where id = $1 for update").bind(id);
        let Some(row) = query.fetch_optional(&mut *transaction).await? else { return Ok(Changed::NotFound) };
        let before = read(&row)?;
        if before.etag != etag {
            return Ok(Changed::Stale);
        }
        let Some(character) = before.changed(change, now) else { return Ok(Changed::Done(Box::new(before))) };
        sqlx::query(
            "update characters set name = $1, name_key = coalesce($2, name_key), lookalike = coalesce($3, lookalike), \
             body = $4, appearance = $5, outfit = $6, updated_at = $7, revision = $8 where id = $9",
        )
        .bind(&character.name)
        .bind(change.name.as_ref().map(Name::key))
        .bind(change.name.as_ref().map(Name::lookalike))
        .bind(character.body.encode_to_vec())
        .bind(character.appearance.encode_to_vec())
        .bind(character.outfit.encode_to_vec())
        .bind(character.updated_at)
        .bind(character.etag.revision())
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        transaction.record(&updated(&before, &character)).await?;
        transaction.commit().await?;
        Ok(Changed::Done(Box::new(character)))
    }

    async fn delete(&self, id: Uuid, etag: Option<Etag>, now: OffsetDateTime) -> Result<Changed, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let query = sqlx::query("select * from characters where id = $1 for update").bind(id);
        let Some(row) = query.fetch_optional(&mut *transaction).await? else { return Ok(Changed::NotFound) };
        let character = read(&row)?;
        if etag.is_some_and(|etag| etag != character.etag) {
            return Ok(Changed::Stale);
        }
        sqlx::query("delete from characters where id = $1").bind(id).execute(&mut *transaction).await?;
        transaction.record(&deleted(&character, now)).await?;
        transaction.commit().await?;
        Ok(Changed::Done(Box::new(character)))
    }

    async fn save_place(&self, id: Uuid, place: &Place) -> Result<bool, StoreError> {
        let query = sqlx::query("update characters set x = $1, y = $2, heading = $3 where id = $4 and world = $5");
        let query = query.bind(place.x).bind(place.y).bind(place.heading).bind(id).bind(&place.world);
        Ok(query.execute(&mut self.pool.writer().await?).await?.rows_affected() > 0)
    }

    async fn forget_user(&self, user: Uuid, now: OffsetDateTime) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let forgotten = forget_user(&mut transaction, user, now).await?;
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// [`CharacterStore::forget_user`] within a transaction.
pub(crate) async fn forget_user(
    connection: &mut PgConnection,
    user: Uuid,
    now: OffsetDateTime,
) -> Result<usize, StoreError> {
    take_turns(connection, user).await?;
    sqlx::query("insert into characters_gone_users (user_id) values ($1) on conflict do nothing")
        .bind(user)
        .execute(&mut *connection)
        .await?;
    let rows = sqlx::query("delete from characters where user_id = $1 returning *")
        .bind(user)
        .fetch_all(&mut *connection)
        .await?;
    for row in &rows {
        connection.record(&deleted(&read(row)?, now)).await?;
    }
    Ok(rows.len())
}

/// Until the transaction ends, nobody else counts this user's characters: rows that are not there yet cannot be locked.
async fn take_turns(connection: &mut PgConnection, user: Uuid) -> Result<(), StoreError> {
    let lock = sqlx::query("select pg_advisory_xact_lock(hashtextextended('characters/' || $1::text, 0))");
    lock.bind(user).execute(connection).await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<StoredCharacter, sqlx::Error> {
    let world: String = row.try_get("world")?;
    Ok(StoredCharacter {
        id: row.try_get("id")?,
        user: row.try_get("user_id")?,
        name: row.try_get("name")?,
        body: kept(row.try_get("body")?)?,
        appearance: kept(row.try_get("appearance")?)?,
        outfit: kept(row.try_get("outfit")?)?,
        place: place(&world, [row.try_get("x")?, row.try_get("y")?, row.try_get("heading")?]),
        world,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        etag: Etag::of_revision(row.try_get("revision")?),
    })
}
