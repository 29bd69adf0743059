//! Who takes part.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A broker with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// This project's broker and client
    Zonecast,
    /// The same router behind own frames over TLS over TCP
    Tcp,
    /// The same router behind tonic, a bidirectional stream per session
    Grpc,
    /// The same router behind a ZeroMQ ROUTER with CURVE
    Zmq,
    /// NATS without TLS
    Nats,
    /// NATS with TLS
    NatsTls,
    /// Valkey's pub/sub without TLS
    Valkey,
    /// Valkey's pub/sub with TLS; needs a --valkey-server that has it
    ValkeyTls,
    /// Redis' pub/sub without TLS
    Redis,
    /// Redis' pub/sub with TLS
    RedisTls,
}

impl Peer {
    /// Who takes part unless somebody is named. Valkey as packaged has no TLS, and Debian's Redis has; without TLS they
    /// are alike, and Valkey is newer.
    pub(crate) const USUAL: [Self; 8] =
        [Self::Zonecast, Self::Tcp, Self::Grpc, Self::Zmq, Self::NatsTls, Self::Nats, Self::RedisTls, Self::Valkey];

    /// Its name on the command line and in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zonecast => "zonecast",
            Self::Tcp => "tcp",
            Self::Grpc => "grpc",
            Self::Zmq => "zmq",
            Self::Nats => "nats",
            Self::NatsTls => "nats-tls",
            Self::Valkey => "valkey",
            Self::ValkeyTls => "valkey-tls",
            Self::Redis => "redis",
            Self::RedisTls => "redis-tls",
        }
    }

    /// How what is sent is protected.
    pub(crate) fn cipher(self) -> &'static str {
        match self {
            Self::Zonecast => "QUIC, TLS 1.3",
            Self::Zmq => "CURVE: X25519, XSalsa20-Poly1305",
            Self::Nats | Self::Valkey | Self::Redis => "none",
            _ => "TLS 1.3, AES-128-GCM-SHA256",
        }
    }

    /// How many copies of an event travel.
    pub(crate) fn copies(self) -> &'static str {
        match self {
            Self::Zonecast | Self::Tcp | Self::Grpc | Self::Zmq => "one per session; the broker finds them",
            _ => "one per zone; the publisher finds them",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_results() {
        for peer in Peer::value_variants() {
            assert_eq!(peer.to_possible_value().unwrap().get_name(), peer.name());
            assert_eq!(serde_json::to_value(peer).unwrap(), peer.name());
        }
    }
}
