//! Log lines: as text for people, as JSON for collectors, or as Google Cloud Logging reads them.
//!
//! Whatever the format, one event is one line: control characters in messages and fields are escaped, since what
//! clients send ends up in fields and must not be able to forge lines or drive a terminal.

mod gcp;
mod json;
mod text;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{IsTerminal, Write},
    panic::PanicHookInfo,
    str::FromStr,
};

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{self, MakeWriter, format::JsonFields},
    layer::SubscriberExt,
};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// One JSON object per line with the fields that Google Cloud Logging knows.
    Gcp,
}

impl Format {
    /// The names, as in settings.
    pub(crate) const NAMES: [&str; 3] = ["text", "json", "gcp"];
}

/// A text that names no format.
#[derive(Debug, thiserror::Error)]
#[error("expected one of text, json, gcp")]
pub(crate) struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "gcp" => Ok(Self::Gcp),
            _ => Err(UnknownFormat),
        }
    }
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogSettings {
    /// The form of the lines.
    pub(crate) format: Format,
    /// Which lines are written, in the language of [`EnvFilter`].
    pub(crate) filter: String,
    /// The Google Cloud project that traces belong to.
    pub(crate) gcp_project: Option<String>,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Standard output: a service's only output is its log.
    Stdout,
    /// Standard error: standard output belongs to results.
    Stderr,
}

impl Destination {
    /// The broker logs to standard output, for people at a terminal to standard error.
    pub(crate) fn of_broker(format: Format) -> Self {
        if format == Format::Text && std::io::stdout().is_terminal() { Self::Stderr } else { Self::Stdout }
    }
}

/// Whether the text is a filter that [`LogSettings::filter`] may hold.
pub(crate) fn filter_is_valid(text: &str) -> bool {
    EnvFilter::builder().parse(text).is_ok()
}

/// Lines that wait for whoever reads the log. Beyond them lines are dropped: a log that nobody reads must not stop a
/// broker.
const WAITING_LINES_MAX: usize = 16_384;

/// Starts logging for the whole process. What waits is written when the guard is dropped.
///
/// Lines are written by a thread of their own, so that a full pipe or a slow disk holds up nobody else.
///
/// # Errors
/// The filter is not valid, or logging was started before.
pub(crate) fn start(settings: &LogSettings, destination: Destination) -> anyhow::Result<WorkerGuard> {
    let colours = |is_terminal: bool| is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (is_terminal, (writer, guard)) = match destination {
        Destination::Stdout => (std::io::stdout().is_terminal(), unblocked(std::io::stdout())),
        Destination::Stderr => (std::io::stderr().is_terminal(), unblocked(std::io::stderr())),
    };
    tracing::subscriber::set_global_default(subscriber(settings, writer, colours(is_terminal))?)?;
    if settings.format != Format::Text {
        // The usual report of a panic is many lines of text on standard error, which a collector tears apart.
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(guard)
}

fn unblocked(writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES_MAX).lossy(true).finish(writer)
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(tracing::field::display);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace));
    let reason = info.payload_as_str().unwrap_or("no reason given");
    tracing::error!(location, backtrace, reason, "a thread panicked");
}

fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    colours: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, tracing_subscriber::filter::ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&settings.filter)?;
    // A failure to log is not logged: it would go to a stream that may be just as closed.
    let lines = fmt::layer().with_writer(writer).with_ansi(colours).log_internal_errors(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        Format::Text => Box::new(lines.fmt_fields(text::fields())),
        Format::Json => Box::new(lines.fmt_fields(JsonFields::new()).event_format(json::Lines::Plain)),
        Format::Gcp => {
            let project = settings.gcp_project.clone();
            Box::new(lines.fmt_fields(JsonFields::new()).event_format(json::Lines::Gcp { project }))
        }
    };
    Ok(Box::new(Registry::default().with(lines).with(filter)))
}

#[cfg(test)]
mod tests;
