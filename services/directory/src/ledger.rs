//! What changes the directory: each operation is one transaction, one revision, and what is published of it.
//!
//! Every change begins by ending the leases that have run out, so that a claim is judged by who lives. Where nobody has
//! looked for such leases for a while, because the service or its database was away, heartbeats had nobody to go to: then no
//! lease ends, and each lasts once more as long as a whole one.

mod entry;
mod refusal;

use std::time::Duration;

use zonecast_protocol::{
    Zone,
    directory::v1::{self as wire, ZoneMoved, ZonesMoved, step::What},
};
use zonecast_store::{StoreError, Uuid, new_id, outbox::NewChange};

pub use refusal::Refused;

use crate::{DirectoryStep, DirectoryStore, NAME, StoredServer, StoredZone};
use entry::Entry;

/// How long nobody may have looked for leases that have ended, for them to end.
const PAUSE: Duration = Duration::from_secs(3);

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Where players reach it.
    pub address: String,
    /// How many players it takes; 0: not stated.
    pub capacity: u32,
    /// The SHA-256 of its certificate; empty: not stated.
    pub pin: Vec<u8>,
    /// The worlds that it may simulate; none: those of its rights.
    pub worlds: Vec<String>,
    /// Where its zones may lie.
    pub rights: zonecast_access::RightsClaim,
}

/// What a server wants other than it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exchange {
    /// To give up.
    pub release: Vec<i64>,
    /// To take.
    pub claim: Vec<(String, Zone)>,
    /// Whether overlaps are taken.
    pub permit_overlaps: bool,
}

/// The changes of a directory.
#[derive(Debug, Clone)]
pub struct Ledger<S> {
    store: S,
    lease: Duration,
    retention: Duration,
    zones_per_server_max: u32,
}

impl<S: DirectoryStore> Ledger<S> {
    /// Leases that last so long, changes that are kept so long, and so many zones for each server.
    #[must_use]
    pub fn new(store: S, lease: Duration, retention: Duration, zones_per_server_max: u32) -> Self {
        Self { store, lease, retention, zones_per_server_max }
    }

    /// How long a lease lasts.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    async fn open(&self) -> Result<Entry<S::Step>, StoreError> {
        Entry::open(self.store.begin().await?, self.lease).await
    }

    /// Makes a server known. One of that name begins anew. The lease, and the revision.
    ///
    /// # Errors
    /// The database does not do it.
    pub async fn register(&self, registration: Registration) -> Result<(Uuid, i64), Refused> {
        let mut entry = self.open().await?;
        let Registration { name, address, capacity, pin, worlds, rights } = registration;
        if entry.step.server(&name).await?.is_some() {
            entry.dismiss(&name, false).await?;
        }
        let (lease, now) = (new_id(), entry.head.now);
        let lease_until = now + entry::micros(self.lease);
        let (load, players, zones_revision) = (0.0, 0, entry.revision());
        let server = StoredServer {
            name,
            lease,
            address,
            capacity,
            pin,
            worlds,
            rights,
            load,
            players,
            registered_at: now,
            lease_until,
            zones_revision,
        };
        entry.step.add_server(&server).await?;
        entry.note(What::ServerRegistered(server.message()));
        Ok((lease, entry.commit().await?))
    }

    /// Renews a lease; the revision at which the server's zones changed last.
    ///
    /// # Errors
    /// There is no such lease, or the database does not do it.
    pub async fn renew(&self, server: &str, lease: Uuid, load: f64, players: u32) -> Result<i64, Refused> {
        let renewed = self.store.renew(server, lease, entry::micros(self.lease), load, players).await?;
        renewed.ok_or(Refused::NoLease)
    }

    /// Ends a lease; nothing happens where there is no such lease.
    ///
    /// # Errors
    /// The database does not do it.
    pub async fn deregister(&self, server: &str, lease: Uuid) -> Result<(), Refused> {
        let mut entry = self.open().await?;
        match entry.holder(server, lease).await {
            Ok(_) => entry.dismiss(server, false).await?,
            Err(Refused::NoLease) => {}
            Err(error) => return Err(error),
        }
        entry.commit().await?;
        Ok(())
    }

    /// Gives up zones and takes others. Those that were taken, and the revision.
    ///
    /// # Errors
    /// It is refused, and nothing has changed.
    pub async fn exchange(
        &self,
        server: &str,
        lease: Uuid,
        exchange: Exchange,
    ) -> Result<(Vec<StoredZone>, i64), Refused> {
        let mut entry = self.open().await?;
        let holder = entry.holder(server, lease).await?;
        let mut own = entry.step.zones_of(server).await?;
        let (released, kept): (Vec<_>, Vec<_>) = own.drain(..).partition(|zone| exchange.release.contains(&zone.id));
        for zone in &released {
            entry.step.remove_zone(zone.id).await?;
            entry.note(What::ZoneReleased(zone.id.unsigned_abs()));
        }
        let (mut zones, mut claimed) = (Vec::new(), Vec::new());
        for (world, zone) in exchange.claim {
            let is_same = |owned: &&StoredZone| owned.world == world && owned.zone == zone;
            if let Some(owned) = kept.iter().chain(&claimed).find(is_same) {
                zones.push(owned.clone());
                continue;
            }
            if !holder.may_own(&world, &zone) {
                return Err(Refused::NoRight { server: server.to_owned(), world, zone });
            }
            if !exchange.permit_overlaps
                && let Some(owned) = entry.step.overlapping(&world, &zone).await?
            {
                return Err(Refused::Overlap { wanted: zone, owned: Box::new(owned) });
            }
            let zone =
                StoredZone { id: entry.new_zone(), server: server.to_owned(), world, zone, epoch: entry.revision() };
            entry.step.add_zone(&zone).await?;
            entry.note(What::ZoneClaimed(zone.message()));
            zones.push(zone.clone());
            claimed.push(zone);
        }
        if !claimed.is_empty() && kept.len() + claimed.len() > self.zones_per_server_max as usize {
            return Err(Refused::TooManyZones { zones_max: self.zones_per_server_max });
        }
        if !released.is_empty() || !claimed.is_empty() {
            entry.step.note_zones(server, entry.revision()).await?;
        }
        entry.announce_released(&released);
        entry.announce_claimed(&claimed);
        Ok((zones, entry.commit().await?))
    }

    /// Makes another server the owner of zones; `epoch` 0: whatever theirs is. The zones as they are then, and the revision.
    ///
    /// # Errors
    /// It is refused, and nothing has changed.
    pub async fn hand_over(
        &self,
        server: &str,
        lease: Uuid,
        zone_ids: &[i64],
        to: &str,
        epoch: i64,
    ) -> Result<(Vec<StoredZone>, i64), Refused> {
        let mut entry = self.open().await?;
        entry.holder(server, lease).await?;
        let receiver = entry.step.server(to).await?.ok_or_else(|| Refused::NoServer(to.to_owned()))?;
        let mut owned_after = entry.step.zones_of(to).await?.len();
        let (mut zones, mut moved) = (Vec::new(), Vec::new());
        for id in zone_ids {
            let mut zone = entry.step.zone(*id).await?.ok_or(Refused::NoZone(*id))?;
            if zone.server == to {
                zones.push(zone);
                continue;
            }
            if zone.server != server {
                return Err(Refused::NoZone(*id));
            }
            if epoch != 0 && zone.epoch > epoch {
                return Err(Refused::Changed(*id));
            }
            if !receiver.may_own(&zone.world, &zone.zone) {
                return Err(Refused::NoRight { server: to.to_owned(), world: zone.world, zone: zone.zone });
            }
            to.clone_into(&mut zone.server);
            zone.epoch = entry.revision();
            entry.step.move_zone(&zone).await?;
            let from_server = server.to_owned();
            entry.note(What::ZoneMoved(ZoneMoved { zone: Some(zone.message()), from_server }));
            owned_after += 1;
            zones.push(zone.clone());
            moved.push(zone.message());
        }
        if owned_after > self.zones_per_server_max as usize {
            return Err(Refused::TooManyZones { zones_max: self.zones_per_server_max });
        }
        if !moved.is_empty() {
            for name in [server, to] {
                entry.step.note_zones(name, entry.revision()).await?;
            }
            let (from_server, revision) = (server.to_owned(), entry.revision().unsigned_abs());
            entry.announce("directory.zone_moved", &ZonesMoved { zones: moved, from_server, revision });
        }
        Ok((zones, entry.commit().await?))
    }

    /// Ends the leases that have run out, and forgets changes that are older than what is kept. Whether anything changed.
    ///
    /// # Errors
    /// The database does not do it.
    pub async fn sweep(&self) -> Result<bool, StoreError> {
        let mut entry = self.open().await?;
        let before = entry.head.now - entry::micros(self.retention);
        if let Some(last) = entry.step.forget(before).await? {
            entry.head.floor = last;
        }
        let has_changed = entry.has_changed();
        entry.commit().await?;
        Ok(has_changed)
    }

    /// Does what is needed of [`sweep`](Self::sweep), if it is: a lease has run out, or nobody has looked for a while. Whether
    /// anything changed.
    ///
    /// # Errors
    /// The database does not do it.
    pub async fn sweep_if_due(&self, every: Duration) -> Result<bool, StoreError> {
        let (head, ends_at) = self.store.head().await?;
        let Some(ends_at) = ends_at else { return Ok(false) };
        // Nor must it wait for as long as the database's clock was set back.
        if ends_at <= head.now || (head.now - head.swept_at).abs() >= entry::micros(every) {
            self.sweep().await
        } else {
            Ok(false)
        }
    }
}

/// What is published.
fn change<M: prost::Message + prost::Name>(topic: &'static str, now: i64, detail: &M) -> NewChange {
    NewChange::new(NAME, topic, zonecast_store::from_micros(now), detail)
}

fn messages(zones: &[StoredZone]) -> Vec<wire::Zone> {
    zones.iter().map(StoredZone::message).collect()
}
