//! A broker within its caller's runtime: no thread, no socket, no clock and no randomness of its own.

use std::{fmt, io, num::NonZeroUsize, rc::Rc, sync::Arc};

use quinn::{AsyncUdpSocket, Runtime};
use tokio::sync::{mpsc, watch};

use crate::{
    BrokerConfig, BrokerError, EndpointError, WORKERS_MAX,
    broker::shared,
    endpoint::EndpointSetup,
    mail::Mail,
    worker::{Phase, Shared, Worker, run},
};

/// What a [`LocalBroker`] stands on instead of the system's sockets, clock and randomness.
#[derive(Debug)]
pub struct LocalGround {
    /// One socket per worker, all of the same address. Whoever implements them spreads packets over them by the
    /// sender's address, as `SO_REUSEPORT` does.
    pub sockets: Vec<Arc<dyn AsyncUdpSocket>>,
    /// Timers and background tasks of QUIC. Its `spawn` is called within a worker's `LocalSet`.
    pub runtime: Arc<dyn Runtime>,
    /// The seed of QUIC's random numbers, varied by the worker's number.
    pub rng_seed: [u8; 32],
    /// Where each worker's numbering of sessions begins, up to 2^48: with room to the numbers of any other start, of this
    /// broker and of others.
    pub first_session: u64,
}

/// A broker whose workers are futures that the caller runs, for simulations and for embedding.
///
/// The same code serves as in [`Broker`](crate::Broker), without its threads, sockets and admin HTTP. On a paused clock,
/// and with a ground that depends on nothing but its seed, the broker does so too.
///
/// Dropping it stops it at once, with a last packet to each client; [`drain`](Self::drain) stops it in good order. To
/// see what a killed process leaves behind, take its sockets off the network and drop the `LocalSet`s of its workers:
/// then nobody is told.
pub struct LocalBroker {
    shared: Arc<Shared>,
    /// One for each worker: tokio's watch wakes several receivers in an order that it draws by chance.
    phases: Vec<watch::Sender<Phase>>,
}

/// One worker of a [`LocalBroker`], to be [run](Self::run).
#[must_use = "run it; until then it serves nobody, and the other workers wait for it"]
pub struct LocalWorker {
    index: u16,
    shared: Arc<Shared>,
    setup: EndpointSetup,
    socket: Arc<dyn AsyncUdpSocket>,
    runtime: Arc<dyn Runtime>,
    rng_seed: [u8; 32],
    mailbox: mpsc::Receiver<Mail>,
    phase: watch::Receiver<Phase>,
}

impl LocalBroker {
    /// A broker with one worker per socket. What `config` says of the number of workers, the grace of a shutdown and
    /// admin HTTP is not used, and its address only named in errors.
    ///
    /// # Errors
    /// There are no sockets or too many, or TLS cannot be set up.
    pub fn new(mut config: BrokerConfig, ground: LocalGround) -> Result<(Self, Vec<LocalWorker>), BrokerError> {
        let LocalGround { sockets, runtime, rng_seed, first_session } = ground;
        if sockets.len() > WORKERS_MAX {
            return Err(BrokerError::TooManyWorkers { workers: sockets.len() });
        }
        config.workers = NonZeroUsize::new(sockets.len()).ok_or_else(|| EndpointError::Open {
            address: config.listen,
            source: io::Error::new(io::ErrorKind::InvalidInput, "no socket is given"),
        })?;
        let (shared, mailboxes) = shared(config, sockets.len(), first_session)?;
        let setup = EndpointSetup::new(&shared.config, &shared.serving)?;
        let mut phases = Vec::with_capacity(sockets.len());
        let worker = |(index, (socket, mailbox))| {
            let (sender, phase) = watch::channel(Phase::Serving);
            phases.push(sender);
            LocalWorker {
                index,
                shared: Arc::clone(&shared),
                setup: setup.clone(),
                socket,
                runtime: Arc::clone(&runtime),
                rng_seed: varied(rng_seed, index),
                mailbox,
                phase,
            }
        };
        let workers = (0..).zip(sockets.into_iter().zip(mailboxes)).map(worker).collect();
        Ok((Self { shared, phases }, workers))
    }

    /// Connections that are in now, with or without a session.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.admission.connections()
    }

    /// Asks for the end in good order, as [`Broker::shutdown`](crate::Broker::shutdown) does: clients are told, and
    /// what waits for them is sent. The workers end when all is done, however long it takes; the caller knows when to
    /// wait no longer.
    pub fn drain(&self) {
        for phase in &self.phases {
            phase.send_replace(Phase::Draining);
        }
    }
}

impl LocalWorker {
    /// Serves until the broker's end. Must be polled within a `LocalSet`, where its tasks run: one of its own, or one
    /// that it shares with other workers.
    ///
    /// # Errors
    /// The socket has no address.
    pub async fn run(self) -> Result<(), BrokerError> {
        let address = self.shared.config.listen;
        let opened = self.setup.open_on(self.socket, self.runtime, self.rng_seed);
        let endpoint = opened.map_err(|source| EndpointError::Open { address, source })?;
        run(Rc::new(Worker::new(self.index, self.shared)), endpoint, self.mailbox, self.phase).await;
        Ok(())
    }
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroker").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LocalWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWorker").field("index", &self.index).finish_non_exhaustive()
    }
}

/// A seed of its own for each worker.
fn varied(mut seed: [u8; 32], index: u16) -> [u8; 32] {
    for (byte, number) in seed.iter_mut().zip(index.to_le_bytes()) {
        *byte ^= number;
    }
    seed
}
