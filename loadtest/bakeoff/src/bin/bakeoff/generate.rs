//! A generator process.

use std::process::ExitCode;

use zonecast_bakeoff::{grpc::Grpc, nats::Nats, redis::Redis, tcp::Tcp};
use zonecast_loadtest::load::{Zonecast, generate as generate_by};

use crate::peer::Peer;

/// Hosts this peer's clients for as long as the conductor wants.
pub(crate) async fn generate(peer: Peer) -> anyhow::Result<ExitCode> {
    match peer {
        Peer::Zonecast => generate_by::<Zonecast>().await?,
        Peer::Tcp => generate_by::<Tcp>().await?,
        Peer::Grpc => generate_by::<Grpc>().await?,
        Peer::Nats | Peer::NatsTls => generate_by::<Nats>().await?,
        Peer::Valkey | Peer::ValkeyTls | Peer::Redis | Peer::RedisTls => generate_by::<Redis>().await?,
        #[cfg(feature = "zeromq")]
        Peer::Zmq => generate_by::<zonecast_bakeoff::zeromq::ZeroMq>().await?,
        #[cfg(not(feature = "zeromq"))]
        Peer::Zmq => anyhow::bail!(crate::broker::NO_ZEROMQ),
    }
    Ok(ExitCode::SUCCESS)
}
