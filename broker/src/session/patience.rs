//! For how long a session may hold its publishers back.

use std::time::Duration;

use tokio::time::sleep_until;

use super::Session;

impl Session {
    /// For how long the outbox has been over its soft mark without a break.
    pub(crate) fn over_for(&self) -> Duration {
        self.over_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Waits until the outbox has been over its soft mark for so long without a break.
    pub(crate) async fn over_too_long(&self, patience: Duration) {
        loop {
            match self.over_since.get() {
                None => self.over_set.notified().await,
                Some(since) => {
                    sleep_until(since + patience).await;
                    if self.over_since.get() == Some(since) {
                        return;
                    }
                }
            }
        }
    }
}
