//! For how long a session may hold its publishers back.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Session;
use crate::ConnectionLimits;

impl Session {
    /// For how long the outbox has been over its soft mark without a break.
    pub(crate) fn over_for(&self) -> Duration {
        self.over_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Waits until the outbox has been over its soft mark for so long without a break (`slow_consumer_timeout`).
    ///
    /// Meanwhile, whenever nothing of it was acknowledged for `hold_timeout`, publishers are let go: a receiver that is
    /// slow is waited for, one that is stuck fills its queue alone. `let_go` is told of each time.
    pub(crate) async fn over_too_long(&self, limits: &ConnectionLimits, let_go: impl Fn()) {
        loop {
            let Some(since) = self.over_since.get() else {
                self.over_set.notified().await;
                continue;
            };
            let (ends_at, now) = (since + limits.slow_consumer_timeout, Instant::now());
            let lets_go_at = self.acknowledged_at.get().map_or(since, |at| at.max(since)) + limits.hold_timeout;
            if now >= ends_at {
                return;
            }
            if now >= lets_go_at && !self.is_stuck.replace(true) {
                self.set_gauge();
                let_go();
            }
            let next = if self.is_stuck.get() { ends_at } else { lets_go_at.min(ends_at) };
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.over_set.notified() => {}
            }
        }
    }

    /// Takes note that something was acknowledged, for publishers that were let go to be held back again.
    pub(super) fn set_acknowledged(&self) {
        if self.over_since.get().is_some() {
            self.acknowledged_at.set(Some(Instant::now()));
        }
        if self.is_stuck.replace(false) {
            self.over_set.notify_one();
        }
    }
}
