//! What lets sessions be: looked at when they begin, when they are renewed, and all the time in between.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::time::sleep;
use zonecast_core::SessionRights;
use zonecast_protocol::{ClientId, Refusal, wire::ErrorCode};

use super::Worker;
use crate::{
    PublishLimits,
    grant::{Denial, Grant, now},
    session::Session,
};

/// How often all sessions are looked at: by so much they may outlive their tokens.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Worker {
    /// What a token grants to a client, counted. A refusal has this code.
    pub(crate) fn grant(&self, token: &str, client: &ClientId, code: ErrorCode) -> Result<Grant, Refusal> {
        self.granted(code, || self.look_at(token, client))
    }

    fn look_at(&self, token: &str, client: &ClientId) -> Result<Grant, Denial> {
        let Some(trust) = &self.shared.config.trust else { return Ok(Grant::of_everybody()) };
        let trust = Arc::clone(&trust.borrow());
        let granted = Grant::of(&trust, token, client, now());
        if let Err(Denial::Token(zonecast_access::TokenError::UnknownKey)) = granted {
            self.shared.config.trust_upkeep.see_unknown_key();
        }
        granted
    }

    fn granted(&self, code: ErrorCode, look: impl FnOnce() -> Result<Grant, Denial>) -> Result<Grant, Refusal> {
        let granted = look();
        if self.shared.config.trust.is_some() {
            let result = granted.as_ref().map_or_else(Denial::kind, |_| "admitted");
            self.count(|stats| *stats.tokens.entry(result).or_default() += 1);
        }
        granted.map_err(|denial| denial.refusal(code))
    }

    /// Lets a session go on by another token; in how many milliseconds that ends.
    pub(crate) async fn renew(&self, session: &Session, token: &str) -> Result<u64, Refusal> {
        let grant = self.granted(ErrorCode::InvalidToken, || {
            let grant = self.look_at(token, &session.client)?;
            grant.of_the_same(&session.grant.borrow())
        })?;
        // What the session holds must not change between the look at it and the change of rights.
        let _turn = self.interest_order.lock().await;
        let rights = session.rules.borrow().rights().with_own(Arc::clone(&grant.rights));
        let (per_second, burst) = self.publish_rate(&rights);
        session.rules.borrow_mut().replace_rights(&self.state.borrow().router, rights)?;
        session.change_publish_rate(per_second, burst, self.shared.now_us());
        let expires_in_ms = grant.expires_in_ms(now());
        *session.grant.borrow_mut() = grant;
        Ok(expires_in_ms)
    }

    /// How many publishes per second a session with these rights may send, and how many at once: no more than a second's
    /// worth where its rights are what bounds it.
    pub(super) fn publish_rate(&self, rights: &SessionRights) -> (u32, u32) {
        let PublishLimits { per_second_max, burst_max, .. } = self.shared.config.publishes;
        // 0 would be no limit; who may publish nothing at all is refused each, and may ask once a second.
        match rights.publishes_per_second_max().map(|own| own.max(1)) {
            Some(own) if per_second_max == 0 || own < per_second_max => (own, own.min(burst_max)),
            _ => (per_second_max, burst_max),
        }
    }

    /// Ends the sessions of this worker whose tokens have expired or were revoked, with a connection or without.
    pub(super) async fn watch_grants(self: Rc<Self>) {
        let Some(mut trust) = self.shared.config.trust.clone() else { return };
        loop {
            let current = Arc::clone(&trust.borrow_and_update());
            for session in self.state.borrow().sessions.values() {
                if let Some(refusal) = session.grant.borrow().end(&current, now()) {
                    session.disown(&refusal);
                }
            }
            tokio::select! {
                // Nobody keeps it up to date any more: what was known last goes on to count, and tokens to expire.
                Ok(()) = trust.changed() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}
