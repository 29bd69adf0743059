//! A borrowed look at a publish: what a broker reads of each, without copying it and without counting who shares it.

use crate::{codec::quick_varint, wire};

/// Tag and wire type (2: length-delimited) of `ClientFrame.publish`.
const PUBLISH_KEY: u8 = (5 << 3) | 2;
/// Tag and wire type (0: varint) of `Publish.ack`, and so on.
const ACK_KEY: u8 = 1 << 3;
const EXCLUDE_SELF_KEY: u8 = 2 << 3;
const RESENT_KEY: u8 = 3 << 3;
const EXPIRES_IN_MS_KEY: u8 = 4 << 3;
const REQUIRE_MATCH_KEY: u8 = 5 << 3;
/// Tag and wire type (2: length-delimited) of `Publish.event`.
const EVENT_KEY: u8 = (15 << 3) | 2;

/// The fields of a [`wire::Publish`], with the event where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishView<'a> {
    /// The number of the level of acknowledgement that is asked for, which may be none that is known.
    pub ack: i32,
    /// Whether the publisher's own session is left out.
    pub exclude_self: bool,
    /// Whether it may have been sent before.
    pub resent: bool,
    /// When to give up, in milliseconds; 0: the broker's default.
    pub expires_in_ms: u32,
    /// Whether it is refused when it reaches nobody.
    pub require_match: bool,
    /// The encoded event.
    pub event: &'a [u8],
}

impl<'a> PublishView<'a> {
    /// Reads a `ClientFrame` that holds a publish as encoders write it, and nothing else.
    ///
    /// `None` for all that is anything else: a frame of another kind, a broken one, and a publish with fields that are not
    /// known or keys that are longer than they need be. [`crate::codec::decode_client_frame`] tells which.
    #[must_use]
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        let mut rest = frame;
        if *rest.split_off_first()? != PUBLISH_KEY || quick_varint(&mut rest)? != rest.len() as u64 {
            return None;
        }
        let mut publish = Self::default();
        while let Some(key) = rest.split_off_first() {
            let value = quick_varint(&mut rest)?;
            match *key {
                ACK_KEY => publish.ack = low_u32(value).cast_signed(),
                EXCLUDE_SELF_KEY => publish.exclude_self = value != 0,
                RESENT_KEY => publish.resent = value != 0,
                EXPIRES_IN_MS_KEY => publish.expires_in_ms = low_u32(value),
                REQUIRE_MATCH_KEY => publish.require_match = value != 0,
                EVENT_KEY => publish.event = rest.split_off(..usize::try_from(value).ok()?)?,
                _ => return None,
            }
        }
        Some(publish)
    }
}

impl<'a> From<&'a wire::Publish> for PublishView<'a> {
    fn from(publish: &'a wire::Publish) -> Self {
        let wire::Publish { ack, exclude_self, resent, expires_in_ms, require_match, event } = publish;
        Self {
            ack: *ack,
            exclude_self: *exclude_self,
            resent: *resent,
            expires_in_ms: *expires_in_ms,
            require_match: *require_match,
            event,
        }
    }
}

/// Protobuf's rule for 32-bit fields sent as longer varints: the low 32 bits count.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn low_u32(value: u64) -> u32 {
    value as u32
}
