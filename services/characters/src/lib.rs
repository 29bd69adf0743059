//! The characters service: as whom a player plays, in which world.
//!
//! [`CharacterStore`] is what is kept, once for each database, and [`Characters`] is the trait that tonic generates, in
//! front of it. Every change is recorded in the outbox by the store, in its own transaction; only places are not
//! published. What belongs to a user who is deleted goes with that user ([`CharacterStore::forget_user`]).
//!
//! Deliberately absent: what a game makes of a body or an outfit, and which server simulates a place (the directory's).
//!
//! Start at [`definition`], by which a host runs it.

mod departures;
mod looks;
mod service;
mod standing;
mod store;

use tonic::service::Routes;
use zonecast_api::characters::v1::characters_service_server::{CharactersServiceServer, SERVICE_NAME};
use zonecast_host::{Definition, Ground, mount};
use zonecast_protocol::WorldName;
use zonecast_store::{Database, Migrations, migrations};

use departures::Departures;

pub use looks::LooksError;
pub use service::Characters;
pub use store::{
    Change, Changed, CharacterStore, Created, Draft, PostgresCharacters, Quota, SqliteCharacters, StoredCharacter,
};

/// The name of the service and of its store.
pub const NAME: &str = "characters";

/// The users service's store, whose deletions are followed.
const USERS: &str = "users";

/// Its tables.
pub const MIGRATIONS: Migrations = migrations!("characters", 1 "0001_characters");

/// The settings of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Most characters of one user in one world. Default: 10.
    pub per_world_max: u32,
    /// Most characters of one user in all worlds. Default: 100.
    pub per_user_max: u32,
    /// The worlds in which characters can be made; any where none is named. Default: none.
    pub worlds: Vec<WorldName>,
}

impl Default for Config {
    fn default() -> Self {
        Self { per_world_max: 10, per_user_max: 100, worlds: Vec::new() }
    }
}

/// The service, for the list of all services.
#[must_use]
pub fn definition(config: Config) -> Definition {
    let mount = mount(move |ground: Ground, routes| {
        let config = config.clone();
        async move {
            // What belongs to a user who is deleted is deleted, whenever this is heard of.
            ground.follow(NAME, USERS, Departures);
            Ok(match &ground.database {
                Database::Sqlite(pool) => add(&ground, routes, SqliteCharacters::new(pool.clone()), config),
                Database::Postgres(pool) => add(&ground, routes, PostgresCharacters::new(pool.clone()), config),
            })
        }
    });
    Definition { name: NAME, services: &[SERVICE_NAME], scopes: service::SCOPES, migrations: MIGRATIONS, mount }
}

fn add(ground: &Ground, routes: Routes, store: impl CharacterStore, config: Config) -> Routes {
    let characters = Characters::new(store, ground.changed.clone(), config, ground.message_bytes_max);
    let server = CharactersServiceServer::new(characters)
        .max_decoding_message_size(ground.message_bytes_max)
        .max_encoding_message_size(ground.message_bytes_max);
    routes.add_service(server)
}
