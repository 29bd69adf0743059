//! Framing: how frames lie on a stream, and how they are cut out of what arrives.
//!
//! A stream is a sequence of frames, each behind its length as a protobuf varint of 1 to 5 bytes.

use bytes::{Buf, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{decode_varint, encoded_len_varint},
};
use thiserror::Error;

use crate::{
    code_label,
    wire::{ClientFrame, Deliver, ErrorCode, GapReason, ServerFrame, client_frame, server_frame},
};

mod quick;

pub(crate) use quick::quick_varint;
pub use quick::{EncodedDeliver, first_encoded_deliver};
use quick::{deliver_in, publish_ack_in};

/// Most bytes of a length prefix; five carry 35 bits.
const LENGTH_PREFIX_BYTES_MAX: usize = 5;

/// What is wrong with a stream's framing. The connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A length beyond the limit; nothing was allocated for it.
    #[error("a frame of {length} bytes is announced; at most {frame_bytes_max} are permitted (frame_bytes_max)")]
    TooLarge {
        /// The announced length in bytes.
        length: u64,
        /// The limit in bytes.
        frame_bytes_max: u32,
    },
    /// A length prefix that does not end within 5 bytes.
    #[error("a length prefix does not end within 5 bytes")]
    BadLength,
    /// The stream ended within a frame.
    #[error("the stream ended within a frame, after {received} of its bytes")]
    Truncated {
        /// Bytes received of the frame and its prefix.
        received: usize,
    },
    /// The bytes are no protobuf message of the expected type.
    #[error("a frame is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// No member that this version knows is set.
    #[error("a frame has no member that protocol version 1 knows")]
    Unknown,
    /// A known frame where it does not belong.
    #[error("a {frame} frame does not belong {place}")]
    Unexpected {
        /// The frame's name.
        frame: &'static str,
        /// Where it came.
        place: &'static str,
    },
    /// A frame that says what cannot be.
    #[error("a {frame} frame is {problem}")]
    Impossible {
        /// The frame's name.
        frame: &'static str,
        /// What cannot be.
        problem: String,
    },
}

impl FrameError {
    /// The code with which the connection is closed.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::BadLength | Self::Truncated { .. } | Self::Malformed(_) => ErrorCode::MalformedFrame,
            Self::Unknown => ErrorCode::UnknownFrame,
            Self::Unexpected { .. } | Self::Impossible { .. } => ErrorCode::UnexpectedFrame,
        }
    }

    /// The code's name, for metric labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        code_label(self.code())
    }
}

/// Cuts frames out of the chunks of a stream.
///
/// Call [`push`](Self::push) with each chunk in order, then [`next_frame`](Self::next_frame) until it returns `None`.
/// Memory follows what has arrived, never what a length prefix announces. After an error the stream is unusable.
#[derive(Debug)]
pub struct FrameCutter {
    /// The rest of the newest chunk.
    chunk: Bytes,
    /// The beginning of a frame whose end is not in `chunk`. Empty most of the time: frames are cut without copying.
    partial: BytesMut,
    frame_bytes_max: u32,
}

impl FrameCutter {
    /// A cutter for a new stream that permits frames of so many bytes.
    #[must_use]
    pub fn new(frame_bytes_max: u32) -> Self {
        Self { chunk: Bytes::new(), partial: BytesMut::new(), frame_bytes_max }
    }

    /// Takes the stream's next chunk.
    ///
    /// A chunk that comes before the last one was used up is joined to it.
    pub fn push(&mut self, chunk: Bytes) {
        if !self.chunk.is_empty() {
            self.partial.extend_from_slice(&self.chunk);
        }
        self.chunk = chunk;
    }

    /// The next whole frame, without its length prefix.
    ///
    /// # Errors
    /// The length prefix is broken or beyond the limit.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.partial.is_empty() {
            return self.next_straddling();
        }
        match self.measure(&self.chunk)? {
            Some((prefix, length)) if self.chunk.len() >= prefix + length => {
                self.chunk.advance(prefix);
                Ok(Some(self.chunk.split_to(length)))
            }
            _ => {
                self.partial.extend_from_slice(&self.chunk);
                self.chunk.clear();
                Ok(None)
            }
        }
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// A frame has begun and not ended.
    pub fn finish(&self) -> Result<(), FrameError> {
        match self.partial.len() + self.chunk.len() {
            0 => Ok(()),
            received => Err(FrameError::Truncated { received }),
        }
    }

    fn next_straddling(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let wanted = match self.measure(&self.partial)? {
                Some((prefix, length)) if self.partial.len() >= prefix + length => {
                    self.partial.advance(prefix);
                    return Ok(Some(self.partial.split_to(length).freeze()));
                }
                Some((prefix, length)) => prefix + length - self.partial.len(),
                None => 1,
            };
            if self.chunk.is_empty() {
                return Ok(None);
            }
            let taken = self.chunk.split_to(wanted.min(self.chunk.len()));
            self.partial.extend_from_slice(&taken);
        }
    }

    /// The bytes of the prefix and of the frame, or `None` while the prefix is incomplete.
    fn measure(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let mut length = 0_u64;
        for (place, byte) in bytes.iter().take(LENGTH_PREFIX_BYTES_MAX).enumerate() {
            length |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return match u32::try_from(length) {
                    Ok(fits) if fits <= self.frame_bytes_max => Ok(Some((place + 1, fits as usize))),
                    _ => Err(FrameError::TooLarge { length, frame_bytes_max: self.frame_bytes_max }),
                };
            }
        }
        if bytes.len() >= LENGTH_PREFIX_BYTES_MAX { Err(FrameError::BadLength) } else { Ok(None) }
    }
}

/// How long the first of some frames is, its length prefix included; `None` when it is not whole.
#[must_use]
pub fn first_frame_bytes(mut frames: &[u8]) -> Option<usize> {
    let whole = frames.len();
    let length = usize::try_from(decode_varint(&mut frames).ok()?).ok()?;
    let prefix = whole - frames.len();
    (length <= frames.len()).then_some(prefix + length)
}

/// Decodes a frame that a client sent. Byte fields share the frame's memory.
///
/// # Errors
/// The bytes are no protobuf, or no known member is set.
pub fn decode_client_frame(frame: Bytes) -> Result<client_frame::Frame, FrameError> {
    ClientFrame::decode(frame)?.frame.ok_or(FrameError::Unknown)
}

/// Decodes a frame that the broker sent. Byte fields share the frame's memory.
///
/// # Errors
/// The bytes are no protobuf, or no known member is set.
pub fn decode_server_frame(mut frame: Bytes) -> Result<server_frame::Frame, FrameError> {
    // These two come by the million, nearly always in one form; read by hand they take a tenth of the time.
    if let Some((seq, DeliverFlags { resent, await_processing }, event)) = deliver_in(&frame) {
        frame.advance(frame.len() - event.len());
        return Ok(server_frame::Frame::Deliver(Deliver { seq, resent, await_processing, event: frame }));
    }
    if let Some(ack) = publish_ack_in(&frame) {
        return Ok(server_frame::Frame::PublishAck(ack));
    }
    ServerFrame::decode(frame)?.frame.ok_or(FrameError::Unknown)
}

/// Appends a client's frame with its length prefix.
pub fn encode_client_frame(frame: client_frame::Frame, out: &mut BytesMut) {
    append(&ClientFrame { frame: Some(frame) }, out);
}

/// Appends a broker's frame with its length prefix.
pub fn encode_server_frame(frame: server_frame::Frame, out: &mut BytesMut) {
    append(&ServerFrame { frame: Some(frame) }, out);
}

fn append(message: &impl Message, out: &mut BytesMut) {
    // Growing is the only way this encoder can fail, and a BytesMut grows by itself.
    message.encode_length_delimited(out).expect("a BytesMut has room for any message");
}

/// Most bytes by which a `Deliver` frame is longer than the event in it: its length, its member's key and length, the
/// number, two flags, and the event's key and length.
pub const DELIVER_OVERHEAD_BYTES_MAX: usize = 5 + (1 + 5) + (1 + 10) + 2 + 2 + (1 + 5);

/// Tag and wire type (2: length-delimited) of `ServerFrame.deliver`.
const DELIVER_KEY: u8 = (2 << 3) | 2;
/// Tag and wire type (0: varint) of `Deliver.seq`.
const SEQ_KEY: u8 = 1 << 3;
/// Tag and wire type (0: varint) of `Deliver.resent`.
const RESENT_KEY: u8 = 2 << 3;
/// Tag and wire type (0: varint) of `Deliver.await_processing`.
const AWAIT_PROCESSING_KEY: u8 = 3 << 3;
/// Tag and wire type (2: length-delimited) of `Deliver.event`.
const EVENT_KEY: u8 = (15 << 3) | 2;

/// What a `Deliver` says beside its number and its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeliverFlags {
    /// The event may have been delivered before.
    pub resent: bool,
    /// The publisher waits until the receiver has processed the event.
    pub await_processing: bool,
}

/// Appends a whole `ServerFrame` with a `Deliver` around an event that is already encoded, behind its length.
///
/// The same bytes as [`encode_server_frame`] would make, without building the message: this is done once per delivery.
pub fn encode_deliver(seq: u64, flags: DeliverFlags, event: &[u8], out: &mut BytesMut) {
    let (head, length) = deliver_head(seq, flags, event.len() as u64);
    let begin = out.len();
    out.reserve(head.len() + event.len());
    // All of it, which is a few instructions, and then as much of it as counts.
    out.extend_from_slice(&head);
    out.truncate(begin + length);
    out.extend_from_slice(event);
}

/// As [`encode_deliver`], without the length in front: the contents of a datagram.
#[must_use]
pub fn encode_deliver_datagram(seq: u64, flags: DeliverFlags, event: &[u8]) -> Bytes {
    let (head, length) = deliver_head(seq, flags, event.len() as u64);
    let prefix = head.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let mut datagram = BytesMut::with_capacity(length - prefix + event.len());
    datagram.extend_from_slice(&head[prefix..length]);
    datagram.extend_from_slice(event);
    datagram.freeze()
}

/// The bytes before the event, and how many they are.
fn deliver_head(seq: u64, flags: DeliverFlags, event_length: u64) -> ([u8; DELIVER_OVERHEAD_BYTES_MAX], usize) {
    let mut body = encoded_len_varint(event_length) as u64 + event_length + 1;
    if seq != 0 {
        body += 1 + encoded_len_varint(seq) as u64;
    }
    body += 2 * (u64::from(flags.resent) + u64::from(flags.await_processing));
    let mut head = Head { bytes: [0; DELIVER_OVERHEAD_BYTES_MAX], length: 0 };
    head.varint(1 + encoded_len_varint(body) as u64 + body);
    head.byte(DELIVER_KEY);
    head.varint(body);
    if seq != 0 {
        head.byte(SEQ_KEY);
        head.varint(seq);
    }
    for (flag, key) in [(flags.resent, RESENT_KEY), (flags.await_processing, AWAIT_PROCESSING_KEY)] {
        if flag {
            head.byte(key);
            head.byte(1);
        }
    }
    head.byte(EVENT_KEY);
    head.varint(event_length);
    (head.bytes, head.length)
}

/// What comes before the event, as far as it is written.
struct Head {
    bytes: [u8; DELIVER_OVERHEAD_BYTES_MAX],
    length: usize,
}

impl Head {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
    }
}

/// Appends a whole `ServerFrame` with a `Gap`.
pub fn encode_gap(from_seq: u64, to_seq: u64, reason: GapReason, out: &mut BytesMut) {
    let gap = crate::wire::Gap { from_seq, to_seq, reason: reason.into() };
    encode_server_frame(server_frame::Frame::Gap(gap), out);
}

/// Appends a whole `ServerFrame` with a `Datagrams`.
pub fn encode_datagrams(from_seq: u64, to_seq: u64, out: &mut BytesMut) {
    encode_server_frame(server_frame::Frame::Datagrams(crate::wire::Datagrams { from_seq, to_seq }), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_head_is_as_long_as_is_stated() {
        let flags = DeliverFlags { resent: true, await_processing: true };
        assert_eq!(deliver_head(u64::MAX, flags, 1 << 31).1, DELIVER_OVERHEAD_BYTES_MAX);
    }
}
