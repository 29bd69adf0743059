//! Arguments of `zonecast call`.

use std::path::PathBuf;

use clap::Args;

use super::Address;

/// Call a method of a companion service
///
/// The request and the answer are JSON, in the form that protobuf gives its messages: `zonecast call` alone lists the
/// methods. A method that streams prints a line for each message until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    export ZONECAST_SERVICES=127.0.0.1:9443 ZONECAST_CA=certs/ca.pem
    zonecast call
    zonecast call users/CreateUser '{\"name\": \"zoe\"}'
    zonecast call users/ListUsers '{\"pageSize\": 10}' --pretty
    zonecast call zonecast.users.v1.UsersService/GetUser '{\"name\": \"zoe\"}' --field user.id

  With a token, from the environment or a flag:
    export ZONECAST_TOKEN=...
    zonecast call users/DeleteUser '{\"id\": \"0192d3c4-0000-7000-8000-000000000000\"}'")]
pub(crate) struct CallArgs {
    /// The method: SERVICE/METHOD, the service by its full name or by its package's (users). None: lists them.
    #[arg(value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// The request, JSON; `-` reads it from standard input, where a password leaves no trace in the shell's history.
    #[arg(value_name = "JSON", default_value = "{}")]
    pub(crate) request: String,
    /// Print only this field of the answer, as plain text; `.` leads into messages.
    #[arg(long, value_name = "PATH")]
    pub(crate) field: Option<String>,
    /// Print the answer over several lines.
    #[arg(long, conflicts_with = "field")]
    pub(crate) pretty: bool,
    /// The services' host and port.
    #[arg(long, value_name = "ADDR", env = "ZONECAST_SERVICES", default_value = "127.0.0.1:9443")]
    pub(crate) services: Address,
    /// The authorities, PEM, that may have signed the services' certificate.
    #[arg(long, value_name = "FILE", env = "ZONECAST_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// The name that the services' certificate must bear. Default: the host of --services.
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The certificate to show to the services, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of --cert, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The access token to show.
    #[arg(long, value_name = "TOKEN", env = "ZONECAST_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// How long to wait for the answer, in seconds.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}
