//! That clients notice a broker which was killed and started again, though it could not say goodbye.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn::ConnectionError;
use zonecast_broker::{Broker, BrokerConfig, BrokerTls, ResetSecret};
use zonecast_protocol::{
    ALPN,
    codec::encode_client_frame,
    wire::{self, client_frame},
};

use crate::{
    raw::{Authority, Identity, Peer, client_tls, connect, hello},
    relay::Relay,
};

crate::with_one_and_two_workers! {
    a_restart_with_the_same_key_is_noticed_at_once
    a_restart_with_another_key_is_noticed_by_a_kept_secret
    a_stranger_on_the_same_port_ends_nothing
}

async fn broker(workers: usize, (chain, key): Identity, secret: Option<ResetSecret>) -> Broker {
    let mut config = BrokerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), BrokerTls::new(chain, key));
    config.workers = NonZeroUsize::new(workers).unwrap();
    config.reset_secret = secret;
    Broker::start(config).await.unwrap()
}

fn again((chain, key): &Identity) -> Identity {
    (chain.clone(), key.clone_key())
}

/// A client of `old` whose packets go to `new` from now on, and how long it takes it, writing, to notice.
async fn noticed(authority: &Authority, old: &Broker, new: &Broker, patience: Duration) -> Option<Duration> {
    let relay = Relay::to(old.local_addr()).await;
    let connection = connect(relay.address, client_tls(ALPN, authority.roots(), None)).await.unwrap();
    let mut peer = Peer::welcomed(connection.clone(), hello("zone-server-7", 1)).await;
    relay.lead_to(Some(new.local_addr()));
    let begun = Instant::now();
    let writing = async {
        let mut ping = BytesMut::new();
        encode_client_frame(client_frame::Frame::Ping(wire::Ping { nonce: 1 }), &mut ping);
        while peer.control.write_all(&ping).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        error = connection.closed() => {
            assert!(matches!(error, ConnectionError::Reset), "{error}");
            Some(begun.elapsed())
        }
        () = tokio::time::sleep(patience) => None,
        () = async { writing.await; std::future::pending().await } => None,
    }
}

async fn a_restart_with_the_same_key_is_noticed_at_once(workers: usize) {
    let authority = Authority::new();
    let identity = authority.identity("localhost", |_| {});
    let old = broker(workers, again(&identity), None).await;
    let new = broker(workers, identity, None).await;
    // Often enough to meet every worker.
    for _ in 0..8 {
        let taken = noticed(&authority, &old, &new, Duration::from_secs(5)).await.expect("it is noticed");
        assert!(taken < Duration::from_secs(1), "{taken:?}");
    }
}

async fn a_restart_with_another_key_is_noticed_by_a_kept_secret(workers: usize) {
    let authority = Authority::new();
    let identity = || authority.identity("localhost", |_| {});
    let secret = || ResetSecret::new(b"a secret that outlives certificates").ok();
    let old = broker(workers, identity(), secret()).await;
    let new = broker(workers, identity(), secret()).await;
    assert!(noticed(&authority, &old, &new, Duration::from_secs(5)).await.is_some());
}

async fn a_stranger_on_the_same_port_ends_nothing(workers: usize) {
    let authority = Authority::new();
    let identity = || authority.identity("localhost", |_| {});
    let old = broker(workers, identity(), None).await;
    let new = broker(workers, identity(), None).await;
    assert_eq!(noticed(&authority, &old, &new, Duration::from_millis(500)).await, None);
}
