//! Access tokens for a credential, asked for where they are needed.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Deserialize;
use tokio::sync::Mutex;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use zonecast_api::auth::v1::auth_service_client::AuthServiceClient;
use zonecast_auth::NewCredential;
use zonecast_client::ClientConfig;
use zonecast_protocol::auth::v1::IssueTokenRequest;

use crate::trust::now_s;

/// How long a token is shared by those who ask. Not longer: whoever asks may do so because one was refused.
const SHARED_FOR: Duration = Duration::from_secs(30);

/// A credential, and where tokens are given for it. Clones share the token.
#[derive(Clone)]
pub(crate) struct Credential {
    endpoint: Endpoint,
    source: Arc<Source>,
    token: Arc<Mutex<Option<Shared>>>,
}

/// A token for whoever asks until then.
struct Shared {
    until: Instant,
    token: String,
}

enum Source {
    Given(NewCredential),
    /// Read whenever a token is asked for, so that it may come later, and be replaced.
    File(PathBuf),
}

/// Services at an address, whose certificate is for that name and signed by that authority.
///
/// # Errors
/// The authority is none, or the address.
pub(crate) fn endpoint(address: &str, server_name: &str, ca: &str) -> anyhow::Result<Endpoint> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(server_name);
    Ok(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?)
}

/// Services at a URL; where no authority (PEM) is given, those that the system trusts may have signed their certificate.
/// `identity` is what is shown to them.
///
/// # Errors
/// The authority is none, or the URL.
pub(crate) fn endpoint_at(url: &str, ca: Option<&[u8]>, identity: Option<Identity>) -> anyhow::Result<Endpoint> {
    let mut tls = match ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    Ok(Endpoint::from_shared(url.to_owned())?.tls_config(tls)?)
}

/// A credential in a file: the JSON of an `IssueTokenRequest`, so that `zonecast call auth/IssueToken - < FILE` takes it too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    client_id: String,
    /// None for one that is known by a certificate.
    #[serde(default)]
    secret: String,
}

impl Source {
    fn request(&self) -> anyhow::Result<IssueTokenRequest> {
        let path = match self {
            Self::Given(NewCredential { client_id, secret }) => {
                return Ok(IssueTokenRequest { client_id: client_id.clone(), secret: secret.clone() });
            }
            Self::File(path) => path,
        };
        let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let Written { client_id, secret } =
            serde_json::from_str(&text).with_context(|| format!("{} holds no credential", path.display()))?;
        Ok(IssueTokenRequest { client_id, secret })
    }
}

impl Credential {
    /// This credential, at the auth service that is there.
    pub(crate) fn new(endpoint: Endpoint, credential: NewCredential) -> Self {
        Self { endpoint, source: Arc::new(Source::Given(credential)), token: Arc::default() }
    }

    /// The one in a file.
    pub(crate) fn in_file(endpoint: Endpoint, path: PathBuf) -> Self {
        Self { endpoint, source: Arc::new(Source::File(path)), token: Arc::default() }
    }

    /// As it stands in a file.
    pub(crate) fn json(credential: &NewCredential) -> String {
        let NewCredential { client_id, secret } = credential;
        let written = match secret.as_str() {
            "" => serde_json::json!({"clientId": client_id}),
            secret => serde_json::json!({"clientId": client_id, "secret": secret}),
        };
        written.to_string()
    }

    /// A client that shows tokens for it to the broker.
    pub(crate) fn shown_by(&self, client: ClientConfig) -> ClientConfig {
        let credential = self.clone();
        client.token_from(move || {
            let credential = credential.clone();
            async move { credential.token().await }
        })
    }

    /// A token that lasts for a while.
    ///
    /// # Errors
    /// The file cannot be read or holds no credential; the auth service cannot be reached, or refuses.
    pub(crate) async fn token(&self) -> anyhow::Result<String> {
        let mut kept = self.token.lock().await;
        if let Some(Shared { until, token }) = &*kept
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let request = self.source.request()?;
        // A connection for each: it would lie idle for minutes.
        let channel = self.endpoint.connect().await.context("the auth service cannot be reached")?;
        let issued = AuthServiceClient::new(channel).issue_token(request).await;
        let issued = issued.context("the auth service gives no token")?.into_inner();
        let expires_at = issued.expires_at.and_then(|at| u64::try_from(at.seconds).ok()).unwrap_or_default();
        // Half of its time is for whoever got it last.
        let shared_for = SHARED_FOR.min(Duration::from_secs(expires_at.saturating_sub(now_s())) / 2);
        *kept = Some(Shared { until: Instant::now() + shared_for, token: issued.access_token.clone() });
        Ok(issued.access_token)
    }
}
