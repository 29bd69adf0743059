//! All that a verifier knows, and the whole check of an access token.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    Claims, Keys, Kind, TokenError,
    claims::Written,
    token::{check_time, open},
};

/// The logins that ended before their tokens did. `{"logins": ["…"]}` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Revocations {
    /// Their ids, as [`Claims::login`].
    pub logins: HashSet<String>,
}

/// Whom a verifier believes, and what.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The one whose tokens count.
    pub issuer: String,
    /// For whom tokens must be.
    pub audience: String,
    /// The issuer's keys.
    pub keys: Keys,
    /// The logins that have ended.
    pub revoked: Revocations,
}

impl Trust {
    /// The whole check of an access token at this time, in seconds since 1970.
    ///
    /// # Errors
    /// It is not to be taken.
    pub fn admit(&self, token: &str, now_s: u64) -> Result<Claims, TokenError> {
        let written: Written = open(token, Kind::Access, &self.keys)?;
        if written.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if !written.aud.contains(&self.audience) {
            return Err(TokenError::Audience);
        }
        check_time(written.iat, written.exp, now_s)?;
        let claims = Claims::try_from(written)?;
        if self.revoked.logins.contains(&claims.login) {
            return Err(TokenError::Revoked);
        }
        Ok(claims)
    }

    /// Whether claims that were admitted earlier still hold.
    ///
    /// # Errors
    /// They have expired or were revoked.
    pub fn still_admits(&self, claims: &Claims, now_s: u64) -> Result<(), TokenError> {
        check_time(claims.issued_at, claims.expires_at, now_s)?;
        if self.revoked.logins.contains(&claims.login) { Err(TokenError::Revoked) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
