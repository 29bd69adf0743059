//! What verifiers read by plain HTTPS: the keys, and the logins that have ended.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use tonic::service::Routes;

use crate::{Auth, issuer::Issuer};

/// Where verifiers find them.
const KEYS: &str = "/.well-known/jwks.json";
const REVOCATIONS: &str = "/.well-known/zonecast-revocations.json";

/// Both come from memory, whoever asks how often. Revocations that are too old are 503; keys are good for longer.
pub(crate) fn add(routes: Routes, auth: &Auth) -> Routes {
    let (keys, revocations) = (auth.issuer(), auth.issuer());
    let pages = Router::new().route(KEYS, get(async move || page(keys.jwks(), "public, max-age=60"))).route(
        REVOCATIONS,
        get(async move || {
            let known = revocations.revocations();
            known.map(|json| page(json, "no-store")).ok_or(StatusCode::SERVICE_UNAVAILABLE)
        }),
    );
    Routes::from(routes.into_axum_router().merge(pages))
}

fn page(json: Bytes, caching: &'static str) -> impl IntoResponse + use<> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, caching)];
    (headers, json)
}

impl Auth {
    fn issuer(&self) -> Arc<Issuer> {
        Arc::clone(&self.shared.issuer)
    }
}
