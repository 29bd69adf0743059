//! The service over a test's database, and what was recorded in its outbox.

use std::sync::Arc;

use sqlx::Row;
use tonic::{Request, Response, Status};
use zonecast_api::users::v1::users_service_server::UsersService;
use zonecast_doors::Caller;
use zonecast_names::Name;
use zonecast_protocol::users::v1::{CreateUserRequest, User};
use zonecast_store::Database;
use zonecast_testing::by;
use zonecast_users::{PostgresUsers, SqliteUsers, Users};

/// Calls `$body` with the store of a database, whichever it is.
macro_rules! with_store {
    ($database:expr, $store:ident => $body:expr) => {
        match $database {
            zonecast_store::Database::Sqlite(pool) => {
                let $store = zonecast_users::SqliteUsers::new(pool.clone());
                $body
            }
            zonecast_store::Database::Postgres(pool) => {
                let $store = zonecast_users::PostgresUsers::new(pool.clone());
                $body
            }
        }
    };
}
pub(crate) use with_store;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The service over this database, as the doors see it.
pub(crate) fn service(database: &Database) -> Arc<dyn UsersService> {
    match database {
        Database::Sqlite(pool) => Arc::new(Users::new(SqliteUsers::new(pool.clone()), Arc::default())),
        Database::Postgres(pool) => Arc::new(Users::new(PostgresUsers::new(pool.clone()), Arc::default())),
    }
}

/// A request of somebody who may do everything.
pub(crate) fn by_local<T>(message: T) -> Request<T> {
    by(Caller::local(), message)
}

pub(crate) async fn create(service: &Arc<dyn UsersService>, name: &str) -> Result<User, Status> {
    let request = by_local(CreateUserRequest { name: name.to_owned(), ..Default::default() });
    Ok(service.create_user(request).await.map(Response::into_inner)?.user.unwrap())
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
