//! The form of structured logs that the agents of Google Cloud Logging read from standard output:
//! <https://cloud.google.com/logging/docs/structured-logging>.

use serde_json::{Map, Value, json};
use tracing::{Level, Metadata};

use super::json::add_fields;

/// The field, of the event or of a span around it, that says which trace an event belongs to.
const TRACEPARENT: &str = "traceparent";

/// Fields to which Google gives a meaning of its own, so that ours must not pass for them.
const RESERVED: [&str; 4] = ["httpRequest", "timestamp", "timestampSeconds", "timestampNanos"];

/// The object for one event.
pub(super) fn line(
    metadata: &Metadata<'_>,
    mut fields: Map<String, Value>,
    project: Option<&str>,
    time: String,
) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("severity".into(), severity(*metadata.level()).into());
    line.insert("time".into(), time.into());
    line.insert("message".into(), fields.remove("message").unwrap_or_else(|| metadata.name().into()));
    line.insert("logging.googleapis.com/sourceLocation".into(), source_location(metadata));
    let trace = fields.get(TRACEPARENT).and_then(Value::as_str).and_then(TraceParent::parse);
    if let Some(trace) = trace {
        fields.remove(TRACEPARENT);
        let id = project.map_or_else(|| trace.id.clone(), |project| format!("projects/{project}/traces/{}", trace.id));
        line.insert("logging.googleapis.com/trace".into(), id.into());
        line.insert("logging.googleapis.com/spanId".into(), trace.span.into());
        line.insert("logging.googleapis.com/trace_sampled".into(), trace.sampled.into());
    }
    for name in RESERVED {
        if let Some(value) = fields.remove(name) {
            fields.insert(format!("field.{name}"), value);
        }
    }
    add_fields(&mut line, fields);
    line
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        // Google has nothing below DEBUG.
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

fn source_location(metadata: &Metadata<'_>) -> Value {
    // Google's line is an int64, which its JSON form writes as a string.
    json!({
        "file": metadata.file().unwrap_or("unknown"),
        "line": metadata.line().unwrap_or(0).to_string(),
        "function": metadata.target(),
    })
}

/// A W3C trace context, <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[derive(Debug, PartialEq, Eq)]
struct TraceParent {
    id: String,
    span: String,
    sampled: bool,
}

impl TraceParent {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex(parts.next()?, 2)?;
        let (id, span, flags) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // Later versions may append parts; version 00 has none, and ff is forbidden.
        let ends_well = version != "ff" && (version != "00" || parts.next().is_none());
        let zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
        if !ends_well || zero(id) || zero(span) {
            return None;
        }
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { id: id.to_owned(), span: span.to_owned(), sampled })
    }
}

fn hex(part: &str, digits: usize) -> Option<&str> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (part.len() == digits && part.bytes().all(lower)).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_as_w3c_says() {
        let parsed = TraceParent::parse(&format!("00-{ID}-{SPAN}-01")).unwrap();
        assert_eq!((parsed.id.as_str(), parsed.span.as_str(), parsed.sampled), (ID, SPAN, true));
        assert!(!TraceParent::parse(&format!("00-{ID}-{SPAN}-02")).unwrap().sampled);
        assert!(TraceParent::parse(&format!("01-{ID}-{SPAN}-03-more")).unwrap().sampled);
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            "00".into(),
            format!("00-{ID}-{SPAN}"),
            format!("00-{ID}-{SPAN}-01-more"),
            format!("ff-{ID}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", ID.to_uppercase()),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{ID}-{}-01", &zeros[..16]),
            format!("00-{ID}-{SPAN}-1"),
            format!("00-{ID}-{SPAN}-0\n"),
        ] {
            assert_eq!(TraceParent::parse(&bad), None, "{bad:?}");
        }
    }
}
