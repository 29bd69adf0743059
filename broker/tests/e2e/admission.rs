//! Who is let in: how many, under whose name, and with which proof.

use std::{net::SocketAddr, time::Duration};

use quinn::{Connection, ConnectionError, crypto::rustls::QuicClientConfig};
use rustls::RootCertStore;
use tokio::net::UdpSocket;
use zonecast_broker::{BrokerConfig, ClientIdentity};
use zonecast_protocol::{ALPN, ErrorCode};

use crate::{
    knocking::{first_packet, introduced},
    operations::metric,
    raw::{Authority, Peer, World, client_tls, code_and_reason, connect, hello},
    relay::Relay,
};

crate::with_one_and_two_workers! {
    client_certificates_are_demanded_when_configured
    a_client_is_who_its_certificate_says
    any_client_is_let_in_where_that_is_configured
    connections_are_limited_per_address
    connections_are_limited_per_client_id
    connections_are_limited_per_certificate
    under_pressure_addresses_are_validated_first
    handshakes_that_go_nowhere_are_limited_and_given_up
    no_early_data_is_offered_or_taken
}

async fn client_certificates_are_demanded_when_configured(workers: usize) {
    let clients = Authority::new();
    let roots = clients.roots();
    let world = World::with(workers, |config| config.tls = config.tls.clone().with_client_roots(roots)).await;
    let valid = clients.identity("zone-server-7", |_| {});
    let expired = clients.identity("zone-server-7", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let foreign = Authority::new().identity("zone-server-7", |_| {});
    let trust = || -> RootCertStore { world.authority.roots() };
    // TLS alerts: certificate_required, certificate_expired, unknown_ca.
    for (identity, alert) in [(None, "error 116"), (Some(expired), "error 45"), (Some(foreign), "error 48")] {
        // TLS 1.3 lets the client finish first; the broker's alert closes the connection right after.
        let error = match world.connection_as(ALPN, trust(), identity).await {
            Ok(connection) => connection.closed().await.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(alert), "{alert}: {error}");
    }
    Peer::welcomed(world.connection_as(ALPN, trust(), Some(valid)).await.unwrap(), hello("zone-server-7", 1)).await;
}

/// A broker that demands certificates of `clients`.
async fn with_certificates(workers: usize, clients: &Authority, change: impl FnOnce(&mut BrokerConfig)) -> World {
    let roots = clients.roots();
    let demanding = |config: &mut BrokerConfig| {
        config.tls = config.tls.clone().with_client_roots(roots);
        change(config);
    };
    World::with(workers, demanding).await
}

/// A connection with a certificate for the names.
async fn certified(world: &World, clients: &Authority, names: &[&str]) -> Connection {
    let identity = clients.identity("replaced", |params| {
        params.subject_alt_names =
            names.iter().map(|name| rcgen::SanType::DnsName((*name).try_into().unwrap())).collect();
    });
    world.connection_as(ALPN, world.authority.roots(), Some(identity)).await.unwrap()
}

async fn a_client_is_who_its_certificate_says(workers: usize) {
    let clients = Authority::new();
    let world = with_certificates(workers, &clients, |_| {}).await;
    for (names, client, admitted) in [
        (&["shard-1"][..], "shard-1", true),
        (&["shard-1"], "shard-2", false),
        (&["shard-1", "shard-2"], "shard-2", true),
        (&["*.shards.games"], "seven.shards.games", true),
        (&["*.shards.games"], "shards.games", false),
        (&[], "shard-1", false),
    ] {
        let found = introduced(certified(&world, &clients, names).await, client).await;
        match found {
            Ok(_) => assert!(admitted, "{client} with {names:?}"),
            Err(error) => {
                let (code, reason) = code_and_reason(error);
                assert_eq!((code, admitted), (ErrorCode::Unauthenticated, false), "{client} with {names:?}: {reason}");
                assert!(reason.contains(client) && names.iter().all(|name| reason.contains(name)), "{reason}");
            }
        }
    }
    assert_eq!(metric(&world, "zonecast_handshakes_failed_total{reason=\"UNAUTHENTICATED\"}").await, "3");
}

async fn any_client_is_let_in_where_that_is_configured(workers: usize) {
    let clients = Authority::new();
    let world = with_certificates(workers, &clients, |config| config.client_identity = ClientIdentity::Any).await;
    for names in [&["shard-1"][..], &[]] {
        assert!(introduced(certified(&world, &clients, names).await, "shard-2").await.is_ok());
    }
}

async fn connections_are_limited_per_address(workers: usize) {
    let world = World::with(workers, |config| config.connections.connections_per_address_max = 2).await;
    let first = world.client("first").await;
    let _second = world.client("second").await;
    let refused = world.connection_as(ALPN, world.authority.roots(), None).await.unwrap_err();
    assert!(refused.to_string().contains("refuse"), "{refused}");
    first.connection.close(0_u32.into(), b"");
    // The place is free once the broker has seen the close; asking again is how a client finds out.
    while world.connection_as(ALPN, world.authority.roots(), None).await.is_err() {
        tokio::task::yield_now().await;
    }
}

async fn connections_are_limited_per_client_id(workers: usize) {
    let world = World::with(workers, |config| config.connections.connections_per_identity_max = 2).await;
    // The second replaces the first, which is given a second to read its last words, but is out of reach.
    let relay = Relay::to(world.broker.local_addr()).await;
    let cut_off = connect(relay.address, client_tls(ALPN, world.authority.roots(), None)).await.unwrap();
    let _first = introduced(cut_off, "same").await.unwrap();
    relay.lead_to(None);
    let _second = introduced(world.connection().await, "same").await.unwrap();
    assert_refused(&world, introduced(world.connection().await, "same").await).await;
    assert!(introduced(world.connection().await, "other").await.is_ok());
    while introduced(world.connection().await, "same").await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn connections_are_limited_per_certificate(workers: usize) {
    let clients = Authority::new();
    let change = |config: &mut BrokerConfig| config.connections.connections_per_identity_max = 2;
    let world = with_certificates(workers, &clients, change).await;
    let next = async |id: &str| introduced(certified(&world, &clients, &["*.shards.games"]).await, id).await;
    let first = next("a.shards.games").await.unwrap();
    let _second = next("b.shards.games").await.unwrap();
    assert_refused(&world, next("c.shards.games").await).await;
    assert!(introduced(certified(&world, &clients, &["shard-1"]).await, "shard-1").await.is_ok());
    first.connection.close(0_u32.into(), b"");
    while next("c.shards.games").await.is_err() {
        tokio::task::yield_now().await;
    }
}

async fn assert_refused(world: &World, third: Result<Peer, ConnectionError>) {
    let (code, reason) = code_and_reason(third.err().expect("two are as many as it may have"));
    assert_eq!(code, ErrorCode::TooManyConnections);
    assert!(reason.contains("connections.per_identity_max"), "{reason}");
    assert_eq!(metric(world, "zonecast_handshakes_failed_total{reason=\"TOO_MANY_CONNECTIONS\"}").await, "1");
}

/// A socket that has sent a first packet and never answers.
async fn half_open(world: &World) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    socket.send_to(&first_packet(world).await, world.broker.local_addr()).await.unwrap();
    socket
}

async fn half_open_are(world: &World, count: &str) {
    while metric(world, "zonecast_handshakes").await != count {
        tokio::task::yield_now().await;
    }
}

async fn under_pressure_addresses_are_validated_first(workers: usize) {
    let world = World::with(workers, |config| config.connections.retry_from_handshakes = 2).await;
    world.client("before").await;
    assert_eq!(metric(&world, "zonecast_retries_out_total").await, "0");
    let _silent = [half_open(&world).await, half_open(&world).await];
    half_open_are(&world, "2").await;
    let third = half_open(&world).await;
    let mut answer = [0; 2048];
    let length = third.recv(&mut answer).await.unwrap();
    // A long header of the type Retry, and shorter than what it answers: nothing is amplified.
    assert!(answer[0] & 0xb0 == 0xb0 && length < 200, "{:#x}, {length} bytes", answer[0]);
    assert_eq!(metric(&world, "zonecast_handshakes").await, "2", "nothing is kept of it");
    world.client("after").await;
    assert_eq!(metric(&world, "zonecast_retries_out_total").await, "2");
}

async fn handshakes_that_go_nowhere_are_limited_and_given_up(workers: usize) {
    let world = World::with(workers, |config| {
        config.connections.handshakes_max = 2;
        config.connections.retry_from_handshakes = 2;
        config.connections.handshake_timeout = Duration::from_millis(400);
    })
    .await;
    let mut there = world.client("there").await;
    there.listen(1, "still.here", "").await.unwrap();
    let _silent = [half_open(&world).await, half_open(&world).await];
    half_open_are(&world, "2").await;
    let refused = world.connection_as(ALPN, world.authority.roots(), None).await.unwrap_err();
    assert!(refused.to_string().contains("refuse"), "{refused}");
    assert_eq!(metric(&world, "zonecast_handshakes_failed_total{reason=\"handshakes_max\"}").await, "1");
    let event = there.event_on("still.here");
    assert_eq!(there.publish(event).await, Ok(1), "who is in is served");
    half_open_are(&world, "0").await;
    world.client("later").await;
    assert_eq!(metric(&world, "zonecast_handshakes_failed_total{reason=\"handshake_timeout\"}").await, "2");
}

async fn no_early_data_is_offered_or_taken(workers: usize) {
    let world = World::new(workers).await;
    let mut tls = client_tls(ALPN, world.authority.roots(), None);
    tls.enable_early_data = true;
    let config = quinn::ClientConfig::new(std::sync::Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    // The same configuration, and with it the same store of tickets.
    for number in 0..3 {
        let connecting = endpoint.connect_with(config.clone(), world.broker.local_addr(), "localhost").unwrap();
        let connecting = connecting.into_0rtt().map(|_| ()).expect_err("there is no ticket for early data");
        let mut peer = Peer::welcomed(connecting.await.unwrap(), hello("client", number + 1)).await;
        // A ticket would have come with the first answer.
        let event = peer.event_on("nobody");
        assert_eq!(peer.publish(event).await, Ok(0));
    }
}
