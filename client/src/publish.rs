//! What an application publishes.

mod encode;

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use zonecast_protocol::{
    AckLevel, Circle, DeliveryClass, EventView, Kind, Limits, Refusal, Target, Topic, WorldName, check_state_key,
    wire::ErrorCode,
};

pub(crate) use encode::{FLAG_BYTES_MAX, Stamp, flag_resent};

/// Most bytes of `Event.traceparent`, as the protocol states it.
const TRACEPARENT_BYTES_MAX: usize = 64;
/// How long a publisher waits for its event to be processed, when it does not say.
const EXPIRES_IN_DEFAULT: Duration = Duration::from_secs(30);

/// The bytes of an event's payload: borrowed, owned or shared.
#[derive(Debug, Clone)]
pub struct Payload<'a>(PayloadBytes<'a>);

#[derive(Debug, Clone)]
enum PayloadBytes<'a> {
    Plain(Cow<'a, [u8]>),
    Shared(Bytes),
}

impl Payload<'_> {
    fn as_slice(&self) -> &[u8] {
        match &self.0 {
            PayloadBytes::Plain(bytes) => bytes,
            PayloadBytes::Shared(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(PayloadBytes::Plain(Cow::Borrowed(bytes)))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::from(&bytes[..])
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(PayloadBytes::Plain(Cow::Owned(bytes)))
    }
}

impl From<Bytes> for Payload<'_> {
    fn from(bytes: Bytes) -> Self {
        Self(PayloadBytes::Shared(bytes))
    }
}

impl<'a> From<&'a Bytes> for Payload<'a> {
    fn from(bytes: &'a Bytes) -> Self {
        Self::from(bytes.as_ref())
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    fn from(text: &'a String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

/// An event to be published: at a place, or on a topic.
///
/// Borrows what it is given, so that publishing allocates nothing. It is checked when it is published.
///
/// ```
/// use zonecast_client::{Circle, Publish};
///
/// let quake = Publish::at("earth", Circle::new(103.0, 54.0, 5.0)?).kind("quake").payload(b"M5");
/// let notice = Publish::to_topic("users.created").payload("{}").lane(2);
/// # Ok::<(), zonecast_client::GeometryError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "pass it to Client::publish"]
pub struct Publish<'a> {
    aim: Aim<'a>,
    kind: Cow<'a, str>,
    pub(crate) lane: u8,
    class: DeliveryClass,
    key: Cow<'a, str>,
    reply_to: Cow<'a, str>,
    published_at_us: Option<u64>,
    traceparent: Cow<'a, str>,
    payload: Payload<'a>,
    exclude_self: bool,
    require_match: bool,
    expires_in: Duration,
}

#[derive(Debug, Clone)]
enum Aim<'a> {
    Place { world: Cow<'a, str>, circle: Circle },
    Topic(Cow<'a, str>),
}

impl<'a> Publish<'a> {
    #[inline]
    fn new(aim: Aim<'a>) -> Self {
        Self {
            aim,
            kind: Cow::Borrowed(""),
            lane: 0,
            class: DeliveryClass::Reliable,
            key: Cow::Borrowed(""),
            reply_to: Cow::Borrowed(""),
            published_at_us: None,
            traceparent: Cow::Borrowed(""),
            payload: Payload(PayloadBytes::Plain(Cow::Borrowed(&[]))),
            exclude_self: false,
            require_match: false,
            expires_in: EXPIRES_IN_DEFAULT,
        }
    }

    /// For every session that holds a zone which the circle touches.
    ///
    /// `world` is 1 to 64 bytes of `[A-Za-z0-9_.-]`; the circle is in the world's unit of length.
    #[inline]
    pub fn at(world: impl Into<Cow<'a, str>>, circle: Circle) -> Self {
        Self::new(Aim::Place { world: world.into(), circle })
    }

    /// For every session that listens to the topic: 1 to 16 tokens of `[A-Za-z0-9_-]` joined by `.`, at most 255 bytes.
    #[inline]
    pub fn to_topic(topic: impl Into<Cow<'a, str>>) -> Self {
        Self::new(Aim::Topic(topic.into()))
    }

    /// What happened, in your words: 1 to 64 bytes of `[A-Za-z0-9_.-]`. Zones can filter by it. Default: not stated.
    #[inline]
    pub fn kind(mut self, kind: impl Into<Cow<'a, str>>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Your bytes, at most [`Limits::payload_bytes_max`]. Default: none.
    #[inline]
    pub fn payload(mut self, payload: impl Into<Payload<'a>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// The lane, 0 to [`Limits::lanes_max`] - 1: events of one lane arrive in order, lanes do not wait for each other.
    /// Default: 0.
    #[inline]
    pub fn lane(mut self, lane: u8) -> Self {
        self.lane = lane;
        self
    }

    /// What is promised about the delivery. Default: reliable.
    #[inline]
    pub fn class(mut self, class: DeliveryClass) -> Self {
        self.class = class;
        self
    }

    /// For [`DeliveryClass::State`]: which value this is, 1 to 128 bytes. A newer value replaces one that still waits,
    /// whatever else differs between them. Publish all values of a key on one lane: which of two is newer is not known
    /// between lanes.
    #[inline]
    pub fn key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.key = key.into();
        self
    }

    /// The topic on which you await an answer. [`Client::request`](crate::Client::request) sees to it by itself.
    #[inline]
    pub fn reply_to(mut self, topic: impl Into<Cow<'a, str>>) -> Self {
        self.reply_to = topic.into();
        self
    }

    /// The W3C trace context, at most 64 bytes.
    #[inline]
    pub fn traceparent(mut self, traceparent: impl Into<Cow<'a, str>>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    /// When it happened, in microseconds since 1970; 0 leaves it out. Default: the time at which it is published.
    #[inline]
    pub fn published_at_us(mut self, published_at_us: u64) -> Self {
        self.published_at_us = Some(published_at_us);
        self
    }

    /// Not to this client itself, even when it holds a zone or a subscription that matches.
    #[inline]
    pub fn exclude_self(mut self) -> Self {
        self.exclude_self = true;
        self
    }

    /// Refused by the broker ([`ErrorCode::NoMatch`]) when it reaches nobody. Not for [`Client::publish`] of class
    /// transient, which gets no answer.
    ///
    /// [`Client::publish`]: crate::Client::publish
    #[inline]
    pub fn require_match(mut self) -> Self {
        self.require_match = true;
        self
    }

    /// For [`Client::publish_processed`](crate::Client::publish_processed): the broker gives up after so long, 1 ms to
    /// 49 days; it may do so earlier. Default: 30 s.
    #[inline]
    pub fn expires_in(mut self, expires_in: Duration) -> Self {
        self.expires_in = expires_in;
        self
    }

    /// The acknowledgement that [`Client::publish`](crate::Client::publish) asks for.
    pub(crate) fn least_ack(&self) -> AckLevel {
        match self.class {
            DeliveryClass::Transient => AckLevel::Unspecified,
            _ => AckLevel::Routed,
        }
    }

    /// Whether it may reach nobody twice.
    pub(crate) fn is_at_most_once(&self) -> bool {
        self.class == DeliveryClass::Transient
    }

    /// After which time the broker gives up.
    pub(crate) fn expires_in_ms(&self) -> u32 {
        u32::try_from(self.expires_in.as_millis()).unwrap_or(u32::MAX).max(1)
    }

    /// Checks what the broker will check, and says the same.
    pub(crate) fn check(&self, limits: &Limits, ack: AckLevel) -> Result<(), Refusal> {
        let target = match &self.aim {
            Aim::Place { world, circle } => {
                WorldName::check(world)?;
                Target::Place { world, circle: *circle }
            }
            Aim::Topic(topic) => {
                Topic::check(topic)?;
                Target::Topic(topic)
            }
        };
        if !self.kind.is_empty() {
            Kind::check(&self.kind)?;
        }
        if !self.reply_to.is_empty() {
            Topic::check(&self.reply_to)?;
        }
        let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidArgument, message));
        if self.class == DeliveryClass::State {
            check_state_key(&self.key)?;
        } else if !self.key.is_empty() {
            return invalid("key is for events of class state only; leave it out");
        }
        if self.traceparent.len() > TRACEPARENT_BYTES_MAX {
            return invalid("traceparent is longer than 64 bytes");
        }
        if self.require_match && ack == AckLevel::Unspecified {
            return invalid("require_match needs an acknowledgement; publish with one");
        }
        if ack == AckLevel::Processed && matches!(self.class, DeliveryClass::State | DeliveryClass::Transient) {
            return invalid("only events of class reliable are acknowledged when processed");
        }
        let view = EventView {
            target,
            kind: &self.kind,
            source: 0,
            lane: self.lane.into(),
            lane_seq: 1,
            class: self.class,
            key: &self.key,
            reply_to: &self.reply_to,
            published_at_us: 0,
            traceparent: &self.traceparent,
            payload: self.payload.as_slice(),
        };
        view.check_limits(limits)?;
        // Measured only when it may matter.
        let frame_bytes_max = limits.frame_bytes_max as usize;
        if self.frame_bytes_max() > frame_bytes_max && self.frame_bytes(ack) > frame_bytes_max {
            return Err(too_long(limits.frame_bytes_max));
        }
        Ok(())
    }

    /// Whether the time of publishing is wanted.
    pub(crate) fn wants_time(&self) -> bool {
        self.published_at_us.is_none()
    }
}

/// The refusal of an event that makes too long a frame.
pub(crate) fn too_long(frame_bytes_max: u32) -> Refusal {
    let message = format!("the event makes a frame of more than {frame_bytes_max} bytes (frame_bytes_max)");
    Refusal::new(ErrorCode::PayloadTooLarge, message)
}

#[cfg(test)]
mod tests;
