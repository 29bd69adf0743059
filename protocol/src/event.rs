//! A borrowed look at an encoded event: what routing needs, without copying and without allocating.

use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::{
    Circle, GeometryError, Kind, Limits, Refusal, Topic, WorldName, check_state_key,
    codec::quick_varint,
    publish_view::low_u32,
    wire::{DeliveryClass, ErrorCode},
};

/// Most bytes of `Event.traceparent`; the W3C header is 55 bytes long.
const TRACEPARENT_BYTES_MAX: usize = 64;

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'a> {
    /// To the sessions with a zone that the circle touches.
    Place {
        /// The world's name.
        world: &'a str,
        /// The circle of effect.
        circle: Circle,
    },
    /// To the sessions that listen to the topic.
    Topic(&'a str),
}

/// An encoded `zonecast.v1.Event`, decoded in place and checked against the grammar of the protocol.
///
/// Reads what prost's decoder reads (a test holds the two together), borrowing names and payload from the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventView<'a> {
    /// Where it goes.
    pub target: Target<'a>,
    /// What happened; empty when not stated.
    pub kind: &'a str,
    /// Who published.
    pub source: u64,
    /// The publisher's lane.
    pub lane: u32,
    /// The event's number on its lane.
    pub lane_seq: u64,
    /// What is promised about the delivery.
    pub class: DeliveryClass,
    /// Which value this is, for state events; empty otherwise.
    pub key: &'a str,
    /// Where an answer is awaited; empty when none is.
    pub reply_to: &'a str,
    /// When it was published, microseconds since 1970 by the publisher's clock; 0 when not stated.
    pub published_at_us: u64,
    /// W3C trace context, or empty.
    pub traceparent: &'a str,
    /// The application's bytes.
    pub payload: &'a [u8],
}

/// The fields as they stand on the wire, before any check.
#[derive(Default)]
struct RawEvent<'a> {
    place: Option<RawPlace<'a>>,
    topic: Option<&'a str>,
    kind: &'a str,
    source: u64,
    lane: u32,
    lane_seq: u64,
    class: i32,
    key: &'a str,
    reply_to: &'a str,
    published_at_us: u64,
    traceparent: &'a str,
    payload: &'a [u8],
}

#[derive(Default)]
struct RawPlace<'a> {
    world: &'a str,
    x: f64,
    y: f64,
    radius: f64,
}

impl From<Malformed> for Refusal {
    #[cold]
    fn from(Malformed(what): Malformed) -> Self {
        Self::new(ErrorCode::InvalidArgument, format!("event is not a zonecast.v1.Event: {what}"))
    }
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, format!("{field} {problem}"))
}

/// Why bytes are no event. Small, since every field that is read may return it; a refusal is made of the first.
struct Malformed(&'static str);

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn next(&mut self) -> Result<Option<(u32, WireType)>, Malformed> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        // The keys of all fields that this version knows have one byte, and these wire types.
        let wire_type = match (first >> 3, first & 7) {
            (1..=15, 0) => WireType::Varint,
            (1..=15, 1) => WireType::SixtyFourBit,
            (1..=15, 2) => WireType::LengthDelimited,
            _ => return decode_key(&mut self.0).map(Some).map_err(|_| Malformed("a field's key is broken")),
        };
        self.0 = rest;
        Ok(Some((u32::from(first >> 3), wire_type)))
    }

    #[inline]
    fn varint(&mut self, wire_type: WireType) -> Result<u64, Malformed> {
        if wire_type != WireType::Varint {
            return Err(Malformed("a number has another wire type"));
        }
        quick_varint(&mut self.0).ok_or(Malformed("a varint is broken"))
    }

    #[inline]
    fn fixed64(&mut self, wire_type: WireType) -> Result<u64, Malformed> {
        match (wire_type, self.0.split_first_chunk::<8>()) {
            (WireType::SixtyFourBit, Some((bytes, rest))) => {
                self.0 = rest;
                Ok(u64::from_le_bytes(*bytes))
            }
            _ => Err(Malformed("a 64-bit field has another wire type or is cut short")),
        }
    }

    #[inline]
    fn bytes(&mut self, wire_type: WireType) -> Result<&'a [u8], Malformed> {
        if wire_type != WireType::LengthDelimited {
            return Err(Malformed("a text or byte field has another wire type"));
        }
        let length = quick_varint(&mut self.0).ok_or(Malformed("a length is broken"))?;
        let length = usize::try_from(length).map_err(|_| Malformed("a length is beyond the event's end"))?;
        let Some((bytes, rest)) = self.0.split_at_checked(length) else {
            return Err(Malformed("a length is beyond the event's end"));
        };
        self.0 = rest;
        Ok(bytes)
    }

    #[inline]
    fn text(&mut self, wire_type: WireType) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(wire_type)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn skip(&mut self, tag: u32, wire_type: WireType) -> Result<(), Malformed> {
        skip_field(wire_type, tag, &mut self.0, DecodeContext::default())
            .map_err(|_| Malformed("an unknown field is broken"))
    }
}

impl<'a> RawPlace<'a> {
    /// Protobuf merges a message field that occurs twice, hence `self` rather than a fresh value.
    fn merge(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut fields = Fields(bytes);
        while let Some((tag, wire_type)) = fields.next()? {
            match tag {
                1 => self.world = fields.text(wire_type)?,
                2 => self.x = f64::from_bits(fields.fixed64(wire_type)?),
                3 => self.y = f64::from_bits(fields.fixed64(wire_type)?),
                4 => self.radius = f64::from_bits(fields.fixed64(wire_type)?),
                _ => fields.skip(tag, wire_type)?,
            }
        }
        Ok(())
    }
}

impl<'a> RawEvent<'a> {
    /// Protobuf merges fields that occur twice; and in place, an event is large to move.
    fn merge(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut fields = Fields(bytes);
        while let Some((tag, wire_type)) = fields.next()? {
            match tag {
                1 => {
                    self.topic = None;
                    self.place.get_or_insert_default().merge(fields.bytes(wire_type)?)?;
                }
                2 => {
                    self.place = None;
                    self.topic = Some(fields.text(wire_type)?);
                }
                3 => self.kind = fields.text(wire_type)?,
                4 => self.source = fields.fixed64(wire_type)?,
                5 => self.lane = low_u32(fields.varint(wire_type)?),
                6 => self.lane_seq = fields.varint(wire_type)?,
                7 => self.class = low_u32(fields.varint(wire_type)?).cast_signed(),
                8 => self.key = fields.text(wire_type)?,
                9 => self.reply_to = fields.text(wire_type)?,
                10 => self.published_at_us = fields.varint(wire_type)?,
                11 => self.traceparent = fields.text(wire_type)?,
                15 => self.payload = fields.bytes(wire_type)?,
                _ => fields.skip(tag, wire_type)?,
            }
        }
        Ok(())
    }
}

fn class_of(raw: &RawEvent<'_>) -> Result<DeliveryClass, Refusal> {
    let class = match DeliveryClass::try_from(raw.class) {
        Ok(DeliveryClass::Unspecified) => DeliveryClass::Reliable,
        Ok(class) => class,
        Err(_) => return Err(invalid("class", format_args!("{} is not a known delivery class", raw.class))),
    };
    if class == DeliveryClass::State {
        check_state_key(raw.key)?;
    } else if !raw.key.is_empty() {
        return Err(invalid("key", "is for events of class state only; leave it empty"));
    }
    Ok(class)
}

fn target_of<'a>(raw: &RawEvent<'a>) -> Result<Target<'a>, Refusal> {
    match (&raw.place, raw.topic) {
        (Some(place), _) => {
            WorldName::check(place.world)?;
            let circle = Circle::new(place.x, place.y, place.radius)?;
            Ok(Target::Place { world: place.world, circle })
        }
        (None, Some(topic)) => {
            Topic::check(topic)?;
            Ok(Target::Topic(topic))
        }
        (None, None) => Err(invalid("target", "is missing; set place or topic")),
    }
}

impl<'a> EventView<'a> {
    /// Decodes an event and checks all that does not depend on a broker's limits.
    ///
    /// # Errors
    /// The bytes are no event, a number makes no circle, or a name breaks its grammar.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut raw = RawEvent::default();
        raw.merge(bytes)?;
        let (target, class) = (target_of(&raw)?, class_of(&raw)?);
        if !raw.kind.is_empty() {
            Kind::check(raw.kind)?;
        }
        if !raw.reply_to.is_empty() {
            Topic::check(raw.reply_to)?;
        }
        if raw.lane_seq == 0 {
            return Err(invalid("lane_seq", "is 0; number the events of a lane from 1"));
        }
        if raw.traceparent.len() > TRACEPARENT_BYTES_MAX {
            return Err(invalid("traceparent", "is longer than 64 bytes"));
        }
        Ok(Self {
            target,
            kind: raw.kind,
            source: raw.source,
            lane: raw.lane,
            lane_seq: raw.lane_seq,
            class,
            key: raw.key,
            reply_to: raw.reply_to,
            published_at_us: raw.published_at_us,
            traceparent: raw.traceparent,
            payload: raw.payload,
        })
    }

    /// Checks the event against a broker's limits.
    ///
    /// # Errors
    /// Payload, lane, coordinates or radius are beyond a limit.
    pub fn check_limits(&self, limits: &Limits) -> Result<(), Refusal> {
        if self.payload.len() > limits.payload_bytes_max as usize {
            return Err(Refusal::new(
                ErrorCode::PayloadTooLarge,
                format!(
                    "payload has {} bytes; at most {} are permitted (payload_bytes_max)",
                    self.payload.len(),
                    limits.payload_bytes_max
                ),
            ));
        }
        if self.lane >= limits.lanes_max {
            return Err(invalid("lane", format_args!("is {}; lanes 0 to {} exist", self.lane, limits.lanes_max - 1)));
        }
        match &self.target {
            Target::Place { circle, .. } => limits.check_circle(circle),
            Target::Topic(_) => Ok(()),
        }
    }

    /// The lane and number of an event that [`EventView::decode`] refuses, so that the refusal can name it.
    ///
    /// (0, 0) when not even these can be read.
    #[must_use]
    pub fn position_of_refused(bytes: &[u8]) -> (u32, u64) {
        let mut raw = RawEvent::default();
        raw.merge(bytes).map_or((0, 0), |()| (raw.lane, raw.lane_seq))
    }
}

impl From<GeometryError> for Refusal {
    fn from(error: GeometryError) -> Self {
        Self::new(ErrorCode::InvalidGeometry, error.to_string())
    }
}
