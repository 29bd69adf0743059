//! Heartbeats, and what they bring to light.

use std::{sync::Arc, sync::PoisonError, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::{Code, Response, Status};
use zonecast_protocol::directory::v1::{HeartbeatRequest, HeartbeatResponse, SnapshotRequest};

use crate::{OwnedZone, ZoneServerError, server::Shared};

/// Heartbeats in the time of a lease.
const BEATS: u32 = 3;
/// How often the keys of tickets are asked for: well within the time for which new ones are shown before they sign.
const KEYS_EVERY: Duration = Duration::from_secs(240);
/// A ticket by a key that is not known asks for the keys, but not more often than this.
const KEYS_PAUSE: Duration = Duration::from_secs(10);

/// How a server's lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// The directory says that it is held.
    Held,
    /// No heartbeat was answered for as long as a lease lasts: the zones may be somebody else's.
    InDoubt,
    /// The directory says that there is no such lease: the zones are not this server's any more.
    Lost,
}

/// What beats.
pub(crate) struct Pulse {
    shared: Arc<Shared>,
    /// When the last heartbeat that was answered was sent.
    heard_at: Instant,
    /// As of which revision what is held is what the directory says.
    zones_revision: u64,
    keys_at: Instant,
}

impl Pulse {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, heard_at: Instant::now(), zones_revision: 0, keys_at: Instant::now() }
    }

    /// Until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let (lease, lease_ms) = {
                let turn = self.shared.turn.lock().await;
                (turn.lease.clone(), turn.lease_ms)
            };
            let whole = Duration::from_millis(lease_ms.into());
            let sent_at = Instant::now();
            match self.beat(lease.clone()).await {
                Ok(answer) => {
                    self.heard_at = sent_at;
                    self.say(&lease, Lease::Held).await;
                    if answer.zones_revision != self.zones_revision
                        && let Err(error) = self.mend(answer.zones_revision, whole).await
                    {
                        tracing::warn!(error = %error, "what is held could not be compared with the directory yet");
                    }
                }
                Err(status) if status.code() == Code::FailedPrecondition => self.say(&lease, Lease::Lost).await,
                Err(status) => {
                    tracing::warn!(code = %status.code(), reason = status.message(), "a heartbeat was not taken");
                    if self.heard_at.elapsed() >= whole {
                        self.say(&lease, Lease::InDoubt).await;
                    }
                }
            }
            self.pause(whole / BEATS).await;
        }
    }

    async fn beat(&self, lease: String) -> Result<HeartbeatResponse, Status> {
        let (load, players) = *self.shared.load.lock().unwrap_or_else(PoisonError::into_inner);
        let request = HeartbeatRequest { name: self.shared.name.clone(), lease, load, players };
        let beat = self
            .shared
            .calls
            .once(request, async |mut directory, request| directory.heartbeat(request).await.map(Response::into_inner));
        beat.await
    }

    /// Says how the lease is, if it is still the one that was asked about.
    async fn say(&self, lease: &str, state: Lease) {
        if self.shared.turn.lock().await.lease == lease {
            self.shared.lease.send_if_modified(|said| std::mem::replace(said, state) != state);
        }
    }

    /// Until the next heartbeat; keys are asked for meanwhile where they are wanted.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.shared.admission.wants_keys.notified(), if self.keys_at.elapsed() >= KEYS_PAUSE => {
                self.keys_at = Instant::now();
                self.learn_keys().await;
            }
        }
        if self.keys_at.elapsed() >= KEYS_EVERY {
            self.keys_at = Instant::now();
            self.learn_keys().await;
        }
    }

    async fn learn_keys(&self) {
        if let Err(error) = self.shared.learn_keys().await {
            tracing::warn!(error = %error, "the keys of tickets are not renewed yet");
        }
    }

    /// Others hand zones over, and answers get lost: what is ours is what the directory says.
    async fn mend(&mut self, zones_revision: u64, lease: Duration) -> Result<(), ZoneServerError> {
        let turn = self.shared.turn.lock().await;
        let (ours, revision) = self.ours().await?;
        // The memory of another replica may be behind what this server was answered. The next heartbeat tries again.
        if revision < turn.revision.max(zones_revision) {
            return Ok(());
        }
        // It is by name that the directory was asked: that it spoke of this server, and of no other that has taken the name
        // meanwhile, is certain only where the lease still counts.
        self.beat(turn.lease.clone()).await?;
        let since = Instant::now().checked_sub(lease).unwrap_or(self.heard_at);
        let mending = self.shared.book().mend(&ours, since);
        if !mending.subscribe.is_empty() {
            self.shared.subscribe(&mending.subscribe).await?;
        }
        self.shared.unsubscribe_later(mending.unsubscribe);
        self.zones_revision = zones_revision;
        Ok(())
    }

    /// What the directory says is ours, and the revision as of which its first page says so.
    async fn ours(&self) -> Result<(Vec<OwnedZone>, u64), Status> {
        let mut request = SnapshotRequest { server: self.shared.name.clone(), ..SnapshotRequest::default() };
        let (mut zones, mut revision) = (Vec::new(), None);
        loop {
            let page = self.shared.calls.once(request.clone(), async |mut directory, request| {
                directory.snapshot(request).await.map(Response::into_inner)
            });
            let page = page.await?;
            revision.get_or_insert(page.revision);
            zones.extend(page.zones);
            if page.next_page_token.is_empty() {
                return Ok((zones, revision.unwrap_or_default()));
            }
            request.page_token = page.next_page_token;
        }
    }
}
