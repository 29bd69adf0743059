//! Streams of changes, from a revision on, without gaps.

use std::sync::Arc;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, metadata::MetadataValue};
use zonecast_protocol::directory::v1::{Change, WatchResponse};

use crate::{DirectoryStore, Index};

/// Most changes in one answer, and most that are read from the log for one: each may be of a thousand zones.
const CHANGES_MAX: usize = 256;
const CHANGES_READ_MAX: i64 = 32;
/// The metadata with the present revision, where the one that was asked for cannot be gone on from.
const REVISION: &str = "zonecast-revision";

/// One stream.
pub(crate) struct Watcher<S> {
    pub(crate) store: S,
    pub(crate) index: Arc<Index>,
    /// The last revision that was told.
    pub(crate) revision: u64,
    /// The present revision, when it was last looked at.
    pub(crate) seen: u64,
    /// Longest answer, in bytes, as far as one change fits in it.
    pub(crate) bytes_max: usize,
    pub(crate) told: mpsc::Sender<Result<WatchResponse, Status>>,
    /// Given back when the stream ends.
    pub(crate) _place: OwnedSemaphorePermit,
}

impl<S: DirectoryStore> Watcher<S> {
    /// Until the caller leaves, falls behind what is kept, or it is to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut revisions, told) = (self.index.revisions(), self.told.clone());
        loop {
            let ended = tokio::select! {
                () = told.closed() => return,
                () = stop.cancelled() => Some(Status::unavailable("the service stops; go on elsewhere")),
                waited = self.tell(&mut revisions) => waited.err(),
            };
            if let Some(status) = ended {
                // Nobody may be there to hear it.
                let _ = told.try_send(Err(status));
                return;
            }
        }
    }

    /// Waits for changes and tells of them.
    async fn tell(&mut self, revisions: &mut tokio::sync::watch::Receiver<u64>) -> Result<(), Status> {
        let (known, seen) = (self.revision, self.seen);
        // The index outlives who watches. It may be behind what the caller knows; what it was itself it is behind only of a
        // database that was restored, and then what comes now does not follow on what was told.
        let waited = revisions.wait_for(|present| *present > known || *present < seen).await;
        self.seen = waited.map_or(seen, |present| *present);
        if self.seen < seen {
            return Err(out_of_range(known, i64::try_from(self.seen).unwrap_or(i64::MAX)));
        }
        let changes = match self.index.recent_after(known) {
            Some(recent) => recent,
            None => kept_after(&self.store, known).await?.into_iter().map(Arc::new).collect(),
        };
        let mut response = WatchResponse::default();
        let mut bytes = 0;
        for change in changes {
            bytes += change.encoded_len();
            if !response.changes.is_empty() && (bytes > self.bytes_max || response.changes.len() == CHANGES_MAX) {
                break;
            }
            response.changes.push(Change::clone(&change));
        }
        let Some(last) = response.changes.last().map(|change| change.revision) else { return Ok(()) };
        if self.told.send(Ok(response)).await.is_ok() {
            self.revision = last;
        }
        Ok(())
    }
}

/// Refuses a revision from which nobody can go on.
///
/// # Errors
/// OUT_OF_RANGE: what came behind it is not kept any more, or it is still to come.
pub(crate) async fn check(store: &impl DirectoryStore, revision: u64) -> Result<(), Status> {
    let (head, _) = store.head().await?;
    let kept = head.floor.unsigned_abs()..=head.revision.unsigned_abs();
    if kept.contains(&revision) { Ok(()) } else { Err(out_of_range(revision, head.revision)) }
}

async fn kept_after(store: &impl DirectoryStore, revision: u64) -> Result<Vec<Change>, Status> {
    let after = i64::try_from(revision).unwrap_or(i64::MAX);
    let changes = store.changes_after(after, CHANGES_READ_MAX).await?;
    match changes.first() {
        Some(first) if first.revision == revision + 1 => Ok(changes),
        _ => {
            let (head, _) = store.head().await?;
            if head.revision == after { Ok(Vec::new()) } else { Err(out_of_range(revision, head.revision)) }
        }
    }
}

fn out_of_range(revision: u64, present: i64) -> Status {
    let message =
        format!("the changes behind revision {revision} are not kept; take a snapshot ({present} is the present)");
    let mut status = Status::out_of_range(message);
    status.metadata_mut().insert(REVISION, MetadataValue::from(present));
    status
}
