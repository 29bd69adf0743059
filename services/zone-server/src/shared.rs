//! What the game server's handle and its tasks share, and the steps that they have in common.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use zonecast_access::Keys;
use zonecast_client::{Zone, ZoneControl, ZoneSpec};
use zonecast_protocol::directory::v1::{
    ClaimRequest, GetTicketKeysRequest, RegisterRequest, RegisterResponse, ZoneClaim,
};

use crate::{
    Lease, OwnedZone, ZoneServerConfig, ZoneServerError,
    admission::Admission,
    book::{Book, Held, zone},
    calls::Calls,
};

pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) config: ZoneServerConfig,
    pub(crate) calls: Calls,
    pub(crate) control: ZoneControl,
    pub(crate) book: Mutex<Book>,
    /// One change at a time, so that what the directory says is not older than what is known here.
    pub(crate) turn: tokio::sync::Mutex<()>,
    pub(crate) registered: watch::Sender<Registered>,
    pub(crate) lease: watch::Sender<Lease>,
    pub(crate) load: Mutex<(f64, u32)>,
    pub(crate) admission: Admission,
}

/// What the directory said last.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) lease: String,
    pub(crate) lease_ms: u32,
    /// The revision of our own last change.
    pub(crate) revision: u64,
    /// When it was asked for.
    pub(crate) since: Instant,
}

impl Registered {
    /// How long the lease lasts after each heartbeat.
    pub(crate) fn lasts(&self) -> Duration {
        Duration::from_millis(self.lease_ms.into())
    }
}

impl Shared {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the directory said last.
    pub(crate) fn registered(&self) -> Registered {
        self.registered.borrow().clone()
    }

    /// Waits until there is another lease than this.
    pub(crate) async fn registered_anew(&self, lease: &str) {
        // The sender is here.
        let _ = self.registered.subscribe().wait_for(|registered| registered.lease != lease).await;
    }

    pub(crate) fn note_revision(&self, revision: u64) {
        self.registered.send_modify(|registered| registered.revision = registered.revision.max(revision));
    }

    /// Says how the lease is, if it is still the one that was asked about; false otherwise.
    pub(crate) fn say(&self, lease: &str, state: impl Fn(Lease) -> Lease) -> bool {
        let registered = self.registered.borrow();
        let is_this = registered.lease == lease;
        if is_this {
            self.lease.send_if_modified(|said| {
                let before = std::mem::replace(said, state(*said));
                before != *said
            });
        }
        is_this
    }

    /// As [`ZoneServer::claim`], by whoever has the turn.
    pub(crate) async fn claim(
        &self,
        wanted: impl IntoIterator<Item = (String, Zone)>,
    ) -> Result<Vec<OwnedZone>, ZoneServerError> {
        let wanted: Vec<(String, Zone)> = wanted.into_iter().collect();
        let specs: Vec<ZoneSpec> = {
            let mut book = self.book();
            wanted.iter().map(|(world, zone)| book.spec(world, *zone)).collect()
        };
        let ids: Vec<u32> = specs.iter().map(ZoneSpec::id).collect();
        self.put(specs).await?;
        let zones = wanted.into_iter().map(|(world, zone)| claim_of(world, &zone)).collect();
        let (name, lease) = (self.name.clone(), self.registered().lease);
        let request = ClaimRequest { name, lease, zones, permit_overlaps: false };
        let claimed = self.calls.until_known(request, async |mut directory, request| {
            directory.claim(request).await.map(tonic::Response::into_inner)
        });
        match claimed.await {
            Ok(response) => {
                self.note_revision(response.revision);
                let mut book = self.book();
                response.zones.iter().zip(ids).for_each(|(owned, id)| book.note_owned(owned.clone(), vec![id]));
                Ok(response.zones)
            }
            Err(error @ ZoneServerError::Unknown(_)) => Err(error),
            Err(error) => {
                self.book().note_unsubscribed(&ids);
                self.control.remove(ids).await?;
                Err(error)
            }
        }
    }

    pub(crate) fn held(&self, zone_ids: &[u64]) -> Result<Vec<Held>, ZoneServerError> {
        let book = self.book();
        zone_ids.iter().map(|id| book.get(*id).cloned().ok_or(ZoneServerError::NotHeld(*id))).collect()
    }

    /// Subscribes, and notes it before, since nobody may be there to see how it goes.
    async fn put(&self, specs: Vec<ZoneSpec>) -> Result<(), ZoneServerError> {
        let ids: Vec<u32> = specs.iter().map(ZoneSpec::id).collect();
        specs.iter().for_each(|spec| self.book().note_asked(spec.clone(), Instant::now()));
        let put = self.control.put(specs).await;
        if put.is_err() {
            self.book().note_unsubscribed(&ids);
        }
        Ok(put.map(|_| ())?)
    }

    /// Subscribes to zones that are ours.
    pub(crate) async fn subscribe(&self, owned: &[OwnedZone]) -> Result<(), ZoneServerError> {
        let specs: Vec<(ZoneSpec, &OwnedZone)> = {
            let mut book = self.book();
            let zones = owned.iter().filter_map(|owned| Some((zone(owned.rectangle.as_ref())?, owned)));
            zones.map(|(zone, owned)| (book.spec(&owned.world, zone), owned)).collect()
        };
        self.put(specs.iter().map(|(spec, _)| spec.clone()).collect()).await?;
        let mut book = self.book();
        specs.into_iter().for_each(|(spec, owned)| book.note_owned(owned.clone(), vec![spec.id()]));
        Ok(())
    }

    /// After the grace, these subscriptions end.
    pub(crate) fn unsubscribe_later(&self, subscribed: Vec<u32>) {
        let (control, grace) = (self.control.clone(), self.config.release_grace);
        tokio::spawn(async move {
            sleep(grace).await;
            // One by one: one that has gone meanwhile must not keep the others.
            for id in subscribed {
                let _ = control.remove([id]).await;
            }
        });
    }

    /// Asks for the keys of tickets.
    pub(crate) async fn learn_keys(&self) -> Result<(), ZoneServerError> {
        let (keys, issuer) = keys(&self.calls).await?;
        self.admission.learn(keys, issuer);
        Ok(())
    }
}

fn claim_of(world: String, zone: &Zone) -> ZoneClaim {
    let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
    let rectangle = Some(zonecast_protocol::directory::v1::Rectangle { min_x, min_y, max_x, max_y });
    ZoneClaim { world, rectangle }
}

pub(crate) async fn keys(calls: &Calls) -> Result<(Keys, String), ZoneServerError> {
    let answer = calls.until_known(GetTicketKeysRequest {}, async |mut directory, request| {
        directory.get_ticket_keys(request).await.map(tonic::Response::into_inner)
    });
    let answer = answer.await?;
    Ok((Keys::from_jwks(&answer.jwks)?, answer.issuer))
}

pub(crate) async fn register(
    calls: &Calls,
    name: &str,
    config: &ZoneServerConfig,
) -> Result<Registered, ZoneServerError> {
    let since = Instant::now();
    let request = RegisterRequest {
        name: name.to_owned(),
        address: config.address.clone(),
        capacity: config.capacity,
        certificate_sha256: config.certificate_sha256.clone().into(),
        worlds: config.worlds.clone(),
    };
    let registered = calls.until_known(request, async |mut directory, request| {
        directory.register(request).await.map(tonic::Response::into_inner)
    });
    let RegisterResponse { lease, lease_ms, revision, .. } = registered.await?;
    Ok(Registered { lease, lease_ms, revision, since })
}
