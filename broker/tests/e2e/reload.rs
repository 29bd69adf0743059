//! Certificates and authorities that change while the broker serves.

use zonecast_broker::{BrokerTls, EndpointError};
use zonecast_protocol::ALPN;

use crate::{
    knocking::introduced,
    operations::metric,
    raw::{Authority, Identity, Peer, World},
};

crate::with_one_and_two_workers! {
    new_certificates_count_for_new_connections_and_sessions_stay
    what_cannot_be_used_changes_nothing
}

/// What connecting comes to, with a certificate by `clients`, trusting `brokers`.
async fn connecting(world: &World, brokers: &Authority, clients: &Authority, name: &str) -> Result<Peer, String> {
    let identity = clients.identity(name, |_| {});
    let connection = world.connection_as(ALPN, brokers.roots(), Some(identity)).await.map_err(|e| e.to_string())?;
    introduced(connection, name).await.map_err(|e| e.to_string())
}

fn tls((chain, key): Identity, clients: &Authority) -> BrokerTls {
    BrokerTls::new(chain, key).with_client_roots(clients.roots())
}

async fn new_certificates_count_for_new_connections_and_sessions_stay(workers: usize) {
    let (clients, new_clients, new_brokers) = (Authority::new(), Authority::new(), Authority::new());
    let roots = clients.roots();
    let world = World::with(workers, |config| config.tls = config.tls.clone().with_client_roots(roots)).await;
    let mut receiver = connecting(&world, &world.authority, &clients, "receiver").await.unwrap();
    receiver.listen(1, "news", "").await.unwrap();
    let mut publisher = connecting(&world, &world.authority, &clients, "publisher").await.unwrap();
    let expiry = metric(&world, "zonecast_tls_certificate_expiry_timestamp_seconds").await;

    let renewed = new_brokers.identity("localhost", |params| params.not_after = rcgen::date_time_ymd(2060, 2, 28));
    world.broker.reload_tls(&tls(renewed, &new_clients)).unwrap();

    assert_eq!(expiry, "67090118400", "the year 4096");
    assert_eq!(metric(&world, "zonecast_tls_certificate_expiry_timestamp_seconds").await, "2845152000");
    assert_eq!(metric(&world, "zonecast_tls_reloads_total{result=\"ok\"}").await, "1");
    // Often enough to meet every worker.
    for number in 0..6 {
        let name = format!("client-{number}");
        let old_certificate = connecting(&world, &world.authority, &new_clients, &name).await.err().unwrap();
        assert!(old_certificate.contains("UnknownIssuer"), "{old_certificate}");
        let old_client = connecting(&world, &new_brokers, &clients, &name).await.err().unwrap();
        assert!(old_client.contains("error 48"), "{old_client}");
        assert!(connecting(&world, &new_brokers, &new_clients, &name).await.is_ok());
        let event = publisher.event_on("news");
        assert_eq!(publisher.publish(event).await, Ok(1));
        receiver.received().await;
    }
}

async fn what_cannot_be_used_changes_nothing(workers: usize) {
    let world = World::new(workers).await;
    let ((chain, _), (_, key)) =
        (world.authority.identity("localhost", |_| {}), world.authority.identity("localhost", |_| {}));
    let error = world.broker.reload_tls(&BrokerTls::new(chain, key)).unwrap_err();
    assert!(matches!(error, EndpointError::Tls(_)), "{error}");
    world.broker.count_tls_reload_failure();
    assert_eq!(metric(&world, "zonecast_tls_reloads_total{result=\"failed\"}").await, "2");
    world.client("client").await;
}
