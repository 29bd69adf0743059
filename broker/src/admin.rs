//! Admin HTTP: `/live`, `/ready`, `/metrics`, on an address of its own.

use std::{
    io::{self, ErrorKind},
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
    serve::Listener,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tracing::{error, warn};

use crate::{BrokerError, mail::Mail, metrics, stats::Snapshot, worker::Shared};

/// A worker that does not answer for so long is stuck.
const WORKER_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// After a connection that could not be taken, so long until the next is tried: it would fail as quickly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct Admin {
    shared: Arc<Shared>,
    ready: Arc<AtomicBool>,
}

/// A listener that outlives a lack of file descriptors, and says so. Nothing else of the broker needs new ones.
struct Persistent(TcpListener);

impl Listener for Persistent {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                // The peer's affair alone.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    warn!(%error, "admin HTTP cannot take a connection; it tries again, and sessions are not affected");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
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
        if let Err(error) = axum::serve(Persistent(listener), routes).await {
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
