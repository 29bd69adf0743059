//! The directory in memory: what lookups are answered from, kept current by the change log.
//!
//! It is as of one revision at each moment, never between two. After a change by this process it is brought up to date
//! before the change is answered; what other processes did comes with the next poll.

mod coverage;
mod grid;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use prost::Message;
use tokio::sync::{Mutex, watch};
use zonecast_protocol::{
    Zone,
    directory::v1::{self as wire, Change, step::What},
};
use zonecast_store::StoreError;

pub use coverage::{Coverage, coverage};
pub use grid::Grid;

use crate::{DirectoryStore, rectangle};

/// Most changes that are read at once.
const CHANGES_MAX: i64 = 256;
/// Most changes that are kept in memory for who watches, and most bytes of them as they are sent: one may be of a thousand
/// zones. What is older is read from the log.
const RECENT_MAX: usize = 4_096;
const RECENT_BYTES_MAX: usize = 16 << 20;

/// The directory in memory.
#[derive(Debug)]
pub struct Index {
    state: RwLock<State>,
    /// One at a time reads the log, so that changes come in order.
    reading: Mutex<()>,
    revision: watch::Sender<u64>,
}

/// Who owns a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The zone.
    pub zone: wire::Zone,
    /// Its owner.
    pub server: wire::Server,
    /// The revision as of which this is so.
    pub revision: u64,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    servers: HashMap<String, wire::Server>,
    zones: BTreeMap<u64, wire::Zone>,
    worlds: HashMap<String, Grid>,
    recent: VecDeque<Arc<Change>>,
    recent_bytes: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { state: RwLock::default(), reading: Mutex::default(), revision: watch::Sender::new(0) }
    }
}

impl Index {
    /// Brings it up to date.
    ///
    /// # Errors
    /// The database does not answer; it stays as it was.
    pub async fn refresh(&self, store: &impl DirectoryStore) -> Result<(), StoreError> {
        let _turn = self.reading.lock().await;
        let (head, _) = store.head().await?;
        let (mut known, latest) = (self.revision(), head.revision.unsigned_abs());
        // A database that was restored may be behind.
        if latest < known {
            return self.reload(store).await;
        }
        while known < latest {
            let changes = store.changes_after(i64::try_from(known).unwrap_or(i64::MAX), CHANGES_MAX).await?;
            if changes.first().is_none_or(|change| change.revision != known + 1) {
                return self.reload(store).await;
            }
            self.change(|state| changes.into_iter().for_each(|change| state.apply(change)));
            known = self.revision();
        }
        Ok(())
    }

    async fn reload(&self, store: &impl DirectoryStore) -> Result<(), StoreError> {
        let everything = store.everything().await?;
        self.change(|state| {
            *state = State { revision: everything.revision.unsigned_abs(), ..State::default() };
            for server in &everything.servers {
                state.servers.insert(server.name.clone(), server.message());
            }
            for zone in &everything.zones {
                state.add(zone.message());
            }
        });
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let revision = state.revision;
        drop(state);
        self.revision.send_replace(revision);
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision as of which it is.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Tells of each revision.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Who owns a place; by the rule of `DirectoryService.Lookup`.
    #[must_use]
    pub fn lookup(&self, world: &str, x: f64, y: f64) -> Option<Found> {
        let state = self.state();
        let zone = state.zones.get(&state.worlds.get(world)?.at(x, y)?)?;
        let server = state.servers.get(&zone.server)?;
        Some(Found { zone: zone.clone(), server: server.clone(), revision: state.revision })
    }

    /// The changes behind this revision, as far as they are in memory; none where the first of them is not.
    #[must_use]
    pub fn recent_after(&self, revision: u64) -> Option<Vec<Arc<Change>>> {
        let state = self.state();
        let first = state.recent.front()?.revision;
        let behind = usize::try_from((revision + 1).checked_sub(first)?).ok()?;
        Some(state.recent.iter().skip(behind).take(CHANGES_MAX as usize).cloned().collect())
    }

    /// The first zones behind this id, of a world and a server or of all, with their owners, and the revision.
    #[must_use]
    pub fn page(
        &self,
        world: &str,
        server: &str,
        after: u64,
        zones_max: usize,
    ) -> (Vec<(wire::Zone, wire::Server)>, u64) {
        let state = self.state();
        let wanted = |zone: &&wire::Zone| {
            (world.is_empty() || zone.world == world) && (server.is_empty() || zone.server == server)
        };
        let zones = state.zones.range(after.saturating_add(1)..).map(|(_, zone)| zone).filter(wanted).take(zones_max);
        let owned = zones.map(|zone| (zone.clone(), state.servers.get(&zone.server).cloned().unwrap_or_default()));
        (owned.collect(), state.revision)
    }

    /// The zones of a world that have an area in common with a rectangle, and the revision.
    #[must_use]
    pub fn within(&self, world: &str, within: &Zone) -> (Vec<Zone>, u64) {
        let state = self.state();
        let zones = state.worlds.get(world).map(|grid| grid.overlapping(within)).unwrap_or_default();
        (zones, state.revision)
    }
}

impl State {
    fn apply(&mut self, change: Change) {
        self.revision = change.revision;
        for what in change.steps.iter().filter_map(|step| step.what.clone()) {
            match what {
                What::ServerRegistered(server) => {
                    self.servers.insert(server.name.clone(), server);
                }
                What::ServerGone(gone) => {
                    self.servers.remove(&gone.name);
                    let of_it = self.zones.values().filter(|zone| zone.server == gone.name);
                    for id in of_it.map(|zone| zone.id).collect::<Vec<_>>() {
                        self.remove(id);
                    }
                }
                What::ZoneClaimed(zone) => self.add(zone),
                What::ZoneMoved(moved) => {
                    if let Some(zone) = moved.zone {
                        self.add(zone);
                    }
                }
                What::ZoneReleased(id) => self.remove(id),
            }
        }
        self.recent_bytes += change.encoded_len();
        self.recent.push_back(Arc::new(change));
        while self.recent.len() > RECENT_MAX || (self.recent_bytes > RECENT_BYTES_MAX && self.recent.len() > 1) {
            let oldest = self.recent.pop_front();
            self.recent_bytes -= oldest.map_or(0, |change| change.encoded_len());
        }
    }

    fn add(&mut self, zone: wire::Zone) {
        self.remove(zone.id);
        if let Ok(rectangle) = rectangle::zone(zone.rectangle.as_ref()) {
            self.worlds.entry(zone.world.clone()).or_default().add(zone.id, rectangle);
        }
        self.zones.insert(zone.id, zone);
    }

    fn remove(&mut self, id: u64) {
        let Some(zone) = self.zones.remove(&id) else { return };
        let Some(grid) = self.worlds.get_mut(&zone.world) else { return };
        grid.remove(id);
        if grid.is_empty() {
            self.worlds.remove(&zone.world);
        }
    }
}

#[cfg(test)]
mod tests;
