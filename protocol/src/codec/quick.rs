//! Frames that come by the million, read by hand in the one form in which they come nearly always.

use prost::encoding::decode_varint;

use super::{AWAIT_PROCESSING_KEY, DELIVER_KEY, DeliverFlags, EVENT_KEY, RESENT_KEY, SEQ_KEY};
use crate::wire::PublishAck;

/// Tag and wire type (2: length-delimited) of `ServerFrame.publish_ack`.
const PUBLISH_ACK_KEY: u8 = (4 << 3) | 2;
/// Tag and wire type (0: varint) of `PublishAck.lane`, `PublishAck.lane_seq` and `PublishAck.matched`.
const LANE_KEY: u8 = 1 << 3;
const LANE_SEQ_KEY: u8 = 2 << 3;
const MATCHED_KEY: u8 = 3 << 3;

/// The first of some `Deliver` frames, as [`encode_deliver`](super::encode_deliver) wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedDeliver<'a> {
    /// The delivery's number.
    pub seq: u64,
    /// What it says beside.
    pub flags: DeliverFlags,
    /// The encoded event.
    pub event: &'a [u8],
    /// Bytes of the whole frame, its length prefix included.
    pub frame_bytes: usize,
}

/// Reads back the first of the frames that [`encode_deliver`](super::encode_deliver) has appended to a buffer; `None` behind
/// the last, and where something else stands.
#[must_use]
pub fn first_encoded_deliver(frames: &[u8]) -> Option<EncodedDeliver<'_>> {
    let mut rest = frames;
    let length = usize::try_from(quick_varint(&mut rest)?).ok()?;
    let frame_bytes = frames.len() - rest.len() + length;
    let (seq, flags, event) = deliver_in(rest.get(..length)?)?;
    Some(EncodedDeliver { seq, flags, event, frame_bytes })
}

/// Takes apart what [`encode_deliver`](super::encode_deliver) writes, its length prefix aside.
///
/// `None` for every other frame, and for a `Deliver` in any other of the many forms that protobuf permits.
pub(super) fn deliver_in(frame: &[u8]) -> Option<(u64, DeliverFlags, &[u8])> {
    let mut rest = body_of(frame, DELIVER_KEY)?;
    let seq = varint_field(&mut rest, SEQ_KEY)?;
    let resent = varint_field(&mut rest, RESENT_KEY)? != 0;
    let await_processing = varint_field(&mut rest, AWAIT_PROCESSING_KEY)? != 0;
    Some((seq, DeliverFlags { resent, await_processing }, body_of(rest, EVENT_KEY)?))
}

/// As [`deliver_in`], what prost writes as a `PublishAck`.
pub(super) fn publish_ack_in(frame: &[u8]) -> Option<PublishAck> {
    let mut rest = body_of(frame, PUBLISH_ACK_KEY)?;
    let lane = u32::try_from(varint_field(&mut rest, LANE_KEY)?).ok()?;
    let lane_seq = varint_field(&mut rest, LANE_SEQ_KEY)?;
    let matched = u32::try_from(varint_field(&mut rest, MATCHED_KEY)?).ok()?;
    rest.is_empty().then_some(PublishAck { lane, lane_seq, matched })
}

/// The contents of the only field, which must have this key.
fn body_of(bytes: &[u8], key: u8) -> Option<&[u8]> {
    let (_, mut rest) = bytes.split_first().filter(|(first, _)| **first == key)?;
    let length = quick_varint(&mut rest)?;
    (length == rest.len() as u64).then_some(rest)
}

/// The number behind this key, which is left out when it is 0. `None` when it is broken.
fn varint_field(rest: &mut &[u8], key: u8) -> Option<u64> {
    match rest.split_first() {
        Some((first, behind)) if *first == key => {
            *rest = behind;
            quick_varint(rest)
        }
        _ => Some(0),
    }
}

/// A varint, of which short ones are read in place.
#[inline]
pub(crate) fn quick_varint(rest: &mut &[u8]) -> Option<u64> {
    match **rest {
        [first, ref behind @ ..] if first < 0x80 => {
            *rest = behind;
            Some(u64::from(first))
        }
        [first, second, ref behind @ ..] if second < 0x80 => {
            *rest = behind;
            Some(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => decode_varint(rest).ok(),
    }
}
