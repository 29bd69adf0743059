//! What is kept: each statement is written once, for both databases.
//!
//! Times are microseconds in both and the placeholders of PostgreSQL are SQLite's too, so that [`statements!`] can compile
//! one text for each: what differs between the two is how a transaction begins.

mod accounts;
mod audit;
mod credentials;
mod identities;
mod issuing;
mod logins;

use zonecast_store::{Database, Uuid};

pub(crate) use accounts::{Account, WayIn};
pub(crate) use audit::Entry;
pub(crate) use credentials::{Proof, StoredCredential};
pub(crate) use identities::{Linked, StoredIdentity, Unlinked};
pub(crate) use issuing::StoredKey;
pub(crate) use logins::{Ending, LoggedIn, NewLogin, NextTurn, Refreshed};

/// Modules with the statements of one database: for who has a transaction already.
pub(crate) use accounts::{postgres as accounts_postgres, sqlite as accounts_sqlite};

/// The tables of this service.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }
}

/// Writes each function for both databases, in the modules `sqlite` and `postgres`; and, as a method of [`Store`], each
/// `change`, which is a transaction, and each `read`. A `part` is for other functions. `with [x]` names the modules whose
/// functions for the same database are used.
macro_rules! statements {
    (
        with [$($other:ident)*]
        $($(#[$doc:meta])* $kind:ident fn $name:ident($connection:ident $(, $arg:ident: $ty:ty)* $(,)?) -> $out:ty $body:block)+
    ) => {
        pub(crate) mod sqlite {
            #[allow(unused_imports, reason = "which of them depends on the statements")]
            use super::*;
            $(use crate::store::$other::sqlite as $other;)*
            $(pub(crate) async fn $name(
                $connection: &mut zonecast_store::SqliteConnection $(, $arg: $ty)*
            ) -> Result<$out, zonecast_store::StoreError> $body)+
        }
        pub(crate) mod postgres {
            #[allow(unused_imports, reason = "which of them depends on the statements")]
            use super::*;
            $(use crate::store::$other::postgres as $other;)*
            $(pub(crate) async fn $name(
                $connection: &mut zonecast_store::PgConnection $(, $arg: $ty)*
            ) -> Result<$out, zonecast_store::StoreError> $body)+
        }
        $(crate::store::method!($(#[$doc])* $kind $name [$($arg: $ty),*] $out);)+
    };
}
use statements;

/// The method of [`Store`] that runs a statement.
macro_rules! method {
    ($(#[$doc:meta])* part $name:ident [$($arg:ident: $ty:ty),*] $out:ty) => {};
    ($(#[$doc:meta])* read $name:ident [$($arg:ident: $ty:ty),*] $out:ty) => {
        impl crate::store::Store {
            $(#[$doc])*
            pub(crate) async fn $name(&self $(, $arg: $ty)*) -> Result<$out, zonecast_store::StoreError> {
                match &self.database {
                    zonecast_store::Database::Sqlite(pool) => sqlite::$name(&mut pool.acquire().await? $(, $arg)*).await,
                    zonecast_store::Database::Postgres(pool) => {
                        postgres::$name(&mut pool.acquire().await? $(, $arg)*).await
                    }
                }
            }
        }
    };
    ($(#[$doc:meta])* change $name:ident [$($arg:ident: $ty:ty),*] $out:ty) => {
        impl crate::store::Store {
            $(#[$doc])*
            pub(crate) async fn $name(&self $(, $arg: $ty)*) -> Result<$out, zonecast_store::StoreError> {
                zonecast_store::attempts(|| async {
                    match &self.database {
                        zonecast_store::Database::Sqlite(pool) => {
                            // With the lock: a transaction that reads first could not get it later.
                            let mut transaction = pool.begin().await?;
                            let done = sqlite::$name(&mut transaction $(, $arg)*).await?;
                            transaction.commit().await?;
                            Ok(done)
                        }
                        zonecast_store::Database::Postgres(pool) => {
                            let mut transaction = pool.begin().await?;
                            let done = postgres::$name(&mut transaction $(, $arg)*).await?;
                            transaction.commit().await?;
                            Ok(done)
                        }
                    }
                })
                .await
            }
        }
    };
}
use method;

/// A user as subjects of tokens and of the audit log have it.
pub(crate) fn subject(user: Uuid) -> String {
    format!("user:{}", user.hyphenated())
}
