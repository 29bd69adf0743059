//! The settings of the services.

use super::{Setting, Slot, WAIT_MS_MAX, row, unset};

/// Every setting of the services, those of a section together. A test holds the defaults equal to the services' own.
pub(super) static SETTINGS: &[Setting] = &[
    row(
        "services.listen",
        "127.0.0.1:9443",
        Slot::Address(|draft| &mut draft.services.listen),
        "The TCP address to serve gRPC on. Port 0 lets the system pick one; the log says which. While no identities are \
         configured it must be on loopback.",
    ),
    row(
        "services.admin_listen",
        "127.0.0.1:9434",
        Slot::AddressOrOff(|draft| &mut draft.services.admin_listen),
        "The TCP address of the services' admin HTTP server with /live, /ready and /metrics. It has no access control: \
         keep it off public networks.",
    ),
    unset(
        "services.certificate",
        Slot::Path(|draft| &mut draft.services.certificate),
        "The certificate chain for gRPC, its own certificate first, PEM. The services need one.",
    ),
    unset(
        "services.key",
        Slot::Path(|draft| &mut draft.services.key),
        "The private key of the certificate, PEM. The services need one.",
    ),
    unset(
        "services.client_ca",
        Slot::Path(|draft| &mut draft.services.client_ca),
        "The authorities, PEM, of which callers by gRPC show a certificate. When not set, none is asked for.",
    ),
    row(
        "services.client_certificate_required",
        "true",
        Slot::Switch(|draft| &mut draft.services.client_certificate_required),
        "Whether every caller by gRPC must show a certificate; then who fetches keys from here (tokens.authority) is not let \
         in either. When false, who has one may show it, as for a credential with a certificate_name. It has no effect \
         without services.client_ca.",
    ),
    row(
        "services.brokers",
        "127.0.0.1:4433",
        Slot::Brokers(|draft| &mut draft.services.brokers),
        "The brokers, tried in turn, at one of which changes are published. While there is none, they wait.",
    ),
    unset(
        "services.broker_ca",
        Slot::Path(|draft| &mut draft.services.broker_ca),
        "The authorities, PEM, that may have signed the brokers' certificates. The services need them.",
    ),
    unset(
        "services.broker_certificate",
        Slot::Path(|draft| &mut draft.services.broker_certificate),
        "The certificate to show to the broker, PEM, where it demands one; then services.client_id is what it names. To the \
         auth service it is shown too, where services.broker_credential_file has no secret.",
    ),
    unset(
        "services.broker_key",
        Slot::Path(|draft| &mut draft.services.broker_key),
        "The private key of services.broker_certificate, PEM.",
    ),
    unset(
        "services.broker_token_file",
        Slot::Path(|draft| &mut draft.services.broker_token_file),
        "A file with the access token to show to the broker, where it looks at tokens. It is read again at each connect, \
         and before the token expires: whoever renews it replaces the file.",
    ),
    unset(
        "services.broker_credential_file",
        Slot::Path(|draft| &mut draft.services.broker_credential_file),
        "In the place of services.broker_token_file: a file with a credential, as `zonecast credential` writes it. The \
         tokens to show to the broker are asked for with it at tokens.authority, which may be the auth service of this \
         process, and renewed before they expire. It is read whenever one is asked for: it may come later, and be replaced.",
    ),
    unset(
        "services.client_id",
        Slot::ClientId(|draft| &mut draft.services.client_id),
        "What this process calls itself at the broker; no two may call themselves the same. When not set, a name made up \
         for the run. Where it takes calls by the broker it is there once more, with '.calls' behind this name: a \
         certificate names both, and this one has at most 58 characters.",
    ),
    row(
        "services.calls_by_broker",
        "false",
        Slot::Switch(|draft| &mut draft.services.calls_by_broker),
        "Whether to take calls by the broker, on topics that begin with '_rpc.'. While no identities are configured, \
         whoever the broker lets publish there may call everything: say true only for a broker that lets in nobody else.",
    ),
    row(
        "services.calls_max",
        "1_024",
        Slot::Count(1, 1_000_000, |draft| &mut draft.services.calls_max),
        "Most calls under way, by gRPC and by the broker together; more are answered with RESOURCE_EXHAUSTED.",
    ),
    row(
        "services.streams_max",
        "1_024",
        Slot::Count(1, 1_000_000, |draft| &mut draft.services.streams_max),
        "Most streams under way by gRPC, and as many health checks and reflections beside them; more are answered with \
         RESOURCE_EXHAUSTED.",
    ),
    row(
        "services.connections_max",
        "1_024",
        Slot::Count(1, 1_000_000, |draft| &mut draft.services.grpc_connections_max),
        "Most connections by gRPC; more are closed at once.",
    ),
    row(
        "services.connections_per_address_max",
        "512",
        Slot::Count(1, 1_000_000, |draft| &mut draft.services.grpc_connections_per_address_max),
        "Most connections by gRPC from one address, of IPv6 from one network of /64; more are closed at once. Behind a proxy \
         that opens them all, give it as many as services.connections_max.",
    ),
    row(
        "services.call_timeout_ms",
        "10_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.services.call_timeout),
        "Longest time until a call is answered, whatever the caller grants; then DEADLINE_EXCEEDED.",
    ),
    row(
        "services.message_bytes_max",
        "262_144",
        Slot::Count(1_024, 64 << 20, |draft| &mut draft.services.message_bytes_max),
        "Longest message of a call or an answer.",
    ),
    Setting {
        key: "database.url",
        default: Some("sqlite:zonecast.db"),
        help: "Where the services keep what they know: an SQLite file, made where there is none, or a PostgreSQL database. \
               Hidden wherever settings are shown, for it may hold a password.",
        secret: true,
        slot: Slot::Database(|draft| &mut draft.services.database_url),
    },
    row(
        "database.replicas",
        "1",
        Slot::Count(1, 10_000, |draft| &mut draft.services.replicas),
        "Processes that serve with this database. An SQLite file serves one.",
    ),
    row(
        "database.changes_retention_hours",
        "168",
        Slot::Count(1, 87_600, |draft| &mut draft.services.changes_retention_hours),
        "How long changes are kept once they are published, for those who were away. Who stays away for longer misses some, \
         and is told so.",
    ),
    row(
        "database.migrate",
        "true",
        Slot::Switch(|draft| &mut draft.services.migrate),
        "Whether to bring the tables up to date at the start. When false, tables that lack a step are refused, and \
         'zonecast migrate' takes it.",
    ),
    row(
        "database.connections_max",
        "10",
        Slot::Count(2, 10_000, |draft| &mut draft.services.connections_max),
        "Most connections of this process to the database; at least 2, for who holds one may need to read by another.",
    ),
    row(
        "database.statement_timeout_ms",
        "3_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.services.statement_timeout),
        "How long a statement may run; for a lock it may wait two thirds of that.",
    ),
    row(
        "database.acquire_timeout_ms",
        "2_000",
        Slot::Millis(1, WAIT_MS_MAX, |draft| &mut draft.services.acquire_timeout),
        "How long a call waits for a connection to the database, a new one counted in.",
    ),
    unset(
        "auth.issuer",
        Slot::Word(|draft| &mut draft.auth.issuer),
        "What the auth service calls itself in the tokens that it gives (iss). Brokers and services elsewhere take what they \
         have in tokens.authority for that name, unless tokens.issuer says another. When not set, it is found here in the \
         same way; where neither of the two is set, 'zonecast'.",
    ),
    unset(
        "auth.admin_secret_file",
        Slot::Path(|draft| &mut draft.auth.admin_secret_file),
        "A file with the secret of the credential `admin`, which may do everything at the services: 32 random bytes as \
         base64url. When not set there is no such credential; `zonecast credential` makes others.",
    ),
    unset(
        "auth.providers_file",
        Slot::Path(|draft| &mut draft.auth.providers_file),
        "A file with the identity providers by which players log in, TOML: [[provider]] tables with preset = google, apple \
         (audiences), facebook (app_id, app_secret_file) or oidc (name, issuers, audiences, keys_url, algorithms).",
    ),
    unset(
        "directory.spawn_points",
        Slot::Word(|draft| &mut draft.directory.spawn_points),
        "Where characters appear that were nowhere yet: WORLD:X,Y, several joined by semicolons. In worlds without one they \
         cannot.",
    ),
];
