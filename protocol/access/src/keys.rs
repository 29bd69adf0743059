//! The issuer's keys: public ones from a JWKS, and the private one that signs.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Kind;

/// Most keys of a set that are looked at.
const KEYS_MAX: usize = 64;

/// Public keys by their id, from a JWKS (RFC 7517). Keys for anything but EdDSA signatures are left out.
#[derive(Clone, Default)]
pub struct Keys {
    keys: BTreeMap<String, DecodingKey>,
}

/// A text that is no JWKS.
#[derive(Debug, Error)]
#[error("the keys are no JWKS: {0}")]
pub struct BadKeys(String);

#[derive(Serialize, Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// A key as RFC 7517 and RFC 8037 write it. What other keys have is not read.
#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
}

impl Keys {
    /// Reads a JWKS.
    ///
    /// # Errors
    /// It is none, or a key of ours in it is broken.
    pub fn from_jwks(json: &str) -> Result<Self, BadKeys> {
        let set: Set = serde_json::from_str(json).map_err(|error| BadKeys(error.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(BadKeys(format!("it has more than {KEYS_MAX} keys")));
        }
        let mut keys = BTreeMap::new();
        for jwk in set.keys {
            let is_ours = jwk.kty == "OKP"
                && jwk.crv.as_deref() == Some("Ed25519")
                && jwk.alg.as_deref().is_none_or(|alg| alg == "EdDSA" || alg == "Ed25519")
                && jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
            let (true, Some(kid), Some(x)) = (is_ours, jwk.kid, jwk.x) else { continue };
            let raw = URL_SAFE_NO_PAD.decode(&x).map_err(|error| BadKeys(format!("key {kid:?}: {error}")))?;
            if raw.len() != 32 {
                return Err(BadKeys(format!("key {kid:?} has {} bytes, not 32", raw.len())));
            }
            keys.insert(kid, DecodingKey::from_ed_der(&raw));
        }
        Ok(Self { keys })
    }

    /// As a JWKS, of public keys as [`SigningKey::public`] has them, by their ids.
    #[must_use]
    pub fn jwks<'a>(keys: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
        let jwk = |(kid, raw): (&str, &[u8])| Jwk {
            kty: "OKP".to_owned(),
            crv: Some("Ed25519".to_owned()),
            x: Some(URL_SAFE_NO_PAD.encode(raw)),
            kid: Some(kid.to_owned()),
            alg: Some("EdDSA".to_owned()),
            usage: Some("sig".to_owned()),
        };
        let set = Set { keys: keys.into_iter().map(jwk).collect() };
        serde_json::to_string(&set).expect("texts are JSON")
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key of this id is known.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.keys.contains_key(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&DecodingKey> {
        self.keys.get(id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// Why a key does not sign.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The bytes are no Ed25519 key in PKCS #8.
    #[error("the bytes are no Ed25519 key in PKCS #8")]
    NotAKey,
    /// The system gives no random numbers.
    #[error("no key can be made: the system gives no random numbers")]
    NoRandomness,
    /// What is to be signed cannot be written.
    #[error("the token cannot be written: {0}")]
    Unwritable(String),
}

/// A private key that signs tokens, with its id. What it is made of is not shown.
#[derive(Clone)]
pub struct SigningKey {
    id: String,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
    key: EncodingKey,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(id: impl Into<String>) -> Result<Self, SigningError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SigningError::NoRandomness)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| SigningError::NotAKey)?;
        Self::from_pkcs8(id, pkcs8.as_ref().to_vec())
    }

    /// The key that was kept.
    ///
    /// # Errors
    /// The bytes are no Ed25519 key in PKCS #8.
    pub fn from_pkcs8(id: impl Into<String>, pkcs8: Vec<u8>) -> Result<Self, SigningError> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| SigningError::NotAKey)?;
        let (public, key) = (pair.public_key().as_ref().to_vec(), EncodingKey::from_ed_der(&pkcs8));
        Ok(Self { id: id.into(), pkcs8, public, key })
    }

    /// Its id, the `kid` of what it signs.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its private part, PKCS #8, to be kept where nobody else reads it.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Its public part, 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    pub(crate) fn sign(&self, kind: Kind, claims: &impl Serialize) -> Result<String, SigningError> {
        let mut header = Header::new(Algorithm::EdDSA);
        (header.typ, header.kid) = (Some(kind.typ().to_owned()), Some(self.id.clone()));
        encode(&header, claims, &self.key).map_err(|error| SigningError::Unwritable(error.to_string()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.id)
    }
}
