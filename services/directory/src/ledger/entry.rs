//! One change of the directory while it is written.

use std::time::Duration;

use zonecast_protocol::directory::v1::{Change, ServerGone, ServerLost, Step, ZonesClaimed, ZonesReleased, step::What};
use zonecast_store::{StoreError, Uuid, from_micros, outbox::NewChange, timestamp};

use super::{PAUSE, Refused, change, messages};
use crate::{DirectoryStep, StoredServer, StoredZone, store::Head};

/// A change that is being written: what it does to the database, what it says to who watches, and what is published.
pub(super) struct Entry<T> {
    pub(super) step: T,
    /// As it is to be.
    pub(super) head: Head,
    steps: Vec<Step>,
    announcements: Vec<NewChange>,
}

/// A length of time as the database has it.
pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl<T: DirectoryStep> Entry<T> {
    /// Begins with who is gone.
    pub(super) async fn open(mut step: T, lease: Duration) -> Result<Self, StoreError> {
        let head = step.head();
        // Where the clock was set back, nobody knows how long.
        let was_away = (head.now - head.swept_at).abs() > micros(PAUSE);
        if was_away {
            step.extend(head.now + micros(lease)).await?;
        }
        let ended = if was_away { Vec::new() } else { step.ended().await? };
        let head = Head { swept_at: head.now, ..head };
        let mut entry = Self { step, head, steps: Vec::new(), announcements: Vec::new() };
        for server in ended {
            entry.dismiss(&server.name, true).await?;
        }
        Ok(entry)
    }

    /// The number of this change.
    pub(super) fn revision(&self) -> i64 {
        self.head.revision + 1
    }

    /// The number of a new zone.
    pub(super) fn new_zone(&mut self) -> i64 {
        self.head.zones_made += 1;
        self.head.zones_made
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.steps.is_empty()
    }

    /// The server that holds this lease.
    pub(super) async fn holder(&mut self, server: &str, lease: Uuid) -> Result<StoredServer, Refused> {
        let holder = self.step.server(server).await?;
        holder.filter(|holder| holder.lease == lease).ok_or(Refused::NoLease)
    }

    /// Ends a server's lease, with its zones.
    pub(super) async fn dismiss(&mut self, server: &str, lost: bool) -> Result<(), StoreError> {
        let zones = self.step.zones_of(server).await?;
        self.step.remove_server(server).await?;
        self.note(What::ServerGone(ServerGone { name: server.to_owned(), lost }));
        if lost {
            tracing::warn!(server, zones = zones.len(), "a server's lease has ended without a heartbeat");
            let (zones, revision) = (messages(&zones), self.revision().unsigned_abs());
            self.announce("directory.server_lost", &ServerLost { server: server.to_owned(), zones, revision });
        } else {
            self.announce_released(&zones);
        }
        Ok(())
    }

    /// Tells who watches.
    pub(super) fn note(&mut self, what: What) {
        self.steps.push(Step { what: Some(what) });
    }

    /// Publishes something on a topic.
    pub(super) fn announce<M: prost::Message + prost::Name>(&mut self, topic: &'static str, detail: &M) {
        self.announcements.push(change(topic, self.head.now, detail));
    }

    /// Publishes that zones are nobody's any more, if there are any.
    pub(super) fn announce_released(&mut self, zones: &[StoredZone]) {
        if !zones.is_empty() {
            let (zones, revision) = (messages(zones), self.revision().unsigned_abs());
            self.announce("directory.zone_released", &ZonesReleased { zones, revision });
        }
    }

    /// Publishes that zones have an owner, if there are any.
    pub(super) fn announce_claimed(&mut self, zones: &[StoredZone]) {
        if !zones.is_empty() {
            let (zones, revision) = (messages(zones), self.revision().unsigned_abs());
            self.announce("directory.zone_claimed", &ZonesClaimed { zones, revision });
        }
    }

    /// Ends the change. The revision as of which the directory is then: this change's, or the last one's where nothing
    /// happened.
    pub(super) async fn commit(self) -> Result<i64, StoreError> {
        let mut head = self.head;
        let change = self.has_changed().then(|| {
            head.revision += 1;
            let occurred_at = Some(timestamp(from_micros(head.now)));
            Change { revision: head.revision.unsigned_abs(), occurred_at, steps: self.steps }
        });
        self.step.commit(head, change.as_ref(), &self.announcements).await?;
        Ok(head.revision)
    }
}
