//! The connections to the broker, for as long as the host lives: by one changes go out, by another calls come in.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use zonecast_client::{Client, ClientConfig, ConnectionState};
use zonecast_doors::{Entrance, broker::BrokerDoor};
use zonecast_store::outbox::{Announcer, Answer, Committed, Outcome};

use crate::host::Phase;

/// After a connection that could not be made, or was ended for good, so long until the next try.
const PAUSE: Duration = Duration::from_secs(2);

/// Who is connected, for the relays; nobody at first.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    client: watch::Receiver<Option<Client>>,
    /// The lane on which a store's changes go out.
    lane: u8,
}

impl Line {
    pub(crate) fn new(client: watch::Receiver<Option<Client>>, lane: u8) -> Self {
        Self { client, lane }
    }
}

impl Announcer for Line {
    async fn announce(&self, batch: &[Committed]) -> Vec<Answer> {
        let client = self.client.borrow().clone();
        match client {
            Some(client) => (client, self.lane).announce(batch).await,
            None => {
                let nobody = |_| -> Answer {
                    Box::pin(ready(Outcome::Unpublished("the broker has not been reached yet".to_owned())))
                };
                batch.iter().map(nobody).collect()
            }
        }
    }
}

/// The connection by which changes go out, and services call each other.
pub(crate) struct ChangesEnd {
    pub(crate) client: ClientConfig,
    pub(crate) connected: watch::Sender<Option<Client>>,
    pub(crate) is_connected: Arc<AtomicBool>,
}

impl ChangesEnd {
    /// Keeps connected while the host serves, and the line open for the last changes.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        while *phase.borrow() == Phase::Serving {
            let client = tokio::select! {
                client = connect(&self.client, "changes wait") => client,
                _ = phase.changed() => continue,
            };
            self.is_connected.store(true, Relaxed);
            self.connected.send_replace(Some(client.clone()));
            tracing::info!("changes go out by the broker");
            let has_ended = tokio::select! {
                () = watched(&client, &self.is_connected) => true,
                _ = phase.wait_for(|phase| *phase == Phase::Ended) => false,
            };
            self.is_connected.store(false, Relaxed);
            leave(&client, has_ended).await;
        }
        self.connected.send_replace(None);
    }
}

/// The connection by which calls come in: of its own, for callers who do not read their answers hold up whatever goes out
/// beside these.
pub(crate) struct CallsEnd {
    pub(crate) client: ClientConfig,
    pub(crate) entrance: Entrance,
    pub(crate) services: Vec<&'static str>,
    /// True while no calls are taken and none is under way.
    pub(crate) is_shut: watch::Sender<bool>,
    pub(crate) grace: Duration,
}

impl CallsEnd {
    /// Takes calls while the host serves.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        while *phase.borrow() == Phase::Serving {
            tokio::select! {
                client = connect(&self.client, "no calls come by it") => self.serve(client, &mut phase).await,
                _ = phase.changed() => {}
            }
        }
    }

    /// Until the client has ended, or the host takes leave.
    async fn serve(&self, client: Client, phase: &mut watch::Receiver<Phase>) {
        let is_connected = AtomicBool::new(true);
        let ended = watched(&client, &is_connected);
        tokio::pin!(ended);
        let opened = tokio::select! {
            door = self.open(&client) => Ok(door),
            () = &mut ended => Err(true),
            _ = phase.wait_for(|phase| *phase >= Phase::Leaving) => Err(false),
        };
        let mut door = match opened {
            Ok(door) => door,
            Err(has_ended) => return leave(&client, has_ended).await,
        };
        self.is_shut.send_replace(false);
        tracing::info!("calls are taken by the broker");
        let (has_ended, is_refused) = tokio::select! {
            () = &mut ended => (true, false),
            () = door.ended() => (false, true),
            _ = phase.wait_for(|phase| *phase >= Phase::Leaving) => (false, false),
        };
        door.close(self.grace).await;
        self.is_shut.send_replace(true);
        if is_refused {
            tracing::warn!("calls are taken by the broker no more; the door is opened again");
            // Not at once: what ended it may be so still.
            sleep(PAUSE).await;
        }
        leave(&client, has_ended).await;
    }

    /// Again and again: what the broker refuses now it may grant later, as when its rights are changed.
    async fn open(&self, client: &Client) -> BrokerDoor {
        let mut failures = 0_u64;
        loop {
            match BrokerDoor::open(client, &self.entrance, &self.services).await {
                Ok(door) => return door,
                Err(error) => {
                    failures += 1;
                    if failures.is_power_of_two() {
                        tracing::error!(%error, failures, "no calls are taken by the broker so far");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn connect(config: &ClientConfig, meanwhile: &'static str) -> Client {
    let mut failures = 0_u64;
    loop {
        match Client::connect(config.clone()).await {
            Ok(client) => return client,
            Err(error) => {
                failures += 1;
                // A line for each doubling: it may take hours.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, meanwhile, "the broker cannot be reached");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Follows the connection until it is closed for good.
async fn watched(client: &Client, is_connected: &AtomicBool) {
    let mut states = client.states();
    loop {
        match states.next().await {
            Some(ConnectionState::Connected { .. }) => is_connected.store(true, Relaxed),
            Some(ConnectionState::Closed { reason }) => {
                tracing::warn!(%reason, "the connection to the broker has ended; a new one is made");
                return;
            }
            Some(_) => is_connected.store(false, Relaxed),
            None => return,
        }
    }
}

/// Closes the connection, or waits a little where it has ended by itself.
async fn leave(client: &Client, has_ended: bool) {
    if has_ended {
        sleep(PAUSE).await;
    } else if let Err(error) = client.close().await {
        tracing::warn!(%error, "a connection to the broker did not end in order");
    }
}
