//! A broker and services with both doors, in this process, for whoever has a token.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use zonecast_api::users::v1::users_service_client::UsersServiceClient;
use zonecast_broker::{Broker, BrokerConfig, BrokerTls};
use zonecast_client::{Client, ClientConfig, TlsConfig};
use zonecast_doors::{
    Bearers, EntranceLimits, broker,
    grpc::{ClientCertificates, GrpcLimits, GrpcTls},
};
use zonecast_host::{BrokerEnd, Definition, GrpcEnd, Host, HostConfig};
use zonecast_protocol::{Rights, users::v1::ListUsersRequest};
use zonecast_testing::TestDatabase;

use crate::{
    authority::{Authority, now_s},
    doors::{Door, Way},
};

/// As the setting has it by default.
const MESSAGE_BYTES_MAX: usize = 262_144;
/// How long the door at the broker may take to open.
const OPENS_WITHIN: Duration = Duration::from_secs(30);

const SCOPES: [&str; 3] = ["users.read", "users.write", "directory.read"];

/// Whose time of the processor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    Process,
    Thread,
}

/// Seconds of the processor.
#[allow(clippy::cast_precision_loss, reason = "some nanoseconds of an hour")]
pub(crate) fn cpu_s(clock: Clock) -> f64 {
    let used = clock_gettime(match clock {
        Clock::Process => ClockId::ProcessCPUTime,
        Clock::Thread => ClockId::ThreadCPUTime,
    });
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// Services at work, and the ways to them.
pub(crate) struct Ground {
    pub(crate) doors: [Door; 2],
    // What they stand on, for as long.
    _host: Host,
    _client: Client,
    _broker: Broker,
    _database: TestDatabase,
}

impl Ground {
    /// Starts them on this database. The users service must be among them: it is asked whether the doors are open.
    pub(crate) async fn start(database: TestDatabase, services: &[Definition]) -> Result<Self> {
        let authority = Authority::new()?;
        let trust = watch::Sender::new(Arc::new(authority.trust.clone()));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = BrokerConfig::new(loopback, BrokerTls::new(vec![made.cert.der().clone()], der.into()));
        config.workers = NonZeroUsize::MIN;
        config.trust = Some(trust.subscribe());
        let broker = Broker::start(config).await?;
        let tls = TlsConfig::from_ca_pem(certificate.as_bytes())?;
        let address = broker.local_addr().to_string();
        let connects = |id: &str, token: String| {
            ClientConfig::new(id).address(&address).server_name("localhost").tls(tls.clone()).token(token)
        };
        let own = authority.token("service:services", &[], Rights::everything())?;
        let config = HostConfig {
            database: database.options.clone(),
            replicas: 1,
            changes_retention: Duration::from_secs(3_600),
            migrate: true,
            grpc: GrpcEnd {
                listen: loopback,
                tls: GrpcTls { certificate: certificate.clone(), key, clients: ClientCertificates::Unwanted },
                limits: GrpcLimits::default(),
            },
            broker: BrokerEnd {
                client: connects("services", own.clone()),
                calls: Some(connects("services.calls", own)),
            },
            admin_listen: None,
            gatekeeper: Arc::new(Bearers::new(trust.subscribe(), now_s)),
            freshness: Arc::default(),
            limits: EntranceLimits::default(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            descriptors: zonecast_api::DESCRIPTORS,
            shutdown_grace: Duration::from_secs(10),
        };
        let host = Host::start(config, services).await.context("the services cannot start")?;
        let token = authority.token("server:bench", &SCOPES, Rights::everything())?;
        let client = Client::connect(connects("bench", token.clone())).await?;
        let grpc = Endpoint::from_shared(format!("https://{}", host.grpc_address()))?
            .tls_config(
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate)).domain_name("localhost"),
            )?
            .connect()
            .await?;
        let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse().context("the token is no metadata")?;
        let ways = [("gRPC", Way::Grpc(grpc)), ("broker", Way::Broker(broker::Channel::new(client.clone())))];
        let doors = ways.map(|(name, way)| Door { name, way, bearer: bearer.clone() });
        for door in &doors {
            wait_until_open(door).await?;
        }
        Ok(Self { doors, _host: host, _client: client, _broker: broker, _database: database })
    }
}

/// The door at the broker opens once the services have connected.
async fn wait_until_open(door: &Door) -> Result<()> {
    let deadline = Instant::now() + OPENS_WITHIN;
    loop {
        let request = door.request(ListUsersRequest { page_size: 1, ..ListUsersRequest::default() });
        match UsersServiceClient::new(door.way.clone()).list_users(request).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(status) => return Err(status).with_context(|| format!("the door by {} does not open", door.name)),
        }
    }
}
