//! A whole broker: its workers, its admin server, its beginning and end.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use thiserror::Error;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{error, info, warn};

use crate::{
    BrokerConfig, BrokerTls, EndpointError, WORKERS_MAX, admin, endpoint,
    mail::{MAILBOX_MESSAGES_MAX, Mail},
    serving::Serving,
    worker::{Phase, Retained, Shared, spawn},
};

/// How long workers may take to close what is left once the grace is over.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a broker cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// A socket or TLS cannot be set up.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A worker thread cannot be started.
    #[error("a worker thread cannot be started: {0}")]
    Worker(#[source] io::Error),
    /// More workers than a session's number can name.
    #[error("{workers} workers are wanted; at most {WORKERS_MAX} are possible")]
    TooManyWorkers {
        /// The wanted number.
        workers: usize,
    },
    /// The admin address cannot be opened.
    #[error("admin HTTP cannot listen on {address}: {source}; choose another with admin_listen")]
    Admin {
        /// The wanted address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

/// A running broker. Dropping it stops it at once; [`Broker::shutdown`] stops it in good order.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    admin: Option<(SocketAddr, JoinHandle<()>)>,
    ready: Arc<AtomicBool>,
    phase: watch::Sender<Phase>,
    workers: Vec<thread::JoinHandle<()>>,
    /// How many of them have ended.
    ended: watch::Receiver<usize>,
}

impl Broker {
    /// Opens the sockets and starts the workers. Must be called within a tokio runtime, which serves admin HTTP.
    ///
    /// # Errors
    /// An address is in use or cannot be opened, TLS cannot be set up, or a thread cannot be started.
    pub async fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        let workers_wanted = config.workers.get();
        if workers_wanted > WORKERS_MAX {
            return Err(BrokerError::TooManyWorkers { workers: workers_wanted });
        }
        let sockets = endpoint::bind(config.listen, config.workers)?;
        let local_addr =
            sockets[0].local_addr().map_err(|source| EndpointError::Open { address: config.listen, source })?;
        let (shared, receivers) = shared(config, sockets.len(), first_session())?;
        let setup = endpoint::EndpointSetup::new(&shared.config, &shared.serving)?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let ready = Arc::new(AtomicBool::new(false));
        let (ending, ended) = watch::channel(0);
        let mut workers = Vec::with_capacity(workers_wanted);
        for (index, (socket, mailbox)) in (0_u16..).zip(sockets.into_iter().zip(receivers)) {
            let (shared, setup) = (Arc::clone(&shared), setup.clone());
            let worker = spawn(index, shared, socket, setup, mailbox, watched.clone(), ending.clone()).await;
            workers.push(worker.map_err(BrokerError::Worker)?);
        }
        let admin = admin::start(&shared, &ready).await?;
        ready.store(true, Ordering::Release);
        Ok(Self { shared, local_addr, admin, ready, phase, workers, ended })
    }

    /// The UDP address that the broker serves QUIC on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The TCP address of the admin HTTP server.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(address, _)| *address)
    }

    /// Takes new certificates and authorities: connections that come from now on are met with them, those that are
    /// there stay. The keys by which clients notice a restart stay those of the start.
    ///
    /// # Errors
    /// They do not serve together; then the old ones go on serving.
    pub fn reload_tls(&self, tls: &BrokerTls) -> Result<(), EndpointError> {
        self.shared.serving.replace(&self.shared.config, tls)
    }

    /// Counts new certificates that could not even be read, for the metrics.
    pub fn count_tls_reload_failure(&self) {
        self.shared.serving.count_failure();
    }

    /// Waits until a worker has ended by itself, which is a defect of the broker: it panicked. Its sessions are lost, and it
    /// keeps others from changing their interest; shut the broker down, and start another.
    pub async fn failed(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended > 0).await;
    }

    /// Stops in good order: not ready, no new connections, clients told, queues drained, within the configured grace.
    pub async fn shutdown(mut self) {
        let grace = self.shared.config.shutdown_grace;
        self.ready.store(false, Ordering::Release);
        info!(connections = self.shared.admission.connections(), grace_ms = grace.as_millis(), "broker is draining");
        self.phase.send_replace(Phase::Draining);
        if timeout(grace, self.workers_ended()).await.is_err() {
            warn!("clients were still there at the end of the grace; they are cut off");
            self.phase.send_replace(Phase::Stopped);
        }
        if timeout(STOP_TIMEOUT, self.workers_ended()).await.is_err() {
            error!("a worker does not stop");
            return;
        }
        for worker in std::mem::take(&mut self.workers) {
            if worker.join().is_err() {
                error!("a worker had panicked");
            }
        }
        info!("broker has stopped");
    }

    async fn workers_ended(&self) {
        let workers = self.workers.len();
        // An error means that all have dropped what they count by, which is the same.
        let _ = self.ended.clone().wait_for(|ended| *ended == workers).await;
    }
}

/// What the workers share, and each worker's end of its mailbox. Fails when TLS cannot be set up.
pub(crate) fn shared(
    config: BrokerConfig,
    workers: usize,
    first_session: u64,
) -> Result<(Arc<Shared>, Vec<mpsc::Receiver<Mail>>), EndpointError> {
    let (mailboxes, receivers) = (0..workers).map(|_| mpsc::channel(MAILBOX_MESSAGES_MAX)).unzip();
    let shared = Shared {
        limits: Arc::new(config.limits.clone()),
        rights: Arc::new(config.rights.clone()),
        admission: Arc::default(),
        serving: Serving::new(&config)?,
        retained: Retained::new(config.retained, workers),
        mailboxes,
        epoch: AtomicU64::new(0),
        started: Instant::now(),
        first_session,
        config,
    };
    Ok((Arc::new(shared), receivers))
}

/// By chance, so that a session's number is not met again at another start or at another broker, where a client would resume
/// what is not its own; with room for a million sessions each.
fn first_session() -> u64 {
    let mut chance = [0; 8];
    if aws_lc_rs::rand::fill(&mut chance).is_err() {
        // Second best: the moment of the start.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        chance = since_1970.as_micros().to_le_bytes().first_chunk().copied().unwrap_or_default();
    }
    (u64::from_le_bytes(chance) & 0x0fff_ffff) << 20
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((_, server)) = &self.admin {
            server.abort();
        }
    }
}
