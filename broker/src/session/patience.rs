//! For how long a session may hold its publishers back.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Session;
use crate::ConnectionLimits;

impl Session {
    /// Looks anew at whether publishers are to be held back.
    pub(super) fn set_gauge(&self) {
        let outbox = self.outbox.borrow();
        let over = outbox.is_over_soft_mark(self.scarcity.get());
        // Publishers that are held back go on at half the mark: at the mark itself each would go on for a few events.
        let holds = over || self.gauge.is_over() && outbox.is_over_soft_mark(self.scarcity.get() + 1);
        self.gauge.set(holds && !self.closing.get() && !self.is_stuck.get());
        if !over {
            self.is_stuck.set(false);
            self.over_since.set(None);
        } else if self.over_since.get().is_none() {
            self.over_since.set(Some(Instant::now()));
            self.over_set.notify_one();
            self.outbox_filled.notify_one();
        }
    }

    /// Halves the soft marks so often, while memory is scarce.
    pub(crate) fn set_scarcity(&self, scarcity: u32) {
        if self.scarcity.replace(scarcity) != scarcity {
            self.set_gauge();
        }
    }

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
