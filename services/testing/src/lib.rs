//! What the services' tests share: a database of its own for each test, on SQLite and on a real PostgreSQL, and callers.
//!
//! `cargo xtask test` starts a PostgreSQL server and names it in [`POSTGRES_VARIABLE`]. Where that is not set, the tests on
//! PostgreSQL say loudly that they did not run; with `CI` set they fail.
//!
//! Start at [`on_both_databases!`].
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's support fails the test, and says what did not run"
)]

mod callers;
mod proxy;

use std::{future::Future, str::FromStr};

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use zonecast_store::{Database, DatabaseOptions, DatabaseUrl, new_id};

pub use callers::{by, caller, caller_with};
pub use proxy::Proxy;
pub use zonecast_store::Migrations;

/// The environment variable with the URL of the server's database `postgres`, whose user may make databases.
pub const POSTGRES_VARIABLE: &str = "ZONECAST_TEST_POSTGRES";

/// How long whoever still works for a test that is over may hold a connection.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(5);

/// A database that one test has to itself.
pub struct TestDatabase {
    /// How to open it once more.
    pub options: DatabaseOptions,
    /// Open, with all tables.
    pub database: Database,
    /// Its URL, as a setting would have it.
    pub url: String,
    _directory: Option<TempDir>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file in a directory that goes with the test.
    Sqlite,
    /// On the server that [`POSTGRES_VARIABLE`] names.
    Postgres,
}

impl TestDatabase {
    /// Makes one, with the tables of the stores and of the outbox; `None` where there is no server to make it on.
    pub async fn new(kind: Kind, stores: &[&Migrations]) -> Option<Self> {
        let (url, directory) = match kind {
            Kind::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                (format!("sqlite:{}", directory.path().join("test.db").display()), Some(directory))
            }
            Kind::Postgres => (new_postgres_database().await?, None),
        };
        let options = DatabaseOptions::new(DatabaseUrl::from_str(&url).unwrap());
        let database = Database::open(&options).await.unwrap();
        for migrations in [&zonecast_store::MIGRATIONS].iter().chain(stores) {
            migrations.apply(&database).await.unwrap();
        }
        Some(Self { options, database, url, _directory: directory })
    }
}

/// The server's URL, or a loud word that there is none.
#[must_use]
pub fn postgres_url() -> Option<String> {
    let url = std::env::var(POSTGRES_VARIABLE).ok();
    if url.is_none() {
        eprintln!("!!! NOT RUN: PostgreSQL. `cargo xtask test` starts a server and runs this test on it.");
        assert!(std::env::var_os("CI").is_none(), "CI skips nothing: set {POSTGRES_VARIABLE}");
    }
    url
}

async fn new_postgres_database() -> Option<String> {
    let server = postgres_url()?;
    let name = format!("test_{}", new_id().simple());
    let options = PgConnectOptions::from_str(&server).unwrap();
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await.unwrap();
    let (before, after) = server.split_once("/postgres?").unwrap();
    Some(format!("{before}/{name}?{after}"))
}

/// Runs a test's body on a runtime of its own.
pub fn block_on<F: Future<Output = ()>>(body: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
}

/// Makes a test on SQLite and one on PostgreSQL of each async function named; it takes a [`TestDatabase`] with the tables
/// of the stores given first.
#[macro_export]
macro_rules! on_both_databases {
    ([$($store:path),* $(,)?] $($name:ident)+) => {
        mod on {
            #[allow(unused_imports, reason = "stores may be named from here or from elsewhere")]
            use super::*;

            const STORES: &[&$crate::Migrations] = &[$(&$store),*];

            mod sqlite {
                $(#[test]
                fn $name() {
                    $crate::run($crate::Kind::Sqlite, super::STORES, super::super::$name);
                })+
            }
            mod postgres {
                $(#[test]
                fn $name() {
                    $crate::run($crate::Kind::Postgres, super::STORES, super::super::$name);
                })+
            }
        }
    };
}

/// Runs one test on one database.
pub fn run<F: Future<Output = ()>>(kind: Kind, stores: &[&Migrations], test: impl FnOnce(TestDatabase) -> F) {
    block_on(async {
        if let Some(database) = TestDatabase::new(kind, stores).await {
            let opened = database.database.clone();
            test(database).await;
            // Services that call each other hold each other, and with them connections, of which a server has so many.
            let _ = tokio::time::timeout(CLOSING, opened.close()).await;
        }
    });
}
