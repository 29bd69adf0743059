//! The own brokers, each with its own clients: exact, counted, and lossless where a session does not read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, time::Duration};

use tokio::{net::TcpListener, task::LocalSet, time::timeout};
use zonecast_bakeoff::{
    grpc::{self, Grpc},
    target::PeerTarget,
    tcp::{self, Tcp},
    tls::Certificates,
};
use zonecast_loadtest::load::{LoadSettings, Outgoing, Publisher, Sink, Subscriber, Transport};
use zonecast_protocol::{Circle, Zone};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a publisher that is not held back is given to prove it.
const HELD_BACK: Duration = Duration::from_secs(1);
/// With payloads of 1 KiB more than all buffers between publisher and session hold.
const FLOOD_EVENTS: u32 = 48 * 1024;

#[derive(Default)]
struct Collected {
    batches: usize,
    payloads: Vec<(u32, Vec<u8>)>,
}

impl Sink for Collected {
    fn batch(&mut self) {
        self.batches += 1;
    }

    fn payload(&mut self, receiver: u32, payload: &[u8]) {
        assert!(self.batches > 0, "the clock is read before anything is handed over");
        self.payloads.push((receiver, payload.to_vec()));
    }
}

/// Counts up, and keeps nothing of what it checked.
#[derive(Default)]
struct InOrder {
    next: u32,
}

impl Sink for InOrder {
    fn batch(&mut self) {}

    fn payload(&mut self, _receiver: u32, payload: &[u8]) {
        assert_eq!(u32::from_le_bytes(*payload.first_chunk().unwrap()), self.next);
        assert_eq!(payload.len(), 1024);
        self.next += 1;
    }
}

fn square(x: f64) -> Zone {
    Zone::new(x, 0.0, x + 1.0, 1.0).unwrap()
}

fn at(x: f64, payload: &[u8]) -> Outgoing<'_> {
    Outgoing { circle: Circle::new(x, 0.5, 0.25).unwrap(), zones: &[], pool_index: 0, payload }
}

async fn completed<P: Publisher>(publisher: &mut P, count: usize) -> Vec<Option<u32>> {
    let mut done = Vec::new();
    while done.len() < count {
        publisher.completed(&mut done).await.unwrap();
    }
    done
}

async fn receive<S: Subscriber>(subscriber: &mut S, count: usize) -> Vec<(u32, Vec<u8>)> {
    let mut collected = Collected::default();
    while collected.payloads.len() < count {
        subscriber.receive(&mut collected).await.unwrap();
    }
    collected.payloads
}

async fn everyone_gets_exactly_what_touches_him<T: Transport<Target = PeerTarget>>(target: &PeerTarget) {
    let transport = T::open(target, &LoadSettings::default()).unwrap();
    let mut west = transport.subscriber(0, &[(0, square(0.0)), (1, square(1.0))]).await.unwrap();
    let mut east = transport.subscriber(1, &[(2, square(2.0))]).await.unwrap();
    let mut publisher = transport.publisher(0).await.unwrap();
    let places = [(1.0, 1), (2.0, 2), (2.5, 1), (9.0, 0)];
    for (number, (x, _)) in (0_u8..).zip(places) {
        publisher.publish(at(x, &[number])).await.unwrap();
    }
    publisher.flush().await.unwrap();
    assert_eq!(completed(&mut publisher, 4).await, places.map(|(_, matched)| Some(matched)));
    // A last one for both shows that nothing else is under way.
    publisher.publish(at(2.0, b"last")).await.unwrap();
    publisher.flush().await.unwrap();
    assert_eq!(receive(&mut west, 3).await, [(0, vec![0]), (0, vec![1]), (0, b"last".to_vec())]);
    assert_eq!(receive(&mut east, 3).await, [(1, vec![1]), (1, vec![2]), (1, b"last".to_vec())]);
    assert_eq!(completed(&mut publisher, 1).await, [Some(2)]);
    let mut more = Vec::new();
    publisher.try_completed(&mut more).unwrap();
    assert_eq!(more, []);
    publisher.close().await;
    west.close().await;
    east.close().await;
}

async fn who_does_not_read_holds_the_publisher_back_and_loses_nothing<T: Transport<Target = PeerTarget>>(
    target: &PeerTarget,
) {
    let transport = T::open(target, &LoadSettings::default()).unwrap();
    let mut subscriber = transport.subscriber(0, &[(0, square(0.0))]).await.unwrap();
    let mut publisher = transport.publisher(0).await.unwrap();
    let mut flood = Box::pin(async {
        let mut payload = [0; 1024];
        for number in 0..FLOOD_EVENTS {
            payload[..4].copy_from_slice(&number.to_le_bytes());
            publisher.publish(at(0.5, &payload)).await.unwrap();
        }
        publisher.flush().await.unwrap();
        completed(&mut publisher, FLOOD_EVENTS as usize).await
    });
    assert!(timeout(HELD_BACK, &mut flood).await.is_err(), "all of it fits into buffers");
    let reading = async {
        let mut in_order = InOrder::default();
        while in_order.next < FLOOD_EVENTS {
            subscriber.receive(&mut in_order).await.unwrap();
        }
    };
    let (done, ()) = tokio::join!(flood, reading);
    let wrong: Vec<_> = done.iter().enumerate().filter(|(_, matched)| **matched != Some(1)).take(5).collect();
    assert!(done.len() == FLOOD_EVENTS as usize && wrong.is_empty(), "{} acknowledged, {wrong:?}", done.len());
}

async fn all<T: Transport<Target = PeerTarget>>(target: PeerTarget) {
    everyone_gets_exactly_what_touches_him::<T>(&target).await;
    who_does_not_read_holds_the_publisher_back_and_loses_nothing::<T>(&target).await;
}

async fn within_patience(test: impl Future<Output = ()>) {
    timeout(PATIENCE, LocalSet::new().run_until(test)).await.expect("it does not come to an end");
}

async fn listening(directory: &tempfile::TempDir) -> (TcpListener, Certificates, PeerTarget) {
    let certificates = Certificates::create(directory.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ca = Some(certificates.ca.clone());
    let target = PeerTarget { address: listener.local_addr().unwrap(), ca, curve_key: None };
    (listener, certificates, target)
}

#[tokio::test(flavor = "current_thread")]
async fn tcp_delivers_exactly_and_loses_nothing() {
    within_patience(async {
        let directory = tempfile::tempdir().unwrap();
        let (listener, certificates, target) = listening(&directory).await;
        let broker = tokio::task::spawn_local(tcp::serve(listener, certificates.server().unwrap()));
        all::<Tcp>(target).await;
        broker.abort();
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn tcp_ends_a_connection_that_does_not_keep_to_the_protocol() {
    within_patience(async {
        let directory = tempfile::tempdir().unwrap();
        let (listener, certificates, target) = listening(&directory).await;
        let broker = tokio::task::spawn_local(tcp::serve(listener, certificates.server().unwrap()));
        let transport = Tcp::open(&target, &LoadSettings::default()).unwrap();
        let mut publisher = transport.publisher(0).await.unwrap();
        publisher.publish(at(0.5, &vec![0; 2 << 20])).await.unwrap_or_default();
        let _: Result<(), _> = publisher.flush().await;
        assert!(publisher.completed(&mut Vec::new()).await.is_err(), "a frame of 2 MiB");
        broker.abort();
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn grpc_delivers_exactly_and_loses_nothing() {
    within_patience(async {
        zonecast_bakeoff::tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let (listener, certificates, target) = listening(&directory).await;
        let tls = grpc::server_tls(&certificates).unwrap();
        let broker = tokio::spawn(grpc::serve(listener, tls));
        all::<Grpc>(target).await;
        broker.abort();
    })
    .await;
}

#[cfg(feature = "zeromq")]
#[tokio::test(flavor = "current_thread")]
async fn zeromq_delivers_exactly_and_loses_nothing() {
    use zonecast_bakeoff::zeromq::{Listener, ZeroMq, serve};

    within_patience(async {
        let listener = Listener::bind().unwrap();
        let target = listener.target().unwrap();
        // Ends with the test's process.
        std::thread::spawn(|| serve(listener));
        all::<ZeroMq>(target).await;
    })
    .await;
}
