//! The services within this process, beside a broker of its own: all of them, for whoever is on this machine.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use zonecast_doors::{
    EntranceLimits, LoopbackOnly,
    grpc::{GrpcLimits, GrpcTls},
};
use zonecast_host::{BrokerEnd, GrpcEnd, Host, HostConfig};
use zonecast_store::{DatabaseOptions, DatabaseUrl};

use crate::{local_broker::LocalBroker, services_command::definitions};

/// Longest message of a call or an answer, as the setting has it by default.
const MESSAGE_BYTES_MAX: usize = 262_144;

/// How long changes are kept, as the setting has it by default.
const CHANGES_RETENTION: Duration = Duration::from_secs(168 * 3_600);

/// Starts them, with what they know in a file of this directory.
///
/// # Errors
/// The address is in use or not on loopback, or the file cannot be opened.
pub(crate) async fn start(local: &LocalBroker, listen: SocketAddr, data: &Path) -> anyhow::Result<Host> {
    let broker = local.broker.local_addr();
    let pem = &local.pem;
    let tls = GrpcTls { certificate: pem.certificate.clone(), key: pem.key.clone(), client_ca: None };
    let config = HostConfig {
        database: DatabaseOptions::new(DatabaseUrl::Sqlite(data.join("services.db"))),
        replicas: 1,
        changes_retention: CHANGES_RETENTION,
        migrate: true,
        grpc: GrpcEnd { listen, tls, limits: GrpcLimits::default() },
        broker: BrokerEnd {
            client: local.client("services".to_owned()),
            // A broker that others reach would let them call everything.
            calls: broker.ip().is_loopback().then(|| local.client("services.calls".to_owned())),
        },
        admin_listen: None,
        gatekeeper: Arc::new(LoopbackOnly),
        limits: EntranceLimits::default(),
        message_bytes_max: MESSAGE_BYTES_MAX,
        descriptors: zonecast_api::DESCRIPTORS,
        shutdown_grace: Duration::from_secs(10),
    };
    Host::start(config, &definitions()).await.context("the services cannot start")
}
