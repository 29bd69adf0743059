//! Somebody who gives tokens out, and whom a broker trusts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::watch;
use zonecast_access::{Claims, Keys, Revocations, SigningKey, Trust};
use zonecast_broker::TrustUpkeep;
use zonecast_protocol::Rights;

const ISSUER: &str = "https://auth.example";
const AUDIENCE: &str = "zonecast";
const KEY: &str = "k1";

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) struct Issuer {
    keys: Mutex<BTreeMap<String, SigningKey>>,
    trust: watch::Sender<Arc<Trust>>,
    upkeep: Arc<TrustUpkeep>,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let key = SigningKey::generate(KEY).unwrap();
        let trust = Trust {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: Keys::from_jwks(&Keys::jwks([(key.id(), key.public())])).unwrap(),
            revoked: Revocations::default(),
        };
        Self {
            keys: Mutex::new(BTreeMap::from([(KEY.to_owned(), key)])),
            trust: watch::Sender::new(Arc::new(trust)),
            upkeep: Arc::default(),
        }
    }

    pub(crate) fn trust(&self) -> Option<watch::Receiver<Arc<Trust>>> {
        Some(self.trust.subscribe())
    }

    pub(crate) fn upkeep(&self) -> Arc<TrustUpkeep> {
        Arc::clone(&self.upkeep)
    }

    /// For ten minutes from now.
    pub(crate) fn claims(&self, subject: &str, rights: Rights) -> Claims {
        let now = now_s();
        Claims {
            issuer: ISSUER.to_owned(),
            audience: BTreeSet::from([AUDIENCE.to_owned()]),
            subject: subject.parse().unwrap(),
            login: "login".to_owned(),
            issued_at: now,
            expires_at: now + 600,
            scopes: BTreeSet::new(),
            rights,
        }
    }

    pub(crate) fn token(&self, claims: &Claims) -> String {
        self.token_by(KEY, claims)
    }

    pub(crate) fn grant(&self, subject: &str, rights: Rights) -> String {
        self.token(&self.claims(subject, rights))
    }

    /// By a key that nobody knows before it is published.
    pub(crate) fn token_by(&self, key: &str, claims: &Claims) -> String {
        let mut keys = self.keys.lock().unwrap();
        let key = keys.entry(key.to_owned()).or_insert_with(|| SigningKey::generate(key).unwrap());
        claims.sign(key).unwrap()
    }

    pub(crate) fn publish_key(&self, key: &str) {
        let keys = self.keys.lock().unwrap();
        let both = [&keys[KEY], &keys[key]].map(|key| (key.id(), key.public()));
        let keys = Keys::from_jwks(&Keys::jwks(both)).unwrap();
        self.trust.send_modify(|trust| *trust = Arc::new(Trust { keys, ..(**trust).clone() }));
    }

    pub(crate) fn revoke(&self, logins: &[&str]) {
        let revoked = Revocations { logins: logins.iter().map(|login| (*login).to_owned()).collect() };
        self.trust.send_modify(|trust| *trust = Arc::new(Trust { revoked, ..(**trust).clone() }));
    }

    /// What it says, under another algorithm.
    fn under(&self, alg: &str, claims: &Claims) -> String {
        let token = self.token(claims);
        let body = token.split('.').nth(1).unwrap();
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{KEY}"}}"#);
        format!("{}.{body}", URL_SAFE_NO_PAD.encode(header))
    }

    pub(crate) fn unsigned(&self, claims: &Claims) -> String {
        self.under("none", claims) + "."
    }

    /// Which whoever believes the token's own algorithm would take.
    pub(crate) fn with_the_public_key_as_secret(&self, claims: &Claims) -> String {
        let text = self.under("HS256", claims);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.keys.lock().unwrap()[KEY].public());
        let tag = hmac::sign(&secret, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}
