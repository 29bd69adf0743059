//! A broker within this process, for commands that bring their own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
};

use anyhow::Context;
use zonecast_broker::{Broker, BrokerConfig};
use zonecast_client::{ClientConfig, TlsConfig};

use crate::cert::{self, Throwaway, ThrowawayPem};

/// A broker with a throwaway certificate, and how to reach it.
pub(crate) struct LocalBroker {
    /// The broker.
    pub(crate) broker: Broker,
    /// The authority, and the certificate and key that it serves with.
    pub(crate) pem: ThrowawayPem,
    tls: TlsConfig,
}

impl LocalBroker {
    /// Starts it; `adapt` changes its configuration from the defaults.
    ///
    /// # Errors
    /// An address is in use, or the system refuses a socket or a thread.
    pub(crate) async fn start(
        workers: Option<NonZeroUsize>,
        adapt: impl FnOnce(&mut BrokerConfig),
    ) -> anyhow::Result<Self> {
        let Throwaway { tls, pem } = cert::throwaway()?;
        let mut config = BrokerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls);
        config.workers = workers.unwrap_or(config.workers);
        adapt(&mut config);
        let broker = Broker::start(config).await.context("the broker cannot start")?;
        let tls = TlsConfig::from_ca_pem(pem.ca.as_bytes())?;
        Ok(Self { broker, pem, tls })
    }

    /// How a client with this id reaches it.
    pub(crate) fn client(&self, id: String) -> ClientConfig {
        let address = self.broker.local_addr();
        ClientConfig::new(id).address(address.to_string()).server_name("localhost").tls(self.tls.clone())
    }
}
