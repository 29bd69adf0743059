//! A received event.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use zonecast_protocol::{Circle, DeliveryClass, EventView, Refusal, Target};

use crate::intake::Part;

/// The name of an event, once and for all: who published it, on which lane, as which of that lane's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// The publisher: see [`Client::source`](crate::Client::source).
    pub source: u64,
    /// The publisher's lane, 0 to 255.
    pub lane: u8,
    /// The event's number on the lane, from 1, rising.
    pub lane_seq: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}/{}", self.source, self.lane, self.lane_seq)
    }
}

/// A place in the event's bytes. 32 bits suffice: no frame is that long.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    length: u32,
}

impl Span {
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match (u32::try_from(start), u32::try_from(part.len())) {
            (Ok(start), Ok(length)) if !part.is_empty() => Self { start, length },
            // An empty part may point anywhere.
            _ => Self { start: 0, length: 0 },
        }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// Where the event was sent.
#[derive(Clone, Copy)]
enum Aim {
    Place { world: Span, circle: Circle },
    Topic(Span),
}

/// An event as it was received: decoded once, its texts and payload left where they lie in the bytes that arrived.
///
/// Cloning is cheap. An event shares memory with its neighbours on the network, up to some 64 KiB; keep few of them for
/// long, or keep [`detached`](Self::detached) ones.
#[derive(Clone)]
pub struct Event {
    raw: Bytes,
    aim: Aim,
    source: u64,
    lane: u8,
    lane_seq: u64,
    published_at_us: u64,
    class: DeliveryClass,
    kind: Span,
    key: Span,
    reply_to: Span,
    traceparent: Span,
    payload: Span,
    resent: bool,
    late: bool,
    /// What the subscription that received it owes its publisher.
    part: Option<Arc<Part>>,
}

impl Event {
    /// Decodes an encoded `zonecast.v1.Event`, as [`raw`](Self::raw) returns it.
    ///
    /// # Errors
    /// The bytes are no event, or break the protocol's grammar.
    pub fn decode(raw: Bytes) -> Result<Self, Refusal> {
        let view = EventView::decode(&raw)?;
        let lane = u8::try_from(view.lane).map_err(|_| {
            Refusal::new(
                zonecast_protocol::ErrorCode::InvalidArgument,
                format!("lane is {}; lanes 0 to 255 exist", view.lane),
            )
        })?;
        let span = |text: &str| Span::of(text.as_bytes(), &raw);
        let aim = match view.target {
            Target::Place { world, circle } => Aim::Place { world: span(world), circle },
            Target::Topic(topic) => Aim::Topic(span(topic)),
        };
        let (kind, key, reply_to) = (span(view.kind), span(view.key), span(view.reply_to));
        let (traceparent, payload) = (span(view.traceparent), Span::of(view.payload, &raw));
        let (source, lane_seq, published_at_us) = (view.source, view.lane_seq, view.published_at_us);
        let (class, resent, late, part) = (view.class, false, false, None);
        Ok(Self {
            raw,
            aim,
            source,
            lane,
            lane_seq,
            published_at_us,
            class,
            kind,
            key,
            reply_to,
            traceparent,
            payload,
            resent,
            late,
            part,
        })
    }

    /// The same event as it was delivered.
    pub(crate) fn delivered(self, resent: bool, late: bool) -> Self {
        Self { resent, late, ..self }
    }

    /// The same event as one subscription receives it whose publisher waits.
    pub(crate) fn with_part(self, part: Part) -> Self {
        Self { part: Some(Arc::new(part)), ..self }
    }

    pub(crate) fn part(&self) -> Option<&Arc<Part>> {
        self.part.as_ref()
    }

    /// Says that this subscription's work on the event is done, if its publisher waits for that
    /// ([`Client::publish_processed`](crate::Client::publish_processed)). Saying it again, or of other events, does
    /// nothing.
    ///
    /// A subscription says it by itself when it is asked for its next item, unless it was made
    /// [`explicit`](crate::ZoneSubscription::explicit). When the last clone of an event is dropped and it was not said, the event is rejected:
    /// its publisher learns that it was not processed.
    pub fn done(&self) {
        if let Some(part) = &self.part {
            part.done();
        }
    }

    /// Whether the publisher waits until the event is processed.
    #[must_use]
    pub fn awaits_processing(&self) -> bool {
        self.part.is_some()
    }

    fn text(&self, span: Span) -> &str {
        // Was UTF-8 when it was decoded, and the bytes are immutable.
        self.raw.get(span.range()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn text_if_any(&self, span: Span) -> Option<&str> {
        (span.length > 0).then(|| self.text(span))
    }

    /// The world of an event that has a place; `None` for an event on a topic.
    #[must_use]
    pub fn world(&self) -> Option<&str> {
        match self.aim {
            Aim::Place { world, .. } => Some(self.text(world)),
            Aim::Topic(_) => None,
        }
    }

    /// The circle of effect, in the world's unit of length; `None` for an event on a topic.
    #[must_use]
    pub fn circle(&self) -> Option<Circle> {
        match self.aim {
            Aim::Place { circle, .. } => Some(circle),
            Aim::Topic(_) => None,
        }
    }

    /// The topic; `None` for an event that has a place.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self.aim {
            Aim::Place { .. } => None,
            Aim::Topic(topic) => Some(self.text(topic)),
        }
    }

    /// What happened, in the publisher's words; empty when not stated. Like all texts it is looked at anew each time: in a hot
    /// loop, ask once.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text(self.kind)
    }

    /// The application's bytes, without copying.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        if self.payload.length == 0 { Bytes::new() } else { self.raw.slice(self.payload.range()) }
    }

    /// The event's name, the same at every receiver: fit for recognising duplicates.
    #[must_use]
    pub fn id(&self) -> EventId {
        EventId { source: self.source, lane: self.lane, lane_seq: self.lane_seq }
    }

    /// Who published: a run of a client. The broker has checked it.
    #[must_use]
    pub fn source(&self) -> u64 {
        self.source
    }

    /// The publisher's lane.
    #[must_use]
    pub fn lane(&self) -> u8 {
        self.lane
    }

    /// The event's number on its lane, from 1.
    #[must_use]
    pub fn lane_seq(&self) -> u64 {
        self.lane_seq
    }

    /// What is promised about the delivery.
    #[must_use]
    pub fn class(&self) -> DeliveryClass {
        self.class
    }

    /// Which value this is, for events of class state; `None` for others.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.text_if_any(self.key)
    }

    /// When it was published: microseconds since 1970 by the publisher's clock; 0 when not stated.
    #[must_use]
    pub fn published_at_us(&self) -> u64 {
        self.published_at_us
    }

    /// The W3C trace context of the publisher.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.text_if_any(self.traceparent)
    }

    /// The topic on which the publisher awaits an answer; see [`Client::reply`](crate::Client::reply).
    #[must_use]
    pub fn reply_to(&self) -> Option<&str> {
        self.text_if_any(self.reply_to)
    }

    /// Whether it may have been sent before, by its publisher or to this client, on a connection that was lost. It is
    /// handed on only if it had not arrived; but it may come behind later events of its lane: where order matters, see
    /// [`is_late`](Self::is_late), or compare [`lane_seq`](Self::lane_seq).
    #[must_use]
    pub fn is_resent(&self) -> bool {
        self.resent
    }

    /// Whether it comes behind a later event of class reliable of its lane that this client has received, as may happen to
    /// what was sent again, and to what a broker kept while the client was at another one. Always false for the other
    /// classes.
    ///
    /// Exact for the 8,192 lanes heard last.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// The encoded `zonecast.v1.Event`, byte for byte as it was published.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The same event in memory of its own, fit to be kept.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { raw: Bytes::copy_from_slice(&self.raw), ..self.clone() }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Event");
        fields.field("id", &format_args!("{}", self.id()));
        match self.aim {
            Aim::Place { world, circle } => fields.field("world", &self.text(world)).field("circle", &circle),
            Aim::Topic(topic) => fields.field("topic", &self.text(topic)),
        };
        fields.field("kind", &self.kind()).field("payload_bytes", &self.payload.length).finish()
    }
}

#[cfg(test)]
mod tests {
    use zonecast_protocol::wire;

    use super::*;

    #[test]
    fn every_field_is_found_again_and_detaching_keeps_them() {
        let place = wire::Place { world: "earth".into(), x: 1.0, y: -2.0, radius: 3.0 };
        let wire = wire::Event {
            target: Some(wire::event::Target::Place(place)),
            kind: "quake".into(),
            source: 7,
            lane: 255,
            lane_seq: 9,
            class: DeliveryClass::State.into(),
            key: "k".into(),
            reply_to: "a.b".into(),
            published_at_us: 11,
            traceparent: "00-1".into(),
            payload: Bytes::from_static(b"M5"),
        };
        let event = Event::decode(prost::Message::encode_to_vec(&wire).into()).unwrap();
        for event in [&event, &event.detached()] {
            assert_eq!((event.world(), event.topic(), event.kind()), (Some("earth"), None, "quake"));
            assert_eq!(event.circle(), Some(Circle::new(1.0, -2.0, 3.0).unwrap()));
            assert_eq!(event.id(), EventId { source: 7, lane: 255, lane_seq: 9 });
            assert_eq!((event.key(), event.reply_to(), event.traceparent()), (Some("k"), Some("a.b"), Some("00-1")));
            assert_eq!((event.published_at_us(), event.payload().as_ref()), (11, &b"M5"[..]));
        }
    }

    #[test]
    fn absent_fields_are_absent_and_nonsense_is_refused() {
        let wire = wire::Event {
            target: Some(wire::event::Target::Topic("users.created".into())),
            lane_seq: 1,
            ..Default::default()
        };
        let event = Event::decode(prost::Message::encode_to_vec(&wire).into()).unwrap();
        assert_eq!((event.topic(), event.world(), event.circle()), (Some("users.created"), None, None));
        assert_eq!((event.key(), event.reply_to(), event.traceparent()), (None, None, None));
        assert!(event.payload().is_empty() && event.kind().is_empty());
        assert!(Event::decode(Bytes::from_static(b"\xff\xff")).is_err());
        let far = wire::Event { lane: 256, ..wire };
        assert!(Event::decode(prost::Message::encode_to_vec(&far).into()).is_err());
    }
}
