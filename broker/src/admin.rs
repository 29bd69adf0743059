//! Admin HTTP: `/live`, `/ready`, `/metrics`, on an address of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tracing::error;

use crate::{BrokerError, mail::Mail, metrics, stats::Snapshot, worker::Shared};

/// A worker that does not answer for so long is stuck.
const WORKER_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Admin {
    shared: Arc<Shared>,
    ready: Arc<AtomicBool>,
}

/// Starts the server, if one is configured.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    ready: &Arc<AtomicBool>,
) -> Result<Option<(SocketAddr, JoinHandle<()>)>, BrokerError> {
    let Some(address) = shared.config.admin_listen else { return Ok(None) };
    let failed = |source| BrokerError::Admin { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let routes = Router::new()
        .route("/live", get(live))
        .route("/ready", get(is_ready))
        .route("/metrics", get(scrape))
        .with_state(Admin { shared: Arc::clone(shared), ready: Arc::clone(ready) });
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            error!(%error, "admin HTTP has stopped");
        }
    });
    Ok(Some((bound, server)))
}

/// Asks every worker what it counted. `Err` names the worker that does not answer. While the broker drains, a worker
/// that has nothing left to do has ended in good order, and is passed over.
async fn snapshots(admin: &Admin) -> Result<Vec<Snapshot>, usize> {
    let may_have_ended = !admin.ready.load(Ordering::Acquire);
    let deadline = Instant::now() + WORKER_ANSWER_TIMEOUT;
    let ask = async |mailbox: &mpsc::Sender<Mail>| {
        let (answer, answered) = oneshot::channel();
        mailbox.send(Mail::Snapshot(answer)).await.ok()?;
        answered.await.ok()
    };
    let mut snapshots = Vec::with_capacity(admin.shared.mailboxes.len());
    for (index, mailbox) in admin.shared.mailboxes.iter().enumerate() {
        match timeout_at(deadline, ask(mailbox)).await {
            Ok(Some(snapshot)) => snapshots.push(snapshot),
            Ok(None) if may_have_ended => {}
            Ok(None) | Err(_) => return Err(index),
        }
    }
    Ok(snapshots)
}

fn stuck(worker: usize) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("worker {worker} does not answer\n")).into_response()
}

async fn live(State(admin): State<Admin>) -> Response {
    when_all_answer(&admin, "live\n").await
}

async fn when_all_answer(admin: &Admin, well: &'static str) -> Response {
    match snapshots(admin).await {
        Ok(_) => well.into_response(),
        Err(worker) => stuck(worker),
    }
}

async fn is_ready(State(admin): State<Admin>) -> Response {
    if admin.ready.load(Ordering::Acquire) {
        when_all_answer(&admin, "ready\n").await
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or draining\n").into_response()
    }
}

async fn scrape(State(admin): State<Admin>) -> Response {
    match snapshots(&admin).await {
        Ok(snapshots) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&admin.shared, &snapshots))
            .into_response(),
        Err(worker) => stuck(worker),
    }
}
