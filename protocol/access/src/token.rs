//! What all tokens have in common: a JWT of a stated kind, by a key that is known.

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::Keys;

/// Most bytes of a token that are looked at.
const BYTES_MAX: usize = 8_192;
/// How far an issuer's clock may be ahead of ours, in seconds.
const CLOCK_SKEW_S: u64 = 60;

/// What a token is for, as its header's `typ` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Access to services and brokers (RFC 9068).
    Access,
    /// To be let in by one game server.
    Ticket,
}

impl Kind {
    /// The `typ`.
    #[must_use]
    pub fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Ticket => "ticket+jwt",
        }
    }
}

/// Why a token is not taken. Nothing of the token is repeated, so that it may be logged and told to whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is longer than any token of ours.
    #[error("the token is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// It is no JWT, or says what no token of ours says.
    #[error("the token cannot be read: {0}")]
    Malformed(&'static str),
    /// Its header asks for an algorithm that is not EdDSA.
    #[error("the token's algorithm is not EdDSA")]
    Algorithm,
    /// It is a token of another kind.
    #[error("the token is of another kind; {expected} is needed here")]
    Kind {
        /// The `typ` that it should have.
        expected: &'static str,
    },
    /// No such key is known.
    #[error("the token's key is not known; it may have been withdrawn")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
    /// Another issuer made it.
    #[error("the token is by another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// Its time is over.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token was issued in the future; is a clock wrong?")]
    NotYet,
    /// The login that it belongs to has ended.
    #[error("the token was revoked; log in again")]
    Revoked,
}

impl TokenError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::Kind { .. } => "kind",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
        }
    }
}

/// What a token says, its signature and kind verified and nothing else.
pub(crate) fn open<T: DeserializeOwned>(token: &str, kind: Kind, keys: &Keys) -> Result<T, TokenError> {
    if token.len() > BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let header = decode_header(token).map_err(|error| match error.kind() {
        // An algorithm that the library does not even know, `none` among them.
        ErrorKind::Json(_) | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
        _ => TokenError::Malformed("its header"),
    })?;
    if header.alg != Algorithm::EdDSA {
        return Err(TokenError::Algorithm);
    }
    if !header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(kind.typ())) {
        return Err(TokenError::Kind { expected: kind.typ() });
    }
    let key = header.kid.as_deref().and_then(|id| keys.get(id)).ok_or(TokenError::UnknownKey)?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    // Times and audiences are ours to check: the library reads a clock.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    decode::<T>(token, key, &validation).map(|data| data.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        _ => TokenError::Malformed("what it says"),
    })
}

/// Checks the time of a token, in seconds since 1970.
pub(crate) fn check_time(issued_at: u64, expires_at: u64, now_s: u64) -> Result<(), TokenError> {
    if now_s >= expires_at {
        Err(TokenError::Expired)
    } else if issued_at > now_s.saturating_add(CLOCK_SKEW_S) {
        Err(TokenError::NotYet)
    } else {
        Ok(())
    }
}
