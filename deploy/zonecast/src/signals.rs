//! What ends a process: signals that ask it to, and failures after which it cannot go on.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a process to end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Watches them from here on.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Says that the process ends, within this grace: for the signal of that name, or for what has failed.
pub(crate) fn tell(what: &'static str, cause: Result<&'static str, &'static str>, grace: Duration) {
    let grace_ms = grace.as_millis();
    match cause {
        Ok(signal) => tracing::info!(signal, grace_ms, "{what}; a second signal ends it at once"),
        Err(failure) => tracing::error!(failure, grace_ms, "{what}: this is a defect; start another"),
    }
}
