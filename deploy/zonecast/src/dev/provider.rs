//! An identity provider within this process, in the place of Google, Apple and Facebook: it believes whatever it is told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use zonecast_access::{Keys, SigningKey};
use zonecast_auth::{self as auth, ProviderKind};

/// The application that its tokens are for.
const AUDIENCE: &str = "zonecast-dev";
/// How long a token of it lasts, in seconds.
const TOKEN_S: u64 = 600;

/// The provider, for as long as it is kept.
pub(super) struct Provider {
    address: SocketAddr,
    server: JoinHandle<()>,
}

struct Signer {
    key: SigningKey,
    issuer: String,
}

impl Provider {
    /// Starts it on loopback, on a port that the system picks.
    ///
    /// # Errors
    /// There is no port, or no randomness for a key.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let failed = "the identity provider cannot start";
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context(failed)?;
        let address = listener.local_addr().context(failed)?;
        let signer = Signer { key: SigningKey::generate("dev").context(failed)?, issuer: issuer(address) };
        let routes = Router::new()
            .route("/jwks.json", get(keys))
            .route("/token/{subject}/{nonce}", get(token))
            .with_state(Arc::new(signer));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the identity provider has stopped");
            }
        });
        Ok(Self { address, server })
    }

    /// What its tokens say of who made them.
    pub(super) fn issuer(&self) -> String {
        issuer(self.address)
    }

    /// As the auth service is told of it.
    pub(super) fn provider(&self) -> auth::Provider {
        let keys_url = format!("{}/jwks.json", self.issuer());
        let kind = ProviderKind::Oidc { keys_url, algorithms: vec![auth::Algorithm::EdDsa] };
        let (issuers, audiences) = (vec![self.issuer()], vec![AUDIENCE.to_owned()]);
        auth::Provider { name: "dev".to_owned(), issuers, audiences, kind }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn issuer(address: SocketAddr) -> String {
    format!("http://{address}")
}

async fn keys(State(signer): State<Arc<Signer>>) -> Response {
    let jwks = Keys::jwks([(signer.key.id(), signer.key.public())]);
    ([(header::CONTENT_TYPE, "application/json")], jwks).into_response()
}

/// The token of whoever says to be this one.
async fn token(State(signer): State<Arc<Signer>>, Path((subject, nonce)): Path<(String, String)>) -> Response {
    let now_s = zonecast_store::now().unix_timestamp().unsigned_abs();
    let claims = json!({
        "iss": signer.issuer, "aud": AUDIENCE, "sub": subject, "nonce": nonce, "iat": now_s, "exp": now_s + TOKEN_S,
    });
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(signer.key.id().to_owned());
    match encode(&header, &claims, &EncodingKey::from_ed_der(signer.key.pkcs8())) {
        Ok(token) => token.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
