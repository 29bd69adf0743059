//! How a session goes on when its token ends: by another one, shown in time.

use std::time::Duration;

use tokio::time::Instant;
use zonecast_protocol::Refusal;

use super::{
    driver::Driver,
    live::{Leaving, Live},
};
use crate::{error::LinkError, session::Operation, token::renew_after};

/// How soon another attempt follows one that brought no token, or one that is not taken.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Driver {
    /// Sees to it that another token is shown before the one that ends in so many milliseconds (0: never) does.
    pub(super) fn renew_in_time(&mut self, live: &mut Live, expires_in_ms: u64) {
        if !self.settings.token.is_asked() {
            return;
        }
        let Some(after) = renew_after(expires_in_ms) else { return };
        // Clients that came at once do not all ask at once.
        let at = Instant::now() + after - self.backoff.spread(after / 10);
        // What is said again of a renewal before the link was lost is out of date; the earlier of both is right.
        live.renew_at = Some(live.renew_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn show_token(&mut self, live: &mut Live, token: Result<String, LinkError>) {
        if live.leaving != Leaving::No || live.going_away.is_some() {
            return;
        }
        match token {
            Ok(token) => self.session.submit(Operation::ShowToken(token), None),
            Err(error) => {
                tracing::warn!(client_id = %self.shared.client_id, %error, "the session is not renewed yet");
                live.renew_at = Some(Instant::now() + AGAIN_AFTER);
            }
        }
    }

    pub(super) fn on_token_shown(&mut self, live: &mut Live, shown: Result<u64, Refusal>) {
        match shown {
            Ok(expires_in_ms) => self.renew_in_time(live, expires_in_ms),
            Err(refusal) => {
                // When the one before ends, so does the session; the next one begins with what the newer one permits.
                tracing::warn!(client_id = %self.shared.client_id, %refusal, "the broker does not take the new token");
                live.renew_at = Some(Instant::now() + AGAIN_AFTER);
            }
        }
    }
}
