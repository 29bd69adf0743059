//! A stand-in for an identity provider: keys of every kind, and an HTTP server that has good days and bad ones.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use axum::{Router, http::Uri, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use zonecast_auth::{Algorithm, Provider, ProviderKind};

use crate::ground::now_s;

pub(crate) const ISSUER: &str = "https://provider.test";
pub(crate) const AUDIENCE: &str = "our-client-id";

/// A key of the provider's.
pub(crate) enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rs256 => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            Algorithm::Es256 => Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            _ => Self::Ed(Ed25519KeyPair::generate().unwrap()),
        }
    }

    pub(crate) fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let public = key.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": text(n), "e": text(e)})
            }
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": text(key.public_key().as_ref())})
            }
        }
    }

    /// The public part as a secret, which whoever trusts the token's own algorithm would take.
    pub(crate) fn public_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ec(key) => key.public_key().as_ref().to_vec(),
            Self::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// An ID token as it should be.
    pub(crate) fn token(&self, kid: &str, nonce: &str, subject: &str) -> String {
        self.sign(&json!({"alg": self.alg(), "kid": kid, "typ": "JWT"}), &claims(nonce, subject))
    }
}

/// The part of a token that is signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn claims(nonce: &str, subject: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now_s(), "exp": now_s() + 300, "nonce": nonce,
        "email": "shared@example.test", "email_verified": "true",
    })
}

/// How the provider's server is today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    Down,
    Silent,
    Endless,
    Elsewhere,
}

/// The provider's server.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
    state: Arc<Mutex<(Mood, String)>>,
    pub(crate) last: Arc<Mutex<String>>,
}

impl Server {
    pub(crate) async fn start(answer: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            address,
            asked: Arc::default(),
            state: Arc::new(Mutex::new((Mood::Well, answer))),
            last: Arc::default(),
        };
        let at_work = server.clone();
        let router = Router::new().route("/", get(move |uri: Uri| at_work.clone().answer(uri)));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    async fn answer(self, uri: Uri) -> axum::response::Response {
        use axum::response::IntoResponse;
        self.asked.fetch_add(1, Relaxed);
        *self.last.lock().unwrap() = uri.query().unwrap_or_default().to_owned();
        let (mood, answer) = self.state.lock().unwrap().clone();
        match mood {
            Mood::Well => answer.into_response(),
            Mood::Down => axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Mood::Silent => std::future::pending().await,
            Mood::Endless => " ".repeat(10 << 20).into_response(),
            Mood::Elsewhere => axum::response::Redirect::temporary("http://127.0.0.1:1/").into_response(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }

    pub(crate) fn feels(&self, mood: Mood) {
        self.state.lock().unwrap().0 = mood;
    }

    pub(crate) fn answers(&self, answer: String) {
        self.state.lock().unwrap().1 = answer;
    }
}

pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// The provider in our settings.
pub(crate) fn provider(server: &Server, algorithms: &[Algorithm]) -> Provider {
    Provider {
        name: "standin".into(),
        issuers: vec![ISSUER.into(), "provider.test".into()],
        audiences: vec![AUDIENCE.into(), "our-other-client-id".into()],
        kind: ProviderKind::Oidc { keys_url: server.url(), algorithms: algorithms.to_vec() },
    }
}
