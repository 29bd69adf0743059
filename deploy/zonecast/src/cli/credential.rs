//! Arguments of `zonecast credential`.

use clap::Args;

use crate::settings::flags::{OfServices, SettingFlags};

/// Make a credential for a game server or a backend service, directly in the services' database
///
/// It is for whoever administers the database: nobody else is asked. The secret is printed once and kept nowhere; with --certificate-name there is none. A
/// credential gets tokens by auth/IssueToken, and is revoked by auth/RevokeCredential.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast credential --subject server:meadow --scope directory.serve \\
        --rights '{\"worlds\": [\"meadow\"], \"zones\": [[0, 0, 1000, 1000]]}' > meadow.json
    zonecast credential --subject service:services \\
        --rights '{\"topics\": {\"publish\": [\"**\"], \"subscribe\": [\"**\"]}}' --config /etc/zonecast.toml
    zonecast call auth/IssueToken - --field accessToken < meadow.json

  For a client certificate, where the services have services.client_ca:
    zonecast credential --subject server:marsh --scope directory.serve --certificate-name marsh.games.internal > marsh.json
    zonecast call auth/IssueToken - --cert marsh.pem --key marsh.key < marsh.json")]
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
    /// The DNS name or URI of a TLS client certificate by which its bearer is known, in place of a secret.
    #[arg(long, value_name = "NAME")]
    pub(crate) certificate_name: Option<String>,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: SettingFlags<OfServices>,
}
