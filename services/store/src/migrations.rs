//! The steps by which a store's tables came to be what they are, embedded in the binary.

use sqlx::{
    SqlSafeStr,
    migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator},
};
use thiserror::Error;

use crate::{Database, StoreError};

/// One step: the same number and words for both databases, with the SQL of each. Once released it is never changed; what
/// is to be different gets a step of its own.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Its number, from 1, rising.
    pub version: i64,
    /// What it does, in a few words.
    pub description: &'static str,
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

/// The steps of one store. What was applied is kept in a table of its own, `zonecast_migrations_<store>`, so that several
/// stores share a database and none waits for another's versions. Make it with [`migrations!`](crate::migrations!).
#[derive(Debug, Clone, Copy)]
pub struct Migrations {
    /// The store's name: 1 to 32 of `[a-z0-9_]`.
    pub store: &'static str,
    /// The steps, in order.
    pub steps: &'static [Step],
}

/// The [`Migrations`] of a store from the files `migrations/sqlite/NAME.sql` and `migrations/postgres/NAME.sql` of the
/// crate that says it.
#[macro_export]
macro_rules! migrations {
    ($store:literal, $($version:literal $name:literal),+ $(,)?) => {
        $crate::Migrations {
            store: $store,
            steps: &[$($crate::Step {
                version: $version,
                description: $name,
                sqlite: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite/", $name, ".sql")),
                postgres: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres/", $name, ".sql")),
            }),+],
        }
    };
}

/// The tables of this crate, which every service needs: the outbox.
pub const MIGRATIONS: Migrations =
    migrations!("outbox", 1 "0001_outbox", 2 "0002_outbox_attempts", 3 "0003_outbox_retention");

/// Why the tables are not as this version wants them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// A step failed, or what was applied is not what this version knows.
    #[error("the tables of {store} cannot be brought up to date: {source}")]
    Failed {
        /// The store.
        store: &'static str,
        /// What the runner says.
        source: MigrateError,
    },
    /// Steps are missing, and it is forbidden to take them.
    #[error(
        "the tables of {store} lack {steps} step(s) of this version: run `zonecast migrate`, or set database.migrate to \
         true"
    )]
    Pending {
        /// The store.
        store: &'static str,
        /// How many.
        steps: usize,
    },
    /// The database cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MigrationError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "failed",
            Self::Pending { .. } => "pending",
            Self::Store(error) => error.kind(),
        }
    }
}

impl Migrations {
    /// Takes the steps that were not taken yet. Several processes may do so at once: they take turns.
    ///
    /// # Errors
    /// A step fails, in which case it left nothing behind; or the database has steps that this version does not know, or
    /// knows otherwise: it belongs to another version.
    pub async fn apply(&self, database: &Database) -> Result<(), MigrationError> {
        let failed = |source| MigrationError::Failed { store: self.store, source };
        let unreachable = |error| MigrationError::from(StoreError::from(error));
        match database {
            Database::Sqlite(pool) => {
                let mut connection = pool.writer().await.map_err(unreachable)?.detach();
                self.sqlite().run_direct(None, &mut connection, false).await.map_err(failed)
            }
            Database::Postgres(pool) => {
                let mut connection = pool.acquire().await.map_err(unreachable)?.detach();
                // A step takes as long as it takes. The connection ends with it, and so does the lock.
                let unbounded = "set statement_timeout = 0; set lock_timeout = 0";
                sqlx::raw_sql(unbounded).execute(&mut connection).await.map_err(unreachable)?;
                let outcome = self.postgres().run_direct(None, &mut connection, false).await.map_err(failed);
                // That the farewell fails changes nothing.
                let _ = sqlx::Connection::close(connection).await;
                outcome
            }
        }
    }

    /// Refuses tables that are not as this version makes them.
    ///
    /// # Errors
    /// Steps are missing, there are some that this version does not know or knows otherwise, or the database cannot be
    /// asked.
    pub async fn check(&self, database: &Database) -> Result<(), MigrationError> {
        let failed = |source| MigrationError::Failed { store: self.store, source };
        let unreachable = |error| MigrationError::from(StoreError::from(error));
        let table = table(self.store);
        let (steps, applied) = match database {
            Database::Sqlite(pool) => {
                let mut connection = pool.acquire().await.map_err(unreachable)?.detach();
                let found = "select exists (select 1 from sqlite_master where type = 'table' and name = $1)";
                let found = sqlx::query_scalar(found).bind(&table).fetch_one(&mut connection).await;
                (self.sqlite(), applied(&mut connection, &table, found.map_err(unreachable)?).await)
            }
            Database::Postgres(pool) => {
                let mut connection = pool.acquire().await.map_err(unreachable)?.detach();
                let found = "select to_regclass($1) is not null";
                let found = sqlx::query_scalar(found).bind(&table).fetch_one(&mut connection).await;
                (self.postgres(), applied(&mut connection, &table, found.map_err(unreachable)?).await)
            }
        };
        let applied = applied.map_err(failed)?;
        let mut missing = 0;
        for step in steps.iter() {
            match applied.iter().find(|applied| applied.version == step.version) {
                Some(applied) if applied.checksum != step.checksum => {
                    return Err(failed(MigrateError::VersionMismatch(step.version)));
                }
                Some(_) => {}
                None => missing += 1,
            }
        }
        let unknown = applied.iter().find(|applied| steps.iter().all(|step| step.version != applied.version));
        match unknown {
            Some(applied) => Err(failed(MigrateError::VersionMissing(applied.version))),
            None if missing > 0 => Err(MigrationError::Pending { store: self.store, steps: missing }),
            None => Ok(()),
        }
    }

    fn sqlite(&self) -> Migrator {
        self.migrator(|step| step.sqlite)
    }

    fn postgres(&self) -> Migrator {
        self.migrator(|step| step.postgres)
    }

    fn migrator(&self, sql: fn(&Step) -> &'static str) -> Migrator {
        let migration = |step: &Step| {
            let kind = MigrationType::Simple;
            Migration::new(step.version, step.description.into(), kind, sql(step).into_sql_str(), false)
        };
        let mut migrator = Migrator::with_migrations(self.steps.iter().map(migration).collect());
        migrator.dangerous_set_table_name(table(self.store));
        migrator
    }
}

fn table(store: &str) -> String {
    format!("zonecast_migrations_{store}")
}

/// The steps that were taken; none where there is no table of them.
async fn applied<C: Migrate>(
    connection: &mut C,
    table: &str,
    is_found: bool,
) -> Result<Vec<AppliedMigration>, MigrateError> {
    if is_found { connection.list_applied_migrations(table).await } else { Ok(Vec::new()) }
}
