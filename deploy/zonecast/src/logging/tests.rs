use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: Format, filter: &str, project: Option<&str>, log: impl FnOnce()) -> Vec<String> {
    let settings = LogSettings { format, filter: filter.into(), gcp_project: project.map(Into::into) };
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = subscriber(&settings, move || writer.clone(), false).unwrap();
    tracing::subscriber::with_default(subscriber, log);
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.split_terminator('\n').map(str::to_owned).collect()
}

fn only(lines: &[String]) -> Value {
    assert_eq!(lines.len(), 1, "{lines:?}");
    serde_json::from_str(&lines[0]).unwrap()
}

/// Everything that a reader of lines may take for the end of one, and what drives a terminal.
const HOSTILE: &str = "a\nb\r\nc\u{1b}[31md\u{85}e\u{2028}f\u{2029}g\0h\u{7f}i\u{9b}j\u{202e}k\"l\\m";

fn is_one_clean_line(line: &str) {
    assert!(!line.contains(text::needs_escape), "{line:?}");
}

#[test]
fn hostile_text_stays_within_its_line() {
    for format in [Format::Text, Format::Json, Format::Gcp] {
        let lines = logged(format, "info", None, || {
            let span = tracing::info_span!("session", client = HOSTILE, shown = %HOSTILE);
            let _entered = span.enter();
            tracing::info!(quoted = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, "it said {HOSTILE}");
        });
        assert_eq!(lines.len(), 1, "{format:?}: {lines:?}");
        is_one_clean_line(&lines[0]);
    }
}

#[test]
fn json_gives_hostile_text_back_unchanged() {
    for format in [Format::Json, Format::Gcp] {
        let lines = logged(format, "info", None, || tracing::info!(quoted = HOSTILE, "{HOSTILE}"));
        let line = only(&lines);
        assert_eq!((line["quoted"].as_str(), line["message"].as_str()), (Some(HOSTILE), Some(HOSTILE)));
    }
}

#[test]
fn text_shows_message_fields_and_spans() {
    let lines = logged(Format::Text, "info", None, || {
        let span = tracing::info_span!("session", client = "c1");
        let _entered = span.enter();
        tracing::info!(zones = 2, at = %"1,2", "zones were set");
    });
    assert!(lines[0].ends_with("zones were set zones=2 at=1,2"), "{lines:?}");
    assert!(lines[0].contains(" INFO session{client=\"c1\"}: zonecast::logging::tests: "), "{lines:?}");
}

#[test]
fn json_lines_are_flat_with_typed_values() {
    let lines = logged(Format::Json, "debug", None, || {
        let outer = tracing::info_span!("connection", client = "outer", worker = 3);
        let _outer = outer.enter();
        let inner = tracing::info_span!("session", client = "inner", late = tracing::field::Empty);
        inner.record("late", 7);
        let _inner = inner.enter();
        let absent: Option<u64> = None;
        let wide = std::time::Duration::from_millis(9).as_millis();
        tracing::debug!(
            count = 5_u64,
            wide,
            huge = u128::MAX,
            ratio = 0.5,
            nan = f64::NAN,
            yes = true,
            absent,
            level = "mine",
            "hello"
        );
    });
    let line = only(&lines);
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(line["target"], "zonecast::logging::tests");
    assert_eq!(line["message"], "hello");
    assert_eq!((&line["client"], &line["worker"], &line["late"]), (&"inner".into(), &3.into(), &7.into()));
    assert_eq!((&line["count"], &line["ratio"], &line["yes"]), (&5.into(), &0.5.into(), &true.into()));
    assert_eq!((&line["nan"], &line["field.level"]), (&"NaN".into(), &"mine".into()));
    assert_eq!((&line["wide"], &line["huge"]), (&9.into(), &u128::MAX.to_string().into()));
    assert!(line.get("absent").is_none());
}

#[test]
fn errors_are_logged_with_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);
    let lines = logged(Format::Json, "info", None, || {
        let error = Outer(io::Error::other("inner"));
        tracing::info!(error = &error as &(dyn std::error::Error + 'static), "failed");
    });
    assert_eq!(only(&lines)["error"], "outer: inner");
}

#[test]
fn google_severities() {
    let lines = logged(Format::Gcp, "trace", None, || {
        tracing::trace!("m");
        tracing::debug!("m");
        tracing::info!("m");
        tracing::warn!("m");
        tracing::error!("m");
    });
    let severities: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["severity"].clone()).collect();
    assert_eq!(severities, ["DEBUG", "DEBUG", "INFO", "WARNING", "ERROR"]);
}

#[test]
fn google_fields_are_as_documented() {
    let lines = logged(Format::Gcp, "info", Some("my-project"), || {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let span = tracing::info_span!("publish", traceparent, world = "earth");
        let _entered = span.enter();
        tracing::info!(severity = "mine", httpRequest = "mine", sessions = 4, "event was routed");
    });
    let line = only(&lines);
    let location = &line["logging.googleapis.com/sourceLocation"];
    assert!(location["file"].as_str().unwrap().ends_with("tests.rs"), "{location}");
    assert!(location["line"].as_str().unwrap().parse::<u32>().unwrap() > 0, "{location}");
    assert_eq!(location["function"], "zonecast::logging::tests");
    assert_eq!(line["logging.googleapis.com/trace"], "projects/my-project/traces/4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(line["logging.googleapis.com/spanId"], "00f067aa0ba902b7");
    assert_eq!(line["logging.googleapis.com/trace_sampled"], true);
    assert_eq!((&line["message"], &line["severity"]), (&"event was routed".into(), &"INFO".into()));
    assert_eq!((&line["world"], &line["sessions"]), (&"earth".into(), &4.into()));
    assert_eq!((&line["field.severity"], &line["field.httpRequest"]), (&"mine".into(), &"mine".into()));
    assert!(line.get("httpRequest").is_none() && line.get("traceparent").is_none(), "{line}");
    let time = line["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000000Z");
}

#[test]
fn a_traceparent_of_the_event_counts_and_a_bad_one_stays_a_field() {
    let lines = logged(Format::Gcp, "info", None, || {
        tracing::info!(traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "m");
        tracing::info!(traceparent = "nonsense", "m");
    });
    let [good, bad]: [Value; 2] =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(good["logging.googleapis.com/trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(good["logging.googleapis.com/trace_sampled"], false);
    assert_eq!(bad["traceparent"], "nonsense");
    assert!(bad.get("logging.googleapis.com/trace").is_none());
}

#[test]
fn the_filter_chooses_by_level_and_module() {
    let log = || {
        tracing::info!("info");
        tracing::debug!("debug");
    };
    assert_eq!(logged(Format::Json, "warn", None, log).len(), 0);
    assert_eq!(logged(Format::Json, "info", None, log).len(), 1);
    assert_eq!(logged(Format::Json, "off,zonecast=debug", None, log).len(), 2);
}
