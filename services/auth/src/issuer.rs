//! The keys that sign, what is revoked, and the tokens.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};
use tonic::Status;
use zonecast_access::{Claims, Freshness, Keys, Revocations, RightsClaim, SigningKey, Subject, Trust};
use zonecast_store::{StoreError, from_micros, new_id, to_micros};

use crate::{
    AuthConfig, Clock, Lives,
    store::{Ending, Store, StoredKey},
};

/// How far the clocks of those who verify may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// How many looks at the tables may fail before the revocations that were read last are given to nobody any more.
const STALE_POLLS: u32 = 10;

/// Signs tokens, and keeps what is trusted up to date.
pub(crate) struct Issuer {
    name: String,
    audience: String,
    lives: Lives,
    clock: Clock,
    store: Store,
    trust: watch::Sender<Arc<Trust>>,
    freshness: Arc<Freshness>,
    /// The age at which revocations are not given to others any more.
    stale: Duration,
    /// One reads the tables at a time, so that what was read later is not followed by what was read earlier.
    turn: Mutex<()>,
    /// How many readings have begun, and which was the last to succeed.
    begun: AtomicU64,
    done: AtomicU64,
    held: RwLock<Held>,
}

/// What was last read from the tables.
#[derive(Default)]
struct Held {
    keys: Vec<StoredKey>,
    signing: Option<SigningKey>,
    jwks: Bytes,
    revocations: Bytes,
    revoked: Revocations,
}

/// An access token.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) expires_at: OffsetDateTime,
}

/// What is to be done about the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rotation {
    /// A key is to be made that signs from then on.
    make: Option<i64>,
    /// Keys of these generations have signed nothing that still counts.
    drop: Vec<i64>,
}

impl Issuer {
    /// As the settings want it. Nothing is signed or trusted before [`rotate`](Self::rotate).
    pub(crate) fn new(config: &AuthConfig, store: Store) -> Self {
        Self {
            name: config.issuer.clone(),
            audience: config.audience.clone(),
            lives: config.lives,
            clock: config.clock.clone(),
            store,
            trust: config.trust.clone(),
            freshness: Arc::clone(&config.freshness),
            stale: config.poll_interval * STALE_POLLS,
            turn: Mutex::new(()),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            held: RwLock::default(),
        }
    }

    /// Reads keys and revocations, and has them trusted. Of many who want it at once one does it for all.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let before = self.begun.load(Acquire);
        let _turn = self.turn.lock().await;
        // A reading that began after this was asked for has seen all that this one would.
        if self.done.load(Acquire) > before {
            return Ok(());
        }
        let this = self.begun.fetch_add(1, AcqRel) + 1;
        let now = to_micros(self.clock.now());
        let keys = self.store.keys().await?;
        let revoked = Revocations { logins: self.store.revoked(now).await? };
        self.hold(keys, revoked, now);
        let read_at = self.now_s();
        self.freshness.keys_read(read_at);
        self.freshness.revocations_read(read_at);
        self.done.store(this, Release);
        Ok(())
    }

    fn hold(&self, keys: Vec<StoredKey>, revoked: Revocations, now: i64) {
        let signs = signing(&keys, now).map(|key| key.id.clone());
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.signing.as_ref().map(SigningKey::id) != signs.as_deref() {
            held.signing = signing(&keys, now).and_then(read);
        }
        let keys_differ = held.keys != keys;
        if keys_differ {
            let known: Vec<SigningKey> = keys.iter().filter_map(read).collect();
            held.jwks = Keys::jwks(known.iter().map(|key| (key.id(), key.public()))).into();
            held.keys = keys;
        }
        let revoked_differ = held.revoked != revoked || held.revocations.is_empty();
        if revoked_differ {
            held.revocations = serde_json::to_vec(&revoked).unwrap_or_default().into();
            held.revoked = revoked.clone();
        }
        if keys_differ || revoked_differ {
            // What we wrote ourselves can be read.
            let keys = Keys::from_jwks(&String::from_utf8_lossy(&held.jwks)).unwrap_or_default();
            let (issuer, audience) = (self.name.clone(), self.audience.clone());
            self.trust.send_replace(Arc::new(Trust { issuer, audience, keys, revoked }));
        }
    }

    /// After a change of ours that may have revoked something. That it is not read at once is no reason to fail: it will be
    /// with the next poll.
    pub(crate) async fn changed(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(reason = error.kind(), "what was revoked is trusted until the database answers");
        }
    }

    /// Makes the key that is needed next, forgets those that nothing depends on, and reads what there is.
    pub(crate) async fn rotate(&self) -> Result<(), StoreError> {
        let keys = self.store.keys().await?;
        let now = to_micros(self.clock.now());
        let Rotation { make, drop } = rotation(&keys, &self.lives, now);
        for generation in drop {
            self.store.drop_key(generation).await?;
            tracing::info!(generation, "a signing key is forgotten: no token by it counts any more");
        }
        if let Some(signs_from) = make {
            let id = new_id().simple().to_string();
            match SigningKey::generate(id.clone()) {
                Ok(key) => {
                    let generation = keys.last().map_or(1, |last| last.generation + 1);
                    let pkcs8 = key.pkcs8().to_vec();
                    match self.store.add_key(&StoredKey { generation, id, pkcs8, signs_from }).await {
                        // Another process was first: its key is as good.
                        Err(StoreError::Duplicate { .. }) => {}
                        outcome => outcome?,
                    }
                    tracing::info!(generation, key = key.id(), "a signing key was made");
                }
                Err(error) => tracing::error!(%error, "no signing key can be made"),
            }
        }
        self.refresh().await
    }

    /// An access token for a login, which it does not outlast: what has ended by itself nobody revokes any more.
    pub(crate) fn sign(
        &self,
        subject: Subject,
        login: String,
        login_ends_at: Option<OffsetDateTime>,
        scopes: BTreeSet<String>,
        rights: &RightsClaim,
    ) -> Result<Token, Status> {
        let issued_at = self.now_s();
        let ends_at = login_ends_at.and_then(|at| u64::try_from(at.unix_timestamp()).ok()).unwrap_or(u64::MAX);
        let expires_at = (issued_at + self.lives.access_token.as_secs()).min(ends_at);
        let rights = rights.rights().map_err(|error| Status::internal(error.to_string()))?;
        let (issuer, audience) = (self.name.clone(), BTreeSet::from([self.audience.clone()]));
        let claims = Claims { issuer, audience, subject, login, issued_at, expires_at, scopes, rights };
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let key = held.signing.as_ref().ok_or_else(|| Status::unavailable("there is no key yet to sign with"))?;
        let text = claims.sign(key).map_err(|error| Status::internal(error.to_string()))?;
        let expires_at = i64::try_from(expires_at).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Ok(Token { text, expires_at: from_micros(expires_at) })
    }

    /// The public keys, a JWKS.
    pub(crate) fn jwks(&self) -> Bytes {
        self.held.read().unwrap_or_else(PoisonError::into_inner).jwks.clone()
    }

    /// The logins that have ended, JSON; none where they were read too long ago to be told: another replica may know better, and
    /// whoever asks is to know that it does not.
    pub(crate) fn revocations(&self) -> Option<Bytes> {
        let age_s = self.now_s().saturating_sub(self.freshness.revocations_read_at());
        (age_s <= self.stale.as_secs())
            .then(|| self.held.read().unwrap_or_else(PoisonError::into_inner).revocations.clone())
    }

    fn now_s(&self) -> u64 {
        u64::try_from(self.clock.now().unix_timestamp()).unwrap_or_default()
    }

    /// Logins end now, and no token of theirs may count.
    pub(crate) fn ending(&self, reason: &'static str) -> Ending {
        let now = self.clock.now();
        Ending { reason, at: to_micros(now), until: to_micros(now + self.lives.access_token + CLOCK_SKEW) }
    }
}

fn read(key: &StoredKey) -> Option<SigningKey> {
    SigningKey::from_pkcs8(key.id.clone(), key.pkcs8.clone())
        .map_err(|error| tracing::error!(%error, generation = key.generation, "a signing key cannot be read"))
        .ok()
}

/// The key that signs now: the last one whose time has come; the first where a clock was set back.
fn signing(keys: &[StoredKey], now: i64) -> Option<&StoredKey> {
    keys.iter().rev().find(|key| key.signs_from <= now).or(keys.first())
}

fn rotation(keys: &[StoredKey], lives: &Lives, now: i64) -> Rotation {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let make = match keys.last() {
        None => Some(now),
        Some(last) => {
            let next = last.signs_from.saturating_add(micros(lives.signing_key));
            (next.saturating_sub(micros(lives.key_notice)) <= now).then(|| next.max(now + micros(lives.key_notice)))
        }
    };
    let counts = micros(lives.access_token + CLOCK_SKEW);
    let is_over = |pair: &&[StoredKey]| pair[1].signs_from.saturating_add(counts) < now;
    let drop = keys.windows(2).filter(is_over).map(|pair| pair[0].generation).collect();
    Rotation { make, drop }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;
    const MINUTE: i64 = 60_000_000;

    fn key(generation: i64, signs_from: i64) -> StoredKey {
        StoredKey { generation, id: generation.to_string(), pkcs8: Vec::new(), signs_from }
    }

    #[test]
    fn a_new_key_is_published_before_it_signs_and_an_old_one_kept_while_its_tokens_count() {
        let lives = Lives::default();
        let at = |keys: &[StoredKey], now| rotation(keys, &lives, now);
        assert_eq!(at(&[], 5), Rotation { make: Some(5), drop: vec![] });
        let first = [key(1, 0)];
        assert_eq!(at(&first, 30 * DAY - HOUR - 1), Rotation::default());
        assert_eq!(at(&first, 30 * DAY - HOUR), Rotation { make: Some(30 * DAY), drop: vec![] });
        // Nobody was there in time: the notice is given all the same.
        assert_eq!(at(&first, 40 * DAY).make, Some(40 * DAY + HOUR));
        let both = [key(1, 0), key(2, 30 * DAY)];
        assert_eq!(signing(&both, 30 * DAY - 1).unwrap().generation, 1);
        assert_eq!(signing(&both, 30 * DAY).unwrap().generation, 2);
        assert_eq!(at(&both, 30 * DAY + 11 * MINUTE), Rotation::default());
        assert_eq!(at(&both, 30 * DAY + 11 * MINUTE + 1), Rotation { make: None, drop: vec![1] });
    }

    #[test]
    fn with_a_clock_that_was_set_back_the_first_key_signs() {
        assert_eq!(signing(&[key(1, 100), key(2, 200)], 50).unwrap().generation, 1);
        assert!(signing(&[], 50).is_none());
    }
}
