//! Arguments of `zonecast broker` and `zonecast config`.

use clap::{Args, Subcommand};

use crate::settings::flags::{AllSettings, OfBroker, SettingFlags};

/// Run a broker
///
/// Every setting is a flag here, a variable ZONECAST_… in the environment, and a key of the configuration file; a flag
/// counts before a variable, that before the file, that before the default. `zonecast config print` shows the result.
///
/// SIGTERM or SIGINT ends it gracefully: clients are told to leave, queues drain. A second signal ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  With the certificates that `zonecast cert --out certs` makes; any client may connect:
    zonecast broker --tls-certificate certs/server.pem --tls-key certs/server.key

  Only clients with a certificate, as many workers as you like, logs for a collector:
    zonecast broker --tls-certificate certs/server.pem --tls-key certs/server.key \\
        --tls-client-ca certs/ca.pem --workers 4 --log-format json

  From the environment and a file:
    ZONECAST_LISTEN=0.0.0.0:5000 zonecast broker --config /etc/zonecast.toml")]
pub(crate) struct BrokerArgs {
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<OfBroker>,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(CheckArgs),
    Print(PrintArgs),
}

/// Check the configuration: print every problem, or "ok"
///
/// Reads also the certificate and key files. Exits with 2 when there are problems.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast config check --config /etc/zonecast.toml
    zonecast config check --services --config /etc/zonecast.toml
    ZONECAST_WORKERS=4 zonecast config check --tls-certificate certs/server.pem --tls-key certs/server.key")]
pub(crate) struct CheckArgs {
    /// Check what the services would start with, in the place of the broker.
    #[arg(long)]
    pub(crate) services: bool,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<AllSettings>,
}

/// Print every setting with its value and where it came from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast config print
    ZONECAST_LIMITS_RADIUS_MAX=500 zonecast config print --config /etc/zonecast.toml --json
    zonecast config print --example > zonecast.toml")]
pub(crate) struct PrintArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a configuration file with every setting, its default and its explanation instead.
    #[arg(long, conflicts_with = "json")]
    pub(crate) example: bool,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<AllSettings>,
}
