//! The users service: who plays, under which unique name.
//!
//! [`UserStore`] is what is kept, once for each database, and [`Users`] is the trait that tonic generates, in front of it.
//! Every change is recorded in the outbox by the store, in its own transaction. The rules of names are `zonecast-names`'.
//!
//! Deliberately absent: passwords and tokens (the auth service's), avatars (the characters service's). Whoever keeps
//! something of a user hears of `users.deleted`, and deletes it.
//!
//! Start at [`definition`], by which a host runs it.

mod service;
mod store;

use tonic::service::Routes;
use zonecast_api::users::v1::users_service_server::{SERVICE_NAME, UsersServiceServer};
use zonecast_host::{Definition, Ground, mount};
use zonecast_store::{Database, Migrations, migrations};

pub use service::Users;
pub use store::{Changed, PostgresUsers, SqliteUsers, StoredUser, UserStore};

/// The name of the service and of its store.
pub const NAME: &str = "users";

/// Its tables.
pub const MIGRATIONS: Migrations = migrations!("users", 1 "0001_users");

/// The service, for the list of all services.
#[must_use]
pub fn definition() -> Definition {
    let mount = mount(async |ground: Ground, routes| {
        Ok(match &ground.database {
            Database::Sqlite(pool) => add(&ground, routes, SqliteUsers::new(pool.clone())),
            Database::Postgres(pool) => add(&ground, routes, PostgresUsers::new(pool.clone())),
        })
    });
    Definition { name: NAME, services: &[SERVICE_NAME], scopes: service::SCOPES, migrations: MIGRATIONS, mount }
}

fn add(ground: &Ground, routes: Routes, store: impl UserStore) -> Routes {
    let server = UsersServiceServer::new(Users::new(store, ground.changed.clone()))
        .max_decoding_message_size(ground.message_bytes_max)
        .max_encoding_message_size(ground.message_bytes_max);
    routes.add_service(server)
}
