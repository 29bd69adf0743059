//! The game server: joins, claims, releases, hands over, and leaves.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use zonecast_access::Ticket;
use zonecast_client::{Client, Event, Zone, ZoneItem, ZoneSpec, ZoneSubscription};
use zonecast_protocol::directory::v1::{DeregisterRequest, HandOverRequest, ReleaseRequest};

use crate::{
    AdmitError, Lease, OwnedZone, ZoneServerConfig, ZoneServerError,
    admission::Admission,
    book::{Held, zone},
    calls::Calls,
    pulse::Pulse,
    shared::{Shared, keys, register},
};

/// A game server that is registered, with heartbeats in the background. Dropped, it falls silent, and its lease ends by
/// itself; [`leave`](Self::leave) ends it at once.
pub struct ZoneServer {
    shared: Arc<Shared>,
    pulse: Pulse,
}

/// What the zones yield: read it steadily, as [`ZoneSubscription`] says.
pub struct Zones {
    subscription: ZoneSubscription,
    shared: Arc<Shared>,
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
        let registered = register(&calls, &name, &config).await?;
        let shared = Arc::new(Shared {
            admission: Admission::new(name.clone(), keys, issuer),
            name,
            config,
            calls,
            control: subscription.control(),
            book: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            registered: watch::Sender::new(registered),
            lease: watch::Sender::new(Lease::Held),
            load: Mutex::default(),
        });
        let pulse = Pulse::start(&shared);
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
        let _turn = self.shared.turn.lock().await;
        self.shared.claim(wanted).await
    }

    /// Gives up zones: first in the directory, and after the grace at the broker.
    ///
    /// # Errors
    /// A zone is not held here, or the directory refuses or does not answer: then all are still held.
    pub async fn release(&self, zone_ids: &[u64]) -> Result<(), ZoneServerError> {
        let _turn = self.shared.turn.lock().await;
        self.shared.held(zone_ids)?;
        let (name, lease, zone_ids) = (self.shared.name.clone(), self.shared.registered().lease, zone_ids.to_vec());
        let request = ReleaseRequest { name, lease, zone_ids: zone_ids.clone() };
        let released = self.shared.calls.until_known(request, async |mut directory, request| {
            directory.release(request).await.map(tonic::Response::into_inner)
        });
        self.shared.note_revision(released.await?.revision);
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
        let _turn = self.shared.turn.lock().await;
        let held = self.shared.held(zone_ids)?;
        let subscribed: Vec<u32> = held.iter().flat_map(|held| held.subscribed.clone()).collect();
        // From here on nobody may be there to see how it goes; what is then still ours is subscribed to again.
        self.shared.book().note_unsubscribed(&subscribed);
        if let Err(error) = self.shared.control.hand_over(subscribed, to_server).await {
            let mut book = self.shared.book();
            held.into_iter().for_each(|Held { owned, subscribed }| book.note_owned(owned, subscribed));
            return Err(error.into());
        }
        let (name, lease, to_server) = (self.shared.name.clone(), self.shared.registered().lease, to_server.to_owned());
        let epoch = held.iter().map(|held| held.owned.epoch).max().unwrap_or_default();
        let request = HandOverRequest { name, lease, zone_ids: zone_ids.to_vec(), to_server, epoch };
        let moved = self.shared.calls.until_known(request, async |mut directory, request| {
            directory.hand_over(request).await.map(tonic::Response::into_inner)
        });
        match moved.await {
            Ok(response) => {
                self.shared.note_revision(response.revision);
                zone_ids.iter().for_each(|id| drop(self.shared.book().remove(*id)));
                Ok(response.zones)
            }
            Err(error) => {
                // Better both hear them for a while than the owner does not.
                let owned: Vec<OwnedZone> = held.into_iter().map(|held| held.owned).collect();
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
        let _turn = self.shared.turn.lock().await;
        let registered = register(&self.shared.calls, &self.shared.name, &self.shared.config).await?;
        self.shared.registered.send_replace(registered);
        self.shared.lease.send_replace(Lease::Held);
        let mut lost = Vec::new();
        let held = self.shared.book().all();
        for Held { owned, subscribed } in held {
            let wanted = zone(owned.rectangle.as_ref()).map(|zone| (owned.world.clone(), zone));
            let claimed = self.shared.claim(wanted).await;
            self.shared.book().remove(owned.id);
            // Under new numbers it is heard already, if it is ours.
            self.shared.unsubscribe_later(subscribed);
            if claimed.is_err() {
                lost.push(owned);
            }
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
        self.shared.admission.admit(ticket, now_s, std::time::Instant::now())
    }

    /// Ends the lease with all its zones, and after the grace the subscription to them.
    ///
    /// # Errors
    /// The directory does not answer; the lease will end by itself.
    pub async fn leave(self) -> Result<(), ZoneServerError> {
        let Self { shared, pulse } = self;
        drop(pulse);
        let _turn = shared.turn.lock().await;
        let request = DeregisterRequest { name: shared.name.clone(), lease: shared.registered().lease };
        let left = shared.calls.until_known(request, async |mut directory, request| {
            directory.deregister(request).await.map(tonic::Response::into_inner)
        });
        left.await?;
        shared.lease.send_replace(Lease::Lost);
        sleep(shared.config.release_grace).await;
        Ok(shared.control.set([]).await.map(|_| ())?)
    }
}

impl Zones {
    /// The next item; `None` when the client is closed. What the broker handed over, or does not grant again, is noted on its
    /// way; zones of this server's that a broker does not grant are asked for again with every heartbeat.
    pub async fn next(&mut self) -> Option<ZoneItem> {
        let item = self.subscription.next().await?;
        match &item {
            ZoneItem::Received { zones, .. } => {
                let mut book = self.shared.book();
                zones.iter().for_each(|spec| book.note_subscribed(spec.clone(), Instant::now()));
            }
            ZoneItem::Refused { zones, .. } => {
                let refused: Vec<u32> = zones.iter().map(ZoneSpec::id).collect();
                self.shared.book().note_unsubscribed(&refused);
            }
            _ => {}
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
