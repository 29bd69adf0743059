//! A broker, the directory and the characters in this process, and clients of them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::Request,
    middleware::{self, Next},
};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tonic::service::Routes;
use zonecast_api::directory::v1::directory_service_client::DirectoryServiceClient;
use zonecast_broker::{Broker, BrokerConfig, BrokerTls};
use zonecast_client::{Client, ClientConfig, Publish, TlsConfig, Zone, ZoneItem};
use zonecast_directory::Config;
use zonecast_doors::{
    EntranceLimits, LoopbackOnly,
    broker::Channel,
    grpc::{ClientCertificates, GrpcLimits, GrpcTls},
};
use zonecast_host::{BrokerEnd, Definition, GrpcEnd, Host, HostConfig, mount};
use zonecast_protocol::directory::v1::LookupRequest;
use zonecast_store::{DatabaseOptions, DatabaseUrl};
use zonecast_zone_server::{ZoneServer, ZoneServerConfig, Zones};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything but game servers.
pub(crate) struct Ground {
    pub(crate) broker: Broker,
    pub(crate) host: Host,
    pub(crate) ca: String,
    before_snapshot: Meanwhile,
    before_hand_over: Meanwhile,
    _directory: TempDir,
}

/// What happens once before the next call of a method is carried out, but after it was made.
type Meanwhile = Arc<Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>>;

/// The same service, but for what happens meanwhile.
fn interrupted(directory: Definition, method: &'static str, meanwhile: &Meanwhile) -> Definition {
    let (inner, meanwhile) = (Arc::clone(&directory.mount), Arc::clone(meanwhile));
    let mount = mount(move |ground, routes| {
        let (mounting, meanwhile) = (inner(ground, routes), Arc::clone(&meanwhile));
        async move {
            let layer = middleware::from_fn(move |request: Request, next: Next| {
                let is_meant = request.uri().path().ends_with(method);
                let happens = if is_meant { meanwhile.lock().unwrap().take() } else { None };
                async move {
                    if let Some(happens) = happens {
                        happens.await;
                    }
                    next.run(request).await
                }
            });
            Ok(Routes::from(mounting.await?.into_axum_router().layer(layer)))
        }
    });
    Definition { mount, ..directory }
}

/// A broker and the services, with leases of this length.
pub(crate) async fn start(lease: Duration) -> Ground {
    let authority = {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let (ca, certificate, key) = (authority.pem(), certificate.pem(), key.serialize_pem());
    let tls = BrokerTls::new(
        vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
        PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
    );
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = BrokerConfig { workers: NonZeroUsize::MIN, ..BrokerConfig::new(here, tls) };
    let broker = Broker::start(config).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let spawn_points = BTreeMap::from([("earth".parse().unwrap(), [1.0, 1.0])]);
    let settings = Config { lease, poll: Duration::from_millis(50), spawn_points, ..Config::default() };
    let config = HostConfig {
        database: DatabaseOptions::new(DatabaseUrl::Sqlite(directory.path().join("services.db"))),
        replicas: 1,
        changes_retention: Duration::from_secs(3_600),
        migrate: true,
        grpc: GrpcEnd {
            listen: here,
            tls: GrpcTls { certificate, key, clients: ClientCertificates::Unwanted },
            limits: GrpcLimits::default(),
        },
        broker: BrokerEnd {
            client: client_config(&broker, &ca, "services"),
            calls: Some(client_config(&broker, &ca, "services.calls")),
        },
        admin_listen: None,
        gatekeeper: Arc::new(LoopbackOnly),
        freshness: Arc::default(),
        limits: EntranceLimits::default(),
        message_bytes_max: 262_144,
        descriptors: zonecast_api::DESCRIPTORS,
        shutdown_grace: Duration::from_secs(5),
    };
    let (before_snapshot, before_hand_over) = (Meanwhile::default(), Meanwhile::default());
    let directory_service = interrupted(zonecast_directory::definition(settings), "/Snapshot", &before_snapshot);
    let services = [
        interrupted(directory_service, "/HandOver", &before_hand_over),
        zonecast_characters::definition(zonecast_characters::Config::default()),
    ];
    let host = Host::start(config, &services).await.unwrap();
    Ground { broker, host, ca, before_snapshot, before_hand_over, _directory: directory }
}

fn client_config(broker: &Broker, ca: &str, id: &str) -> ClientConfig {
    let tls = TlsConfig::from_ca_pem(ca.as_bytes()).unwrap();
    ClientConfig::new(id).address(broker.local_addr().to_string()).server_name("localhost").tls(tls)
}

impl Ground {
    pub(crate) async fn client(&self, id: &str) -> Client {
        Client::connect(client_config(&self.broker, &self.ca, id)).await.unwrap()
    }

    /// A game server, as soon as the services have reached the broker.
    pub(crate) async fn join(&self, name: &str) -> (ZoneServer, Zones) {
        let client = self.client(name).await;
        loop {
            let config = ZoneServerConfig {
                release_grace: Duration::from_millis(100),
                certificate_sha256: vec![7; 32],
                ..ZoneServerConfig::new(format!("{name}.example:7000"))
            };
            match ZoneServer::join(client.clone(), config).await {
                Ok(joined) => break joined,
                Err(error) => assert_eq!(error.kind(), "unknown", "{error}"),
            }
        }
    }

    /// Has something happen once before the next snapshot is taken.
    pub(crate) fn before_snapshot(&self, happens: impl Future<Output = ()> + Send + 'static) {
        *self.before_snapshot.lock().unwrap() = Some(Box::pin(happens));
    }

    /// As [`before_snapshot`](Self::before_snapshot), of a hand-over.
    pub(crate) fn before_hand_over(&self, happens: impl Future<Output = ()> + Send + 'static) {
        *self.before_hand_over.lock().unwrap() = Some(Box::pin(happens));
    }

    /// Who owns a place, as the directory says.
    pub(crate) async fn owner(&self, asking: &Client, x: f64, y: f64) -> Option<String> {
        let mut directory = DirectoryServiceClient::new(Channel::new(asking.clone()));
        let found = directory.lookup(LookupRequest { world: "earth".into(), x, y }).await.ok()?;
        Some(found.into_inner().zone.unwrap().server)
    }
}

pub(crate) fn earth(min_x: f64, min_y: f64, max_x: f64, max_y: f64) -> (String, Zone) {
    ("earth".to_owned(), Zone::new(min_x, min_y, max_x, max_y).unwrap())
}

/// Publishes something at a place; how many will hear it.
pub(crate) async fn publish(client: &Client, x: f64, y: f64, payload: &str) -> u32 {
    let circle = zonecast_client::Circle::new(x, y, 0.0).unwrap();
    client.publish_acked(Publish::at("earth", circle).payload(payload.as_bytes())).await.unwrap().matched
}

/// The payload of the next event.
pub(crate) async fn next(zones: &mut Zones) -> String {
    let event = tokio::time::timeout(PATIENCE, zones.next_event()).await.unwrap().unwrap();
    String::from_utf8(event.payload().to_vec()).unwrap()
}

/// Reads on until the broker hands zones over.
pub(crate) async fn received(zones: &mut Zones, heard: &mut Vec<String>) {
    let reading = async {
        loop {
            match zones.next().await.unwrap() {
                ZoneItem::Received { .. } => break,
                ZoneItem::Event(event) => heard.push(String::from_utf8(event.payload().to_vec()).unwrap()),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
}
