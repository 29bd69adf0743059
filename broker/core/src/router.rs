//! Who an event reaches.

mod filters;
mod topic_index;
mod zone_index;

use rustc_hash::FxHashMap;
use zonecast_protocol::{Circle, EventView, Target, WorldName};

use self::{
    filters::Filters,
    topic_index::TopicIndex,
    zone_index::{Entry, ZoneIndex},
};
use crate::{InterestChange, InterestOp, SessionId, TopicInterest, ZoneInterest};

/// The interest of all sessions, and the matching of events against it.
///
/// Every worker has one, and all are given the same changes in the same order. A router decides by its arguments
/// alone: the same changes and events in the same order give the same sessions.
#[derive(Debug, Default)]
pub struct Router {
    /// What each session holds; a session that holds nothing is absent.
    holdings: FxHashMap<SessionId, Holdings>,
    /// A world without zones is absent between two changes.
    worlds: FxHashMap<Box<str>, World>,
    filters: Filters,
    topics: TopicIndex,
    zones_total: usize,
    topics_total: usize,
    epoch: u64,
    /// The worlds in which the change at hand put or removed zones; empty between two changes.
    changed_worlds: Vec<WorldName>,
    /// What the last event reached. Kept so that routing allocates nothing once this has grown.
    reached: Vec<SessionId>,
}

/// What a session holds.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    zones: FxHashMap<u32, ZoneInterest>,
    topics: FxHashMap<u32, TopicInterest>,
}

#[derive(Debug, Default)]
struct World {
    index: ZoneIndex,
    events: u64,
}

/// What a world holds and has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorldStats<'a> {
    /// The world's name.
    pub name: &'a str,
    /// Zones in it.
    pub zones: usize,
    /// Events that this router routed to it since its first zone came; the count ends with its last zone.
    pub events: u64,
}

impl Holdings {
    /// The zones with their ids, in no particular order.
    pub fn zones(&self) -> impl Iterator<Item = (u32, &ZoneInterest)> {
        self.zones.iter().map(|(id, interest)| (*id, interest))
    }

    /// The topics with their ids, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = (u32, &TopicInterest)> {
        self.topics.iter().map(|(id, interest)| (*id, interest))
    }
}

impl Router {
    /// A router without any interest.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a change of interest as a whole: every event is routed by all of it or by nothing of it.
    ///
    /// A zone that moves costs one to two microseconds. Many new zones at once cost less: where they at least double a
    /// world its index is built anew.
    pub fn apply(&mut self, change: &InterestChange) {
        for op in &change.ops {
            match op {
                InterestOp::PutZone(session, id, interest) => self.put_zone(*session, *id, interest),
                InterestOp::RemoveZone(session, id) => self.remove_zone(*session, *id),
                InterestOp::PutTopic(session, id, interest) => self.put_topic(*session, *id, interest),
                InterestOp::RemoveTopic(session, id) => self.remove_topic(*session, *id),
                InterestOp::EndSession(session) => self.end_session(*session),
                InterestOp::Rehome(from, to) => self.rehome(*from, *to),
            }
        }
        for name in self.changed_worlds.drain(..) {
            let Some(world) = self.worlds.get_mut(name.as_str()) else { continue };
            if world.index.len() == 0 {
                self.worlds.remove(name.as_str());
            } else {
                world.index.settle();
            }
        }
        self.epoch = self.epoch.max(change.epoch);
    }

    /// The greatest epoch of the changes applied; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sessions that an event reaches, ascending, each once, without `exclude`.
    ///
    /// An event at a place reaches every session with a zone that its circle touches and whose filter its kind
    /// passes. An event on a topic reaches every session with a pattern that matches; of each queue group of a
    /// pattern only one session, the next above the one that it reached last and round again. Whose turn it was is
    /// known to this router only, and forgotten with the group's last member.
    #[must_use]
    pub fn route(&mut self, event: &EventView<'_>, exclude: Option<SessionId>) -> &[SessionId] {
        self.reached.clear();
        match &event.target {
            Target::Place { world, circle } => self.reach_zones(world, circle, event.kind, exclude),
            Target::Topic(topic) => {
                let reached = &mut self.reached;
                self.topics.search(topic, exclude, |session| {
                    if Some(session) != exclude {
                        reached.push(session);
                    }
                });
            }
        }
        self.reached.sort_unstable();
        self.reached.dedup();
        &self.reached
    }

    /// All that a session holds; `None` when that is nothing.
    #[must_use]
    pub fn held(&self, session: SessionId) -> Option<&Holdings> {
        self.holdings.get(&session)
    }

    /// A zone that a session holds.
    #[must_use]
    pub fn zone(&self, session: SessionId, zone_id: u32) -> Option<&ZoneInterest> {
        self.holdings.get(&session)?.zones.get(&zone_id)
    }

    /// The zones that a session holds with their ids, in no particular order.
    pub fn zones(&self, session: SessionId) -> impl Iterator<Item = (u32, &ZoneInterest)> {
        self.held(session).into_iter().flat_map(Holdings::zones)
    }

    /// How many zones a session holds.
    #[must_use]
    pub fn zone_count(&self, session: SessionId) -> usize {
        self.holdings.get(&session).map_or(0, |held| held.zones.len())
    }

    /// The topics that a session listens to with their ids, in no particular order.
    pub fn topics(&self, session: SessionId) -> impl Iterator<Item = (u32, &TopicInterest)> {
        self.held(session).into_iter().flat_map(Holdings::topics)
    }

    /// Whether a session holds a topic subscription under this id.
    #[must_use]
    pub fn holds_topic(&self, session: SessionId, id: u32) -> bool {
        self.holdings.get(&session).is_some_and(|held| held.topics.contains_key(&id))
    }

    /// How many topic subscriptions a session holds.
    #[must_use]
    pub fn topic_count(&self, session: SessionId) -> usize {
        self.holdings.get(&session).map_or(0, |held| held.topics.len())
    }

    /// Zones of all sessions.
    #[must_use]
    pub fn zones_total(&self) -> usize {
        self.zones_total
    }

    /// Topic subscriptions of all sessions.
    #[must_use]
    pub fn topics_total(&self) -> usize {
        self.topics_total
    }

    /// The worlds in which there are zones, in no particular order.
    pub fn worlds(&self) -> impl Iterator<Item = WorldStats<'_>> {
        self.worlds.iter().map(|(name, world)| WorldStats { name, zones: world.index.len(), events: world.events })
    }

    /// Whether nothing at all is kept: no interest, and nothing that earlier interest left behind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holdings.is_empty()
            && self.worlds.is_empty()
            && self.filters.is_empty()
            && self.topics.is_empty()
            && (self.zones_total, self.topics_total) == (0, 0)
    }

    fn reach_zones(&mut self, world: &str, circle: &Circle, kind: &str, exclude: Option<SessionId>) {
        let Some(world) = self.worlds.get_mut(world) else { return };
        world.events += 1;
        let (filters, reached) = (&self.filters, &mut self.reached);
        world.index.search(circle, |entry| {
            if Some(entry.session) != exclude && filters.passes(entry.filter, kind) {
                reached.push(entry.session);
            }
        });
    }

    fn put_zone(&mut self, session: SessionId, id: u32, interest: &ZoneInterest) {
        let former = self.holdings.entry(session).or_default().zones.insert(id, interest.clone());
        if former.as_ref() == Some(interest) {
            return;
        }
        if let Some(former) = former {
            self.unindex_zone(session, id, &former);
        }
        // Not `entry`: it would copy the name each time.
        if !self.worlds.contains_key(interest.world.as_str()) {
            self.worlds.insert(interest.world.as_str().into(), World::default());
        }
        if let Some(world) = self.worlds.get_mut(interest.world.as_str()) {
            let filter = self.filters.acquire(&interest.kinds);
            world.index.insert(Entry { session, id, filter, zone: interest.zone });
        }
        self.zones_total += 1;
        self.note_change(&interest.world);
    }

    fn remove_zone(&mut self, session: SessionId, id: u32) {
        let Some(held) = self.holdings.get_mut(&session) else { return };
        let Some(interest) = held.zones.remove(&id) else { return };
        self.forget_if_empty(session);
        self.unindex_zone(session, id, &interest);
    }

    fn unindex_zone(&mut self, session: SessionId, id: u32, interest: &ZoneInterest) {
        if let Some(world) = self.worlds.get_mut(interest.world.as_str()) {
            let filter = self.filters.release(&interest.kinds);
            world.index.remove(&Entry { session, id, filter, zone: interest.zone });
        }
        self.zones_total -= 1;
        self.note_change(&interest.world);
    }

    fn note_change(&mut self, world: &WorldName) {
        if self.changed_worlds.last() != Some(world) {
            self.changed_worlds.push(world.clone());
        }
    }

    fn put_topic(&mut self, session: SessionId, id: u32, interest: &TopicInterest) {
        let former = self.holdings.entry(session).or_default().topics.insert(id, interest.clone());
        if former.as_ref() == Some(interest) {
            return;
        }
        if let Some(former) = former {
            self.unindex_topic(session, &former);
        }
        self.topics.insert(session, interest);
        self.topics_total += 1;
    }

    fn remove_topic(&mut self, session: SessionId, id: u32) {
        let Some(held) = self.holdings.get_mut(&session) else { return };
        let Some(interest) = held.topics.remove(&id) else { return };
        self.forget_if_empty(session);
        self.unindex_topic(session, &interest);
    }

    fn unindex_topic(&mut self, session: SessionId, interest: &TopicInterest) {
        self.topics.remove(session, interest);
        self.topics_total -= 1;
    }

    fn end_session(&mut self, session: SessionId) {
        let Some(held) = self.holdings.remove(&session) else { return };
        for (id, interest) in &held.zones {
            self.unindex_zone(session, *id, interest);
        }
        for interest in held.topics.values() {
            self.unindex_topic(session, interest);
        }
    }

    fn rehome(&mut self, from: SessionId, to: SessionId) {
        let Some(held) = self.holdings.remove(&from) else { return };
        for (id, interest) in held.zones {
            self.unindex_zone(from, id, &interest);
            self.put_zone(to, id, &interest);
        }
        // In an order of their own: whose turn it is next in a queue group must not hang on that of a hash map.
        let mut topics: Vec<_> = held.topics.into_iter().collect();
        topics.sort_unstable_by_key(|(id, _)| *id);
        for (id, interest) in topics {
            self.unindex_topic(from, &interest);
            self.put_topic(to, id, &interest);
        }
    }

    fn forget_if_empty(&mut self, session: SessionId) {
        if self.holdings.get(&session).is_some_and(|held| held.zones.is_empty() && held.topics.is_empty()) {
            self.holdings.remove(&session);
        }
    }
}
