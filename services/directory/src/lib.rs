//! The directory service: which game server simulates which place.
//!
//! - [`Ledger`] changes it: leases, claims, hand-overs, each one transaction with a revision of its own.
//! - [`Index`] is the directory in memory, from which lookups are answered, kept current by the change log.
//! - [`TicketKeys`] sign what lets a player in at a game server.
//! - [`Directory`] is the trait that tonic generates, in front of them. [`DirectoryStore`] is what is kept, once for each
//!   database.
//!
//! The clock of leases and of the log is the database's, so that replicas need not agree on the time.
//!
//! Deliberately absent: what is published in a zone (the broker's), and how full a server may be (the game's). What a game
//! server does with all this is in `zonecast-zone-server`.
//!
//! Start at [`definition`], by which a host runs it.

mod config;
mod index;
mod keeper;
mod ledger;
mod rectangle;
mod service;
mod store;
mod tickets;
mod watch;

use std::sync::Arc;

use axum::routing;
use tonic::service::Routes;
use zonecast_api::directory::v1::directory_service_server::{DirectoryServiceServer, SERVICE_NAME};
use zonecast_host::{Definition, Ground, MountError, mount};
use zonecast_store::{Database, Migrations, migrations};

pub use config::Config;
pub use index::{Coverage, Found, Grid, Index, coverage};
pub use ledger::{Exchange, Ledger, Refused, Registration};
pub use service::Directory;
pub use store::{
    DirectoryStep, DirectoryStore, Everything, Head, PostgresDirectory, PostgresStep, SqliteDirectory, SqliteStep,
    StoredKey, StoredServer, StoredZone,
};
pub use tickets::{KeyError, KeyTimes, TicketKeys};

/// The name of the service and of its store.
pub const NAME: &str = "directory";

/// Where the public keys of tickets are, by plain HTTPS.
pub const TICKET_KEYS_PATH: &str = "/.well-known/zonecast-tickets.json";

/// Its tables.
pub const MIGRATIONS: Migrations = migrations!("directory", 1 "0001_directory");

/// The service, for the list of all services.
#[must_use]
pub fn definition(config: Config) -> Definition {
    let mount = mount(move |ground: Ground, routes| {
        let config = config.clone();
        async move {
            match &ground.database {
                Database::Sqlite(pool) => add(&ground, routes, SqliteDirectory::new(pool.clone()), config).await,
                Database::Postgres(pool) => add(&ground, routes, PostgresDirectory::new(pool.clone()), config).await,
            }
        }
    });
    Definition { name: NAME, services: &[SERVICE_NAME], scopes: service::SCOPES, migrations: MIGRATIONS, mount }
}

async fn add(
    ground: &Ground,
    routes: Routes,
    store: impl DirectoryStore,
    config: Config,
) -> Result<Routes, MountError> {
    let directory = Directory::open(store, ground.clone(), config).await?;
    directory.keep();
    let keys = Arc::clone(directory.ticket_keys());
    let show = routing::get(move || {
        let jwks = keys.jwks();
        async move { ([("content-type", "application/jwk-set+json"), ("cache-control", "max-age=60")], jwks) }
    });
    let server = DirectoryServiceServer::new(directory)
        .max_decoding_message_size(ground.message_bytes_max)
        .max_encoding_message_size(ground.message_bytes_max);
    let router = routes.add_service(server).into_axum_router().route(TICKET_KEYS_PATH, show);
    Ok(Routes::from(router))
}
