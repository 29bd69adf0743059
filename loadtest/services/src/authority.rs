//! Who issues the tokens of a run, and who believes them.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use zonecast_access::{Claims, Keys, Revocations, SigningKey, Trust};
use zonecast_protocol::Rights;

const ISSUER: &str = "https://localhost:9443";
const AUDIENCE: &str = "zonecast";
/// Longer than any run.
const LIFETIME_S: u64 = 86_400;

/// A key, and those who know it.
pub(crate) struct Authority {
    key: SigningKey,
    pub(crate) trust: Trust,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let key = SigningKey::generate("bench")?;
        let trust = Trust {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: Keys::from_jwks(&Keys::jwks([(key.id(), key.public())]))?,
            revoked: Revocations::default(),
        };
        Ok(Self { key, trust })
    }

    /// A token of this subject.
    pub(crate) fn token(&self, subject: &str, scopes: &[&str], rights: Rights) -> Result<String> {
        let now = now_s();
        let claims = Claims {
            issuer: ISSUER.to_owned(),
            audience: BTreeSet::from([AUDIENCE.to_owned()]),
            subject: subject.parse()?,
            login: "0195d2c0-0000-7000-8000-000000000000".to_owned(),
            issued_at: now,
            expires_at: now + LIFETIME_S,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            rights,
        };
        Ok(claims.sign(&self.key)?)
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
