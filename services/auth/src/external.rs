//! Identity providers: who else says who somebody is.
//!
//! A provider is configuration, with presets for those that everybody knows. It is asked over HTTPS, in bounded time and
//! size, and whatever it does, other ways in are not affected.

mod facebook;
mod fetch;
mod jwks;
mod oidc;

use reqwest::Url;
use thiserror::Error;
use tokio::sync::Semaphore;
use tonic::Status;

pub use oidc::Algorithm;

use jwks::ProviderKeys;

/// Longest token of a provider that is looked at.
const TOKEN_BYTES_MAX: usize = 8_192;
/// Longest name of a player at a provider (OpenID Connect Core, 2).
const SUBJECT_BYTES_MAX: usize = 255;
/// Calls to one provider that are under way at once; more are refused.
const CALLS_MAX: usize = 32;

/// Somebody else who says who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// What we call it: `google`. 1 to 32 of `[a-z0-9-]`.
    pub name: String,
    /// What it calls itself, `iss`: any of these. Identities are kept under the first.
    pub issuers: Vec<String>,
    /// What it calls us, `aud`: any of these.
    pub audiences: Vec<String>,
    /// How it shows who somebody is.
    pub kind: ProviderKind,
}

/// How a provider shows who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderKind {
    /// By ID tokens of OpenID Connect.
    Oidc {
        /// Where its keys are, a JWKS.
        keys_url: String,
        /// The algorithms with which it signs.
        algorithms: Vec<Algorithm>,
    },
    /// By opaque tokens, of which Facebook is asked.
    Facebook {
        /// Our id there.
        app_id: String,
        /// Our secret there.
        app_secret: String,
        /// Where to ask: `https://graph.facebook.com/debug_token`.
        url: String,
    },
}

/// A provider that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProviderError {
    /// Its name breaks the grammar, or another has it.
    #[error("the identity provider {0:?} needs a name of its own, of 1 to 32 of [a-z0-9-]")]
    Name(String),
    /// It has no issuer, no audience or no algorithm.
    #[error("the identity provider {0:?} lacks {1}")]
    Lacks(String, &'static str),
    /// Its address is none, or not HTTPS.
    #[error("the identity provider {0:?} needs an address that begins with https://")]
    Address(String),
    /// No connections can be made at all.
    #[error("identity providers cannot be asked: {0}")]
    Client(String),
}

impl Provider {
    /// Google, for these client ids.
    #[must_use]
    pub fn google(audiences: Vec<String>) -> Self {
        Self {
            name: "google".to_owned(),
            issuers: vec!["https://accounts.google.com".to_owned(), "accounts.google.com".to_owned()],
            audiences,
            kind: ProviderKind::Oidc {
                keys_url: "https://www.googleapis.com/oauth2/v3/certs".to_owned(),
                algorithms: vec![Algorithm::Rs256],
            },
        }
    }

    /// Apple, for these client ids (bundle ids and service ids).
    #[must_use]
    pub fn apple(audiences: Vec<String>) -> Self {
        Self {
            name: "apple".to_owned(),
            issuers: vec!["https://appleid.apple.com".to_owned()],
            audiences,
            kind: ProviderKind::Oidc {
                keys_url: "https://appleid.apple.com/auth/keys".to_owned(),
                algorithms: vec![Algorithm::Rs256],
            },
        }
    }

    /// Facebook, for an app.
    #[must_use]
    pub fn facebook(app_id: String, app_secret: String) -> Self {
        Self {
            name: "facebook".to_owned(),
            issuers: vec!["https://www.facebook.com".to_owned()],
            audiences: vec![app_id.clone()],
            kind: ProviderKind::Facebook {
                app_id,
                app_secret,
                url: "https://graph.facebook.com/debug_token".to_owned(),
            },
        }
    }
}

/// A provider that can be asked.
pub(crate) struct External {
    provider: Provider,
    calls: Semaphore,
    way: Way,
}

enum Way {
    Oidc { keys: ProviderKeys, algorithms: Vec<Algorithm> },
    Facebook(facebook::Facebook),
}

/// The providers that there are.
pub(crate) struct Externals {
    all: Vec<External>,
}

impl Externals {
    pub(crate) fn new(providers: &[Provider]) -> Result<Self, ProviderError> {
        // Where nobody is to be asked, the system need know no authorities.
        if providers.is_empty() {
            return Ok(Self { all: Vec::new() });
        }
        let client = fetch::client().map_err(|error| ProviderError::Client(error.to_string()))?;
        let mut all: Vec<External> = Vec::with_capacity(providers.len());
        for provider in providers {
            let name = || provider.name.clone();
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let is_named = (1..=32).contains(&provider.name.len()) && provider.name.bytes().all(is_plain);
            if !is_named || all.iter().any(|other| other.provider.name == provider.name) {
                return Err(ProviderError::Name(name()));
            }
            for (is_empty, what) in
                [(provider.issuers.is_empty(), "an issuer"), (provider.audiences.is_empty(), "an audience")]
            {
                if is_empty {
                    return Err(ProviderError::Lacks(name(), what));
                }
            }
            let way = match &provider.kind {
                ProviderKind::Oidc { algorithms, .. } if algorithms.is_empty() => {
                    return Err(ProviderError::Lacks(name(), "an algorithm"));
                }
                ProviderKind::Oidc { keys_url, algorithms } => {
                    let url = address(&provider.name, keys_url)?;
                    Way::Oidc { keys: ProviderKeys::new(name(), client.clone(), url), algorithms: algorithms.clone() }
                }
                ProviderKind::Facebook { app_id, app_secret, url } => {
                    let url = address(&provider.name, url)?;
                    Way::Facebook(facebook::Facebook::new(client.clone(), url, app_id, app_secret))
                }
            };
            all.push(External { provider: provider.clone(), calls: Semaphore::new(CALLS_MAX), way });
        }
        Ok(Self { all })
    }

    /// The provider of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&External, Status> {
        let found = self.all.iter().find(|external| external.provider.name == name);
        found.ok_or_else(|| Status::not_found("there is no such identity provider"))
    }
}

/// HTTPS; plain HTTP on this machine only, for tests and trials.
fn address(name: &str, text: &str) -> Result<Url, ProviderError> {
    let bad = || ProviderError::Address(name.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme() == "https" || (url.scheme() == "http" && is_here) { Ok(url) } else { Err(bad()) }
}

impl External {
    pub(crate) fn name(&self) -> &str {
        &self.provider.name
    }

    /// Under which its identities are kept.
    pub(crate) fn issuer(&self) -> &str {
        self.provider.issuers.first().map_or("", String::as_str)
    }

    /// Who bears this token, by the provider's word, at this time in seconds since 1970.
    pub(crate) async fn who(&self, token: &str, nonce: &str, now_s: i64) -> Result<String, Status> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("the token is too long"));
        }
        let place = self.calls.try_acquire();
        let _place =
            place.map_err(|_| Status::resource_exhausted("too many log in by this provider at once; try again"))?;
        let subject = match &self.way {
            Way::Oidc { keys, algorithms } => {
                let (algorithm, kid) = oidc::header(token, algorithms)?;
                let key = keys.get(&kid, algorithm, now_s).await?;
                oidc::verify(token, algorithm, &key, &self.provider, nonce, now_s)?
            }
            Way::Facebook(facebook) => facebook.who(token, now_s).await?,
        };
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains(char::is_control) {
            return Err(refused("the token names nobody"));
        }
        Ok(subject)
    }
}

/// A token of a provider that does not count. Nothing of the token is in the message.
fn refused(why: &'static str) -> Status {
    Status::unauthenticated(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_asked_by_https_alone_and_have_names_of_their_own() {
        let google = || Provider::google(vec!["us".to_owned()]);
        assert!(Externals::new(&[google(), Provider::apple(vec!["us".to_owned()])]).is_ok());
        assert!(Externals::new(&[Provider::facebook("1".to_owned(), "s".to_owned())]).is_ok());
        assert!(matches!(Externals::new(&[google(), google()]), Err(ProviderError::Name(_))));
        assert!(matches!(Externals::new(&[Provider::google(vec![])]), Err(ProviderError::Lacks(..))));
        for (url, is_good) in [
            ("https://x.example/keys", true),
            ("http://127.0.0.1:1/keys", true),
            ("http://x.example/keys", false),
            ("http://localhost.example/keys", false),
            ("file:///etc/passwd", false),
            ("", false),
        ] {
            assert_eq!(address("x", url).is_ok(), is_good, "{url}");
        }
    }
}
