//! The services' settings, checked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tonic::transport::Identity;
use zonecast_client::{ClientConfig, TlsConfig, TransportOptions};
use zonecast_doors::{
    Bearers, EntranceLimits, Gatekeeper, LoopbackOnly,
    grpc::{GrpcLimits, GrpcTls},
};
use zonecast_host::{BrokerEnd, GrpcEnd, HostConfig};
use zonecast_protocol::ClientId;
use zonecast_store::{DatabaseOptions, DatabaseUrl, new_id};

use super::{Draft, Problem, Problems, Raw, Sources, auth, check_values, directory, fill, pem_files, tokens};
use crate::{
    cli::Address,
    credentials::{Credential, endpoint_at},
    logging::LogSettings,
    services_command::ServiceConfigs,
    tls_reload::TlsSource,
    trust::{TrustKeeper, now_s},
};

/// The settings of the services while they are being checked.
#[derive(Debug)]
pub(super) struct ServicesDraft {
    pub(super) listen: SocketAddr,
    pub(super) admin_listen: Option<SocketAddr>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_certificate_required: bool,
    pub(super) brokers: Vec<Address>,
    pub(super) broker_ca: Option<PathBuf>,
    pub(super) broker_certificate: Option<PathBuf>,
    pub(super) broker_key: Option<PathBuf>,
    pub(super) broker_token_file: Option<PathBuf>,
    pub(super) broker_credential_file: Option<PathBuf>,
    pub(super) client_id: Option<ClientId>,
    pub(super) calls_by_broker: bool,
    pub(super) calls_max: usize,
    pub(super) streams_max: usize,
    pub(super) grpc_connections_max: usize,
    pub(super) grpc_connections_per_address_max: usize,
    pub(super) call_timeout: Duration,
    pub(super) message_bytes_max: usize,
    pub(super) database_url: Option<DatabaseUrl>,
    pub(super) replicas: usize,
    pub(super) changes_retention_hours: usize,
    pub(super) migrate: bool,
    pub(super) connections_max: usize,
    pub(super) statement_timeout: Duration,
    pub(super) acquire_timeout: Duration,
}

impl Default for ServicesDraft {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin_listen: None,
            certificate: None,
            key: None,
            client_ca: None,
            client_certificate_required: true,
            brokers: Vec::new(),
            broker_ca: None,
            broker_certificate: None,
            broker_key: None,
            broker_token_file: None,
            broker_credential_file: None,
            client_id: None,
            calls_by_broker: false,
            calls_max: 0,
            streams_max: 0,
            grpc_connections_max: 0,
            grpc_connections_per_address_max: 0,
            call_timeout: Duration::ZERO,
            message_bytes_max: 0,
            database_url: None,
            replicas: 0,
            changes_retention_hours: 0,
            migrate: false,
            connections_max: 0,
            statement_timeout: Duration::ZERO,
            acquire_timeout: Duration::ZERO,
        }
    }
}

/// The checked settings of the services.
pub(crate) struct ServicesSettings {
    /// What the host is told.
    pub(crate) host: HostConfig,
    /// Keeps what is believed of tokens up to date; none where they are not looked at.
    pub(crate) keeper: Option<TrustKeeper>,
    /// What each service is told that has settings of its own.
    pub(crate) services: ServiceConfigs,
    /// Where the certificate for gRPC comes from.
    pub(crate) tls: TlsSource,
    /// Whether every caller by gRPC must show a certificate, where any is asked for.
    pub(crate) client_certificate_required: bool,
    /// How they log.
    pub(crate) log: LogSettings,
}

/// Gathers and checks what the services start with.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load(sources: &Sources) -> Result<ServicesSettings, Problems> {
    let mut problems = Vec::new();
    let raw = Raw::gather(sources, &mut problems);
    check_values(&raw, &mut problems);
    let draft = fill(&raw, &mut Vec::new());
    let files = Files::read(&raw, &draft, &mut problems);
    let tokens = tokens::load(&raw, &draft, &mut problems);
    let identity = BrokerIdentity::load(&raw, &draft, &mut problems);
    let auth = auth::load(&raw, &draft, &mut problems);
    let directory = directory::load(&raw, &draft, &mut problems);
    match (files, &draft.services.database_url, auth) {
        (Some((files, tls)), Some(url), Some(auth)) if problems.is_empty() => {
            let client_certificate_required = draft.services.client_certificate_required;
            let url = url.clone();
            let log = draft.log.clone();
            let keeper = tokens.map(TrustKeeper::new);
            Ok(ServicesSettings {
                host: host(draft, files, url, keeper.as_ref(), &identity),
                keeper,
                services: ServiceConfigs { auth, directory },
                tls,
                client_certificate_required,
                log,
            })
        }
        _ => Err(Problems(problems)),
    }
}

/// As [`load`], of the database and the log alone, for commands that do not serve.
///
/// # Errors
/// Everything that is wrong with any value.
pub(crate) fn load_database(sources: &Sources) -> Result<(DatabaseOptions, LogSettings), Problems> {
    let mut problems = Vec::new();
    let raw = Raw::gather(sources, &mut problems);
    check_values(&raw, &mut problems);
    let draft = fill(&raw, &mut Vec::new());
    match &draft.services.database_url {
        Some(url) if problems.is_empty() => Ok((database(&draft.services, url.clone()), draft.log.clone())),
        _ => Err(Problems(problems)),
    }
}

/// The files of TLS at door one.
const KEYS: pem_files::Keys =
    pem_files::Keys { certificate: "services.certificate", key: "services.key", client_ca: "services.client_ca" };

/// What is in the files that the settings name.
struct Files {
    grpc: GrpcTls,
    broker: TlsConfig,
}

impl Files {
    fn read(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Option<(Self, TlsSource)> {
        let (reload_interval, draft) = (draft.reload_interval, &draft.services);
        let needed = [KEYS.certificate, KEYS.key, "services.broker_ca"];
        let missing: Vec<_> = needed.into_iter().filter(|key| raw.entry(key).value.is_none()).collect();
        if !missing.is_empty() && raw.file_was_read {
            problems.push(Problem::NoServicesCertificate { keys: missing });
        }
        let before = problems.len();
        let paths = [draft.certificate.as_deref(), draft.key.as_deref(), draft.client_ca.as_deref()];
        let source = pem_files::source(raw, &KEYS, paths, reload_interval, problems);
        let identity = pair(raw, draft, problems);
        let broker_ca = draft.broker_ca.as_deref()?;
        let broker = TlsConfig::from_files(Some(broker_ca), identity)
            .map_err(|source| problems.push(Problem::BrokerTls { source }))
            .ok();
        if problems.len() > before {
            return None;
        }
        let source = source?;
        let grpc = source.files.load_grpc(draft.client_certificate_required).and_then(|grpc| {
            grpc.check()?;
            Ok(grpc)
        });
        let told = |error: anyhow::Error| Problem::of(raw, KEYS.certificate, format!("{error:#}"));
        let grpc = grpc.map_err(|error| problems.push(told(error))).ok()?;
        Some((Self { grpc, broker: broker? }, source))
    }
}

/// By what the services are known to a broker that looks at tokens.
enum BrokerIdentity {
    None,
    Token(PathBuf),
    Credential(Box<Credential>),
}

impl BrokerIdentity {
    /// From the settings; none where there are problems.
    fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Self {
        let key = "services.broker_credential_file";
        let problem = match (&draft.services.broker_token_file, &draft.services.broker_credential_file) {
            (None, None) => return Self::None,
            (Some(path), None) => return Self::Token(path.clone()),
            (Some(_), Some(_)) => Problem::of(raw, key, "expected no services.broker_token_file beside it".to_owned()),
            (None, Some(path)) => match &draft.tokens.authority {
                None => Problem::alone(raw, key, "tokens.authority"),
                // That of the authority is told where the tokens' settings are checked.
                Some(url) => match draft.tokens.ca.as_ref().map(std::fs::read).transpose() {
                    Err(_) => return Self::None,
                    Ok(ca) => match endpoint_at(url, ca.as_deref(), shown(&draft.services)) {
                        Ok(endpoint) => return Self::Credential(Box::new(Credential::in_file(endpoint, path.clone()))),
                        Err(error) => Problem::of(raw, "tokens.authority", error.to_string()),
                    },
                },
            },
        };
        problems.push(problem);
        Self::None
    }

    fn shown_by(&self, client: ClientConfig) -> ClientConfig {
        match self {
            Self::None => client,
            Self::Token(path) => client.token_file(path),
            Self::Credential(credential) => credential.shown_by(client),
        }
    }
}

/// The certificate to show to the broker, with its key; one alone is a mistake.
fn pair<'a>(raw: &Raw, draft: &'a ServicesDraft, problems: &mut Vec<Problem>) -> Option<(&'a Path, &'a Path)> {
    let (certificate, key) = ("services.broker_certificate", "services.broker_key");
    match (&draft.broker_certificate, &draft.broker_key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            problems.push(Problem::alone(raw, certificate, key));
            None
        }
        (None, Some(_)) => {
            problems.push(Problem::alone(raw, key, certificate));
            None
        }
    }
}

/// The same for the auth service. What cannot be read is told where [`pair`] is.
fn shown(draft: &ServicesDraft) -> Option<Identity> {
    let (certificate, key) = draft.broker_certificate.as_ref().zip(draft.broker_key.as_ref())?;
    Some(Identity::from_pem(std::fs::read(certificate).ok()?, std::fs::read(key).ok()?))
}

fn database(draft: &ServicesDraft, url: DatabaseUrl) -> DatabaseOptions {
    DatabaseOptions {
        url,
        connections_max: u32::try_from(draft.connections_max).unwrap_or(u32::MAX),
        statement_timeout: draft.statement_timeout,
        acquire_timeout: draft.acquire_timeout,
    }
}

/// Who says who calls: tokens, or, where none are looked at, that it is somebody on this machine.
fn gatekeeper(keeper: Option<&TrustKeeper>) -> Arc<dyn Gatekeeper> {
    match keeper {
        Some(keeper) => {
            let upkeep = keeper.upkeep();
            Arc::new(Bearers::new(keeper.trust(), now_s).on_unknown_key(move || upkeep.see_unknown_key()))
        }
        None => Arc::new(LoopbackOnly),
    }
}

/// That nothing comes from the broker any more is noticed before leases of the directory end for want of heartbeats, which come
/// by it: within less than a lease (10 s) without the pause between two (a third of it).
fn attentive() -> TransportOptions {
    let mut transport = TransportOptions::default();
    (transport.idle_timeout, transport.keep_alive) = (Duration::from_secs(5), Duration::from_secs(1));
    transport
}

fn host(
    draft: Draft,
    files: Files,
    url: DatabaseUrl,
    keeper: Option<&TrustKeeper>,
    identity: &BrokerIdentity,
) -> HostConfig {
    let Draft { shutdown_grace, services: draft, .. } = draft;
    let database = database(&draft, url);
    let id = draft.client_id.map_or_else(|| format!("services-{}", new_id().simple()), |id| id.to_string());
    let addresses: Vec<String> = draft.brokers.iter().map(ToString::to_string).collect();
    let client = |id: String| {
        let client = addresses.iter().fold(ClientConfig::new(id).tls(files.broker.clone()), ClientConfig::address);
        identity.shown_by(client)
    };
    // Of the same name with an ending, as a token permits.
    let calls = draft.calls_by_broker.then(|| client(format!("{id}.calls")).transport(attentive()));
    HostConfig {
        database,
        replicas: u32::try_from(draft.replicas).unwrap_or(u32::MAX),
        changes_retention: Duration::from_secs(draft.changes_retention_hours as u64 * 3_600),
        migrate: draft.migrate,
        grpc: GrpcEnd {
            listen: draft.listen,
            tls: files.grpc,
            limits: GrpcLimits {
                connections_max: draft.grpc_connections_max,
                connections_per_address_max: draft.grpc_connections_per_address_max,
                ..GrpcLimits::default()
            },
        },
        broker: BrokerEnd { client: client(id), calls },
        admin_listen: draft.admin_listen,
        gatekeeper: gatekeeper(keeper),
        freshness: keeper.map(|keeper| Arc::clone(keeper.upkeep().freshness())).unwrap_or_default(),
        limits: EntranceLimits {
            calls_max: draft.calls_max,
            streams_max: draft.streams_max,
            timeout: draft.call_timeout,
        },
        message_bytes_max: draft.message_bytes_max,
        descriptors: zonecast_api::DESCRIPTORS,
        shutdown_grace,
    }
}

#[cfg(test)]
mod tests;
