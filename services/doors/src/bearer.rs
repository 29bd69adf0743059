//! Callers by their tokens.

use std::sync::Arc;

use http::{HeaderMap, header, request::Parts};
use tokio::sync::watch;
use tonic::Status;
use zonecast_access::{TokenError, Trust};

use crate::caller::{Caller, Gatekeeper};

/// Lets in the bearers of valid tokens (`authorization: Bearer TOKEN`), and, as anonymous callers, those without one.
///
/// A token that is not valid is refused, whatever is called: whoever shows one wants to be somebody.
pub struct Bearers {
    trust: watch::Receiver<Arc<Trust>>,
    now_s: fn() -> u64,
    unknown_key: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Bearers {
    /// By what is trusted at each time. `now_s` gives the seconds since 1970.
    #[must_use]
    pub fn new(trust: watch::Receiver<Arc<Trust>>, now_s: fn() -> u64) -> Self {
        Self { trust, now_s, unknown_key: None }
    }

    /// Tells somebody when a token names a key that is not known: the issuer may have a new one.
    #[must_use]
    pub fn on_unknown_key(mut self, told: impl Fn() + Send + Sync + 'static) -> Self {
        self.unknown_key = Some(Box::new(told));
        self
    }
}

impl Gatekeeper for Bearers {
    fn admit(&self, request: &Parts) -> Result<Caller, Status> {
        let Some(token) = bearer(&request.headers)? else { return Ok(Caller::anonymous()) };
        let trust = Arc::clone(&self.trust.borrow());
        match trust.admit(token, (self.now_s)()) {
            Ok(claims) => Ok(Caller::known(claims)),
            Err(error) => {
                if let (TokenError::UnknownKey, Some(told)) = (&error, &self.unknown_key) {
                    told();
                }
                tracing::debug!(reason = error.kind(), path = request.uri.path(), "a token was refused");
                Err(Status::unauthenticated(error.to_string()))
            }
        }
    }

    fn still_admits(&self, caller: &Caller) -> Result<(), Status> {
        let Some(claims) = caller.claims() else { return Ok(()) };
        let still = self.trust.borrow().still_admits(claims, (self.now_s)());
        still.map_err(|error| Status::unauthenticated(error.to_string()))
    }
}

/// The token that a request bears.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let bad = || Status::unauthenticated("authorization must be given once, as `Bearer TOKEN`");
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(bad)?;
    if given.next().is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(bad());
    }
    Ok(Some(token.trim_matches(' ')))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tonic::Code;
    use zonecast_access::{Claims, Keys, Revocations, SigningKey};
    use zonecast_protocol::Rights;

    use super::*;

    fn request(authorization: &[&str]) -> Parts {
        let mut request = http::Request::new(());
        for value in authorization {
            request.headers_mut().append(header::AUTHORIZATION, value.parse().unwrap());
        }
        request.into_parts().0
    }

    #[test]
    fn a_token_says_who_calls_and_a_bad_one_lets_nobody_in() {
        let key = SigningKey::generate("k").unwrap();
        let trust = Trust {
            issuer: "i".into(),
            audience: "a".into(),
            keys: Keys::from_jwks(&Keys::jwks([(key.id(), key.public())])).unwrap(),
            revoked: Revocations::default(),
        };
        let claims = Claims {
            issuer: "i".into(),
            audience: BTreeSet::from(["a".into()]),
            subject: "user:7".parse().unwrap(),
            login: "l".into(),
            issued_at: 100,
            expires_at: 200,
            scopes: BTreeSet::new(),
            rights: Rights::default(),
        };
        let token = claims.sign(&key).unwrap();
        let (sender, receiver) = watch::channel(Arc::new(trust.clone()));
        let gate = Bearers::new(receiver.clone(), || 150);
        let known = gate.admit(&request(&[&format!("bearer {token}")])).unwrap();
        assert_eq!(known.user(), Some("7"));
        gate.still_admits(&known).unwrap();
        let later = Bearers::new(receiver, || 200).still_admits(&known).unwrap_err();
        assert!(later.code() == Code::Unauthenticated && later.message().contains("expired"), "{later}");
        let anonymous = gate.admit(&request(&[])).unwrap();
        gate.still_admits(&anonymous).unwrap();
        assert!(anonymous.user().is_none() && !anonymous.is_local());
        let twice = format!("Bearer {token}");
        for bad in [&["Bearer x"][..], &["Basic eDp5"], &["Bearer"], &[""], &[&twice, &twice]] {
            assert_eq!(gate.admit(&request(bad)).unwrap_err().code(), Code::Unauthenticated, "{bad:?}");
        }
        // What is revoked counts at once.
        sender.send_replace(Arc::new(Trust { revoked: Revocations { logins: ["l".to_owned()].into() }, ..trust }));
        assert!(gate.admit(&request(&[&twice])).unwrap_err().message().contains("revoked"));
        assert!(gate.still_admits(&known).unwrap_err().message().contains("revoked"));
        assert!(!gate.is_for_loopback_only());
    }
}
