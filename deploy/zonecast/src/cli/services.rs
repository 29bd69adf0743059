//! Arguments of `zonecast services` and `zonecast migrate`.

use clap::Args;

use crate::{
    services_command::NAMES,
    settings::flags::{OfServices, SettingFlags},
};

/// Run the companion services, all or some
///
/// They serve gRPC, and calls by the broker where that is permitted, and publish what changes on the broker's topics.
/// Settings come from the same places as the broker's, and may stand in the same file. `zonecast config print` shows them.
///
/// SIGTERM or SIGINT ends them gracefully: calls are answered, changes published. A second signal ends them at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  With the certificates that `zonecast cert --out certs` makes, beside a broker on this machine:
    zonecast services --services-certificate certs/server.pem --services-key certs/server.key \\
        --services-broker-ca certs/ca.pem

  Only users, on PostgreSQL, and not before `zonecast migrate` has run:
    ZONECAST_DATABASE_URL=postgres://zonecast@db/zonecast?sslmode=verify-full zonecast services users \\
        --config /etc/zonecast.toml --database-migrate false --log-format json")]
pub(crate) struct ServicesArgs {
    /// Which services; all where none is named.
    #[arg(value_name = "SERVICE", value_parser = NAMES)]
    pub(crate) names: Vec<String>,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<OfServices>,
}

/// Bring the services' tables up to date, and end
///
/// `zonecast services` does so by itself at its start, unless database.migrate is false. Several at once take turns.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast migrate --config /etc/zonecast.toml
    ZONECAST_DATABASE_URL=postgres://zonecast@db/zonecast?sslmode=verify-full zonecast migrate users")]
pub(crate) struct MigrateArgs {
    /// Whose tables; all services' where none is named.
    #[arg(value_name = "SERVICE", value_parser = NAMES)]
    pub(crate) names: Vec<String>,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<OfServices>,
}
