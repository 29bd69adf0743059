//! How an event becomes a `Publish` frame: straight into the lane's buffer, without an allocation of its own.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};
use zonecast_protocol::{
    AckLevel, Circle,
    codec::{FrameCutter, decode_client_frame, encode_client_frame},
    wire::{self, client_frame},
};

use super::{Aim, Publish};

/// Bytes of a `Publish` frame beyond its texts and its payload, at most: keys, lengths and numbers.
const FRAME_OVERHEAD_BYTES_MAX: usize = 128;

/// Bytes by which a frame grows when it says that it may have been sent before, at most: the flag, and a longer length.
pub(crate) const FLAG_BYTES_MAX: usize = 5;

impl Publish<'_> {
    /// How many bytes the frame has on the wire, with the greatest numbers and flags.
    pub(crate) fn frame_bytes(&self, ack: AckLevel) -> usize {
        let (mut event, mut head) = (Count(FLAG_BYTES_MAX), Count(0));
        self.write_event(&Stamp { source: u64::MAX, lane_seq: u64::MAX, published_at_us: u64::MAX }, &mut event);
        self.write_head(ack, &mut head);
        let frame_bytes = bytes_field_length(head.0 + bytes_field_length(event.0));
        encoded_len_varint(frame_bytes as u64) + frame_bytes
    }

    /// At least as many bytes as the frame has.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        let aim = match &self.aim {
            Aim::Place { world, .. } => world.len(),
            Aim::Topic(topic) => topic.len(),
        };
        let texts = aim + self.kind.len() + self.key.len() + self.reply_to.len() + self.traceparent.len();
        texts + self.payload.as_slice().len() + FRAME_OVERHEAD_BYTES_MAX
    }

    /// Appends the whole frame with its length prefix.
    pub(crate) fn encode(&self, stamp: &Stamp, ack: AckLevel, out: &mut BytesMut) {
        let mut event_bytes = Count(0);
        self.write_event(stamp, &mut event_bytes);
        let mut head = Count(0);
        self.write_head(ack, &mut head);
        let publish_bytes = head.0 + bytes_field_length(event_bytes.0);
        let frame_bytes = bytes_field_length(publish_bytes);
        out.reserve(encoded_len_varint(frame_bytes as u64) + frame_bytes);
        encode_varint(frame_bytes as u64, out);
        open_field(FRAME_PUBLISH, publish_bytes, out);
        self.write_head(ack, out);
        open_field(PUBLISH_EVENT, event_bytes.0, out);
        self.write_event(stamp, out);
    }

    fn write_head(&self, ack: AckLevel, out: &mut impl Sink) {
        out.varint(1, u64::from(i32::from(ack).unsigned_abs()));
        out.varint(2, u64::from(self.exclude_self));
        if ack == AckLevel::Processed {
            out.varint(4, u64::from(self.expires_in_ms()));
        }
        out.varint(5, u64::from(self.require_match));
    }

    fn write_event(&self, stamp: &Stamp, out: &mut impl Sink) {
        match &self.aim {
            Aim::Place { world, circle } => {
                let mut place_bytes = Count(0);
                write_place(world, *circle, &mut place_bytes);
                out.open(1, place_bytes.0);
                write_place(world, *circle, out);
            }
            // A member of a oneof is written even when it is empty.
            Aim::Topic(topic) => {
                out.open(2, topic.len());
                out.raw(topic.as_bytes());
            }
        }
        out.bytes(3, self.kind.as_bytes());
        out.fixed64(4, stamp.source);
        out.varint(5, self.lane.into());
        out.varint(6, stamp.lane_seq);
        out.varint(7, u64::from(i32::from(self.class).unsigned_abs()));
        out.bytes(8, self.key.as_bytes());
        out.bytes(9, self.reply_to.as_bytes());
        out.varint(10, self.published_at_us.unwrap_or(stamp.published_at_us));
        out.bytes(11, self.traceparent.as_bytes());
        out.bytes(15, self.payload.as_slice());
    }
}

/// The same frame, saying that it may have been sent before; the event in it stays as it is, byte for byte.
pub(crate) fn flag_resent(frame: &Bytes) -> Bytes {
    let mut cutter = FrameCutter::new(u32::MAX);
    cutter.push(frame.clone());
    let publish = match cutter.next_frame().map(|frame| frame.map(decode_client_frame)) {
        Ok(Some(Ok(client_frame::Frame::Publish(publish)))) => publish,
        // Nothing else is ever encoded here; unflagged it is still the frame that must be sent.
        _ => return frame.clone(),
    };
    let mut flagged = BytesMut::new();
    encode_client_frame(client_frame::Frame::Publish(wire::Publish { resent: true, ..publish }), &mut flagged);
    flagged.freeze()
}

/// What publishing adds to an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) source: u64,
    pub(crate) lane_seq: u64,
    pub(crate) published_at_us: u64,
}

fn write_place(world: &str, circle: Circle, out: &mut impl Sink) {
    out.bytes(1, world.as_bytes());
    out.fixed64(2, zero_as_zero(circle.x()));
    out.fixed64(3, zero_as_zero(circle.y()));
    out.fixed64(4, zero_as_zero(circle.radius()));
}

/// The bits of a number, those of 0 for -0: proto3 leaves both out.
fn zero_as_zero(value: f64) -> u64 {
    if value == 0.0 { 0 } else { value.to_bits() }
}

/// Number of `ClientFrame.publish`.
const FRAME_PUBLISH: u32 = 5;
/// Number of `Publish.event`.
const PUBLISH_EVENT: u32 = 15;

/// A length-delimited field of a number up to 15, whose key takes one byte.
fn bytes_field_length(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn open_field(field: u32, length: usize, out: &mut impl Sink) {
    out.open(field, length);
}

/// Where fields are written, or only measured: both by the same code, so that lengths cannot disagree with contents.
///
/// As proto3 has it, fields with their default value are left out. All field numbers are at most 15.
trait Sink {
    fn byte(&mut self, byte: u8);
    fn number(&mut self, value: u64);
    fn raw(&mut self, bytes: &[u8]);

    #[inline]
    fn key(&mut self, field: u32, wire_type: u8) {
        self.byte((field as u8) << 3 | wire_type);
    }

    #[inline]
    fn varint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, 0);
            self.number(value);
        }
    }

    #[inline]
    fn fixed64(&mut self, field: u32, bits: u64) {
        if bits != 0 {
            self.key(field, 1);
            self.raw(&bits.to_le_bytes());
        }
    }

    #[inline]
    fn open(&mut self, field: u32, length: usize) {
        self.key(field, 2);
        self.number(length as u64);
    }

    #[inline]
    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.open(field, bytes.len());
            self.raw(bytes);
        }
    }
}

struct Count(usize);

impl Sink for Count {
    #[inline]
    fn byte(&mut self, _: u8) {
        self.0 += 1;
    }

    #[inline]
    fn number(&mut self, value: u64) {
        self.0 += encoded_len_varint(value);
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for BytesMut {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.put_u8(byte);
    }

    #[inline]
    fn number(&mut self, value: u64) {
        encode_varint(value, self);
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
