//! The frames of the own TCP and ZeroMQ brokers: the least that a spatial broker needs to say.
//!
//! A frame is a type byte and a body, all numbers little-endian. Over TCP a `u32` with their length goes before it;
//! ZeroMQ brings lengths of its own.

use bytes::{BufMut, BytesMut};
use zonecast_protocol::{Circle, Zone};

/// Most bytes of a frame, its length field excepted.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

const SUBSCRIBE: u8 = 1;
const SUBSCRIBED: u8 = 2;
const EVENT: u8 = 3;
const ROUTED: u8 = 4;

const LENGTH_BYTES: usize = 4;
const NUMBER_BYTES: usize = 8;
const EVENT_HEAD_BYTES: usize = 1 + 3 * NUMBER_BYTES;
const ZONE_BYTES: usize = 4 * NUMBER_BYTES;

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<'a> {
    /// The session's zones, in place of those before.
    Subscribe(Vec<Zone>),
    /// They are in force.
    Subscribed,
    /// Something happened. The broker sends on the publisher's bytes as they are.
    Event {
        /// Where.
        circle: Circle,
        /// The application's bytes.
        payload: &'a [u8],
    },
    /// How many sessions the session's next events reached, in the order in which they were published.
    Routed(Vec<u32>),
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length beyond [`FRAME_BYTES_MAX`], or none.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// The type is not known, or the body is not what the type asks for.
    #[error("a malformed frame of type {0}")]
    Body(u8),
}

/// The first frame of what was read from TCP, with its length field and without, and what follows it; none while it is
/// incomplete.
///
/// # Errors
/// [`FrameError::Length`]: the connection cannot go on.
pub fn cut(bytes: &[u8]) -> Result<Option<Cut<'_>>, FrameError> {
    let Some((length, after)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    let Some((frame, rest)) = after.split_at_checked(length) else { return Ok(None) };
    Ok(Some(Cut { whole: &bytes[..LENGTH_BYTES + length], frame, rest }))
}

/// What [`cut`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut<'a> {
    /// The frame with its length field.
    pub whole: &'a [u8],
    /// The frame alone.
    pub frame: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

/// Reads a frame.
///
/// # Errors
/// [`FrameError::Body`], also for coordinates that are no zone or circle.
pub fn decode(frame: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (kind, body) = frame.split_first().ok_or(FrameError::Length(0))?;
    let malformed = FrameError::Body(*kind);
    match *kind {
        SUBSCRIBE => {
            let (zones, []) = body.as_chunks::<ZONE_BYTES>() else { return Err(malformed) };
            zones.iter().map(|zone| read_zone(zone).ok_or(malformed)).collect::<Result<_, _>>().map(Frame::Subscribe)
        }
        SUBSCRIBED if body.is_empty() => Ok(Frame::Subscribed),
        EVENT => {
            let (head, payload) = body.split_at_checked(EVENT_HEAD_BYTES - 1).ok_or(malformed)?;
            let [x, y, radius] = numbers(head).ok_or(malformed)?;
            Ok(Frame::Event { circle: Circle::new(x, y, radius).map_err(|_| malformed)?, payload })
        }
        ROUTED => {
            let (counts, []) = body.as_chunks::<4>() else { return Err(malformed) };
            Ok(Frame::Routed(counts.iter().map(|count| u32::from_le_bytes(*count)).collect()))
        }
        _ => Err(malformed),
    }
}

/// Appends an event with its length field.
pub fn put_event(buffer: &mut BytesMut, circle: &Circle, payload: &[u8]) {
    put_length(buffer, EVENT_HEAD_BYTES + payload.len());
    buffer.extend_from_slice(&event_head(circle));
    buffer.extend_from_slice(payload);
}

/// What stands before the payload of an event, without a length field.
#[must_use]
pub fn event_head(circle: &Circle) -> [u8; EVENT_HEAD_BYTES] {
    let mut head = [EVENT; EVENT_HEAD_BYTES];
    for (place, number) in
        head[1..].as_chunks_mut::<NUMBER_BYTES>().0.iter_mut().zip([circle.x(), circle.y(), circle.radius()])
    {
        *place = number.to_le_bytes();
    }
    head
}

/// Appends a subscription with its length field.
pub fn put_subscribe(buffer: &mut BytesMut, zones: impl ExactSizeIterator<Item = Zone>) {
    put_length(buffer, 1 + zones.len() * ZONE_BYTES);
    buffer.put_u8(SUBSCRIBE);
    for zone in zones {
        let ([min_x, min_y], [max_x, max_y]) = (zone.min(), zone.max());
        for number in [min_x, min_y, max_x, max_y] {
            buffer.put_f64_le(number);
        }
    }
}

/// Appends the answer to a subscription with its length field.
pub fn put_subscribed(buffer: &mut BytesMut) {
    put_length(buffer, 1);
    buffer.put_u8(SUBSCRIBED);
}

/// Appends an acknowledgement with its length field.
pub fn put_routed(buffer: &mut BytesMut, matched: &[u32]) {
    put_length(buffer, 1 + 4 * matched.len());
    buffer.put_u8(ROUTED);
    for count in matched {
        buffer.put_u32_le(*count);
    }
}

/// A whole frame without its length field.
#[must_use]
pub fn without_length(whole: &[u8]) -> &[u8] {
    whole.get(LENGTH_BYTES..).unwrap_or_default()
}

fn put_length(buffer: &mut BytesMut, length: usize) {
    buffer.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn read_zone(bytes: &[u8]) -> Option<Zone> {
    let [min_x, min_y, max_x, max_y] = numbers(bytes)?;
    Zone::new(min_x, min_y, max_x, max_y).ok()
}

fn numbers<const COUNT: usize>(bytes: &[u8]) -> Option<[f64; COUNT]> {
    let (chunks, []) = bytes.as_chunks::<NUMBER_BYTES>() else { return None };
    let chunks: &[[u8; NUMBER_BYTES]; COUNT] = chunks.try_into().ok()?;
    Some(chunks.map(f64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone::new(-1.5, 0.0, 2.0, 1e9).unwrap()
    }

    fn circle() -> Circle {
        Circle::new(3.5, -4.25, 0.5).unwrap()
    }

    fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut buffer = BytesMut::new();
        write(&mut buffer);
        buffer
    }

    #[test]
    fn what_is_written_is_read() {
        let cases = [
            (written(|buffer| put_subscribe(buffer, [zone(), zone()].into_iter())), Frame::Subscribe(vec![zone(); 2])),
            (written(|buffer| put_subscribe(buffer, [].into_iter())), Frame::Subscribe(vec![])),
            (written(put_subscribed), Frame::Subscribed),
            (
                written(|buffer| put_event(buffer, &circle(), b"boom")),
                Frame::Event { circle: circle(), payload: b"boom" },
            ),
            (written(|buffer| put_event(buffer, &circle(), b"")), Frame::Event { circle: circle(), payload: b"" }),
            (written(|buffer| put_routed(buffer, &[0, 7, u32::MAX])), Frame::Routed(vec![0, 7, u32::MAX])),
        ];
        for (bytes, frame) in cases {
            let cut = cut(&bytes).unwrap().unwrap();
            assert_eq!((cut.whole, cut.rest), (&bytes[..], &b""[..]));
            assert_eq!(decode(cut.frame).unwrap(), frame);
        }
    }

    #[test]
    fn frames_are_cut_one_by_one_and_never_early() {
        let mut bytes = written(|buffer| put_event(buffer, &circle(), b"one"));
        let first = bytes.len();
        put_routed(&mut bytes, &[1]);
        for end in 0..first {
            assert_eq!(cut(&bytes[..end]).unwrap(), None, "{end} bytes");
        }
        let one = cut(&bytes).unwrap().unwrap();
        let two = cut(one.rest).unwrap().unwrap();
        assert_eq!(decode(one.frame).unwrap(), Frame::Event { circle: circle(), payload: b"one" });
        assert_eq!((decode(two.frame).unwrap(), two.rest), (Frame::Routed(vec![1]), &b""[..]));
    }

    #[test]
    fn lengths_are_refused_before_anything_is_kept_for_them() {
        assert_eq!(cut(&0u32.to_le_bytes()), Err(FrameError::Length(0)));
        assert_eq!(cut(&u32::MAX.to_le_bytes()), Err(FrameError::Length(u32::MAX as usize)));
    }

    #[test]
    fn bodies_that_are_cut_short_or_make_no_sense_are_refused() {
        for (bytes, kept_at_least) in [
            (written(|buffer| put_subscribe(buffer, [zone()].into_iter())), 2),
            (written(|buffer| put_event(buffer, &circle(), b"")), 1),
            (written(|buffer| put_routed(buffer, &[1])), 2),
        ] {
            let frame = cut(&bytes).unwrap().unwrap().frame;
            for end in kept_at_least..frame.len() {
                assert_eq!(decode(&frame[..end]), Err(FrameError::Body(frame[0])), "{end} of {}", frame.len());
            }
        }
        assert_eq!(decode(&[99]), Err(FrameError::Body(99)));
        assert_eq!(decode(&[]), Err(FrameError::Length(0)));
        let mut negative = event_head(&circle());
        negative[17..25].copy_from_slice(&(-1.0f64).to_le_bytes());
        assert_eq!(decode(&negative), Err(FrameError::Body(EVENT)));
    }
}
