//! As much of RESP3 as publishing and subscribing needs.

use bytes::{BufMut, BytesMut};

/// Most bytes of one value: everything that is awaited is far smaller.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting that is read.
const DEPTH_MAX: u32 = 8;

/// One value that the server sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// What was published on a channel that this connection listens to.
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// This connection listens to one more channel.
    Subscribed,
    Integer(i64),
    Error(&'a [u8]),
    /// Something that nobody asked for.
    Other,
}

/// The server does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not RESP3: {0}")]
pub(super) struct Malformed(&'static str);

/// The first value and how many bytes it has; none while it is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some((head, after_head)) = line(bytes, 0)? else { return Ok(None) };
    let (kind, text) = head.split_first().ok_or(Malformed("an empty line"))?;
    match kind {
        b'>' => push(bytes, text, after_head),
        b':' => Ok(Some((Reply::Integer(number(text)?), after_head))),
        b'-' => Ok(Some((Reply::Error(text), after_head))),
        _ => Ok(skip(bytes, 0, 0)?.map(|end| (Reply::Other, end))),
    }
}

/// Appends a command.
pub(super) fn put_command(buffer: &mut BytesMut, words: &[&[u8]]) {
    put_head(buffer, b'*', words.len());
    for word in words {
        put_bulk(buffer, word);
    }
}

/// Appends a string.
pub(super) fn put_bulk(buffer: &mut BytesMut, word: &[u8]) {
    put_head(buffer, b'$', word.len());
    buffer.put_slice(word);
    buffer.put_slice(b"\r\n");
}

fn put_head(buffer: &mut BytesMut, kind: u8, count: usize) {
    buffer.put_u8(kind);
    put_number(buffer, count);
    buffer.put_slice(b"\r\n");
}

/// Appends a number in decimal digits.
pub(super) fn put_number(buffer: &mut BytesMut, number: usize) {
    if number >= 10 {
        put_number(buffer, number / 10);
    }
    buffer.put_u8(b"0123456789"[number % 10]);
}

fn push<'a>(bytes: &'a [u8], count: &[u8], at: usize) -> Result<Option<(Reply<'a>, usize)>, Malformed> {
    let count = length(count)?;
    let Some((kind, after_kind)) = bulk(bytes, at)? else { return Ok(None) };
    if kind == b"message" && count == 3 {
        let Some((channel, after_channel)) = bulk(bytes, after_kind)? else { return Ok(None) };
        let Some((payload, end)) = bulk(bytes, after_channel)? else { return Ok(None) };
        return Ok(Some((Reply::Message { channel, payload }, end)));
    }
    let mut end = after_kind;
    for _ in 1..count {
        let Some(after) = skip(bytes, end, 1)? else { return Ok(None) };
        end = after;
    }
    Ok(Some((if kind == b"subscribe" { Reply::Subscribed } else { Reply::Other }, end)))
}

/// Where the value that begins at `at` ends.
fn skip(bytes: &[u8], at: usize, depth: u32) -> Result<Option<usize>, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nested too deeply"));
    }
    let Some((head, after_head)) = line(bytes, at)? else { return Ok(None) };
    let (kind, text) = head.split_first().ok_or(Malformed("an empty line"))?;
    let values = match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => return Ok(Some(after_head)),
        b'$' | b'=' => return Ok(bulk(bytes, at)?.map(|(_, end)| end)),
        b'*' | b'~' | b'>' => length(text)?,
        b'%' => 2 * length(text)?,
        _ => return Err(Malformed("a value of unknown type")),
    };
    let mut end = after_head;
    for _ in 0..values {
        let Some(after) = skip(bytes, end, depth + 1)? else { return Ok(None) };
        end = after;
    }
    Ok(Some(end))
}

fn bulk(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some((head, start)) = line(bytes, at)? else { return Ok(None) };
    let [b'$' | b'=', text @ ..] = head else { return Err(Malformed("no string where one is due")) };
    let end = start + length(text)?;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    if &bytes[end..end + 2] != b"\r\n" {
        return Err(Malformed("a string of another length than announced"));
    }
    Ok(Some((&bytes[start..end], end + 2)))
}

/// The line that begins at `at`, and where the next one does.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) if end > 0 && rest[end - 1] == b'\r' => Ok(Some((&rest[..end - 1], at + end + 1))),
        Some(_) => Err(Malformed("a line that does not end as lines do")),
        None if rest.len() > VALUE_BYTES_MAX => Err(Malformed("an endless line")),
        None => Ok(None),
    }
}

fn length(text: &[u8]) -> Result<usize, Malformed> {
    let length = usize::try_from(number(text)?).map_err(|_| Malformed("a negative length"))?;
    if length > VALUE_BYTES_MAX { Err(Malformed("a value too long")) } else { Ok(length) }
}

fn number(text: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Malformed("no number where one is due"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$4\r\nz.17\r\n$5\r\na\r\nbc\r\n";

    #[test]
    fn the_values_that_are_awaited_are_read() {
        let message = Reply::Message { channel: b"z.17", payload: b"a\r\nbc" };
        assert_eq!(parse(MESSAGE).unwrap(), Some((message, MESSAGE.len())));
        let subscribed = b">3\r\n$9\r\nsubscribe\r\n$4\r\nz.17\r\n:1\r\n";
        assert_eq!(parse(subscribed).unwrap(), Some((Reply::Subscribed, subscribed.len())));
        assert_eq!(parse(b":12\r\n:13\r\n").unwrap(), Some((Reply::Integer(12), 5)));
        assert_eq!(parse(b"-ERR no\r\n").unwrap(), Some((Reply::Error(b"ERR no"), 9)));
        let hello = b"%2\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nmodules\r\n*1\r\n+x\r\n";
        assert_eq!(parse(hello).unwrap(), Some((Reply::Other, hello.len())));
    }

    #[test]
    fn a_value_that_is_cut_short_is_waited_for() {
        for end in 0..MESSAGE.len() {
            assert_eq!(parse(&MESSAGE[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        for bytes in [
            &b"?\r\n"[..],
            b"\r\n",
            b"\n",
            b":x\r\n",
            b">3\r\n$7\r\nmessage\r\n:1\r\n",
            b"$-2\r\n",
            b"$2\r\nabcd",
            b"$9999999999\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn commands_are_written_as_the_server_wants_them() {
        let mut buffer = BytesMut::new();
        put_command(&mut buffer, &[b"PUBLISH", b"z.1", b"0123456789ab"]);
        assert_eq!(&buffer[..], b"*3\r\n$7\r\nPUBLISH\r\n$3\r\nz.1\r\n$12\r\n0123456789ab\r\n");
    }
}
