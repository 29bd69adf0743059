//! Arguments of `zonecast cert`.

use std::path::PathBuf;

use clap::{Args, value_parser};
use zonecast_protocol::ClientId;

/// Make certificates for development
///
/// Makes a certificate authority of your own (ca.pem, ca.key), a certificate of the broker (server.pem, server.key) for
/// localhost, 127.0.0.1, ::1 and each --host, and one of each --client (client-NAME.pem, client-NAME.key).
/// A broker with --tls-client-ca lets a client in only under the NAME of its certificate.
/// Whoever has ca.key can make further ones; it is not needed to run anything.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast cert --out certs
    zonecast cert --out certs --host broker.internal --host 10.0.0.7 --client shard-1 --client ops --days 30

Then:
    zonecast broker --tls-certificate certs/server.pem --tls-key certs/server.key --tls-client-ca certs/ca.pem
    zonecast sub --ca certs/ca.pem --cert certs/client-shard-1.pem --key certs/client-shard-1.key --topic '>'
    zonecast pub --ca certs/ca.pem --cert certs/client-ops.pem --key certs/client-ops.key --topic chat.hello hi")]
pub(crate) struct CertArgs {
    /// The directory to write to; made when missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// A further DNS name or IP address of the broker; repeatable.
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,
    /// A client to make a certificate for; repeatable.
    #[arg(long = "client", value_name = "NAME")]
    pub(crate) clients: Vec<ClientId>,
    /// Days until the certificates expire.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = value_parser!(u16).range(1..=3650))]
    pub(crate) days: u16,
    /// Overwrite what is there. The authority is then a new one: certificates that the old one signed no longer count.
    #[arg(long)]
    pub(crate) force: bool,
}
