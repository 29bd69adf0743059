//! What is kept of the directory: one trait, and an implementation for each database.

#[macro_use]
mod statements;
mod postgres;
mod sqlite;

use prost::Message;
use zonecast_access::RightsClaim;
use zonecast_protocol::{
    Rights, Zone,
    directory::v1::{self as wire, Change},
};
use zonecast_store::{StoreError, Uuid, from_micros, outbox::NewChange, timestamp};

pub use postgres::{PostgresDirectory, PostgresStep};
pub use sqlite::{SqliteDirectory, SqliteStep};

/// The directory's one row, and the database's clock. Times are microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last change.
    pub revision: i64,
    /// The last change that is not kept any more.
    pub floor: i64,
    /// How many zones there ever were.
    pub zones_made: i64,
    /// When somebody last looked for leases that have ended.
    pub swept_at: i64,
    /// The time now.
    pub now: i64,
}

/// A server with a lease, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredServer {
    /// Its name.
    pub name: String,
    /// The lease.
    pub lease: Uuid,
    /// Where players reach it.
    pub address: String,
    /// How many players it takes; 0: not stated.
    pub capacity: u32,
    /// The SHA-256 of its certificate; empty: not stated.
    pub pin: Vec<u8>,
    /// The worlds that it may simulate; none: those of its rights.
    pub worlds: Vec<String>,
    /// Where its zones may lie.
    pub rights: RightsClaim,
    /// How busy it is.
    pub load: f64,
    /// How many players it has.
    pub players: u32,
    /// When its lease began.
    pub registered_at: i64,
    /// When its lease ends.
    pub lease_until: i64,
    /// The change by which its zones became what they are.
    pub zones_revision: i64,
}

/// A zone with its owner, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredZone {
    /// Its number.
    pub id: i64,
    /// The owner.
    pub server: String,
    /// The world.
    pub world: String,
    /// Where.
    pub zone: Zone,
    /// The change by which the owner got it.
    pub epoch: i64,
}

/// A key that signs tickets, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id.
    pub id: String,
    /// Its private part.
    pub pkcs8: Vec<u8>,
    /// When it was made.
    pub made_at: i64,
}

/// Everything at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Everything {
    /// As of this change.
    pub revision: i64,
    /// All servers.
    pub servers: Vec<StoredServer>,
    /// All zones.
    pub zones: Vec<StoredZone>,
}

/// The directory of a database.
pub trait DirectoryStore: Clone + Send + Sync + 'static {
    /// A change under way.
    type Step: DirectoryStep;

    /// Begins a change: waits until nobody else is at one.
    fn begin(&self) -> impl Future<Output = Result<Self::Step, StoreError>> + Send;

    /// The head as it is, and the end of the first lease to end.
    fn head(&self) -> impl Future<Output = Result<(Head, Option<i64>), StoreError>> + Send;

    /// Everything, as of one change.
    fn everything(&self) -> impl Future<Output = Result<Everything, StoreError>> + Send;

    /// The first changes that are kept behind this one.
    fn changes_after(
        &self,
        revision: i64,
        changes_max: i64,
    ) -> impl Future<Output = Result<Vec<Change>, StoreError>> + Send;

    /// Renews a lease by so many microseconds; the server's `zones_revision`, or none where there is no such lease.
    fn renew(
        &self,
        server: &str,
        lease: Uuid,
        lease_micros: i64,
        load: f64,
        players: u32,
    ) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;

    /// The first servers behind this name.
    fn servers(
        &self,
        after: &str,
        servers_max: i64,
    ) -> impl Future<Output = Result<Vec<StoredServer>, StoreError>> + Send;

    /// All keys, the oldest first.
    fn keys(&self) -> impl Future<Output = Result<Vec<StoredKey>, StoreError>> + Send;
}

/// A change under way: a transaction that holds the head. Dropped, it leaves nothing behind.
pub trait DirectoryStep: Send {
    /// The head as it was when the change began.
    fn head(&self) -> Head;

    /// The server of this name.
    fn server(&mut self, name: &str) -> impl Future<Output = Result<Option<StoredServer>, StoreError>> + Send;

    /// Adds a server.
    fn add_server(&mut self, server: &StoredServer) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a server away, with its zones.
    fn remove_server(&mut self, name: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The servers whose leases have ended. Their heartbeats wait from now on.
    fn ended(&mut self) -> impl Future<Output = Result<Vec<StoredServer>, StoreError>> + Send;

    /// No lease ends before this time.
    fn extend(&mut self, until: i64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// All zones of a server, by id.
    fn zones_of(&mut self, server: &str) -> impl Future<Output = Result<Vec<StoredZone>, StoreError>> + Send;

    /// The zone with this id.
    fn zone(&mut self, id: i64) -> impl Future<Output = Result<Option<StoredZone>, StoreError>> + Send;

    /// The first zone that has an area in common with this one.
    fn overlapping(
        &mut self,
        world: &str,
        zone: &Zone,
    ) -> impl Future<Output = Result<Option<StoredZone>, StoreError>> + Send;

    /// Adds a zone.
    fn add_zone(&mut self, zone: &StoredZone) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives a zone the owner and the epoch that are said here.
    fn move_zone(&mut self, zone: &StoredZone) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a zone away.
    fn remove_zone(&mut self, id: i64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes that the zones of a server are others since this change.
    fn note_zones(&mut self, server: &str, revision: i64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets changes that happened before this time; the last that was forgotten, if there was one.
    fn forget(&mut self, before: i64) -> impl Future<Output = Result<Option<i64>, StoreError>> + Send;

    /// Adds a key.
    fn add_key(&mut self, key: &StoredKey) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a key away.
    fn remove_key(&mut self, id: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the change with this head, what happened if something did, and what is to be published.
    fn commit(
        self,
        head: Head,
        change: Option<&Change>,
        announcements: &[NewChange],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl StoredServer {
    /// As the protocol has it.
    #[must_use]
    pub fn message(&self) -> wire::Server {
        wire::Server {
            name: self.name.clone(),
            address: self.address.clone(),
            capacity: self.capacity,
            certificate_sha256: self.pin.clone().into(),
            worlds: self.worlds.clone(),
            load: self.load,
            players: self.players,
            registered_at: Some(timestamp(from_micros(self.registered_at))),
        }
    }

    /// Whether it may own a zone, by what it registered with.
    #[must_use]
    pub fn may_own(&self, world: &str, zone: &Zone) -> bool {
        let is_named = self.worlds.is_empty() || self.worlds.iter().any(|named| named == world);
        let rights = self.rights.clone().rights();
        is_named && rights.is_ok_and(|rights: Rights| rights.check_zone(world, zone).is_ok())
    }
}

impl StoredZone {
    /// As the protocol has it.
    #[must_use]
    pub fn message(&self) -> wire::Zone {
        wire::Zone {
            id: self.id.unsigned_abs(),
            world: self.world.clone(),
            rectangle: Some(crate::rectangle::message(&self.zone)),
            server: self.server.clone(),
            epoch: self.epoch.unsigned_abs(),
        }
    }
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredKey({:?})", self.id)
    }
}

/// What a row says that it cannot say.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

fn change(bytes: &[u8]) -> Result<Change, sqlx::Error> {
    Change::decode(bytes).map_err(unreadable)
}
