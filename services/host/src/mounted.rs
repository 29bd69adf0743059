//! Services behind the doors, and what works for each of them beside.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
};
use tonic::service::Routes;
use zonecast_client::Client;
use zonecast_store::outbox::{Relay, RelayOptions, RelayStats};

use crate::{Definition, Followers, Ground, HostError, broker_end::Line, host::Phase};

/// Services that are mounted.
pub(crate) struct Mounted {
    pub(crate) routes: Routes,
    /// They publish what changes in each store, until the host's last phases.
    pub(crate) relays: Vec<JoinHandle<()>>,
    pub(crate) stats: Vec<(&'static str, Arc<RelayStats>)>,
    /// By these relays and followers hear of changes at once.
    pub(crate) wakers: JoinSet<()>,
}

impl Mounted {
    /// Mounts them on this ground. Changes go out by the client, each store's on a lane of its own, and are kept for as long
    /// as `retention` says.
    pub(crate) async fn new(
        services: &[Definition],
        ground: &Ground,
        retention: Duration,
        client: &watch::Receiver<Option<Client>>,
        phase: &watch::Sender<Phase>,
    ) -> Result<Self, HostError> {
        let (routes, relays, stats, wakers) = (Routes::default(), Vec::new(), Vec::new(), JoinSet::new());
        let mut mounted = Self { routes, relays, stats, wakers };
        for (service, lane) in services.iter().zip(1_u8..) {
            let line = Line::new(client.clone(), lane);
            let options = RelayOptions { retention, ..RelayOptions::default() };
            let relay = Relay::new(ground.database.clone(), service.name, line, options);
            let changed: Arc<Notify> = Arc::default();
            let waker = pass_on(Arc::clone(&changed), relay.wake(), ground.followers.clone(), service.name);
            let panics = ground.tasks.panics();
            mounted.wakers.spawn(panics.watching(waker));
            let failed = |source| HostError::Service { service: service.name, source };
            let mounting = (service.mount)(Ground { changed, ..ground.clone() }, mounted.routes);
            mounted.routes = mounting.await.map_err(failed)?;
            mounted.stats.push((service.name, relay.stats()));
            let mut phase = phase.subscribe();
            mounted.relays.push(tokio::spawn(panics.watching(relay.run(async move {
                let _ = phase.wait_for(|phase| *phase >= Phase::Publishing).await;
            }))));
        }
        Ok(mounted)
    }
}

/// Passes on that a store has changed: to its relay, and to who follows it here.
async fn pass_on(changed: Arc<Notify>, relay: Arc<Notify>, followers: Followers, store: &'static str) {
    loop {
        changed.notified().await;
        relay.notify_one();
        followers.wake(store);
    }
}
