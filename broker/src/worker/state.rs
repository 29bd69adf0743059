//! What a worker holds: the interest table, its sessions, its counts; and the step every event takes through them.

use std::{rc::Rc, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::Instant;
use zonecast_core::{
    Admitted, Arrival, EventHead, InterestChange, InterestOp, OutboundEvent, Outcome, Pushed, Router, SessionId,
    Ticket, Tickets,
};
use zonecast_protocol::{AckLevel, DeliveryClass, EventView, PublishView, Refusal, wire::ErrorCode};

use super::{Aftermath, Worker};
use crate::{
    mail::HandOvers,
    session::{Gauge, Session},
    stats::{MATCH_SAMPLE_EVERY, Snapshot, Stats},
};

pub(super) struct State {
    pub(super) router: Router,
    /// The sessions of this worker.
    pub(super) sessions: FxHashMap<SessionId, Rc<Session>>,
    /// The gauges of the sessions of other workers.
    pub(super) gauges: FxHashMap<SessionId, Arc<Gauge>>,
    /// Publishes of this worker's sessions that wait to be processed.
    pub(super) tickets: Tickets,
    /// Tickets of deliveries that found no session, to be reported.
    lost: Vec<Ticket>,
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

impl Worker {
    /// Matches a publish and queues or notes its deliveries; returns how many sessions it reaches.
    pub(super) fn route(
        &self,
        session: &Session,
        publish: &PublishView<'_>,
        admitted: Admitted<'_>,
        after: &mut Aftermath,
    ) -> Result<u32, Refusal> {
        let mut state = self.state.borrow_mut();
        let State { router, sessions, gauges, tickets, lost, stats, .. } = &mut *state;
        let Admitted { event, ack } = admitted;
        let exclude = publish.exclude_self.then_some(session.id);
        let sampled = stats.matching_is_due().then(Instant::now);
        let reached = router.route(&event, exclude);
        if let Some(begun) = sampled {
            stats.matching.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        if reached.is_empty() && publish.require_match {
            return Err(Refusal::new(ErrorCode::NoMatch, "nobody has a zone or pattern that it matches"));
        }
        check_fan_out(reached.len(), self.shared.config.publishes.fan_out_max)?;
        let matched = u32::try_from(reached.len()).unwrap_or(u32::MAX);
        let now_us = after.now_us;
        let ticket = match ack {
            AckLevel::Processed if matched > 0 => Some(self.issue(tickets, &event, matched, publish, now_us)?),
            _ => None,
        };
        stats.events_in.count(event.class);
        stats.event_bytes_in += publish.event.len() as u64;
        if reached.is_empty() {
            stats.events_unmatched += 1;
            return Ok(0);
        }
        let arrival = Arrival { at_us: now_us, resent: publish.resent, ticket };
        let head = EventHead::new(&event, arrival);
        let outbound = OutboundEvent::new(&head, publish.event);
        let lasts = event.class != DeliveryClass::Transient;
        for of_one_worker in reached.chunk_by(|a, b| a.worker() == b.worker()) {
            let owner = of_one_worker[0].worker();
            if owner == self.index {
                deliver(sessions, stats, lost, of_one_worker, &outbound, |gauge| {
                    after.held_by.extend(lasts.then(|| Arc::clone(gauge)));
                });
                continue;
            }
            stats.hand_overs += 1;
            after.flight.get_or_insert_with(|| self.flight());
            after.hand_overs[usize::from(owner)].push(&outbound, of_one_worker);
            if lasts {
                let gauges = of_one_worker.iter().filter_map(|id| gauges.get(id));
                after.held_by.extend(gauges.filter(|gauge| gauge.is_over()).cloned());
            }
        }
        let lost = state.take_lost();
        drop(state);
        self.report(lost);
        Ok(matched)
    }

    /// A ticket for an event whose publisher waits until so many sessions have processed it.
    fn issue(
        &self,
        tickets: &mut Tickets,
        event: &EventView<'_>,
        matched: u32,
        publish: &PublishView<'_>,
        now_us: u64,
    ) -> Result<Ticket, Refusal> {
        let limits = &self.shared.config.sessions;
        check_unprocessed(tickets.open_of(event.source), limits.unprocessed_max)?;
        let expires_at_us = now_us + expiry_us(publish.expires_in_ms, limits.processed_timeout);
        if tickets.next_expiry_us().is_none_or(|next_us| expires_at_us < next_us) {
            self.ticket_issued.notify_one();
        }
        Ok(tickets.issue(event.source, event.lane, event.lane_seq, matched, expires_at_us))
    }
}

fn check_fan_out(matched: usize, fan_out_max: usize) -> Result<(), Refusal> {
    if matched <= fan_out_max {
        return Ok(());
    }
    let message = format!("the event matches {matched} sessions; at most {fan_out_max} are permitted (fan_out_max)");
    Err(Refusal::new(ErrorCode::FanOutTooLarge, message))
}

fn check_unprocessed(open: usize, unprocessed_max: usize) -> Result<(), Refusal> {
    if open < unprocessed_max {
        return Ok(());
    }
    let message = format!("{open} publishes of this client wait to be processed already (sessions.unprocessed_max)");
    Err(Refusal::new(ErrorCode::TooManyUnprocessed, message))
}

/// How long a publish may wait to be processed: what it asks for, at most what the broker permits.
fn expiry_us(expires_in_ms: u32, most: Duration) -> u64 {
    let asked = match expires_in_ms {
        0 => most,
        ms => Duration::from_millis(ms.into()).min(most),
    };
    u64::try_from(asked.as_micros()).unwrap_or(u64::MAX)
}

impl State {
    pub(super) fn new(worker: u16) -> Self {
        Self {
            router: Router::default(),
            sessions: FxHashMap::default(),
            gauges: FxHashMap::default(),
            tickets: Tickets::new(worker),
            lost: Vec::new(),
            stats: Stats::default(),
            sessions_numbered: 0,
        }
    }

    pub(super) fn apply(&mut self, change: &InterestChange) {
        self.router.apply(change);
        for op in &change.ops {
            if let InterestOp::EndSession(id) | InterestOp::Rehome(id, _) = op {
                self.gauges.remove(id);
            }
        }
    }

    /// Queues events that another worker matched.
    pub(super) fn deliver(&mut self, batch: &HandOvers) {
        let Self { sessions, stats, lost, .. } = self;
        for (event, receivers) in batch.each() {
            deliver(sessions, stats, lost, receivers, &event, |_| {});
        }
    }

    /// The tickets of deliveries that found no session since the last time, as outcomes.
    pub(super) fn take_lost(&mut self) -> impl Iterator<Item = (Ticket, Outcome)> + use<> {
        std::mem::take(&mut self.lost).into_iter().map(|ticket| (ticket, Outcome::Lost))
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut stats = self.stats.clone();
        let (mut queue_deliveries, mut queue_bytes) = (0, 0);
        let (mut kept_deliveries, mut held_bytes) = (0, 0);
        for session in self.sessions.values() {
            let outbox = session.outbox();
            queue_deliveries += outbox.len();
            queue_bytes += outbox.bytes();
            kept_deliveries += outbox.kept();
            held_bytes += session.held_bytes();
            stats.dropped_transient += outbox.dropped_total();
        }
        Snapshot {
            stats,
            sessions: self.sessions.len(),
            queue_deliveries,
            queue_bytes,
            kept_deliveries,
            held_bytes,
            tickets: self.tickets.len(),
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

/// Queues an event for sessions of this worker. Deliveries to sessions that ended meanwhile are counted; `over` is told
/// the gauges of those that are over their mark now.
fn deliver(
    sessions: &FxHashMap<SessionId, Rc<Session>>,
    stats: &mut Stats,
    lost: &mut Vec<Ticket>,
    reached: &[SessionId],
    event: &OutboundEvent<'_>,
    mut over: impl FnMut(&Arc<Gauge>),
) {
    for id in reached {
        let pushed = match sessions.get(id) {
            Some(session) => {
                let pushed = session.deliver(event);
                if session.gauge.is_over() {
                    over(&session.gauge);
                }
                pushed
            }
            None => Pushed::Overflow,
        };
        if pushed == Pushed::Overflow {
            lost.extend(event.head().arrival().ticket);
        }
        stats.count_pushed(pushed);
    }
}
