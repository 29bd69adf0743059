//! Whether a session can take more, for publishers on every worker.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a session can take more, readable from every worker.
///
/// Only the session's own worker writes it. Publishers of reliable events wait on it, whichever worker they are on.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    over: AtomicBool,
    relieved: Notify,
}

impl Gauge {
    /// Whether the outbox is over its soft mark.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits until it is not. A session that never gets there is ended by its worker, which relieves it too.
    pub(crate) async fn relieved(&self) {
        loop {
            let relieved = self.relieved.notified();
            if !self.is_over() {
                return;
            }
            relieved.await;
        }
    }

    pub(super) fn set(&self, over: bool) {
        if over != self.over.load(Ordering::Relaxed) {
            self.over.store(over, Ordering::Release);
            if !over {
                self.relieved.notify_waiters();
            }
        }
    }
}
