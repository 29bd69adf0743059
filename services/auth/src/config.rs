//! What the service is told.

use std::{fmt, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::sync::watch;
use zonecast_access::{Freshness, Keys, Revocations, Trust};

use crate::Provider;

/// A day.
const DAY: Duration = Duration::from_hours(24);

/// Everything that the auth service needs to know. [`AuthConfig::new`] has the defaults.
#[derive(Clone)]
pub struct AuthConfig {
    /// Its name in the tokens that it signs, `iss`.
    pub issuer: String,
    /// For whom its tokens are, `aud`.
    pub audience: String,
    /// Whom the doors and a broker of this process trust: kept up to date by the service, from its start on. Until then
    /// nobody is trusted.
    pub trust: watch::Sender<Arc<Trust>>,
    /// When keys and revocations were read last.
    pub freshness: Arc<Freshness>,
    /// The time. Default: the system's.
    pub clock: Clock,
    /// How long things last.
    pub lives: Lives,
    /// What a password costs.
    pub hashing: HashingConfig,
    /// How often somebody may be wrong.
    pub throttle: ThrottleConfig,
    /// Who else says who somebody is. Default: nobody.
    pub providers: Vec<Provider>,
    /// SHA-256 of the secret with which `admin` gets tokens with every scope of the services; the secret is 32 random bytes
    /// as 43 characters of base64url, and hashed as these characters. Default: none, so that there is no admin.
    pub admin_secret_hash: Option<[u8; 32]>,
    /// How often keys and revocations that other processes have made are looked for. Default: 1 s.
    pub poll_interval: Duration,
}

impl AuthConfig {
    /// The defaults, with a [`trust`](Self::trust) of its own.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let (issuer, audience) = (issuer.into(), audience.into());
        let nobody = Trust {
            issuer: issuer.clone(),
            audience: audience.clone(),
            keys: Keys::default(),
            revoked: Revocations::default(),
        };
        Self {
            issuer,
            audience,
            trust: watch::Sender::new(Arc::new(nobody)),
            freshness: Arc::default(),
            clock: Clock::default(),
            lives: Lives::default(),
            hashing: HashingConfig::default(),
            throttle: ThrottleConfig::default(),
            providers: Vec::new(),
            admin_secret_hash: None,
            poll_interval: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthConfig({:?} for {:?})", self.issuer, self.audience)
    }
}

/// Gives the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// One that asks this.
    #[must_use]
    pub fn new(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(zonecast_store::now)
    }
}

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    /// An access token. Default: 10 min.
    pub access_token: Duration,
    /// A refresh token that nobody uses. Default: 30 days.
    pub refresh_token: Duration,
    /// A login, however often it is refreshed. Default: 90 days.
    pub login: Duration,
    /// A nonce for an identity provider. Default: 10 min.
    pub nonce: Duration,
    /// A key's time to sign. Default: 30 days.
    pub signing_key: Duration,
    /// How long a new key is published before it signs, so that whoever caches keys has it by then. Default: 1 h.
    pub key_notice: Duration,
    /// Entries of the audit log. Default: 180 days.
    pub audit: Duration,
    /// A registration that is under way; afterwards it counts as interrupted. Default: 60 s.
    pub registration: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            access_token: Duration::from_mins(10),
            refresh_token: 30 * DAY,
            login: 90 * DAY,
            nonce: Duration::from_mins(10),
            signing_key: 30 * DAY,
            key_notice: Duration::from_hours(1),
            audit: 180 * DAY,
            registration: Duration::from_secs(60),
        }
    }
}

/// What a password costs, by Argon2id, and how many are hashed at once. A hash says what it cost, so that what is changed
/// here holds for new passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashingConfig {
    /// Memory of each, in KiB. Default: 19,456 (19 MiB).
    pub memory_kib: u32,
    /// Passes over the memory. Default: 2.
    pub passes: u32,
    /// Lanes. Default: 1.
    pub lanes: u32,
    /// Hashes that are computed at once, each on a thread and with memory of its own. Default: half of the processors.
    pub threads: usize,
    /// Hashes that wait; more are refused. At most half of all places go to callers from one origin. Default: 64.
    pub waiting_max: usize,
}

impl Default for HashingConfig {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_kib: 19 * 1_024, passes: 2, lanes: 1, threads: (processors / 2).max(1), waiting_max: 64 }
    }
}

/// How often somebody may be wrong, in this process: a burst at once, and one more each time so much time has passed. What
/// went well does not count. The counts are in memory, of a fixed size, and are gone with the process: a restart grants
/// each account and origin at most one burst more, and each replica one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleConfig {
    /// Wrong passwords for one account. An origin from which the account was logged in to before has a count of its own,
    /// so that others cannot lock its owner out. Default: 10.
    pub account_burst: u32,
    /// Default: 60 s.
    pub account_every: Duration,
    /// Wrong attempts, registrations and begun external logins from one origin (an IPv4 address, an IPv6 /64, or a broker's
    /// client, which may stand for many players: raise it then). Default: 100.
    pub origin_burst: u32,
    /// Default: 1 s.
    pub origin_every: Duration,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            account_burst: 10,
            account_every: Duration::from_secs(60),
            origin_burst: 100,
            origin_every: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_costs_what_is_recommended() {
        let HashingConfig { memory_kib, passes, lanes, .. } = HashingConfig::default();
        assert_eq!((memory_kib, passes, lanes), (19_456, 2, 1));
    }

    #[test]
    fn an_access_token_lasts_ten_minutes_and_nobody_is_trusted_before_the_start() {
        let config = AuthConfig::new("i", "a");
        assert_eq!(config.lives.access_token, Duration::from_secs(600));
        assert!(config.trust.borrow().keys.is_empty() && config.admin_secret_hash.is_none());
    }
}
