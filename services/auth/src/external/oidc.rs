//! ID tokens (OpenID Connect Core, 3.1.3.7).

use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use tonic::Status;

use super::{Provider, jwks::ProviderKey, refused};

/// How far the provider's clock may be from ours, in seconds.
const CLOCK_SKEW_S: i64 = 60;

/// How a provider signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2,048 to 8,192 bits.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// As RFC 7518 and RFC 8037 name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// What an ID token says, as far as it matters. Of e-mail addresses nothing does: whether `email_verified` is a text or a
/// boolean is all the same.
#[derive(Deserialize)]
struct IdToken {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The algorithm, which is one of the provider's, and the key's id.
pub(super) fn header(token: &str, algorithms: &[Algorithm]) -> Result<(Algorithm, String), Status> {
    let header = decode_header(token).map_err(|_| refused("the token is no ID token"))?;
    let algorithm = algorithms.iter().find(|algorithm| algorithm.library() == header.alg);
    let algorithm = *algorithm.ok_or_else(|| refused("the token's algorithm is none of the provider's"))?;
    let kid = header.kid.ok_or_else(|| refused("the token names no key"))?;
    Ok((algorithm, kid))
}

/// The whole check; who it is about.
pub(super) fn verify(
    token: &str,
    algorithm: Algorithm,
    key: &ProviderKey,
    provider: &Provider,
    nonce: &str,
    now_s: i64,
) -> Result<String, Status> {
    let mut validation = Validation::new(algorithm.library());
    // Times and audiences are ours to check: the library reads a clock.
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    let decoded = decode::<IdToken>(token, key.decoding(), &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => refused("the token's signature is wrong"),
        _ => refused("the token is no ID token"),
    })?;
    let said = decoded.claims;
    if !provider.issuers.contains(&said.iss) {
        return Err(refused("the token is by another issuer"));
    }
    let is_ours = |audience: &String| provider.audiences.contains(audience);
    let is_for_us = match &said.aud {
        Audience::One(one) => is_ours(one),
        // Of several, we must be the one to whom it was given.
        Audience::Several(several) => {
            several.iter().any(is_ours) && (several.len() == 1 || said.azp.as_ref().is_some_and(is_ours))
        }
    };
    if !is_for_us || said.azp.as_ref().is_some_and(|azp| !is_ours(azp)) {
        return Err(refused("the token is for another audience"));
    }
    if now_s >= said.exp {
        return Err(refused("the token has expired"));
    }
    if said.iat > now_s + CLOCK_SKEW_S || said.nbf.is_some_and(|nbf| nbf > now_s + CLOCK_SKEW_S) {
        return Err(refused("the token was issued in the future"));
    }
    if said.nonce.as_deref() != Some(nonce) {
        return Err(refused("the token has another nonce"));
    }
    Ok(said.sub)
}
