//! The directory over a test's database, and what was recorded in its outbox.

use std::{sync::Arc, time::Duration};

use sqlx::Row;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use zonecast_access::RightsClaim;
use zonecast_api::directory::v1::directory_service_server::DirectoryService;
use zonecast_directory::{
    Config, Directory, DirectoryStep, DirectoryStore, Exchange, Head, Ledger, PostgresDirectory, Registration,
    SqliteDirectory,
};
use zonecast_doors::{Caller, Peers};
use zonecast_host::{Ground, Tasks};
use zonecast_protocol::{
    Area, Rights, Zone,
    directory::v1::{ClaimRequest, ClaimResponse, Rectangle, RegisterRequest, ZoneClaim},
};
use zonecast_store::{Database, Uuid};
use zonecast_testing::{by, caller_with};

pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// Calls `$body` with the store of a database, whichever it is.
macro_rules! with_store {
    ($database:expr, $store:ident => $body:expr) => {
        match $database {
            zonecast_store::Database::Sqlite(pool) => {
                let $store = zonecast_directory::SqliteDirectory::new(pool.clone());
                $body
            }
            zonecast_store::Database::Postgres(pool) => {
                let $store = zonecast_directory::PostgresDirectory::new(pool.clone());
                $body
            }
        }
    };
}
pub(crate) use with_store;

pub(crate) fn ledger<S: DirectoryStore>(store: &S) -> Ledger<S> {
    Ledger::new(store.clone(), LEASE, Duration::from_secs(3_600), 8)
}

pub(crate) fn registration(name: &str) -> Registration {
    let (name, address, pin, rights) =
        (name.to_owned(), "zone.example:7000".to_owned(), vec![7; 32], RightsClaim::of(&Rights::everything()));
    Registration { name, address, capacity: 100, pin, worlds: Vec::new(), rights }
}

pub(crate) fn rectangle(min_x: f64, min_y: f64, max_x: f64, max_y: f64) -> Zone {
    Zone::new(min_x, min_y, max_x, max_y).unwrap()
}

/// A claim of one rectangle of the world `earth`.
pub(crate) fn wanting(zone: Zone) -> Exchange {
    Exchange { claim: vec![("earth".to_owned(), zone)], ..Exchange::default() }
}

/// Sets the end of a server's lease, or nothing but the time of the last look.
pub(crate) async fn lease_ends_now(database: &Database, server: &str) {
    let statement = "update directory_servers set lease_until = 1 where name = $1";
    match database {
        Database::Sqlite(pool) => {
            sqlx::query(statement).bind(server).execute(&mut pool.writer().await.unwrap()).await.unwrap();
        }
        Database::Postgres(pool) => drop(sqlx::query(statement).bind(server).execute(pool).await.unwrap()),
    }
}

/// As if nobody had looked for leases for so long.
pub(crate) async fn nobody_has_looked_for(store: &impl DirectoryStore, time: Duration) {
    let step = store.begin().await.unwrap();
    let head = step.head();
    let swept_at = head.now - i64::try_from(time.as_micros()).unwrap();
    step.commit(Head { swept_at, ..head }, None, &[]).await.unwrap();
}

/// What the service stands on, with nobody else there.
pub(crate) fn ground(database: &Database, tasks: &Tasks) -> Ground {
    let peers = Peers::new(watch::channel(None).1);
    Ground::new(database.clone(), 262_144, peers, tasks.clone())
}

/// The service over this database, as the doors see it.
pub(crate) async fn service_with(
    database: &Database,
    ground: Ground,
    config: Config,
) -> Arc<dyn DirectoryService<WatchStream = Stream>> {
    match database {
        Database::Sqlite(pool) => {
            Arc::new(Directory::open(SqliteDirectory::new(pool.clone()), ground, config).await.unwrap())
        }
        Database::Postgres(pool) => {
            Arc::new(Directory::open(PostgresDirectory::new(pool.clone()), ground, config).await.unwrap())
        }
    }
}

pub(crate) type Stream =
    tokio_stream::wrappers::ReceiverStream<Result<zonecast_protocol::directory::v1::WatchResponse, Status>>;
pub(crate) type Service = Arc<dyn DirectoryService<WatchStream = Stream>>;

pub(crate) async fn service(database: &Database) -> Service {
    service_with(database, ground(database, &Tasks::default()), Config::default()).await
}

/// A game server with rights to a part of the world `earth`.
pub(crate) fn game_server(name: &str) -> Caller {
    let rights = Rights {
        worlds: ["earth".parse().unwrap()].into_iter().collect(),
        zones: Area::Within(vec![rectangle(0.0, 0.0, 1000.0, 1000.0)]),
        ..Rights::default()
    };
    caller_with(&format!("server:{name}"), &["directory.serve"], rights)
}

pub(crate) fn claim_of(rectangles: &[(f64, f64, f64, f64)]) -> Vec<ZoneClaim> {
    let one = |(min_x, min_y, max_x, max_y): &(f64, f64, f64, f64)| ZoneClaim {
        world: "earth".to_owned(),
        rectangle: Some(Rectangle { min_x: *min_x, min_y: *min_y, max_x: *max_x, max_y: *max_y }),
    };
    rectangles.iter().map(one).collect()
}

/// Registers a game server; its lease.
pub(crate) async fn register(service: &Service, name: &str) -> String {
    let request = RegisterRequest {
        address: format!("{name}.example:7000"),
        certificate_sha256: vec![7; 32].into(),
        ..RegisterRequest::default()
    };
    service.register(by(game_server(name), request)).await.unwrap().into_inner().lease
}

pub(crate) async fn claim(
    service: &Service,
    name: &str,
    lease: &str,
    rectangles: &[(f64, f64, f64, f64)],
) -> Result<ClaimResponse, Status> {
    let request = ClaimRequest { lease: lease.to_owned(), zones: claim_of(rectangles), ..ClaimRequest::default() };
    service.claim(by(game_server(name), request)).await.map(Response::into_inner)
}

/// A request of somebody who may do everything.
pub(crate) fn by_local<T>(message: T) -> Request<T> {
    by(Caller::local(), message)
}

pub(crate) fn no_lease() -> Uuid {
    Uuid::default()
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
