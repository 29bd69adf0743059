//! Where the access token comes from that is shown to brokers.

use std::{error::Error, fmt, io, path::Path, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::error::LinkError;

/// How long whoever knows the token may take to say it.
const PATIENCE: Duration = Duration::from_secs(10);
/// A session is renewed when this part of its token's time is over, so that there is time for a second attempt.
const RENEW_AFTER: f64 = 0.75;
/// Renewals come no closer than this, whatever a broker says of a token's time.
const RENEW_AFTER_MIN: Duration = Duration::from_millis(500);
/// The longest time that is believed.
const EXPIRY_MAX: Duration = Duration::from_secs(24 * 3600);

type Asked = Pin<Box<dyn Future<Output = Result<String, Box<dyn Error + Send + Sync>>> + Send>>;

/// What gives the token: a secret, which must not be seen in a log.
#[derive(Clone)]
pub(crate) enum TokenSource {
    /// The same each time; empty for none.
    Fixed(String),
    /// Whoever is asked each time.
    Asked(Arc<dyn Fn() -> Asked + Send + Sync>),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(token) if token.is_empty() => "none",
            Self::Fixed(_) => "hidden",
            Self::Asked(_) => "asked for",
        })
    }
}

impl TokenSource {
    pub(crate) fn asking<F, E>(source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::Asked(Arc::new(move || {
            let asked = source();
            Box::pin(async move { asked.await.map_err(Into::into) })
        }))
    }

    /// Whether another attempt may bring another token.
    pub(crate) fn is_asked(&self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// The token that is valid now.
    pub(crate) async fn get(&self) -> Result<String, LinkError> {
        let failed = |reason: String| LinkError::Token { reason };
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Asked(source) => match timeout(PATIENCE, source()).await {
                Ok(Ok(token)) => Ok(token),
                Ok(Err(error)) => Err(failed(error.to_string())),
                Err(_) => Err(failed(format!("none came within {} s", PATIENCE.as_secs()))),
            },
        }
    }
}

/// The token in a file.
pub(crate) fn token_in_file(path: &Path) -> io::Result<String> {
    let read = std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    read.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// After how long a session is to be renewed whose token ends in so many milliseconds; none where it does not end.
pub(crate) fn renew_after(expires_in_ms: u64) -> Option<Duration> {
    let time = Duration::from_millis(expires_in_ms).min(EXPIRY_MAX);
    (expires_in_ms > 0).then(|| time.mul_f64(RENEW_AFTER).max(RENEW_AFTER_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_in_time_and_not_all_the_time() {
        assert_eq!(renew_after(0), None);
        assert_eq!(renew_after(600_000), Some(Duration::from_secs(450)));
        assert_eq!(renew_after(1), Some(RENEW_AFTER_MIN));
        assert_eq!(renew_after(u64::MAX), Some(Duration::from_secs(18 * 3600)));
    }

    #[test]
    fn a_token_is_not_seen() {
        let asked = TokenSource::asking(async || Ok::<_, LinkError>("secret".to_owned()));
        for source in [TokenSource::Fixed("secret".into()), asked] {
            assert!(!format!("{source:?}").contains("secret"));
        }
    }
}
