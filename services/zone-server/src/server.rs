//! The game server: joins, claims, releases, hands over, and leaves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tonic::Status;
use zonecast_access::{Keys, Ticket};
use zonecast_client::{Client, Event, Zone, ZoneControl, ZoneItem, ZoneSpec, ZoneSubscription};
use zonecast_protocol::directory::v1::{
    ClaimRequest, DeregisterRequest, GetTicketKeysRequest, HandOverRequest, RegisterRequest, RegisterResponse,
    ReleaseRequest, ZoneClaim,
};

use crate::{
    AdmitError, Lease, OwnedZone, ZoneServerConfig, ZoneServerError,
    admission::Admission,
    book::{Book, Held, zone},
    calls::Calls,
    pulse::Pulse,
};

/// A game server that is registered, with heartbeats in the background. Dropped, it falls silent, and its lease ends by
/// itself; [`leave`](Self::leave) ends it at once.
pub struct ZoneServer {
    shared: Arc<Shared>,
    pulse: JoinHandle<()>,
}

/// What the zones yield: read it steadily, as [`ZoneSubscription`] says.
pub struct Zones {
    subscription: ZoneSubscription,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) config: ZoneServerConfig,
    pub(crate) calls: Calls,
    pub(crate) control: ZoneControl,
    book: Mutex<Book>,
    /// One change at a time, so that what the directory says is not older than what is known here.
    pub(crate) turn: tokio::sync::Mutex<Registered>,
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
}

impl From<RegisterResponse> for Registered {
    fn from(response: RegisterResponse) -> Self {
        Self { lease: response.lease, lease_ms: response.lease_ms, revision: response.revision }
    }
}

impl ZoneServer {
    /// Registers at the directory under the client's id, and subscribes to no zone yet. The client must have no zone
    /// subscription of its own.
    ///
    /// # Errors
    /// The directory or the broker refuses it, or does not answer.
    pub async fn join(client: Client, config: ZoneServerConfig) -> Result<(Self, Zones), ZoneServerError> {
        let name = client.client_id().to_owned();
        let calls = Calls::new(client.clone(), config.token.clone(), config.call_timeout);
        let subscription = client.subscribe_zones([]).await?;
        let (keys, issuer) = keys(&calls).await?;
        let registered: Registered = register(&calls, &name, &config).await?.into();
        let shared = Arc::new(Shared {
            admission: Admission::new(name.clone(), keys, issuer),
            name,
            config,
            calls,
            control: subscription.control(),
            book: Mutex::default(),
            turn: tokio::sync::Mutex::new(registered),
            lease: watch::Sender::new(Lease::Held),
            load: Mutex::default(),
        });
        let pulse = tokio::spawn(Pulse::new(Arc::clone(&shared)).run());
        Ok((Self { shared: Arc::clone(&shared), pulse }, Zones { subscription, shared }))
    }

    /// Subscribes to zones and claims them: all of them or none. Those that are this server's already are answered as they
    /// are.
    ///
    /// # Errors
    /// Refused: nothing is claimed, and what was subscribed to for it is given up. Unknown: it will be seen.
    pub async fn claim(
        &self,
        wanted: impl IntoIterator<Item = (String, Zone)>,
    ) -> Result<Vec<OwnedZone>, ZoneServerError> {
        let mut turn = self.shared.turn.lock().await;
        let wanted: Vec<(String, Zone)> = wanted.into_iter().collect();
        let specs: Vec<ZoneSpec> = {
            let mut book = self.shared.book();
            wanted.iter().map(|(world, zone)| book.spec(world, *zone)).collect()
        };
        self.shared.control.put(specs.clone()).await?;
        let zones = wanted.into_iter().map(|(world, zone)| claim_of(world, &zone)).collect();
        let (name, lease) = (self.shared.name.clone(), turn.lease.clone());
        let request = ClaimRequest { name, lease, zones, permit_overlaps: false };
        let claimed = self.shared.calls.until_known(request, async |mut directory, request| {
            directory.claim(request).await.map(tonic::Response::into_inner)
        });
        match claimed.await.map_err(ZoneServerError::from) {
            Ok(response) => {
                turn.revision = turn.revision.max(response.revision);
                let mut book = self.shared.book();
                for (owned, spec) in response.zones.iter().zip(&specs) {
                    book.note_owned(owned.clone(), vec![spec.id()]);
                }
                Ok(response.zones)
            }
            Err(error) => {
                if let ZoneServerError::Unknown(_) = error {
                    let mut book = self.shared.book();
                    specs.into_iter().for_each(|spec| book.note_subscribed(spec, Instant::now()));
                } else {
                    self.shared.control.remove(specs.iter().map(ZoneSpec::id)).await?;
                }
                Err(error)
            }
        }
    }

    /// Gives up zones: first in the directory, and after the grace at the broker.
    ///
    /// # Errors
    /// A zone is not held here, or the directory refuses or does not answer: then all are still held.
    pub async fn release(&self, zone_ids: &[u64]) -> Result<(), ZoneServerError> {
        let mut turn = self.shared.turn.lock().await;
        self.shared.held(zone_ids)?;
        let (name, lease, zone_ids) = (self.shared.name.clone(), turn.lease.clone(), zone_ids.to_vec());
        let request = ReleaseRequest { name, lease, zone_ids: zone_ids.clone() };
        let released = self.shared.calls.until_known(request, async |mut directory, request| {
            directory.release(request).await.map(tonic::Response::into_inner)
        });
        turn.revision = turn.revision.max(released.await?.revision);
        let gone: Vec<Held> = {
            let mut book = self.shared.book();
            zone_ids.iter().filter_map(|id| book.remove(*id)).collect()
        };
        self.shared.unsubscribe_later(gone.into_iter().flat_map(|held| held.subscribed).collect());
        Ok(())
    }

    /// Gives zones to another server that is connected to the same broker: each event is heard by one of the two.
    ///
    /// # Errors
    /// A zone is not held here, the broker refuses, or the directory refuses: then all are still held. Unknown: the other
    /// hears the zones, and who owns them will be seen.
    pub async fn hand_over(&self, zone_ids: &[u64], to_server: &str) -> Result<Vec<OwnedZone>, ZoneServerError> {
        let mut turn = self.shared.turn.lock().await;
        let held = self.shared.held(zone_ids)?;
        let subscribed: Vec<u32> = held.iter().flat_map(|held| held.subscribed.clone()).collect();
        self.shared.control.hand_over(subscribed, to_server).await?;
        let (name, lease, to_server) = (self.shared.name.clone(), turn.lease.clone(), to_server.to_owned());
        let epoch = held.iter().map(|held| held.owned.epoch).max().unwrap_or_default();
        let request = HandOverRequest { name, lease, zone_ids: zone_ids.to_vec(), to_server, epoch };
        let moved = self.shared.calls.until_known(request, async |mut directory, request| {
            directory.hand_over(request).await.map(tonic::Response::into_inner)
        });
        match moved.await.map_err(ZoneServerError::from) {
            Ok(response) => {
                turn.revision = turn.revision.max(response.revision);
                zone_ids.iter().for_each(|id| drop(self.shared.book().remove(*id)));
                Ok(response.zones)
            }
            Err(error) => {
                // Better both hear them for a while than the owner does not.
                let owned: Vec<OwnedZone> = held.into_iter().map(|held| held.owned).collect();
                zone_ids.iter().for_each(|id| drop(self.shared.book().remove(*id)));
                self.shared.subscribe(&owned).await?;
                Err(error)
            }
        }
    }

    /// Registers again after the lease was lost, and claims again what was held, one zone after the other. Those that are
    /// somebody else's by now; they are not heard any more after the grace.
    ///
    /// # Errors
    /// The directory refuses to register the server, or does not answer.
    pub async fn rejoin(&self) -> Result<Vec<OwnedZone>, ZoneServerError> {
        let held = {
            let mut turn = self.shared.turn.lock().await;
            *turn = register(&self.shared.calls, &self.shared.name, &self.shared.config).await?.into();
            let mut book = self.shared.book();
            let held = book.all();
            held.iter().for_each(|held| drop(book.remove(held.owned.id)));
            held
        };
        self.shared.lease.send_replace(Lease::Held);
        let mut lost = Vec::new();
        for Held { owned, subscribed } in held {
            let wanted = zone(owned.rectangle.as_ref()).map(|zone| (owned.world.clone(), zone));
            if self.claim(wanted).await.is_err() {
                lost.push(owned);
            }
            // Under new numbers it is heard already, if it is ours.
            self.shared.unsubscribe_later(subscribed);
        }
        Ok(lost)
    }

    /// How the lease is; its changes can be waited for.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.shared.lease.subscribe()
    }

    /// How busy the server is, to be said with the next heartbeat: 0 to 1, and the number of players.
    pub fn set_load(&self, load: f64, players: u32) {
        *self.shared.load.lock().unwrap_or_else(PoisonError::into_inner) = (load, players);
    }

    /// The zones that are held, by id.
    #[must_use]
    pub fn held(&self) -> Vec<OwnedZone> {
        self.shared.book().all().into_iter().map(|held| held.owned).collect()
    }

    /// Takes a player's ticket, once, without asking anybody.
    ///
    /// # Errors
    /// It is not to be taken. A key that is not known is asked for in the background; the player may try again.
    pub fn admit(&self, ticket: &str) -> Result<Ticket, AdmitError> {
        let now_s = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        self.shared.admission.admit(ticket, now_s)
    }

    /// Ends the lease with all its zones, and after the grace the subscription to them.
    ///
    /// # Errors
    /// The directory does not answer; the lease will end by itself.
    pub async fn leave(self) -> Result<(), ZoneServerError> {
        self.pulse.abort();
        let turn = self.shared.turn.lock().await;
        let request = DeregisterRequest { name: self.shared.name.clone(), lease: turn.lease.clone() };
        let left = self.shared.calls.until_known(request, async |mut directory, request| {
            directory.deregister(request).await.map(tonic::Response::into_inner)
        });
        left.await?;
        self.shared.lease.send_replace(Lease::Lost);
        sleep(self.shared.config.release_grace).await;
        Ok(self.shared.control.set([]).await.map(|_| ())?)
    }
}

impl Drop for ZoneServer {
    fn drop(&mut self) {
        self.pulse.abort();
    }
}

impl Zones {
    /// The next item; `None` when the client is closed. What the broker handed over is noted on its way.
    pub async fn next(&mut self) -> Option<ZoneItem> {
        let item = self.subscription.next().await?;
        if let ZoneItem::Received { zones, .. } = &item {
            let mut book = self.shared.book();
            zones.iter().for_each(|spec| book.note_subscribed(spec.clone(), Instant::now()));
        }
        Some(item)
    }

    /// The next event, passing over everything else.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next().await?.into_event() {
                return Some(event);
            }
        }
    }

    /// As [`ZoneSubscription::explicit`].
    #[must_use]
    pub fn explicit(self) -> Self {
        Self { subscription: self.subscription.explicit(), shared: self.shared }
    }
}

impl Shared {
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, zone_ids: &[u64]) -> Result<Vec<Held>, ZoneServerError> {
        let book = self.book();
        zone_ids.iter().map(|id| book.get(*id).cloned().ok_or(ZoneServerError::NotHeld(*id))).collect()
    }

    /// Subscribes to zones that are ours.
    pub(crate) async fn subscribe(&self, owned: &[OwnedZone]) -> Result<(), ZoneServerError> {
        let specs: Vec<(ZoneSpec, &OwnedZone)> = {
            let mut book = self.book();
            let zones = owned.iter().filter_map(|owned| Some((zone(owned.rectangle.as_ref())?, owned)));
            zones.map(|(zone, owned)| (book.spec(&owned.world, zone), owned)).collect()
        };
        self.control.put(specs.iter().map(|(spec, _)| spec.clone())).await?;
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

async fn keys(calls: &Calls) -> Result<(Keys, String), ZoneServerError> {
    let answer = calls.until_known(GetTicketKeysRequest {}, async |mut directory, request| {
        directory.get_ticket_keys(request).await.map(tonic::Response::into_inner)
    });
    let answer = answer.await?;
    Ok((Keys::from_jwks(&answer.jwks)?, answer.issuer))
}

async fn register(calls: &Calls, name: &str, config: &ZoneServerConfig) -> Result<RegisterResponse, Status> {
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
    registered.await
}
