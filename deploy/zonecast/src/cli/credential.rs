//! Arguments of `zonecast credential`.

use clap::Args;

use crate::settings::flags::{OfServices, SettingFlags};

/// Make a credential for a game server or a backend service, directly in the services' database
///
/// It is for whoever administers the database: nobody else is asked. The secret is printed once and kept nowhere. A
/// credential gets tokens by auth/IssueToken, and is revoked by auth/RevokeCredential.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast credential --subject server:meadow --scope directory.serve \\
        --rights '{\"worlds\": [\"meadow\"], \"zones\": [[0, 0, 1000, 1000]]}' > meadow.json
    zonecast credential --subject service:services \\
        --rights '{\"topics\": {\"publish\": [\"**\"], \"subscribe\": [\"**\"]}}' --config /etc/zonecast.toml
    zonecast call auth/IssueToken - --field accessToken < meadow.json")]
pub(crate) struct CredentialArgs {
    /// Whose it is: server:NAME or service:NAME. It connects to brokers as NAME, or NAME.anything.
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) subject: String,
    /// What it may do at the services; repeatable.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// What it may do at brokers, JSON (WIRE.md, \"Tokens\"); what is not named is not permitted.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) rights: String,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<OfServices>,
}
