//! What a session may ask for: frames in, checked changes of interest out.

use std::{collections::BTreeSet, sync::Arc};

use zonecast_protocol::{
    AckLevel, DeliveryClass, EventView, HANDED_OVER_ZONE_ID_MIN, Kind, Limits, PublishView, QueueGroup, Refusal,
    TopicPattern, WorldName, Zone,
    codec::DELIVER_OVERHEAD_BYTES_MAX,
    wire::{self, ErrorCode},
};

use crate::{InterestOp, KindFilter, Router, SessionId, SessionRights, Standing, TopicInterest, ZoneInterest};

/// The rules of one session: who it is, what it may do, and how far its lanes have come.
///
/// Its methods check a frame against the limits, the rights, and what the session holds (which the [`Router`] knows);
/// they change nothing but the lane counters and the ids for handed-over zones. The caller applies the returned steps
/// as one [`crate::InterestChange`].
#[derive(Debug)]
pub struct SessionRules {
    session: SessionId,
    source: u64,
    rights: SessionRights,
    limits: Arc<Limits>,
    standing: Standing,
}

/// A publish that passed all checks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admitted<'a> {
    /// Its event.
    pub event: EventView<'a>,
    /// The acknowledgement that its publisher waits for.
    pub ack: AckLevel,
}

/// A publish that was refused, with the event's place on its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPublish {
    /// The lane; 0 when it could not be read.
    pub lane: u32,
    /// The number on the lane; 0 when it could not be read.
    pub lane_seq: u64,
    /// Why.
    pub refusal: Refusal,
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

impl SessionRules {
    /// The rules of a new session.
    #[must_use]
    pub fn new(session: SessionId, source: u64, rights: SessionRights, limits: Arc<Limits>) -> Self {
        let standing = Standing::new(limits.lanes_max);
        Self { session, source, rights, limits, standing }
    }

    /// Who publishes: the value of `Welcome.source`.
    #[must_use]
    pub fn source(&self) -> u64 {
        self.source
    }

    /// How far the session has come.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Goes on where another session stood, whose interest this one now holds.
    pub fn resume(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// What the session may do.
    #[must_use]
    pub fn rights(&self) -> &SessionRights {
        &self.rights
    }

    /// Gives the session other rights, which must permit all that it holds.
    ///
    /// # Errors
    /// They do not; then the old ones stay.
    pub fn replace_rights(&mut self, router: &Router, rights: SessionRights) -> Result<(), Refusal> {
        rights.check_held(router.held(self.session), self.source)?;
        self.rights = rights;
        Ok(())
    }

    /// Takes note of a request's number.
    ///
    /// # Errors
    /// It is 0, or not greater than the one before.
    pub fn number_request(&mut self, request_id: u64) -> Result<(), Refusal> {
        let last = self.standing.last_request_id;
        if request_id <= last {
            let message = format!("request_id is {request_id}; number requests upwards, the last one was {last}");
            return refuse(ErrorCode::InvalidArgument, message);
        }
        self.standing.last_request_id = request_id;
        Ok(())
    }

    /// Checks a publish and reads its event.
    ///
    /// # Errors
    /// The event is malformed, another client's, beyond a limit or right, out of order, or asks for an acknowledgement
    /// that is not offered. A refused event uses its number up.
    pub fn admit<'a>(&mut self, publish: &PublishView<'a>) -> Result<Admitted<'a>, RefusedPublish> {
        let event = match EventView::decode(publish.event) {
            Ok(event) => event,
            Err(refusal) => {
                let (lane, lane_seq) = EventView::position_of_refused(publish.event);
                self.standing.advance(lane, lane_seq);
                return Err(RefusedPublish { lane, lane_seq, refusal });
            }
        };
        let in_order = self.standing.advance(event.lane, event.lane_seq);
        match self.check_publish(publish, &event, in_order) {
            Ok(ack) => Ok(Admitted { event, ack }),
            Err(refusal) => Err(RefusedPublish { lane: event.lane, lane_seq: event.lane_seq, refusal }),
        }
    }

    fn check_publish(
        &self,
        publish: &PublishView<'_>,
        event: &EventView<'_>,
        in_order: bool,
    ) -> Result<AckLevel, Refusal> {
        if event.source != self.source {
            let message =
                format!("source is {:#x}; write the value of Welcome.source, {:#x}", event.source, self.source);
            return refuse(ErrorCode::WrongSource, message);
        }
        event.check_limits(&self.limits)?;
        let deliver_bytes = publish.event.len() + DELIVER_OVERHEAD_BYTES_MAX;
        if deliver_bytes > self.limits.frame_bytes_max as usize {
            let message = format!(
                "the event's delivery would have {deliver_bytes} bytes; at most {} are permitted (frame_bytes_max)",
                self.limits.frame_bytes_max
            );
            return refuse(ErrorCode::PayloadTooLarge, message);
        }
        self.rights.check_publish(&event.target, event.kind)?;
        if !event.reply_to.is_empty() {
            self.rights.check_reply_to(event.reply_to, self.source)?;
        }
        if !in_order {
            let message =
                format!("lane_seq {} does not rise above the last one of lane {}", event.lane_seq, event.lane);
            return refuse(ErrorCode::OutOfSequence, message);
        }
        match AckLevel::try_from(publish.ack) {
            Ok(AckLevel::Processed) if event.class != DeliveryClass::Reliable => {
                refuse(ErrorCode::InvalidArgument, "ack level processed is for class reliable only; use routed")
            }
            Ok(AckLevel::Unspecified) if publish.require_match => {
                refuse(ErrorCode::InvalidArgument, "require_match needs an answer; set ack to routed or processed")
            }
            Ok(level) => Ok(level),
            Err(_) => refuse(ErrorCode::InvalidArgument, format!("ack {} is not a known level", publish.ack)),
        }
    }

    /// Turns an `UpdateZones` into steps.
    ///
    /// # Errors
    /// A zone breaks geometry, grammar, limit or right, an id is unknown or twice there, or the set grows too large.
    pub fn update_zones(&self, router: &Router, request: wire::UpdateZones) -> Result<Vec<InterestOp>, Refusal> {
        if request.replace_all && !request.remove.is_empty() {
            return refuse(ErrorCode::InvalidArgument, "remove must be empty when replace_all is set");
        }
        let mut named = BTreeSet::new();
        let mut puts = Vec::with_capacity(request.upsert.len());
        for zone in request.upsert {
            let id = zone.id;
            if !named.insert(id) {
                return refuse(ErrorCode::DuplicateId, format!("zone {id} is named twice"));
            }
            if id == 0 || (id >= HANDED_OVER_ZONE_ID_MIN && router.zone(self.session, id).is_none()) {
                let message = format!("zone id {id} is not the client's to give; use 1 to 2147483647");
                return refuse(ErrorCode::InvalidArgument, message);
            }
            puts.push((id, self.zone_interest(zone)?));
        }
        for &id in &request.remove {
            if router.zone(self.session, id).is_none() {
                return refuse(ErrorCode::UnknownZone, format!("zone {id} is not held by this session"));
            }
            if !named.insert(id) {
                return refuse(ErrorCode::DuplicateId, format!("zone {id} is named twice"));
            }
        }
        let added = puts.iter().filter(|(id, _)| router.zone(self.session, *id).is_none()).count();
        let kept = if request.replace_all { puts.len() - added } else { router.zone_count(self.session) };
        self.check_zone_count(kept + added - request.remove.len())?;
        let mut ops: Vec<_> = if request.replace_all {
            let held = router.zones(self.session).map(|(id, _)| id);
            held.filter(|id| !named.contains(id)).map(|id| InterestOp::RemoveZone(self.session, id)).collect()
        } else {
            request.remove.into_iter().map(|id| InterestOp::RemoveZone(self.session, id)).collect()
        };
        ops.extend(puts.into_iter().map(|(id, zone)| InterestOp::PutZone(self.session, id, zone)));
        Ok(ops)
    }

    fn check_zone_count(&self, count: usize) -> Result<(), Refusal> {
        let most = self.limits.zones_per_session_max;
        if count <= most as usize {
            return Ok(());
        }
        refuse(
            ErrorCode::TooManyZones,
            format!("the session would hold {count} zones; at most {most} are permitted (zones_per_session_max)"),
        )
    }

    fn zone_interest(&self, zone: wire::Zone) -> Result<ZoneInterest, Refusal> {
        let rectangle = Zone::new(zone.min_x, zone.min_y, zone.max_x, zone.max_y)?;
        self.limits.check_zone(&rectangle)?;
        let world = WorldName::new(&zone.world)?;
        self.rights.check_zone(world.as_str(), &rectangle)?;
        let most = self.limits.kinds_per_zone_max;
        if zone.kinds.len() > most as usize {
            let message = format!(
                "zone {} filters by {} kinds; at most {most} are permitted (kinds_per_zone_max)",
                zone.id,
                zone.kinds.len()
            );
            return refuse(ErrorCode::TooManyZones, message);
        }
        let kinds = match zone.kinds.as_slice() {
            [] => KindFilter::All,
            kinds => KindFilter::Only(kinds.iter().map(|kind| Kind::new(kind)).collect::<Result<_, _>>()?),
        };
        Ok(ZoneInterest { world, zone: rectangle, kinds })
    }

    /// The zones that a `HandOverZones` of this session gives away.
    ///
    /// # Errors
    /// An id is unknown or twice there, or none is named.
    pub fn give_zones(&self, router: &Router, zone_ids: &[u32]) -> Result<Vec<(u32, ZoneInterest)>, Refusal> {
        if zone_ids.is_empty() {
            return refuse(ErrorCode::InvalidArgument, "zone_ids is empty; name at least one zone");
        }
        let mut named = BTreeSet::new();
        let mut given = Vec::with_capacity(zone_ids.len());
        for &id in zone_ids {
            if !named.insert(id) {
                return refuse(ErrorCode::DuplicateId, format!("zone {id} is named twice"));
            }
            match router.zone(self.session, id) {
                Some(zone) => given.push((id, zone.clone())),
                None => return refuse(ErrorCode::UnknownZone, format!("zone {id} is not held by this session")),
            }
        }
        Ok(given)
    }

    /// The steps by which this session takes over zones of another one, and the zones as it holds them then.
    ///
    /// # Errors
    /// This session may not hold them, or would hold too many.
    pub fn take_zones(
        &mut self,
        router: &Router,
        from: SessionId,
        zones: Vec<(u32, ZoneInterest)>,
    ) -> Result<(Vec<InterestOp>, Vec<wire::Zone>), Refusal> {
        if from == self.session {
            return refuse(ErrorCode::InvalidArgument, "to_client_id names the sender; zones go to another client");
        }
        self.check_zone_count(router.zone_count(self.session) + zones.len())?;
        for (id, zone) in &zones {
            // The sender may have ended, or changed them, since it asked.
            if router.zone(from, *id) != Some(zone) {
                return refuse(ErrorCode::UnknownZone, format!("zone {id} is no longer held as it was given"));
            }
            self.rights.check_zone(zone.world.as_str(), &zone.zone)?;
        }
        let mut ops = Vec::with_capacity(2 * zones.len());
        let mut taken = Vec::with_capacity(zones.len());
        for (old_id, zone) in zones {
            let id = self.standing.next_handed_over_id;
            let Some(next) = id.checked_add(1) else {
                return refuse(ErrorCode::TooManyZones, "the receiver's ids for handed-over zones are used up");
            };
            self.standing.next_handed_over_id = next;
            taken.push(wire_zone(id, &zone));
            ops.push(InterestOp::RemoveZone(from, old_id));
            ops.push(InterestOp::PutZone(self.session, id, zone));
        }
        Ok((ops, taken))
    }

    /// Turns an `UpdateTopics` into steps.
    ///
    /// # Errors
    /// A pattern breaks grammar or right, an id is unknown or twice there, or there are too many.
    pub fn update_topics(&self, router: &Router, request: wire::UpdateTopics) -> Result<Vec<InterestOp>, Refusal> {
        let mut named = BTreeSet::new();
        let mut ops = Vec::with_capacity(request.remove.len() + request.add.len());
        for &id in &request.remove {
            if !router.holds_topic(self.session, id) {
                let message = format!("subscription {id} is not held by this session");
                return refuse(ErrorCode::UnknownSubscription, message);
            }
            if !named.insert(id) {
                return refuse(ErrorCode::DuplicateId, format!("subscription {id} is named twice"));
            }
            ops.push(InterestOp::RemoveTopic(self.session, id));
        }
        for topic in &request.add {
            if topic.id == 0 {
                return refuse(ErrorCode::InvalidArgument, "subscription id is 0; number from 1");
            }
            if !named.insert(topic.id) || router.holds_topic(self.session, topic.id) {
                return refuse(ErrorCode::DuplicateId, format!("subscription {} is named twice or held", topic.id));
            }
            ops.push(InterestOp::PutTopic(self.session, topic.id, self.topic_interest(topic)?));
        }
        let count = router.topic_count(self.session) + request.add.len() - request.remove.len();
        let most = self.limits.topics_per_session_max;
        if count > most as usize {
            let message = format!(
                "the session would hold {count} subscriptions; at most {most} are permitted (topics_per_session_max)"
            );
            return refuse(ErrorCode::TooManyTopics, message);
        }
        Ok(ops)
    }

    fn topic_interest(&self, topic: &wire::TopicSubscription) -> Result<TopicInterest, Refusal> {
        let pattern = TopicPattern::new(&topic.pattern)?;
        self.rights.check_subscribe(&pattern, self.source)?;
        let queue_group = match topic.queue_group.as_str() {
            "" => None,
            group => Some(QueueGroup::new(group)?),
        };
        Ok(TopicInterest { pattern, queue_group })
    }
}

fn wire_zone(id: u32, interest: &ZoneInterest) -> wire::Zone {
    let ([min_x, min_y], [max_x, max_y]) = (interest.zone.min(), interest.zone.max());
    let kinds = match &interest.kinds {
        KindFilter::All => Vec::new(),
        KindFilter::Only(kinds) => kinds.iter().map(|kind| kind.as_str().to_owned()).collect(),
    };
    wire::Zone { id, world: interest.world.as_str().to_owned(), min_x, min_y, max_x, max_y, kinds }
}
