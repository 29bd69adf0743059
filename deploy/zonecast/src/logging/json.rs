//! Events as one JSON object per line.

use std::fmt;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use super::{gcp, text::needs_escape};

/// The two forms of JSON lines. The fields of the enclosing spans are in the object too, inner ones over outer ones.
#[derive(Debug)]
pub(super) enum Lines {
    /// `time`, `level`, `target`, `message`, and the fields.
    Plain,
    /// What Google Cloud Logging reads, and the fields.
    Gcp {
        /// The project that traces belong to.
        project: Option<String>,
    },
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(span_fields(context));
        event.record(&mut fields);
        let line = match self {
            Self::Plain => plain(event.metadata(), fields.0),
            Self::Gcp { project } => gcp::line(event.metadata(), fields.0, project.as_deref(), now_rfc3339()),
        };
        writeln!(writer, "{}", one_line(&Value::Object(line)))
    }
}

fn span_fields<S, N>(context: &FmtContext<'_, S, N>) -> Map<String, Value>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut all = Map::new();
    for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
        let extensions = span.extensions();
        let Some(formatted) = extensions.get::<FormattedFields<N>>() else { continue };
        // They were formatted as a JSON object when the span began, or are empty.
        if let Ok(Value::Object(fields)) = serde_json::from_str(&formatted.fields) {
            all.extend(fields);
        }
    }
    all
}

fn plain(metadata: &Metadata<'_>, fields: Map<String, Value>) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("time".into(), now_rfc3339().into());
    line.insert("level".into(), metadata.level().as_str().into());
    line.insert("target".into(), metadata.target().into());
    add_fields(&mut line, fields);
    line.entry("message").or_insert_with(|| metadata.name().into());
    line
}

/// Adds the fields; one whose name the line needs for itself becomes `field.NAME`.
pub(super) fn add_fields(line: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (name, value) in fields {
        let name = if line.contains_key(&name) { format!("field.{name}") } else { name };
        line.insert(name, value);
    }
}

/// JSON text in which also those characters are escaped that JSON permits bare but that readers of lines stumble over.
fn one_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(needs_escape) {
        return text;
    }
    // Outside of strings JSON has none of them, and inside of strings this is their escape. All are below U+10000.
    text.chars().map(|c| if needs_escape(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// The present time in UTC with nine digits of fraction.
fn now_rfc3339() -> String {
    let now = OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.nanosecond()
    )
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        // Durations in milliseconds are of this type. What no JSON reader takes for a number stays text.
        match u64::try_from(value) {
            Ok(small) => self.put(field, small),
            Err(_) => self.put(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinities; a null would hide which of them it was.
        if value.is_finite() { self.put(field, value) } else { self.put(field, value.to_string()) }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| error.source());
        self.put(field, causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
    }
}
