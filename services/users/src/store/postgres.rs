//! Users in PostgreSQL.

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use zonecast_names::Name;
use zonecast_store::{Etag, PgPool, StoreError, Uuid, outbox::Record};

use super::{Changed, StoredUser, UserStore, created, deleted, updated};

/// [`UserStore`] in PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresUsers {
    pool: PgPool,
}

impl PostgresUsers {
    /// Users in this database.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl UserStore for PostgresUsers {
    async fn create(&self, id: Uuid, name: &Name, now: OffsetDateTime) -> Result<StoredUser, StoreError> {
        let user = StoredUser::new(id, name, now);
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "insert into users (id, name, name_key, lookalike, created_at, updated_at, revision) \
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(user.id)
        .bind(&user.name)
        .bind(name.key())
        .bind(name.lookalike())
        .bind(user.created_at)
        .bind(user.updated_at)
        .bind(user.etag.revision())
        .execute(&mut *transaction)
        .await?;
        transaction.record(&created(&user)).await?;
        transaction.commit().await?;
        Ok(user)
    }

    async fn by_id(&self, id: Uuid) -> Result<Option<StoredUser>, StoreError> {
        let query = sqlx::query("select id, name, created_at, updated_at, revision from users where id = $1").bind(id);
        Ok(query.fetch_optional(&self.pool).await?.as_ref().map(read).transpose()?)
    }

    async fn by_key(&self, key: &str) -> Result<Option<StoredUser>, StoreError> {
        let query = sqlx::query("select id, name, created_at, updated_at, revision from users where name_key = $1");
        Ok(query.bind(key).fetch_optional(&self.pool).await?.as_ref().map(read).transpose()?)
    }

    async fn rename(&self, id: Uuid, etag: Etag, name: &Name, now: OffsetDateTime) -> Result<Changed, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let query =
            sqlx::query("select id, name, created_at, updated_at, revision from users where id = $1 for update")
                .bind(id);
        let Some(row) = query.fetch_optional(&mut *transaction).await? else { return Ok(Changed::NotFound) };
        let before = read(&row)?;
        if before.etag != etag {
            return Ok(Changed::Stale);
        }
        if before.name == name.shown() {
            return Ok(Changed::Done(before));
        }
        let user = before.renamed(name, now);
        sqlx::query(
            "update users set name = $1, name_key = $2, lookalike = $3, updated_at = $4, revision = $5 where id = $6",
        )
        .bind(&user.name)
        .bind(name.key())
        .bind(name.lookalike())
        .bind(user.updated_at)
        .bind(user.etag.revision())
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        transaction.record(&updated(&before, &user)).await?;
        transaction.commit().await?;
        Ok(Changed::Done(user))
    }

    async fn list(&self, after: Option<Uuid>, users_max: u32) -> Result<Vec<StoredUser>, StoreError> {
        // The least id of all is nobody's.
        let rows = sqlx::query(
            "select id, name, created_at, updated_at, revision from users where id > $1 order by id limit $2",
        )
        .bind(after.unwrap_or_default())
        .bind(i64::from(users_max))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    async fn delete(&self, id: Uuid, etag: Option<Etag>, now: OffsetDateTime) -> Result<Changed, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let query =
            sqlx::query("select id, name, created_at, updated_at, revision from users where id = $1 for update")
                .bind(id);
        let Some(row) = query.fetch_optional(&mut *transaction).await? else { return Ok(Changed::NotFound) };
        let user = read(&row)?;
        if etag.is_some_and(|etag| etag != user.etag) {
            return Ok(Changed::Stale);
        }
        sqlx::query("delete from users where id = $1").bind(id).execute(&mut *transaction).await?;
        transaction.record(&deleted(&user, now)).await?;
        transaction.commit().await?;
        Ok(Changed::Done(user))
    }
}

fn read(row: &PgRow) -> Result<StoredUser, sqlx::Error> {
    Ok(StoredUser {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        created_at: row.try_get(2)?,
        updated_at: row.try_get(3)?,
        etag: Etag::of_revision(row.try_get(4)?),
    })
}
