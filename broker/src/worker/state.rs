//! What a worker holds: the interest table, its sessions, its counts; and the step every event takes through them.

use std::{rc::Rc, sync::Arc};

use rustc_hash::FxHashMap;
use tokio::time::Instant;
use zonecast_core::{InterestChange, InterestOp, OutboundEvent, Pushed, Router, SessionId};
use zonecast_protocol::{DeliveryClass, EventView};

use super::{Aftermath, Worker};
use crate::{
    mail::HandOver,
    session::{Gauge, Session},
    stats::{MATCH_SAMPLE_EVERY, Snapshot, Stats},
};

#[derive(Default)]
pub(super) struct State {
    pub(super) router: Router,
    /// The sessions of this worker.
    pub(super) sessions: FxHashMap<SessionId, Rc<Session>>,
    /// The gauges of all sessions, whichever worker holds them.
    pub(super) gauges: FxHashMap<SessionId, Arc<Gauge>>,
    pub(super) stats: Stats,
    /// Sessions numbered so far.
    pub(super) sessions_numbered: u64,
}

impl Stats {
    pub(super) fn count_pushed(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Queued => self.deliveries_queued += 1,
            Pushed::Replaced => self.state_replaced += 1,
            // Counted by the outbox.
            Pushed::Dropped => {}
            Pushed::Overflow => self.dropped_at_end += 1,
        }
    }
}

impl State {
    pub(super) fn apply(&mut self, change: &InterestChange) {
        self.router.apply(change);
        for op in &change.ops {
            if let InterestOp::EndSession(id) = op {
                self.gauges.remove(id);
            }
        }
    }

    /// Matches an event and queues or notes its deliveries; returns how many sessions it reaches.
    pub(super) fn route(
        &mut self,
        worker: &Worker,
        event: &EventView<'_>,
        bytes: &[u8],
        exclude: Option<SessionId>,
        after: &mut Aftermath,
    ) -> u32 {
        let Self { router, sessions, gauges, stats, .. } = self;
        let sampled = stats.matching_is_due().then(Instant::now);
        let reached = router.route(event, exclude);
        if let Some(begun) = sampled {
            stats.matching.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        stats.events_in.count(event.class);
        stats.event_bytes_in += bytes.len() as u64;
        if reached.is_empty() {
            stats.events_unmatched += 1;
            return 0;
        }
        let outbound = OutboundEvent::new(event, bytes, worker.shared.now_us());
        for of_one_worker in reached.chunk_by(|a, b| a.worker() == b.worker()) {
            let owner = of_one_worker[0].worker();
            if owner != worker.index {
                stats.hand_overs += 1;
                let hand_over = HandOver { event: outbound.clone(), sessions: of_one_worker.to_vec() };
                after.hand_overs[usize::from(owner)].push(hand_over);
            } else {
                deliver(sessions, stats, of_one_worker, &outbound);
            }
        }
        if event.class != DeliveryClass::Transient {
            let over = reached.iter().filter_map(|id| gauges.get(id)).filter(|gauge| gauge.is_over());
            after.held_by.extend(over.cloned());
        }
        u32::try_from(reached.len()).unwrap_or(u32::MAX)
    }

    /// Queues an event that another worker matched.
    pub(super) fn deliver(&mut self, hand_over: &HandOver) {
        deliver(&self.sessions, &mut self.stats, &hand_over.sessions, &hand_over.event);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut stats = self.stats.clone();
        let (mut queue_deliveries, mut queue_bytes) = (0, 0);
        for session in self.sessions.values() {
            let outbox = session.outbox();
            queue_deliveries += outbox.len();
            queue_bytes += outbox.bytes();
            stats.dropped_transient += outbox.dropped_total();
        }
        Snapshot {
            stats,
            sessions: self.sessions.len(),
            queue_deliveries,
            queue_bytes,
            zones: self.router.zones_total(),
            topics: self.router.topics_total(),
            epoch: self.router.epoch(),
            worlds: self.router.worlds().map(|w| (w.name.to_owned(), w.zones, w.events)).collect(),
        }
    }
}

impl Stats {
    fn matching_is_due(&self) -> bool {
        let events = self.events_in.reliable + self.events_in.state + self.events_in.transient;
        events.is_multiple_of(MATCH_SAMPLE_EVERY)
    }
}

/// Queues an event for sessions of this worker. Deliveries to sessions that ended meanwhile are counted.
fn deliver(
    sessions: &FxHashMap<SessionId, Rc<Session>>,
    stats: &mut Stats,
    reached: &[SessionId],
    event: &OutboundEvent,
) {
    for id in reached {
        match sessions.get(id) {
            Some(session) => stats.count_pushed(session.deliver(event.clone())),
            None => stats.dropped_at_end += 1,
        }
    }
}
