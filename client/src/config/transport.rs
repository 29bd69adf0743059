//! Settings of QUIC.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::congestion::CubicConfig;
use socket2::{Domain, Protocol, Socket, Type};

use super::bounded;
use crate::error::ConnectError;

/// What QUIC permits as the largest UDP payload (RFC 9000, section 18.2).
const UDP_PAYLOAD_BYTES_MIN: u16 = 1_200;
const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;

/// Settings of the QUIC connection, with defaults for a data centre.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The round trip that is assumed until one was measured. Default: 50 ms.
    pub initial_rtt: Duration,
    /// After so much silence something is sent to keep the connection alive: less than `idle_timeout`, better less than half
    /// of it, and of the broker's. Default: 3 s.
    pub keep_alive: Duration,
    /// After so much silence the connection is lost: 1 ms to 49 days. Default: 10 s, as the broker has it.
    pub idle_timeout: Duration,
    /// Bytes that may be on their way to this client on one stream. Default: 4 MiB.
    pub stream_receive_window_bytes: u32,
    /// Bytes that may be on their way to this client in all. Default: 8 MiB.
    pub receive_window_bytes: u32,
    /// Bytes of datagrams (events of class transient) that wait to be read; then the oldest are dropped, and shown as a
    /// gap. 0: the broker sends none. Default: 1 MiB.
    pub datagram_receive_buffer_bytes: usize,
    /// Bytes of publishes that may be sent without the broker having confirmed their arrival. Default: 8 MiB.
    pub send_window_bytes: u64,
    /// Bytes that are sent at once on a new connection, before congestion control knows better. Default: 14,720.
    pub initial_window_bytes: u64,
    /// The largest UDP payload: RFC 9000's `max_udp_payload_size`, and how far path MTU discovery goes. 1,200 to 65,527,
    /// to which other values are clamped;
    /// the broker's own bound (`quic.udp_payload_bytes_max`) counts too. Default: 1,452, which fits Ethernet; 8,952 suits
    /// jumbo frames. What is received, on a given endpoint, is that endpoint's own affair.
    pub udp_payload_bytes_max: u16,
    /// Bytes that the system may hold of what has arrived, and of what is to be sent, so that bursts are not lost.
    /// Default: 2 MiB, or what the system grants (on Linux `net.core.rmem_max`). Of no effect on a given endpoint.
    pub socket_buffer_bytes: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            initial_rtt: Duration::from_millis(50),
            keep_alive: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(10),
            stream_receive_window_bytes: 4 << 20,
            receive_window_bytes: 8 << 20,
            datagram_receive_buffer_bytes: 1 << 20,
            send_window_bytes: 8 << 20,
            initial_window_bytes: 14_720,
            udp_payload_bytes_max: 1_452,
            socket_buffer_bytes: 2 << 20,
        }
    }
}

impl TransportOptions {
    fn udp_payload_bytes(&self) -> u16 {
        self.udp_payload_bytes_max.clamp(UDP_PAYLOAD_BYTES_MIN, UDP_PAYLOAD_BYTES_MAX)
    }

    /// Without a timeout a broker that is gone would never be noticed, and with rarer signs of life one that is there would
    /// be lost.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let bad = |what| Err(ConnectError::BadOption { what });
        if self.idle_timeout < Duration::from_millis(1) {
            return bad("TransportOptions::idle_timeout is less than 1 ms; without it a dead broker is never noticed");
        }
        if self.keep_alive.is_zero() || self.keep_alive >= self.idle_timeout {
            return bad("TransportOptions::keep_alive must be more than 0 and less than idle_timeout");
        }
        Ok(())
    }

    pub(super) fn quinn(&self) -> quinn::TransportConfig {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(self.initial_window_bytes);
        let idle_ms = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        let mut discovery = quinn::MtuDiscoveryConfig::default();
        discovery.upper_bound(self.udp_payload_bytes());
        let mut config = quinn::TransportConfig::default();
        config
            .mtu_discovery_config(Some(discovery))
            .initial_rtt(bounded(self.initial_rtt))
            .keep_alive_interval(Some(bounded(self.keep_alive)))
            .max_idle_timeout(Some(quinn::VarInt::from_u32(idle_ms).into()))
            .stream_receive_window(self.stream_receive_window_bytes.into())
            .receive_window(self.receive_window_bytes.into())
            .send_window(self.send_window_bytes)
            .congestion_controller_factory(Arc::new(cubic))
            // The broker opens one stream, for deliveries, and no other.
            .max_concurrent_uni_streams(1_u32.into())
            .max_concurrent_bidi_streams(0_u32.into())
            .datagram_receive_buffer_size(Some(self.datagram_receive_buffer_bytes).filter(|bytes| *bytes > 0));
        config
    }

    /// An endpoint of the client's own, on a socket for both families, or for IPv4 where the machine has no IPv6.
    pub(super) fn bind(&self) -> io::Result<quinn::Endpoint> {
        let v6: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
        let v4: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
        let socket = self.socket(v6).or_else(|_| self.socket(v4))?;
        let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("there is no tokio runtime"))?;
        let mut config = quinn::EndpointConfig::default();
        config.max_udp_payload_size(self.udp_payload_bytes()).map_err(io::Error::other)?;
        quinn::Endpoint::new(config, None, socket.into(), runtime)
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The system may grant less; a smaller buffer costs retransmissions, not correctness.
        let _ = socket.set_recv_buffer_size(self.socket_buffer_bytes);
        let _ = socket.set_send_buffer_size(self.socket_buffer_bytes);
        socket.bind(&address.into())?;
        Ok(socket)
    }
}
