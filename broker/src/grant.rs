//! Who a client is by its token, and what that token grants.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;
use zonecast_access::{Claims, Freshness, Subject, TokenError, Trust};
use zonecast_protocol::{ClientId, Refusal, Rights, wire::ErrorCode};

/// What the broker and whoever keeps [`BrokerConfig::trust`](crate::BrokerConfig::trust) up to date tell each other.
#[derive(Debug, Default)]
pub struct TrustUpkeep {
    unknown_key: Notify,
    freshness: Arc<Freshness>,
}

impl TrustUpkeep {
    /// Waits until a token names a key that is not known: the issuer may have a new one.
    pub async fn unknown_key_seen(&self) {
        self.unknown_key.notified().await;
    }

    /// Tells that a token names a key that is not known.
    pub fn see_unknown_key(&self) {
        self.unknown_key.notify_one();
    }

    /// The keys were read just now, changed or not; for the metrics.
    pub fn keys_read(&self) {
        self.freshness.keys_read(now().as_secs());
    }

    /// As [`keys_read`](Self::keys_read), of the revocations.
    pub fn revocations_read(&self) {
        self.freshness.revocations_read(now().as_secs());
    }

    /// When keys and revocations were read last.
    #[must_use]
    pub fn freshness(&self) -> &Arc<Freshness> {
        &self.freshness
    }
}

/// What lets a session be, and what it may do.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// What the token says, its rights aside; none where this broker looks at no tokens.
    claims: Option<Arc<Claims>>,
    pub(crate) rights: Arc<Rights>,
}

/// Why a token grants nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// There is none.
    Missing,
    Token(TokenError),
    /// It is somebody's who may not connect as this client.
    Subject(Subject, ClientId),
    /// It is not the one's whose session it is.
    OtherSubject(Subject),
}

/// The time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Grant {
    /// Of a broker that looks at no tokens.
    pub(crate) fn of_everybody() -> Self {
        Self { claims: None, rights: Arc::new(Rights::everything()) }
    }

    /// What a token grants to a client, at this time since 1970.
    pub(crate) fn of(trust: &Trust, token: &str, client: &ClientId, now: Duration) -> Result<Self, Denial> {
        if token.is_empty() {
            return Err(Denial::Missing);
        }
        let mut claims = trust.admit(token, now.as_secs()).map_err(Denial::Token)?;
        if !claims.subject.may_connect_as(client) {
            return Err(Denial::Subject(claims.subject, client.clone()));
        }
        let rights = Arc::new(std::mem::take(&mut claims.rights));
        Ok(Self { claims: Some(Arc::new(claims)), rights })
    }

    /// Whose token it is.
    pub(crate) fn subject(&self) -> Option<&Subject> {
        self.claims.as_ref().map(|claims| &claims.subject)
    }

    /// The same, when it is the same one's as another.
    pub(crate) fn of_the_same(self, other: &Self) -> Result<Self, Denial> {
        match self.subject() {
            Some(subject) if Some(subject) != other.subject() => Err(Denial::OtherSubject(subject.clone())),
            _ => Ok(self),
        }
    }

    /// In how many milliseconds it ends, at least 1; 0: never.
    pub(crate) fn expires_in_ms(&self, now: Duration) -> u64 {
        let Some(claims) = &self.claims else { return 0 };
        let left = Duration::from_secs(claims.expires_at).saturating_sub(now);
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Why it holds no longer, if so.
    pub(crate) fn end(&self, trust: &Trust, now: Duration) -> Option<Refusal> {
        let error = trust.still_admits(self.claims.as_ref()?, now.as_secs()).err()?;
        let code = match error {
            TokenError::Expired => ErrorCode::TokenExpired,
            _ => ErrorCode::Unauthenticated,
        };
        Some(Refusal::new(code, error.to_string()))
    }
}

impl Denial {
    /// Its name in the metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Token(error) => error.kind(),
            Self::Subject(..) => "subject",
            Self::OtherSubject(_) => "other_subject",
        }
    }

    /// With the code for where it was shown.
    pub(crate) fn refusal(&self, code: ErrorCode) -> Refusal {
        let message = match self {
            Self::Missing => "this broker admits nobody without a token; show one (Hello.token)".to_owned(),
            Self::Token(error) => error.to_string(),
            Self::Subject(subject, client) => format!(
                "the token is {subject}'s, who may not connect as {client}; connect under that name, or as NAME.INSTANCE"
            ),
            Self::OtherSubject(subject) => format!("the token is {subject}'s, and the session is somebody else's"),
        };
        Refusal::new(code, message)
    }
}
