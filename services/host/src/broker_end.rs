//! The connection to the broker, for as long as the host lives: calls come in by it, and changes go out.

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

/// What the connection is for.
pub(crate) struct Supervisor {
    pub(crate) client: ClientConfig,
    /// Where calls go; none where no calls are taken.
    pub(crate) entrance: Option<Entrance>,
    pub(crate) services: Vec<&'static str>,
    pub(crate) connected: watch::Sender<Option<Client>>,
    pub(crate) is_connected: Arc<AtomicBool>,
    /// True while no calls are taken and none is under way.
    pub(crate) is_shut: watch::Sender<bool>,
    pub(crate) grace: Duration,
}

impl Supervisor {
    /// Keeps connected, takes calls while the host serves, and keeps the line open for the last changes.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        while *phase.borrow() == Phase::Serving {
            tokio::select! {
                client = self.connect() => {
                    self.serve(client, &mut phase).await;
                    self.is_connected.store(false, Relaxed);
                }
                _ = phase.changed() => {}
            }
        }
        self.connected.send_replace(None);
    }

    async fn connect(&self) -> Client {
        let mut failures = 0_u64;
        loop {
            match Client::connect(self.client.clone()).await {
                Ok(client) => return client,
                Err(error) => {
                    failures += 1;
                    // A line for each doubling: it may take hours.
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "the broker cannot be reached; changes wait, and no calls come by it");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Until the client has ended, or the host takes leave.
    async fn serve(&self, client: Client, phase: &mut watch::Receiver<Phase>) {
        self.is_connected.store(true, Relaxed);
        self.connected.send_replace(Some(client.clone()));
        let door = match &self.entrance {
            None => None,
            Some(entrance) => match BrokerDoor::open(&client, entrance, &self.services).await {
                Ok(door) => {
                    self.is_shut.send_replace(false);
                    Some(door)
                }
                Err(error) => {
                    tracing::error!(%error, "no calls are taken by the broker");
                    None
                }
            },
        };
        tracing::info!(calls = door.is_some(), "the services are connected to the broker");
        let ended = tokio::select! {
            () = self.watch(&client) => true,
            _ = phase.wait_for(|phase| *phase >= Phase::Leaving) => false,
        };
        if let Some(door) = door {
            door.close(self.grace).await;
        }
        self.is_shut.send_replace(true);
        if ended {
            sleep(PAUSE).await;
            return;
        }
        let _ = phase.wait_for(|phase| *phase == Phase::Ended).await;
        if let Err(error) = client.close().await {
            tracing::warn!(%error, "the connection to the broker did not end in order");
        }
    }

    /// Follows the connection until it is closed for good.
    async fn watch(&self, client: &Client) {
        let mut states = client.states();
        loop {
            match states.next().await {
                Some(ConnectionState::Connected { .. }) => self.is_connected.store(true, Relaxed),
                Some(ConnectionState::Closed { reason }) => {
                    tracing::warn!(%reason, "the connection to the broker has ended; a new one is made");
                    return;
                }
                Some(_) => self.is_connected.store(false, Relaxed),
                None => return,
            }
        }
    }
}
