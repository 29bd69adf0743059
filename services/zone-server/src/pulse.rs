//! Heartbeats, and what they bring to light.
//!
//! Each kind of work is a task of its own: nothing that takes its time keeps a heartbeat waiting.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Code, Response, Status};
use zonecast_protocol::directory::v1::{HeartbeatRequest, HeartbeatResponse, SnapshotRequest};

use crate::{OwnedZone, ZoneServerError, shared::Shared};

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

/// What beats, until it is dropped.
pub(crate) struct Pulse {
    _tasks: JoinSet<()>,
}

/// A heartbeat that was answered.
#[derive(Debug, Clone, Copy)]
struct Beat {
    sent_at: Instant,
    /// At which revision the server's zones changed last.
    zones_revision: u64,
}

impl Pulse {
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let beats = watch::Sender::new(Beat { sent_at: Instant::now(), zones_revision: 0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(doubt(Arc::clone(shared), beats.subscribe()));
        tasks.spawn(keep_mending(Arc::clone(shared), beats.subscribe()));
        tasks.spawn(keep_keys(Arc::clone(shared)));
        tasks.spawn(keep_beating(Arc::clone(shared), beats));
        Self { _tasks: tasks }
    }
}

/// Three times in a lease.
async fn keep_beating(shared: Arc<Shared>, beats: watch::Sender<Beat>) {
    loop {
        let registered = shared.registered();
        let pause = registered.lasts() / BEATS;
        let sent_at = Instant::now();
        let late = || Err(Status::deadline_exceeded("it took too long"));
        match timeout(pause, beat(&shared, registered.lease.clone())).await.unwrap_or_else(|_| late()) {
            Ok(HeartbeatResponse { zones_revision, .. }) => {
                if shared.say(&registered.lease, |_| Lease::Held) {
                    beats.send_replace(Beat { sent_at, zones_revision });
                }
            }
            Err(status) if status.code() == Code::FailedPrecondition => {
                shared.say(&registered.lease, |_| Lease::Lost);
            }
            Err(status) => {
                tracing::warn!(code = %status.code(), reason = status.message(), "a heartbeat was not taken");
            }
        }
        sleep_until(sent_at + pause).await;
    }
}

async fn beat(shared: &Shared, lease: String) -> Result<HeartbeatResponse, Status> {
    let (load, players) = *shared.load.lock().unwrap_or_else(PoisonError::into_inner);
    let request = HeartbeatRequest { name: shared.name.clone(), lease, load, players };
    let beat = shared
        .calls
        .once(request, async |mut directory, request| directory.heartbeat(request).await.map(Response::into_inner));
    beat.await
}

/// Says when a lease has lasted as long as the directory last said that it would.
async fn doubt(shared: Arc<Shared>, mut beats: watch::Receiver<Beat>) {
    loop {
        let heard_at = beats.borrow_and_update().sent_at;
        let registered = shared.registered();
        let until = heard_at.max(registered.since) + registered.lasts();
        tokio::select! {
            changed = beats.changed() => if changed.is_err() { return },
            () = sleep_until(until) => {
                let is_doubted = |said| if said == Lease::Held { Lease::InDoubt } else { said };
                shared.say(&registered.lease, is_doubted);
                // The next lease is in no doubt before it has begun.
                tokio::select! {
                    changed = beats.changed() => if changed.is_err() { return },
                    () = shared.registered_anew(&registered.lease) => {}
                }
            }
        }
    }
}

/// Looks at the keys of tickets.
async fn keep_keys(shared: Arc<Shared>) {
    loop {
        sleep(KEYS_PAUSE).await;
        tokio::select! {
            () = sleep(KEYS_EVERY - KEYS_PAUSE) => {}
            () = shared.admission.wants_keys.notified() => {}
        }
        if let Err(error) = shared.learn_keys().await {
            tracing::warn!(%error, "the keys of tickets are not renewed yet");
        }
    }
}

/// Mends what is held whenever a heartbeat tells of something new, or something could not be done before.
async fn keep_mending(shared: Arc<Shared>, mut beats: watch::Receiver<Beat>) {
    // As of which revision what is held is what the directory says.
    let mut settled = 0;
    while beats.changed().await.is_ok() {
        let Beat { zones_revision, .. } = *beats.borrow_and_update();
        let since = Instant::now().checked_sub(shared.registered().lasts());
        let is_torn = since.is_some_and(|since| shared.book().is_torn(since));
        if zones_revision == settled && !is_torn {
            continue;
        }
        match mend(&shared, zones_revision).await {
            Ok(true) => settled = zones_revision,
            // The memory of another replica may be behind. The next heartbeat tries again.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "what is held could not be made what the directory says; tried again"),
        }
    }
}

/// Others hand zones over, and answers get lost: what is ours is what the directory says. False where it said so of a time
/// that is over.
async fn mend(shared: &Arc<Shared>, zones_revision: u64) -> Result<bool, ZoneServerError> {
    let _turn = shared.turn.lock().await;
    let registered = shared.registered();
    let asked_at = Instant::now();
    let (ours, revision) = ours(shared).await?;
    if revision < registered.revision.max(zones_revision) {
        return Ok(false);
    }
    // It is by name that the directory was asked: that it spoke of this server, and of no other that has taken the name
    // meanwhile, is certain only where the lease still counts.
    beat(shared, registered.lease.clone()).await?;
    let since = asked_at.checked_sub(registered.lasts()).unwrap_or(registered.since);
    let mending = shared.book().mend(&ours, since);
    shared.unsubscribe_later(mending.unsubscribe);
    if !mending.subscribe.is_empty() {
        shared.subscribe(&mending.subscribe).await?;
    }
    Ok(true)
}

/// What the directory says is ours, and the revision as of which all of it is so: pages may come from several replicas.
async fn ours(shared: &Shared) -> Result<(Vec<OwnedZone>, u64), Status> {
    let mut request = SnapshotRequest { server: shared.name.clone(), ..SnapshotRequest::default() };
    let (mut zones, mut revision) = (Vec::new(), u64::MAX);
    loop {
        let page = shared.calls.once(request.clone(), async |mut directory, request| {
            directory.snapshot(request).await.map(Response::into_inner)
        });
        let page = page.await?;
        revision = revision.min(page.revision);
        zones.extend(page.zones);
        if page.next_page_token.is_empty() {
            return Ok((zones, revision));
        }
        request.page_token = page.next_page_token;
    }
}
