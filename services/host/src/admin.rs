//! Admin HTTP: `/live`, `/ready`, `/metrics`, on an address of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Acquire},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use zonecast_store::Database;

use crate::{HostError, metrics};

/// What the answers are made of.
pub(crate) struct Admin {
    pub(crate) database: Database,
    pub(crate) registry: Registry,
    /// False while the host starts or takes leave.
    pub(crate) is_ready: Arc<AtomicBool>,
    /// Whether the gRPC door has closed.
    pub(crate) grpc_has_ended: watch::Receiver<bool>,
}

/// Starts the server.
pub(crate) async fn start(address: SocketAddr, admin: Admin) -> Result<(SocketAddr, JoinHandle<()>), HostError> {
    let failed = |source| HostError::Admin { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let routes = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(is_ready))
        .route("/metrics", get(scrape))
        .with_state(Arc::new(admin));
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "admin HTTP has stopped");
        }
    });
    Ok((bound, server))
}

/// Without the database no call can be served. Without the broker calls by gRPC can, so that does not count.
async fn is_ready(State(admin): State<Arc<Admin>>) -> Response {
    if !admin.is_ready.load(Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or taking leave\n").into_response();
    }
    if *admin.grpc_has_ended.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: the gRPC door has closed by itself\n").into_response();
    }
    match admin.database.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            let kind = error.kind();
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: the database does not answer ({kind})\n"))
                .into_response()
        }
    }
}

async fn scrape(State(admin): State<Arc<Admin>>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&admin.registry)).into_response()
}
