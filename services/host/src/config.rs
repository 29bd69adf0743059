//! What a host is told, and why it does not start.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use zonecast_access::Freshness;
use zonecast_client::ClientConfig;
use zonecast_doors::{
    DescriptorError, EntranceLimits, Gatekeeper,
    grpc::{GrpcError, GrpcLimits, GrpcTls},
};
use zonecast_store::{DatabaseOptions, MigrationError, StoreError, UrlError};

use crate::MountError;

/// Everything that a host needs to know.
pub struct HostConfig {
    /// The database.
    pub database: DatabaseOptions,
    /// Processes that serve with this database, this one counted.
    pub replicas: u32,
    /// How long changes are kept once they are published.
    pub changes_retention: Duration,
    /// Whether to bring the tables up to date at the start; otherwise tables that lack a step are refused.
    pub migrate: bool,
    /// Door one.
    pub grpc: GrpcEnd,
    /// The broker: door two, and where changes are published.
    pub broker: BrokerEnd,
    /// The TCP address of admin HTTP (`/live`, `/ready`, `/metrics`), or `None` for none.
    pub admin_listen: Option<SocketAddr>,
    /// Who says who calls.
    pub gatekeeper: Arc<dyn Gatekeeper>,
    /// When that one read last what it goes by, for the metrics.
    pub freshness: Arc<Freshness>,
    /// Bounds of calls.
    pub limits: EntranceLimits,
    /// Longest message that is read or written, in bytes.
    pub message_bytes_max: usize,
    /// The encoded `FileDescriptorSet` of all services.
    pub descriptors: &'static [u8],
    /// Time from the signal to the end, for calls to be answered and changes to be published.
    pub shutdown_grace: Duration,
}

/// Door one.
pub struct GrpcEnd {
    /// The TCP address; port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// Key and certificate.
    pub tls: GrpcTls,
    /// Bounds of connections.
    pub limits: GrpcLimits,
}

/// The services' connections to the broker. Every one needs a client id of its own.
pub struct BrokerEnd {
    /// How to connect for changes to go out.
    pub client: ClientConfig,
    /// How to connect for calls to come in; none: no calls are served by the broker.
    pub calls: Option<ClientConfig>,
}

/// Why a host does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The database does not suit.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database does not answer.
    #[error("{url}: {source}")]
    Database {
        /// Which one, without a password.
        url: String,
        /// What it said.
        source: StoreError,
    },
    /// The tables are not as this version wants them.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The descriptors are not readable.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// Door one does not open.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
    /// Door two would be open to whoever a broker lets in that is elsewhere, or knows whom it lets in.
    #[error(
        "the services do not know who calls, since no identities are configured, and so take calls only by a broker that \
         nobody but this machine reaches: {reason}; set tokens.authority or tokens.keys_file, or services.calls_by_broker \
         to false"
    )]
    BrokerOpenToAll {
        /// What speaks against it.
        reason: String,
    },
    /// A service cannot serve.
    #[error("the service {service} cannot serve: {source}")]
    Service {
        /// Which one.
        service: &'static str,
        /// Why.
        source: MountError,
    },
    /// The admin address cannot be had.
    #[error("admin HTTP cannot listen on {address}: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

impl HostError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url(error) => error.kind(),
            Self::Database { source, .. } => source.kind(),
            Self::Migration(error) => error.kind(),
            Self::Descriptors(_) => "descriptors",
            Self::Grpc(error) => error.kind(),
            Self::BrokerOpenToAll { .. } => "broker_open_to_all",
            Self::Service { .. } => "service",
            Self::Admin { .. } => "admin",
        }
    }
}

impl BrokerEnd {
    /// Refuses door two where it would be open to others than this machine.
    ///
    /// A broker that asks for nothing is on loopback only, or has been opened to all by its operator. One that asks for a
    /// token or a certificate may be reached from anywhere, whatever its address is for us.
    pub(crate) fn check(&self, is_for_loopback_only: bool) -> Result<(), HostError> {
        let Some(calls) = self.calls.as_ref().filter(|_| is_for_loopback_only) else { return Ok(()) };
        if let Some(far) = calls.addresses().iter().find(|address| !is_on_loopback(address)) {
            return Err(HostError::BrokerOpenToAll { reason: format!("{far} is not on loopback") });
        }
        if !calls.is_anonymous() {
            let reason = "one that is shown a token or a certificate may let in others".to_owned();
            return Err(HostError::BrokerOpenToAll { reason });
        }
        Ok(())
    }
}

fn is_on_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_on_loopback() {
        for near in ["127.0.0.1:4433", "[::1]:4433", "localhost:4433", "127.9.9.9:1"] {
            assert!(is_on_loopback(near), "{near}");
        }
        for far in ["10.0.0.1:4433", "0.0.0.0:4433", "broker:4433", "localhost.example.org:4433", "localhost"] {
            assert!(!is_on_loopback(far), "{far}");
        }
    }

    #[test]
    fn calls_by_a_broker_that_others_may_reach_want_identities() {
        let end = |address: &str, token: &str| BrokerEnd {
            client: ClientConfig::new("services").address(address),
            calls: Some(ClientConfig::new("services.calls").address("localhost:1").address(address).token(token)),
        };
        end("127.0.0.1:4433", "").check(true).unwrap();
        BrokerEnd { calls: None, ..end("broker:4433", "t") }.check(true).unwrap();
        end("broker:4433", "t").check(false).unwrap();
        for (address, token, reason) in [("broker:4433", "", "not on loopback"), ("127.0.0.1:4433", "t", "a token")] {
            let refused = end(address, token).check(true).unwrap_err().to_string();
            assert!(refused.contains(reason) && refused.contains("services.calls_by_broker"), "{refused}");
        }
    }
}
