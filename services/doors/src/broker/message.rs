//! Between HTTP's form of a unary call and its form in an event.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Limited};
use tonic::{Code, Status, body::Body};
use zonecast_protocol::rpc::v1::{Answer, Metadata};

/// gRPC's bytes before a message: whether it is compressed, and its length in four.
const PREFIX_BYTES: usize = 5;
/// Bounds of metadata, as `rpc.proto` states them.
const METADATA_MAX: usize = 64;
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// What the fields of Call and Answer say, and what belongs to a connection of HTTP/2.
const NOT_METADATA: [&str; 11] = [
    "grpc-status",
    "grpc-message",
    "grpc-encoding",
    "grpc-accept-encoding",
    "content-type",
    "content-length",
    "connection",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
];

/// A body of one message, with what came behind it.
pub(super) struct Unary {
    /// The message; none where the body was empty.
    pub(super) message: Option<Bytes>,
    /// The trailers.
    pub(super) trailers: HeaderMap,
}

/// A message as the body of a request or an answer.
pub(super) fn framed(message: &[u8]) -> Result<Bytes, Status> {
    let length = u32::try_from(message.len()).map_err(|_| Status::resource_exhausted("the message is too long"))?;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(message);
    Ok(frame.freeze())
}

/// Reads a body to its end.
pub(super) async fn unframed(body: Body, bytes_max: usize) -> Result<Unary, Status> {
    let limited = Limited::new(body, bytes_max.saturating_add(PREFIX_BYTES));
    let collected = limited.collect().await.map_err(|error| match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(_) => Status::resource_exhausted(format!(
            "the message is longer than an event of the broker may be ({bytes_max} bytes); call by gRPC"
        )),
    })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let bytes = collected.to_bytes();
    if bytes.is_empty() {
        return Ok(Unary { message: None, trailers });
    }
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Status::internal("a message without its length"));
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(Status::unimplemented("compressed messages do not pass through the broker"));
    }
    if rest.len() != u32::from_be_bytes(length) as usize {
        return Err(streaming());
    }
    Ok(Unary { message: Some(bytes.slice(PREFIX_BYTES..)), trailers })
}

/// The answer to a method that streams.
pub(super) fn streaming() -> Status {
    Status::unimplemented("methods that stream do not pass through the broker; call by gRPC")
}

/// Headers as metadata.
pub(super) fn metadata(headers: &HeaderMap) -> impl Iterator<Item = Metadata> {
    headers.iter().filter(|(name, _)| !NOT_METADATA.contains(&name.as_str())).map(|(name, value)| Metadata {
        key: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    })
}

/// Metadata as headers.
pub(super) fn headers(metadata: &[Metadata]) -> Result<HeaderMap, Status> {
    let bytes: usize = metadata.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    if metadata.len() > METADATA_MAX || bytes > METADATA_BYTES_MAX {
        let message = format!("more metadata than {METADATA_MAX} entries or {METADATA_BYTES_MAX} bytes");
        return Err(Status::resource_exhausted(message));
    }
    let mut headers = HeaderMap::new();
    for entry in metadata {
        let bad = || Status::invalid_argument(format!("metadata {:?} is not valid", entry.key));
        let name = HeaderName::from_lowercase(entry.key.as_bytes()).map_err(|_| bad())?;
        let value = HeaderValue::from_bytes(&entry.value).map_err(|_| bad())?;
        if !NOT_METADATA.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// The answer that a status is.
pub(super) fn refusal(status: &Status) -> Answer {
    let mut headers = HeaderMap::new();
    // Fails for metadata that is no header, and then the code and the words are what counts.
    let _ = status.add_header(&mut headers);
    Answer {
        code: u32::try_from(status.code() as i32).unwrap_or(Code::Unknown as u32),
        status_message: status.message().to_owned(),
        metadata: metadata(&headers).collect(),
        message: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: Bytes) -> Body {
        Body::new(http_body_util::Full::new(bytes))
    }

    #[tokio::test]
    async fn a_message_survives_its_frame() {
        let unary = unframed(body(framed(b"hello").unwrap()), 5).await.unwrap();
        assert_eq!(unary.message.as_deref(), Some(&b"hello"[..]));
        assert!(unframed(body(Bytes::new()), 5).await.unwrap().message.is_none());
    }

    #[tokio::test]
    async fn what_is_no_single_message_is_refused() {
        let two = [framed(b"a").unwrap(), framed(b"b").unwrap()].concat();
        for (bytes, code) in [
            (two, Code::Unimplemented),
            (framed(b"123456").unwrap().to_vec(), Code::ResourceExhausted),
            (vec![0, 0, 0], Code::Internal),
            (vec![1, 0, 0, 0, 1, 7], Code::Unimplemented),
        ] {
            let bytes_max = if code == Code::ResourceExhausted { 5 } else { 100 };
            let refused = unframed(body(bytes.into()), bytes_max).await.err().unwrap();
            assert_eq!(refused.code(), code, "{refused}");
        }
    }

    #[test]
    fn metadata_passes_and_what_is_not_metadata_does_not() {
        let entry = |key: &str, value: &[u8]| Metadata { key: key.into(), value: Bytes::copy_from_slice(value) };
        let passed = headers(&[entry("authorization", b"Bearer x"), entry("te", b"trailers")]).unwrap();
        assert_eq!(passed.len(), 1);
        assert_eq!(metadata(&passed).collect::<Vec<_>>(), [entry("authorization", b"Bearer x")]);
        for bad in [entry("Upper", b""), entry("a b", b""), entry("", b""), entry(":path", b""), entry("a", b"\n")] {
            assert_eq!(headers(&[bad]).unwrap_err().code(), Code::InvalidArgument);
        }
        let many = vec![entry("a", b""); METADATA_MAX + 1];
        assert_eq!(headers(&many).unwrap_err().code(), Code::ResourceExhausted);
    }
}
