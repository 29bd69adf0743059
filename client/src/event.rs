//! A received event.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use zonecast_protocol::{Circle, DeliveryClass, ErrorCode, EventView, Refusal, Target};

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

/// An event as it was received: checked once, its texts and payload left where they lie in the bytes that arrived.
///
/// Cloning is cheap. An event shares memory with its neighbours on the network, up to some 64 KiB; keep few of them for
/// long, or keep [`detached`](Self::detached) ones.
// It is moved several times on its way to the application. Therefore only what is asked of every event is at hand, in few
// bytes, and the rest is looked up in the encoded event again. Up to 128 bytes, moving costs next to nothing.
#[derive(Clone)]
pub struct Event {
    raw: Bytes,
    /// What the subscription that received it owes its publisher.
    part: Option<Arc<Part>>,
    source: u64,
    lane_seq: u64,
    /// Of an event on a topic, nothing.
    circle: Circle,
    payload_start: u32,
    payload_bytes: u32,
    target: Name,
    kind: Name,
    class: DeliveryClass,
    lane: u8,
    has_place: bool,
    resent: bool,
    late: bool,
}

const _: () = assert!(size_of::<Event>() <= 112, "small enough to be moved without a call");

/// Where a name of at most 255 bytes lies in the event: 32 bits suffice, no frame is longer.
#[derive(Clone, Copy)]
struct Name {
    start: u32,
    bytes: u8,
}

impl Name {
    fn of(name: &str, raw: &[u8]) -> Self {
        // The grammar of names permits no longer ones, and frames are shorter.
        Self { start: offset(name.as_bytes(), raw), bytes: u8::try_from(name.len()).unwrap_or(u8::MAX) }
    }
}

/// Where a part begins; an empty one may point anywhere.
fn offset(part: &[u8], whole: &[u8]) -> u32 {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if part.is_empty() { 0 } else { u32::try_from(start).unwrap_or(u32::MAX) }
}

impl Event {
    /// Decodes an encoded `zonecast.v1.Event`, as [`raw`](Self::raw) returns it.
    ///
    /// # Errors
    /// The bytes are no event, or break the protocol's grammar.
    pub fn decode(raw: Bytes) -> Result<Self, Refusal> {
        let view = EventView::decode(&raw)?;
        let Ok(lane) = u8::try_from(view.lane) else {
            let message = format!("lane is {}; lanes 0 to 255 exist", view.lane);
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        };
        let (has_place, target, circle) = match view.target {
            Target::Place { world, circle } => (true, world, circle),
            Target::Topic(topic) => (false, topic, Circle::ORIGIN),
        };
        Ok(Self {
            part: None,
            source: view.source,
            lane_seq: view.lane_seq,
            circle,
            payload_start: offset(view.payload, &raw),
            payload_bytes: u32::try_from(view.payload.len()).unwrap_or(u32::MAX),
            target: Name::of(target, &raw),
            kind: Name::of(view.kind, &raw),
            class: view.class,
            lane,
            has_place,
            resent: false,
            late: false,
            raw,
        })
    }

    /// Says how it was delivered.
    pub(crate) fn set_delivered(&mut self, resent: bool, late: bool) {
        (self.resent, self.late) = (resent, late);
    }

    /// Makes it what one subscription receives whose publisher waits.
    pub(crate) fn set_part(&mut self, part: Part) {
        self.part = Some(Arc::new(part));
    }

    #[inline]
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

    fn text(&self, name: Name) -> &str {
        let start = name.start as usize;
        // Was UTF-8 when it was decoded, and the bytes are immutable.
        self.raw
            .get(start..start + usize::from(name.bytes))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// One of the texts that few ask for; `None` when it is empty.
    fn rare_text<'a>(&'a self, text: impl FnOnce(EventView<'a>) -> &'a str) -> Option<&'a str> {
        EventView::decode(&self.raw).ok().map(text).filter(|text| !text.is_empty())
    }

    /// The world of an event that has a place; `None` for an event on a topic.
    #[must_use]
    #[inline]
    pub fn world(&self) -> Option<&str> {
        self.has_place.then(|| self.text(self.target))
    }

    /// The circle of effect, in the world's unit of length; `None` for an event on a topic.
    #[must_use]
    #[inline]
    pub fn circle(&self) -> Option<Circle> {
        self.has_place.then_some(self.circle)
    }

    /// The topic; `None` for an event that has a place.
    #[must_use]
    #[inline]
    pub fn topic(&self) -> Option<&str> {
        (!self.has_place).then(|| self.text(self.target))
    }

    /// What happened, in the publisher's words; empty when not stated. Like all texts it is looked at anew each time: in a hot
    /// loop, ask once.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> &str {
        self.text(self.kind)
    }

    /// The application's bytes.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let start = self.payload_start as usize;
        self.raw.get(start..start + self.payload_bytes as usize).unwrap_or_default()
    }

    /// The application's bytes, to be kept or passed on without copying them.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.raw.slice_ref(self.payload())
    }

    /// The event's name, the same at every receiver: fit for recognising duplicates.
    #[must_use]
    #[inline]
    pub fn id(&self) -> EventId {
        EventId { source: self.source, lane: self.lane, lane_seq: self.lane_seq }
    }

    /// Who published: a run of a client. The broker has checked it.
    #[must_use]
    #[inline]
    pub fn source(&self) -> u64 {
        self.source
    }

    /// The publisher's lane.
    #[must_use]
    #[inline]
    pub fn lane(&self) -> u8 {
        self.lane
    }

    /// The event's number on its lane, from 1.
    #[must_use]
    #[inline]
    pub fn lane_seq(&self) -> u64 {
        self.lane_seq
    }

    /// What is promised about the delivery.
    #[must_use]
    #[inline]
    pub fn class(&self) -> DeliveryClass {
        self.class
    }

    /// Which value this is, for events of class state; `None` for others.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.rare_text(|view| view.key)
    }

    /// When it was published: microseconds since 1970 by the publisher's clock; 0 when not stated.
    #[must_use]
    pub fn published_at_us(&self) -> u64 {
        EventView::decode(&self.raw).map_or(0, |view| view.published_at_us)
    }

    /// The W3C trace context of the publisher.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.rare_text(|view| view.traceparent)
    }

    /// The topic on which the publisher awaits an answer; see [`Client::reply`](crate::Client::reply).
    #[must_use]
    pub fn reply_to(&self) -> Option<&str> {
        self.rare_text(|view| view.reply_to)
    }

    /// Whether it may have been sent before, by its publisher or to this client, on a connection that was lost. It is
    /// handed on only if it had not arrived; but it may come behind later events of its lane: where order matters, see
    /// [`is_late`](Self::is_late), or compare [`lane_seq`](Self::lane_seq).
    #[must_use]
    #[inline]
    pub fn is_resent(&self) -> bool {
        self.resent
    }

    /// Whether it comes behind a later event of class reliable of its lane that this client has received, as may happen to
    /// what was sent again, and to what a broker kept while the client was at another one. Always false for the other
    /// classes.
    ///
    /// Exact for the 8,192 lanes heard last.
    #[must_use]
    #[inline]
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// The encoded `zonecast.v1.Event`, byte for byte as it was published.
    #[must_use]
    #[inline]
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
        match self.topic() {
            Some(topic) => fields.field("topic", &topic),
            None => fields.field("world", &self.text(self.target)).field("circle", &self.circle),
        };
        fields.field("kind", &self.kind()).field("payload_bytes", &self.payload_bytes).finish()
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
            assert_eq!((event.published_at_us(), event.payload()), (11, &b"M5"[..]));
            assert_eq!(event.payload_bytes(), event.payload());
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
        assert!(event.payload().is_empty() && event.payload_bytes().is_empty() && event.kind().is_empty());
        assert!(Event::decode(Bytes::from_static(b"\xff\xff")).is_err());
        let far = wire::Event { lane: 256, ..wire };
        assert!(Event::decode(prost::Message::encode_to_vec(&far).into()).is_err());
    }
}
