//! The client library against the real broker: what a game programmer relies on.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use zonecast_client::{
    Circle, Client, ClientConfig, ConnectionState, Publish, RequestError, TlsConfig, Zone, ZoneItem, ZoneSpec,
};

use super::{certificates, server::Server};

/// Guards against a test that hangs.
const GUARD: Duration = Duration::from_secs(60);

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(GUARD, test).await.expect("the test hangs") });
}

async fn connect(id: &str, address: &str, directory: &Path) -> Client {
    let tls = TlsConfig::from_files(Some(&directory.join("certs/ca.pem")), None).unwrap();
    Client::connect(ClientConfig::new(id).address(address).tls(tls)).await.unwrap()
}

fn zone(id: u32, min: [f64; 2], max: [f64; 2]) -> ZoneSpec {
    ZoneSpec::new(id, "earth", Zone::new(min[0], min[1], max[0], max[1]).unwrap())
}

fn at(x: f64, y: f64, radius: f64) -> Publish<'static> {
    Publish::at("earth", Circle::new(x, y, radius).unwrap())
}

#[test]
fn after_a_broker_was_killed_clients_return_with_their_zones_and_topics() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    for workers in [1, 2] {
        let mut broker = Server::with_workers(workers, "127.0.0.1:0", &flags, "json");
        let [listen, _] = broker.addresses();
        block_on(async {
            let holder = connect("holder", &listen, directory.path()).await;
            let publisher = connect("publisher", &listen, directory.path()).await;
            let mut zones = holder.subscribe_zones([zone(1, [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
            let mut topic = holder.subscribe("chat.*").await.unwrap();
            assert_eq!(publisher.publish_acked(at(13.0, 14.0, 5.0)).await.unwrap().matched, 1);
            assert!(matches!(zones.next().await, Some(ZoneItem::Event(_))));

            broker.signal("KILL");
            assert_eq!(broker.end().0, None, "killed");
            let mut again = Server::with_workers(workers, &listen, &flags, "json");
            again.addresses();
            let (first, second) = tokio::join!(noticed_by_writing(&holder), noticed_by_writing(&publisher));
            assert!(first.max(second) < Duration::from_secs(1), "{first:?} {second:?}");
            for client in [&holder, &publisher] {
                let is_back = |state: &ConnectionState| {
                    matches!(state, ConnectionState::Connected { .. }) && client.stats().connections == 2
                };
                client.states().wait_for(is_back).await.unwrap();
            }
            assert!(matches!(zones.next().await, Some(ZoneItem::Interrupted)), "what was missed is not hidden");
            assert_eq!(publisher.publish_acked(at(5.0, 5.0, 0.0)).await.unwrap().matched, 1);
            assert!(zones.next().await.is_some_and(|item| item.event().is_some()));
            assert_eq!(publisher.publish_acked(Publish::to_topic("chat.hello")).await.unwrap().matched, 1);
            assert!(topic.next_event().await.is_some());
            again.signal("TERM");
            // On a thread of its own: the clients must go on, or the broker would wait for them until its grace ends.
            assert_eq!(tokio::task::spawn_blocking(|| again.end()).await.unwrap().0, Some(0));
        });
    }
}

/// How long it takes a client that writes to notice that its connection is gone.
async fn noticed_by_writing(client: &Client) -> Duration {
    let begun = Instant::now();
    let writing = async {
        loop {
            let _ = client.publish(Publish::to_topic("nobody.listens")).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut states = client.states();
    tokio::select! {
        () = writing => unreachable!("it goes on"),
        gone = states.wait_for(|state| !matches!(state, ConnectionState::Connected { .. })) => drop(gone.unwrap()),
    }
    begun.elapsed()
}

#[test]
fn what_was_routed_before_a_broker_shuts_down_still_arrives() {
    const EVENTS: u64 = 3_000;
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::with_workers(2, "127.0.0.1:0", &flags, "json");
    let [listen, _] = broker.addresses();
    block_on(async {
        let holder = connect("holder", &listen, directory.path()).await;
        let publisher = connect("publisher", &listen, directory.path()).await;
        let mut zones = holder.subscribe_zones([zone(1, [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
        // More than the subscription's queue holds, and nobody reads it yet.
        for _ in 1..EVENTS {
            publisher.publish(at(5.0, 5.0, 0.0)).await.unwrap();
        }
        assert_eq!(publisher.publish_acked(at(5.0, 5.0, 0.0)).await.unwrap().matched, 1);
        broker.signal("TERM");
        let ended = tokio::task::spawn_blocking(move || broker.end());
        for number in 1..=EVENTS {
            let item = zones.next().await.unwrap();
            assert_eq!(item.event().map(zonecast_client::Event::lane_seq), Some(number), "{item:?}");
        }
        assert_eq!(ended.await.unwrap().0, Some(0));
    });
}

#[test]
fn nothing_is_taken_for_publishing_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    let mut broker = Server::start("127.0.0.1:0", &flags, "json");
    let [listen, _] = broker.addresses();
    block_on(async {
        let client = connect("client", &listen, directory.path()).await;
        client.close().await.unwrap();
        for _ in 0..3 {
            assert!(client.publish(at(0.0, 0.0, 0.0).lane(5)).await.is_err());
            assert!(client.publish_acked(at(0.0, 0.0, 0.0).lane(5)).await.is_err());
        }
    });
    broker.signal("TERM");
    assert_eq!(broker.end().0, Some(0));
}

#[test]
fn zones_move_between_clients_and_questions_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let flags = certificates(directory.path());
    for workers in [1, 2] {
        let mut broker = Server::with_workers(workers, "127.0.0.1:0", &flags, "json");
        let [listen, _] = broker.addresses();
        block_on(async {
            let old = connect("old", &listen, directory.path()).await;
            let new = connect("new", &listen, directory.path()).await;
            let of_old = old.subscribe_zones([zone(1, [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
            let mut of_new = new.subscribe_zones([]).await.unwrap();
            of_old.hand_over([1], "new").await.unwrap();
            let Some(ZoneItem::Received { from, zones, .. }) = of_new.next().await else { panic!("zones come first") };
            assert_eq!((from.as_str(), zones.len()), ("old", 1));
            assert_eq!(old.publish_acked(at(5.0, 5.0, 0.0)).await.unwrap().matched, 1);
            assert!(of_new.next().await.is_some_and(|item| item.event().is_some()));

            let unanswered = new.request("svc.echo", b"?", Duration::from_secs(5)).await;
            assert!(matches!(unanswered, Err(RequestError::NoResponder { .. })), "{unanswered:?}");
            let mut questions = old.queue_subscribe("svc.*", "echoers").await.unwrap();
            let answering = async {
                let question = questions.next_event().await.unwrap();
                old.reply(&question, question.payload()).await.unwrap();
            };
            let asking = new.request("svc.echo", b"ping", Duration::from_secs(5));
            let (answer, ()) = tokio::join!(asking, answering);
            assert_eq!(answer.unwrap().payload(), b"ping");

            drop(of_new);
            new.close().await.unwrap();
            assert_eq!(old.publish_acked(at(5.0, 5.0, 0.0)).await.unwrap().matched, 0, "who left holds nothing");
        });
        broker.signal("TERM");
        assert_eq!(broker.end().0, Some(0));
    }
}
