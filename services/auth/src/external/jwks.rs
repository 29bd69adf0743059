//! A provider's keys, fetched when they are needed and kept for a while.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tonic::Status;

use super::{Algorithm, fetch, refused};

/// Most keys of a set that are looked at.
const KEYS_MAX: usize = 64;
/// How long keys are good, and how long they are used where the provider does not answer meanwhile, in seconds.
const FRESH_S: i64 = 3_600;
const STALE_S: i64 = 24 * 3_600;
/// Time between two attempts, in seconds: because of a key id that is not known, or of keys that are not fresh any more;
/// and while there are no keys at all.
const AGAIN_S: i64 = 60;
const AGAIN_WITHOUT_KEYS_S: i64 = 5;

/// The keys of one provider. Clones share them.
#[derive(Clone)]
pub(super) struct ProviderKeys {
    name: String,
    client: Client,
    url: Url,
    /// Held while they are fetched, which is bounded: who comes meanwhile gets what comes of it.
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    keys: Vec<ProviderKey>,
    fetched_at: Option<i64>,
    tried_at: Option<i64>,
}

/// A key, for one algorithm.
#[derive(Clone)]
pub(super) struct ProviderKey {
    id: String,
    algorithm: Algorithm,
    key: Arc<DecodingKey>,
}

impl ProviderKey {
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

impl ProviderKeys {
    pub(super) fn new(name: String, client: Client, url: Url) -> Self {
        Self { name, client, url, held: Arc::default() }
    }

    /// The key of this id for this algorithm.
    ///
    /// Whoever stops waiting does not stop the keys from being fetched: the next attempt would be made much later.
    pub(super) async fn get(&self, id: &str, algorithm: Algorithm, now_s: i64) -> Result<ProviderKey, Status> {
        let (keys, id) = (self.clone(), id.to_owned());
        let found = tokio::spawn(async move { keys.find(&id, algorithm, now_s).await }).await;
        found.unwrap_or_else(|_| Err(Status::internal("a provider's keys could not be looked at")))
    }

    async fn find(&self, id: &str, algorithm: Algorithm, now_s: i64) -> Result<ProviderKey, Status> {
        let mut held = self.held.lock().await;
        let is_fresh = held.fetched_at.is_some_and(|at| now_s - at < FRESH_S);
        if let Some(key) = held.find(id, algorithm).filter(|_| is_fresh) {
            return Ok(key);
        }
        let pause = if held.fetched_at.is_some() { AGAIN_S } else { AGAIN_WITHOUT_KEYS_S };
        if held.tried_at.is_none_or(|at| now_s - at >= pause || now_s < at) {
            held.tried_at = Some(now_s);
            match self.fetch().await {
                Ok(keys) => {
                    held.keys = keys;
                    held.fetched_at = Some(now_s);
                }
                Err(reason) => {
                    tracing::warn!(provider = self.name, reason, "an identity provider's keys cannot be had")
                }
            }
        }
        if held.fetched_at.is_none_or(|at| now_s - at >= STALE_S) {
            return Err(Status::unavailable("the identity provider does not answer; try again later"));
        }
        held.find(id, algorithm).ok_or_else(|| refused("the token's key is none of the provider's"))
    }

    async fn fetch(&self) -> Result<Vec<ProviderKey>, String> {
        let body = fetch::get(&self.client, self.url.clone()).await?;
        let keys = read(&body)?;
        if keys.is_empty() { Err("there is none among them that could be used".to_owned()) } else { Ok(keys) }
    }
}

impl Held {
    fn find(&self, id: &str, algorithm: Algorithm) -> Option<ProviderKey> {
        self.keys.iter().find(|key| key.id == id && key.algorithm == algorithm).cloned()
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// A public key as RFC 7517, 7518 and 8037 write it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// Keys for something else, or that are broken, are left out: other keys of the set may be good.
    fn key(self) -> Option<ProviderKey> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (Algorithm::Rs256, DecodingKey::from_rsa_components(&self.n?, &self.e?).ok()?),
            ("EC", Some("P-256")) => (Algorithm::Es256, DecodingKey::from_ec_components(&self.x?, &self.y?).ok()?),
            ("OKP", Some("Ed25519")) => {
                let raw = URL_SAFE_NO_PAD.decode(self.x?).ok().filter(|raw| raw.len() == 32)?;
                (Algorithm::EdDsa, DecodingKey::from_ed_der(&raw))
            }
            _ => return None,
        };
        if self.alg.is_some_and(|alg| alg != algorithm.name()) {
            return None;
        }
        Some(ProviderKey { id: self.kid?, algorithm, key: Arc::new(key) })
    }
}

fn read(json: &[u8]) -> Result<Vec<ProviderKey>, String> {
    let set: Set = serde_json::from_slice(json).map_err(|_| "they are no JWKS".to_owned())?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("there are more than {KEYS_MAX}"));
    }
    Ok(set.keys.into_iter().filter_map(Jwk::key).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_for_something_else_are_left_out() {
        let count = |keys: &str| read(format!(r#"{{"keys": [{keys}]}}"#).as_bytes()).map(|keys| keys.len());
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(count(&format!(r#"{{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "{x}"}}"#)), Ok(1));
        assert_eq!(count(r#"{"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB", "alg": "RS256"}"#), Ok(1));
        for other in [
            r#"{"kty": "oct", "kid": "a", "k": "AAAA"}"#,
            r#"{"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB", "alg": "RS512"}"#,
            r#"{"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB", "use": "enc"}"#,
            r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB"}"#,
            r#"{"kty": "EC", "crv": "secp256k1", "kid": "a", "x": "AA", "y": "AA"}"#,
            r#"{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "AA"}"#,
        ] {
            assert_eq!(count(other), Ok(0), "{other}");
        }
        assert!(read(b"[]").is_err() && count(&vec![r#"{"kty": "x"}"#; 65].join(",")).is_err());
    }
}
