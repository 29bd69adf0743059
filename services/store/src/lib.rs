//! What the companion services' databases share.
//!
//! A service keeps what is its own in a *store*: one trait in the service's crate with an implementation for SQLite and one
//! for PostgreSQL, each with migrations of its own. From here it takes the connections ([`Database`], [`Connections`]), the runner of
//! [`Migrations`], [`PageToken`]s for lists, [`Etag`]s against lost updates, [`StoreError`] for what a database may answer,
//! and the [`outbox`]: rows that are written in the transaction of a change and published on the broker's topics after it.
//!
//! Deliberately absent: any table of a service, any SQL that is built at run time, and sqlx's `Any` driver. Several stores
//! share one database; none of them looks into another's tables.
//!
//! Start at [`Database::open`], then [`outbox::Record`].

mod clock;
mod connections;
mod database;
mod error;
mod etag;
mod migrations;
pub mod outbox;
mod page;
mod url;

pub use clock::{from_micros, now, timestamp, to_micros};
pub use connections::{
    Backend, Connection, Connections, PgConnection, PgPool, SqliteConnection, SqlitePool, Transaction,
};
pub use database::{Database, DatabaseOptions, attempts};
pub use error::StoreError;
pub use etag::{BadEtag, Etag};
pub use migrations::{MIGRATIONS, MigrationError, Migrations, Step};
pub use page::{BadPageToken, PageToken};
pub use url::{DatabaseUrl, UrlError};
pub use uuid::Uuid;

/// A new id: a UUID of version 7, greater than all that this process made before.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
