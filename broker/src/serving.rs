//! What new connections are accepted with, which can be replaced while the broker serves.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quinn::ServerConfig;
use tokio::sync::watch;

use crate::{BrokerConfig, BrokerTls, EndpointError, endpoint};

/// The certificates in force, and how often they were replaced. Shared by all workers.
///
/// Connections that are there keep what they were accepted with.
#[derive(Debug)]
pub(crate) struct Serving {
    current: watch::Sender<Current>,
    reloads: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Current {
    server: Arc<ServerConfig>,
    expires_at: Option<u64>,
}

impl Serving {
    /// Serves with the certificates of the configuration.
    pub(crate) fn new(config: &BrokerConfig) -> Result<Self, EndpointError> {
        let current = Current::new(config, &config.tls)?;
        Ok(Self { current: watch::Sender::new(current), reloads: AtomicU64::new(0), failures: AtomicU64::new(0) })
    }

    /// From now on serves with these; when they cannot be used, with those before.
    pub(crate) fn replace(&self, config: &BrokerConfig, tls: &BrokerTls) -> Result<(), EndpointError> {
        let replaced = Current::new(config, tls).map(|new| self.current.send_replace(new));
        match replaced {
            Ok(_) => self.reloads.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.failures.fetch_add(1, Ordering::Relaxed),
        };
        replaced.map(drop)
    }

    /// Counts certificates that could not even be read.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What a connection that comes now is accepted with.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow().server)
    }

    /// When the broker's certificate expires, in seconds since 1970.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        self.current.borrow().expires_at
    }

    /// How often certificates were replaced, and how often that failed.
    pub(crate) fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

impl Current {
    fn new(config: &BrokerConfig, tls: &BrokerTls) -> Result<Self, EndpointError> {
        let server = Arc::new(endpoint::server_config(config, tls)?);
        Ok(Self { server, expires_at: tls.expires_at() })
    }
}
