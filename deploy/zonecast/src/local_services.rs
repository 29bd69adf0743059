//! The services within this process, beside a broker of its own: all of them, for whoever has a token.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use tonic::transport::Endpoint;
use zonecast_access::RightsClaim;
use zonecast_auth::{Auth, AuthConfig, NewCredential};
use zonecast_doors::{
    Bearers, EntranceLimits,
    grpc::{ClientCertificates, GrpcLimits, GrpcTls},
};
use zonecast_host::{BrokerEnd, GrpcEnd, Host, HostConfig};
use zonecast_protocol::{Rights, WorldName, auth::v1::CreateCredentialRequest};
use zonecast_store::{Database, DatabaseOptions, DatabaseUrl};

use crate::{
    credentials::{self, Credential},
    local_broker::LocalBroker,
    services_command::{ServiceConfigs, definitions},
    trust::now_s,
};

/// Longest message of a call or an answer, as the setting has it by default.
const MESSAGE_BYTES_MAX: usize = 262_144;

/// How long changes are kept, as the setting has it by default.
const CHANGES_RETENTION: Duration = Duration::from_secs(168 * 3_600);

/// Starts them, with what they know in a file of this directory.
///
/// # Errors
/// The address is in use or not on loopback, or the file cannot be opened.
pub(crate) async fn start(
    local: &LocalBroker,
    listen: SocketAddr,
    data: &Path,
    auth: AuthConfig,
    spawn_points: impl IntoIterator<Item = (WorldName, [f64; 2])>,
) -> anyhow::Result<LocalServices> {
    let pem = &local.pem;
    let tls =
        GrpcTls { certificate: pem.certificate.clone(), key: pem.key.clone(), clients: ClientCertificates::Unwanted };
    let credential = Arc::new(OnceLock::<Credential>::new());
    let connects = |id: &str| {
        let credential = Arc::clone(&credential);
        local.client(id.to_owned()).token_from(move || {
            let credential = credential.get().cloned();
            async move {
                match credential {
                    Some(credential) => credential.token().await,
                    None => Err(anyhow::anyhow!("the services are not there yet")),
                }
            }
        })
    };
    let config = HostConfig {
        database: DatabaseOptions::new(DatabaseUrl::Sqlite(data.join("services.db"))),
        replicas: 1,
        changes_retention: CHANGES_RETENTION,
        migrate: true,
        grpc: GrpcEnd { listen, tls, limits: GrpcLimits::default() },
        broker: BrokerEnd { client: connects("services"), calls: Some(connects("services.calls")) },
        admin_listen: None,
        gatekeeper: Arc::new(Bearers::new(auth.trust.subscribe(), now_s)),
        freshness: Arc::clone(&auth.freshness),
        limits: EntranceLimits::default(),
        message_bytes_max: MESSAGE_BYTES_MAX,
        descriptors: zonecast_api::DESCRIPTORS,
        shutdown_grace: Duration::from_secs(10),
    };
    let mut directory = zonecast_directory::Config::default();
    directory.spawn_points.extend(spawn_points);
    let options = config.database.clone();
    let host = Host::start(config, &definitions(ServiceConfigs { auth, directory }))
        .await
        .context("the services cannot start")?;
    // The tables are there now: credentials can be made without anybody's leave, as `zonecast credential` does.
    let database = Database::open(&options).await.context("the services' database does not open")?;
    let endpoint = credentials::endpoint(&host.grpc_address().to_string(), "localhost", &pem.ca)?;
    let services = LocalServices { host, database, endpoint };
    let own = services.credential("service:services", &[], &everything()).await?;
    let _ = credential.set(services.tokens_for(own));
    Ok(services)
}

/// The services, and what it takes to let somebody in.
pub(crate) struct LocalServices {
    /// The services.
    pub(crate) host: Host,
    database: Database,
    endpoint: Endpoint,
}

impl LocalServices {
    /// Makes a credential. `rights` is the JSON of the claim.
    ///
    /// # Errors
    /// The database does not keep it.
    pub(crate) async fn credential(
        &self,
        subject: &str,
        scopes: &[&str],
        rights: &str,
    ) -> anyhow::Result<NewCredential> {
        let request = CreateCredentialRequest {
            subject: subject.to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            rights: rights.to_owned(),
            ..Default::default()
        };
        Ok(Auth::bootstrap(&self.database, &request).await?)
    }

    /// Gives tokens for a credential.
    pub(crate) fn tokens_for(&self, credential: NewCredential) -> Credential {
        Credential::new(self.endpoint.clone(), credential)
    }

    /// Takes leave.
    pub(crate) async fn shutdown(self) {
        self.host.shutdown().await;
        self.database.close().await;
    }
}

/// The claim of who may do everything at the broker.
pub(crate) fn everything() -> String {
    serde_json::to_string(&RightsClaim::of(&Rights::everything())).unwrap_or_default()
}
