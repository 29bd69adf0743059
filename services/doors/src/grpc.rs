//! Door one: gRPC over TLS, for any language that has it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

pub use crate::tls::{ClientCertificates, GrpcTls, GrpcTlsError};
use crate::{Entrance, connections::Reception, places::Places, web::Web};

/// Bounds of connections.
#[derive(Debug, Clone, Copy)]
pub struct GrpcLimits {
    /// Most connections; more are closed at once. Default: 1,024.
    pub connections_max: usize,
    /// Most connections from one address, of IPv6 from one network of /64; more are closed at once. Default: 512.
    pub connections_per_address_max: usize,
    /// Most calls under way on one connection. Default: 128.
    pub streams_max: u32,
    /// Time in which the TLS handshake must be done. Default: 3 s.
    pub handshake_timeout: Duration,
    /// How often a silent connection is asked for a sign of life, and how long that may take. Default: 20 s.
    pub keep_alive: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        let (handshake_timeout, keep_alive) = (Duration::from_secs(3), Duration::from_secs(20));
        Self {
            connections_max: 1_024,
            connections_per_address_max: 512,
            streams_max: 128,
            handshake_timeout,
            keep_alive,
        }
    }
}

/// What the door is to be like.
pub struct GrpcConfig<'a> {
    /// The TCP address; port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// Key and certificate.
    pub tls: GrpcTls,
    /// Bounds of connections.
    pub limits: GrpcLimits,
    /// The services' full names, for health checks.
    pub services: &'a [&'static str],
    /// The encoded `FileDescriptorSet`, for reflection.
    pub descriptors: &'static [u8],
}

/// Why the door does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// Nobody says who calls, and the address can be reached from elsewhere.
    #[error(
        "the services do not know who calls, since no identities are configured, and so serve this machine only: \
         {listen} is not on loopback; give services.listen an address such as 127.0.0.1:9443"
    )]
    OpenToAll {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {listen}: {source}; is it in use by another process?")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Key and certificate do not serve.
    #[error("the certificate and key for gRPC cannot be used: {0}")]
    Tls(#[from] GrpcTlsError),
    /// The descriptors are not readable.
    #[error("reflection cannot be offered: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl GrpcError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OpenToAll { .. } => "open_to_all",
            Self::Listen { .. } => "listen",
            Self::Tls(_) => "tls",
            Self::Reflection(_) => "reflection",
        }
    }
}

/// The open door.
pub struct GrpcDoor {
    address: SocketAddr,
    health: HealthReporter,
    services: Vec<&'static str>,
    leave: Arc<Notify>,
    /// True once the server has ended.
    ended: watch::Receiver<bool>,
    server: JoinHandle<()>,
    tls: watch::Sender<Arc<ServerConfig>>,
    entrance: Entrance,
    /// Cuts all connections: those that are there outlive the server that met them.
    cut_all: CancellationToken,
}

/// Tells that the server has ended, however it did.
struct Ending(watch::Sender<bool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Drop for GrpcDoor {
    fn drop(&mut self) {
        self.server.abort();
        self.cut_all.cancel();
    }
}

impl GrpcDoor {
    /// Opens the door. Health says NOT_SERVING until [`set_serving`](Self::set_serving).
    ///
    /// # Errors
    /// It would be open to all, the address cannot be had, or the certificate does not serve.
    pub async fn open(config: GrpcConfig<'_>, entrance: &Entrance) -> Result<Self, GrpcError> {
        let listen = config.listen;
        if entrance.is_for_loopback_only() && !listen.ip().is_loopback() {
            return Err(GrpcError::OpenToAll { listen });
        }
        let tls = watch::Sender::new(config.tls.server_config()?);
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(config.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let (v1, v1_alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
        let metrics = entrance.metrics().clone();
        metrics.certificate_expires(config.tls.expires_at());
        let entrance = entrance
            .with_routes(|routes: Routes| routes.add_service(health_service).add_service(v1).add_service(v1_alpha));
        let server = Server::builder()
            // For browsers, and for whoever reads the pages.
            .accept_http1(true)
            .max_concurrent_streams(config.limits.streams_max)
            .http2_keepalive_interval(Some(config.limits.keep_alive))
            .http2_keepalive_timeout(Some(config.limits.keep_alive));
        let failed = |source| GrpcError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let leave = Arc::new(Notify::new());
        let left = Arc::clone(&leave);
        let (ending, ended) = watch::channel(false);
        let GrpcLimits { connections_max, connections_per_address_max, handshake_timeout, .. } = config.limits;
        let places = Places::new(connections_max, connections_per_address_max, metrics.clone());
        let cut_all = CancellationToken::new();
        let reception =
            Reception { places, handshake_timeout, tls: tls.subscribe(), metrics, cut_all: cut_all.clone() };
        let incoming = reception.accepted(listener);
        let behind = entrance.clone();
        let serving = tokio::spawn(async move {
            let _ending = Ending(ending);
            let left = async move { left.notified().await };
            if let Err(error) = server.serve_with_incoming_shutdown(Web::new(behind), incoming, left).await {
                tracing::error!(error = %error, "the gRPC door has closed by itself");
            }
        });
        let door = Self {
            address,
            health,
            services: config.services.to_vec(),
            leave,
            ended,
            server: serving,
            tls,
            entrance,
            cut_all,
        };
        door.set_serving(false).await;
        Ok(door)
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What health checks are told of every service.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in self.services.iter().chain(&[""]) {
            self.health.set_service_status(name, status).await;
        }
    }

    /// Whether it has closed: by itself, where nobody has closed it.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Meets connections that come from now on with another certificate; those that are there stay.
    ///
    /// # Errors
    /// It does not serve, and the old one goes on.
    pub fn reload(&self, tls: &GrpcTls) -> Result<(), GrpcTlsError> {
        let taken = tls.server_config().map(|new| self.tls.send_replace(new));
        let metrics = self.entrance.metrics();
        metrics.tls_reloaded(taken.is_ok());
        if taken.is_ok() {
            metrics.certificate_expires(tls.expires_at());
        }
        taken.map(drop)
    }

    /// Counts a new certificate that could not even be read, for the metrics.
    pub fn count_reload_failure(&self) {
        self.entrance.metrics().tls_reloaded(false);
    }

    /// Takes no more connections, ends what streams, lets the calls that are under way end, until the deadline, and closes: what
    /// is left then is cut off.
    pub async fn close(self, deadline: Instant) {
        let ended = async {
            self.set_serving(false).await;
            self.leave.notify_one();
            self.entrance.end_streams();
            // An error: the server has ended.
            let _ = self.ended.clone().wait_for(|ended| *ended).await;
        };
        if timeout_at(deadline, ended).await.is_err() {
            tracing::warn!("calls were cut off: they took longer than the grace lasts");
        }
    }
}
