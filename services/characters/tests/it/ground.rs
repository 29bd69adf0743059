//! The service over a test's database, and what was recorded in its outbox.

use std::sync::Arc;

use sqlx::Row;
use tonic::{Request, Response, Status};
use zonecast_api::characters::v1::characters_service_server::CharactersService;
use zonecast_characters::{Characters, Config, Draft, PostgresCharacters, Quota, SqliteCharacters};
use zonecast_doors::Caller;
use zonecast_names::Name;
use zonecast_protocol::{
    Rights,
    characters::v1::{Appearance, Body, Character, CreateCharacterRequest, Outfit},
};
use zonecast_store::{Database, Uuid, new_id};
use zonecast_testing::{by, caller, caller_with};

pub(crate) const QUOTA: Quota = Quota { per_world_max: 3, per_user_max: 5 };
pub(crate) const MESSAGE_BYTES_MAX: usize = 100_000;

/// Calls `$body` with the store of a database, whichever it is.
macro_rules! with_store {
    ($database:expr, $store:ident => $body:expr) => {
        match $database {
            zonecast_store::Database::Sqlite(pool) => {
                let $store = zonecast_characters::SqliteCharacters::new(pool.clone());
                $body
            }
            zonecast_store::Database::Postgres(pool) => {
                let $store = zonecast_characters::PostgresCharacters::new(pool.clone());
                $body
            }
        }
    };
}
pub(crate) use with_store;

pub(crate) fn draft(user: Uuid, world: &str, name: &str) -> Draft {
    let (body, appearance) = (Body { height_m: 1.8, ..Body::default() }, Appearance::default());
    let outfit = Outfit { head: "hat".to_owned(), ..Outfit::default() };
    Draft { id: new_id(), user, world: world.to_owned(), name: Name::new(name).unwrap(), body, appearance, outfit }
}

/// The service over this database, as the doors see it.
pub(crate) fn service(database: &Database) -> Arc<dyn CharactersService> {
    let (per_world_max, per_user_max) = (QUOTA.per_world_max, QUOTA.per_user_max);
    let worlds = ["earth", "mars", "venus"].map(|world| world.parse().unwrap()).into();
    let config = Config { per_world_max, per_user_max, worlds };
    let changed = Arc::default();
    match database {
        Database::Sqlite(pool) => {
            let store = SqliteCharacters::new(pool.clone());
            Arc::new(Characters::new(store, changed, config, MESSAGE_BYTES_MAX))
        }
        Database::Postgres(pool) => {
            let store = PostgresCharacters::new(pool.clone());
            Arc::new(Characters::new(store, changed, config, MESSAGE_BYTES_MAX))
        }
    }
}

/// A player.
pub(crate) fn player(user: Uuid) -> Caller {
    caller(&format!("user:{}", user.hyphenated()), &[])
}

/// A game server with a right to this world.
pub(crate) fn game_server(world: &str) -> Caller {
    let rights = Rights { worlds: [world.parse().unwrap()].into_iter().collect(), ..Rights::default() };
    caller_with("server:zone-7", &["characters.serve"], rights)
}

/// A request of somebody who may do everything.
pub(crate) fn by_local<T>(message: T) -> Request<T> {
    by(Caller::local(), message)
}

pub(crate) async fn create(
    service: &Arc<dyn CharactersService>,
    user: Uuid,
    world: &str,
    name: &str,
) -> Result<Character, Status> {
    let (world, name) = (world.to_owned(), name.to_owned());
    let request = by(player(user), CreateCharacterRequest { world, name, ..CreateCharacterRequest::default() });
    Ok(service.create_character(request).await.map(Response::into_inner)?.character.unwrap())
}

/// The topics of all changes that are recorded, in order.
pub(crate) async fn topics(database: &Database) -> Vec<String> {
    let query = "select topic from outbox order by sequence";
    match database {
        Database::Sqlite(pool) => {
            let rows = sqlx::query(query).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
        Database::Postgres(pool) => {
            let rows = sqlx::query(query).fetch_all(pool).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
    }
}
