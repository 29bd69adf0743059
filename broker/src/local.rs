//! A broker within its caller's runtime: no thread, no socket, no clock and no randomness of its own.

use std::{fmt, io, num::NonZeroUsize, rc::Rc, sync::Arc, time::Duration};

use quinn::{AsyncUdpSocket, Runtime};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_local},
    time::timeout,
};
use tracing::{error, info, warn};

use crate::{
    BrokerConfig, BrokerError, EndpointError, WORKERS_MAX,
    broker::shared,
    endpoint::EndpointSetup,
    worker::{Phase, Shared, Worker, run},
};

/// How long workers may take to close what is left once the grace is over.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// What a [`LocalBroker`] stands on instead of the system's sockets, clock and randomness.
#[derive(Debug)]
pub struct LocalGround {
    /// One socket per worker, all of the same address. Whoever implements them spreads packets over them by the
    /// sender's address, as `SO_REUSEPORT` does.
    pub sockets: Vec<Arc<dyn AsyncUdpSocket>>,
    /// Timers and background tasks of QUIC. Its `spawn` is called within the broker's `LocalSet`.
    pub runtime: Arc<dyn Runtime>,
    /// The seed of QUIC's random numbers, varied by the worker's number.
    pub rng_seed: [u8; 32],
    /// Where each worker's numbering of sessions begins, up to 2^48; greater at each start.
    pub first_session: u64,
}

/// A broker whose workers are tasks of the caller's `LocalSet`, for simulations and for embedding.
///
/// The same code serves as in [`Broker`](crate::Broker), without its threads, sockets and admin HTTP. On a paused clock,
/// and with a ground that depends on nothing but its seed, the broker does so too.
///
/// Dropping it stops it at once; [`LocalBroker::shutdown`] stops it in good order. To see what a killed process leaves
/// behind, take its sockets off the network and drop the `LocalSet`: then nobody is told.
pub struct LocalBroker {
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    workers: Vec<JoinHandle<()>>,
}

impl LocalBroker {
    /// Starts one worker per socket. Must be called within a `LocalSet`. What `config` says of the number of workers and
    /// of admin HTTP is not used, and its address only named in errors.
    ///
    /// # Errors
    /// There are no sockets or too many, TLS cannot be set up, or an endpoint cannot be made.
    pub fn start(mut config: BrokerConfig, ground: LocalGround) -> Result<Self, BrokerError> {
        let address = config.listen;
        let cannot_open = |source: io::Error| EndpointError::Open { address, source };
        let workers = ground.sockets.len();
        if workers > WORKERS_MAX {
            return Err(BrokerError::TooManyWorkers { workers });
        }
        let none = || cannot_open(io::Error::new(io::ErrorKind::InvalidInput, "no socket is given"));
        config.workers = NonZeroUsize::new(workers).ok_or_else(none)?;
        let (shared, mailboxes) = shared(config, workers, ground.first_session)?;
        let setup = EndpointSetup::new(&shared.config, &shared.serving);
        let (phase, watched) = watch::channel(Phase::Serving);
        let mut workers = Vec::with_capacity(workers);
        for (index, (socket, mailbox)) in (0_u16..).zip(ground.sockets.into_iter().zip(mailboxes)) {
            let seed = varied(ground.rng_seed, index);
            let endpoint = setup.clone().open_on(socket, Arc::clone(&ground.runtime), seed).map_err(cannot_open)?;
            let worker = Rc::new(Worker::new(index, Arc::clone(&shared)));
            workers.push(spawn_local(run(worker, endpoint, mailbox, watched.clone())));
        }
        Ok(Self { shared, phase, workers })
    }

    /// Connections that are in now, with or without a session.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.admission.connections()
    }

    /// Stops in good order, as [`Broker::shutdown`](crate::Broker::shutdown) does.
    pub async fn shutdown(mut self) {
        self.phase.send_replace(Phase::Draining);
        if timeout(self.shared.config.shutdown_grace, self.workers_ended()).await.is_err() {
            warn!("clients were still there at the end of the grace; they are cut off");
            self.phase.send_replace(Phase::Stopped);
        }
        match timeout(STOP_TIMEOUT, self.workers_ended()).await {
            Ok(()) => info!("broker has stopped"),
            Err(_) => error!("a worker does not stop"),
        }
    }

    async fn workers_ended(&mut self) {
        while let Some(worker) = self.workers.last_mut() {
            if worker.await.is_err() {
                error!("a worker had panicked");
            }
            self.workers.pop();
        }
    }
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroker").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// A seed of its own for each worker.
fn varied(mut seed: [u8; 32], index: u16) -> [u8; 32] {
    for (byte, number) in seed.iter_mut().zip(index.to_le_bytes()) {
        *byte ^= number;
    }
    seed
}
