//! The UDP sockets of a broker, and how QUIC is tuned on them.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::{BrokerConfig, BrokerTls, TlsError, serving::Serving};

/// Receive and send buffer asked of the system per socket; it may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams from clients are ignored; but quinn sends none where it may receive none.
const DATAGRAM_RECEIVE_BYTES: usize = 1200;
/// Round-trip time assumed before the first measurement; quinn's 333 ms is for the open internet.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// What is kept of packets of one connection that nobody has accepted yet, and of all of them: they are accepted at
/// once, so there is little; quinn's 100 MiB would be there for a flood alone.
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
const INCOMING_BUFFER_BYTES_TOTAL: u64 = 8 << 20;

/// Why a broker's socket cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Something else serves there.
    #[error("UDP port {address} is in use; stop what listens there or choose another with listen")]
    PortInUse {
        /// The wanted address.
        address: SocketAddr,
    },
    /// The system refuses.
    #[error("UDP socket on {address} cannot be opened: {source}")]
    Open {
        /// The wanted address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The largest UDP payload is one that QUIC does not permit.
    #[error("quic.udp_payload_bytes_max is {bytes}; QUIC permits 1200 to 65527")]
    UdpPayload {
        /// What was asked for.
        bytes: u32,
    },
    /// The idle timeout does not fit QUIC's integer.
    #[error("connections.idle_timeout_ms is too long for QUIC; at most 2^62 ms are possible")]
    IdleTimeout,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// One socket per worker, all on the same address; the kernel spreads connections over them by their addresses.
pub(crate) fn bind(listen: SocketAddr, workers: NonZeroUsize) -> Result<Vec<UdpSocket>, EndpointError> {
    // Several brokers on one port would share it in silence; a plain bind first finds that out.
    let probe = open(listen, false)?;
    let address = probe.local_addr().map_err(|source| EndpointError::Open { address: listen, source })?;
    if workers == NonZeroUsize::MIN {
        return Ok(vec![probe]);
    }
    drop(probe);
    (0..workers.get()).map(|_| open(address, true)).collect()
}

fn open(address: SocketAddr, shared: bool) -> Result<UdpSocket, EndpointError> {
    let opened = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        // Best effort: the system's own maximum applies, and a smaller buffer is no error.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    opened().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => EndpointError::PortInUse { address },
        _ => EndpointError::Open { address, source },
    })
}

/// What workers open their endpoints with.
#[derive(Debug, Clone)]
pub(crate) struct EndpointSetup {
    endpoint: EndpointConfig,
    server: ServerConfig,
}

impl EndpointSetup {
    /// The same for all workers: a client's packets may reach another one after a restart.
    ///
    /// # Errors
    /// The largest UDP payload is one that QUIC does not permit.
    pub(crate) fn new(config: &BrokerConfig, serving: &Serving) -> Result<Self, EndpointError> {
        let secret = config.reset_secret.clone().unwrap_or_else(|| config.tls.reset_secret());
        let mut endpoint = secret.endpoint_config();
        let bytes = config.windows.udp_payload_bytes_max;
        let out_of_range = |_| EndpointError::UdpPayload { bytes };
        endpoint.max_udp_payload_size(udp_payload_bytes_max(config)?).map_err(out_of_range)?;
        Ok(Self { endpoint, server: (*serving.server_config()).clone() })
    }

    /// Opens a worker's endpoint. Must be called within the worker's runtime.
    pub(crate) fn open(self, socket: UdpSocket) -> io::Result<quinn::Endpoint> {
        quinn::Endpoint::new(self.endpoint, Some(self.server), socket, Arc::new(TokioRuntime))
    }

    /// As [`open`](Self::open), on a socket and a runtime that somebody else made, with all chance from a seed.
    pub(crate) fn open_on(
        mut self,
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
        rng_seed: [u8; 32],
    ) -> io::Result<quinn::Endpoint> {
        self.endpoint.rng_seed(Some(rng_seed));
        quinn::Endpoint::new_with_abstract_socket(self.endpoint, Some(self.server), socket, runtime)
    }
}

fn udp_payload_bytes_max(config: &BrokerConfig) -> Result<u16, EndpointError> {
    let bytes = config.windows.udp_payload_bytes_max;
    u16::try_from(bytes).map_err(|_| EndpointError::UdpPayload { bytes })
}

/// The QUIC side of the configuration, with the certificates of `tls`.
pub(crate) fn server_config(config: &BrokerConfig, tls: &BrokerTls) -> Result<ServerConfig, EndpointError> {
    let idle = IdleTimeout::try_from(config.connections.idle_timeout).map_err(|_| EndpointError::IdleTimeout)?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(udp_payload_bytes_max(config)?);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(config.limits.lanes_max))
        .stream_receive_window(VarInt::from_u32(config.windows.stream_receive_bytes_max))
        // Unlimited by default in quinn.
        .receive_window(VarInt::from_u32(config.windows.receive_bytes_max))
        .send_window(u64::from(config.windows.send_bytes_max))
        .datagram_send_buffer_size(config.windows.datagram_send_bytes_max as usize)
        .max_idle_timeout(Some(idle))
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES));
    let mut server = ServerConfig::with_crypto(Arc::new(tls.quic_config()?));
    server
        .transport_config(Arc::new(transport))
        .max_incoming(config.connections.handshakes_max)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    Ok(server)
}
