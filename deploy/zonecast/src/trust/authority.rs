//! Keys and revocations from the issuer, by HTTPS.

use std::{convert::Infallible, time::Duration};

use reqwest::{Certificate, Client, StatusCode, Url};
use thiserror::Error;
use tokio::time::sleep;
use zonecast_access::{BadKeys, Keys, Revocations};

use super::{Told, TrustKeeper};

const KEYS_PATH: &str = "/.well-known/jwks.json";
const REVOCATIONS_PATH: &str = "/.well-known/zonecast-revocations.json";
/// How often the keys are asked for without a reason.
const KEYS_EVERY: Duration = Duration::from_secs(60);
/// How often the revocations are: a revoked login is to end within 5 s everywhere.
const REVOCATIONS_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of an answer: half a million logins.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Where the issuer is, and how to reach it.
#[derive(Debug)]
pub(crate) struct Authority {
    client: Client,
    keys: Url,
    revocations: Url,
}

/// Why the issuer's word cannot be had.
#[derive(Debug, Error)]
pub(crate) enum AuthorityError {
    /// The URL is none, or not HTTPS.
    #[error("expected https://HOST or https://HOST:PORT")]
    Url,
    /// The authorities cannot be used, or the HTTP client not be set up.
    #[error("{0}")]
    Client(String),
    /// It did not answer.
    #[error("{0}")]
    Request(String),
    /// It answered something else.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// It answers without an end.
    #[error("its answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Its answer is no JWKS.
    #[error(transparent)]
    Keys(#[from] BadKeys),
    /// Its answer is no list of revocations.
    #[error("the revocations are none: {0}")]
    Revocations(#[from] serde_json::Error),
}

/// With its causes: what reqwest says itself is only where it was.
fn words(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}

impl Authority {
    /// The issuer at this URL, whose certificate one of these (PEM) must have signed; where none are given, one of those
    /// that the system trusts.
    ///
    /// # Errors
    /// The URL or the certificates are not usable.
    pub(crate) fn new(url: &str, ca: Option<&[u8]>) -> Result<Self, AuthorityError> {
        let base: Url = url.parse().map_err(|_| AuthorityError::Url)?;
        let is_bare = base.path() == "/" && base.query().is_none() && base.fragment().is_none();
        if base.scheme() != "https" || !base.has_host() || !is_bare || !base.username().is_empty() {
            return Err(AuthorityError::Url);
        }
        let failed = |error: reqwest::Error| AuthorityError::Client(words(&error));
        let mut builder =
            Client::builder().https_only(true).timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(ca) = ca {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(ca).map_err(failed)?);
        }
        let at = |path: &str| base.join(path).map_err(|_| AuthorityError::Url);
        Ok(Self { client: builder.build().map_err(failed)?, keys: at(KEYS_PATH)?, revocations: at(REVOCATIONS_PATH)? })
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, AuthorityError> {
        let failed = |error: reqwest::Error| AuthorityError::Request(words(&error));
        let mut response = self.client.get(url.clone()).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(AuthorityError::Status(response.status()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(AuthorityError::TooLong);
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    async fn keys(&self) -> Result<(String, Keys), AuthorityError> {
        let text = String::from_utf8_lossy(&self.get(&self.keys).await?).into_owned();
        let keys = Keys::from_jwks(&text)?;
        Ok((text, keys))
    }

    async fn revocations(&self) -> Result<Revocations, AuthorityError> {
        Ok(serde_json::from_slice(&self.get(&self.revocations).await?)?)
    }

    /// Asks for the keys each minute, and, at most once a second, when a key is wanted that is not among them.
    pub(super) async fn follow_keys(&self, keeper: &TrustKeeper) -> Infallible {
        let (mut told, mut seen) = (Told::default(), String::new());
        loop {
            let keys = self.keys().await;
            told.tell(keys.as_ref().err(), "tokens.authority gives no keys; those before go on to count");
            let longest = if keys.is_ok() { KEYS_EVERY } else { REVOCATIONS_EVERY };
            if let Ok((text, keys)) = keys {
                keeper.upkeep.keys_read();
                if text != seen {
                    keeper.take_keys(keys);
                    seen = text;
                }
            }
            keeper.rest(longest).await;
        }
    }

    /// Asks for the revocations until there are some for the first time.
    pub(super) async fn revocations_once(&self, keeper: &TrustKeeper) {
        let mut told = Told::default();
        while !self.look_at_revocations(keeper, &mut told).await {
            sleep(REVOCATIONS_EVERY).await;
        }
    }

    /// Asks for the revocations each second.
    pub(super) async fn follow_revocations(&self, keeper: &TrustKeeper) -> Infallible {
        let mut told = Told::default();
        loop {
            self.look_at_revocations(keeper, &mut told).await;
            sleep(REVOCATIONS_EVERY).await;
        }
    }

    /// Whether they were given.
    async fn look_at_revocations(&self, keeper: &TrustKeeper, told: &mut Told) -> bool {
        let revoked = self.revocations().await;
        told.tell(revoked.as_ref().err(), "tokens.authority gives no revocations; those before go on to count");
        let is_given = revoked.is_ok();
        if let Ok(revoked) = revoked {
            keeper.upkeep.revocations_read();
            keeper.take_revocations(revoked);
        }
        is_given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_bare_https_url() {
        assert_eq!(
            Authority::new("https://auth:9443", None).unwrap().keys.as_str(),
            "https://auth:9443/.well-known/jwks.json"
        );
        for bad in ["", "auth:9443", "http://auth", "https://", "https://auth/path", "https://a@auth", "https://auth?x"]
        {
            assert!(matches!(Authority::new(bad, None), Err(AuthorityError::Url)), "{bad:?}");
        }
        assert!(matches!(Authority::new("https://auth", Some(b"no PEM")), Err(AuthorityError::Client(_)) | Ok(_)));
    }
}
