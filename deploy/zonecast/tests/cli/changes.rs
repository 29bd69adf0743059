//! Changes over whole processes that are killed in the midst of them: nothing that was committed is lost or made up.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use zonecast_api::changes::v1::changes_service_client::ChangesServiceClient;
use zonecast_client::TopicItem;
use zonecast_protocol::{
    changes::v1::{Change, ListChangesRequest},
    users::v1::CreateUserRequest,
};

use super::services::{Ground, block_on, get};

/// The port of a broker that comes and goes.
fn free_port() -> String {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn create(number: usize) -> CreateUserRequest {
    CreateUserRequest { name: format!("user{}", number + 1_000), ..Default::default() }
}

/// All changes that are kept, by number.
async fn listed(ground: &Ground, address: &str) -> BTreeMap<u64, Change> {
    let ca = Certificate::from_pem(std::fs::read_to_string(ground.ca()).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
    let channel = Channel::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    let mut changes = ChangesServiceClient::new(channel.connect().await.unwrap());
    let mut all = BTreeMap::new();
    loop {
        let after_sequence = all.last_key_value().map_or(0, |(sequence, _)| *sequence);
        let request = ListChangesRequest { store: "users".into(), after_sequence, page_size: 7 };
        let page = changes.list_changes(request).await.unwrap().into_inner().changes;
        if page.is_empty() {
            break;
        }
        all.extend(page.into_iter().map(|listed| {
            assert_eq!(listed.topic, "users.created");
            let change = listed.change.unwrap();
            (change.sequence, change)
        }));
    }
    let elsewhere = ListChangesRequest { store: "elsewhere".into(), ..ListChangesRequest::default() };
    assert_eq!(changes.list_changes(elsewhere).await.unwrap_err().code(), Code::NotFound);
    all
}

#[test]
fn a_broker_that_is_killed_while_changes_are_processed_costs_none_of_them() {
    block_on(async {
        const CHANGES: usize = 40;
        let ground = Ground::new();
        let port = free_port();
        let (broker, _) = ground.broker(&port);
        let (services, [listen, admin]) = ground.services(&port);
        let client = ground.client(&port).await;
        let mut heard = client.subscribe("users.*").await.unwrap().explicit();
        let mut users = ground.grpc(&listen).await;
        let mut seen: BTreeMap<u64, Change> = BTreeMap::new();
        let mut broker = Some(broker);
        let mut restarted = None;
        for number in 0..CHANGES {
            users.create_user(create(number)).await.unwrap();
            if number == CHANGES / 2 {
                // One is heard, and not processed, and then there is no broker any more.
                let event = heard.next_event().await.unwrap();
                let broker = broker.take().unwrap();
                broker.signal("KILL");
                assert_eq!(broker.end().0, None);
                drop(event);
            }
            if number == CHANGES / 2 + 5 {
                restarted = Some(ground.broker(&port));
            }
        }
        // Until all are published; who listens processes what comes.
        let published = "zonecast_outbox_oldest_seconds{store=\"users\"} 0.0";
        loop {
            tokio::select! {
                item = heard.next() => match item.unwrap() {
                    TopicItem::Event(event) => {
                        let change = Change::decode(event.payload()).unwrap();
                        event.done();
                        if let Some(before) = seen.insert(change.sequence, change.clone()) {
                            assert_eq!(before, change, "a change comes again under the same id, and is the same");
                        }
                    }
                    _ => continue,
                },
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    let metrics = get(&admin, "/metrics");
                    if metrics.contains(published) {
                        assert!(metrics.contains("zonecast_outbox_parked_total{store=\"users\"} 0"), "{metrics}");
                        break;
                    }
                }
            }
        }
        // Whoever was away while the broker was, finds all of them, in order, without gaps.
        let listed = listed(&ground, &listen).await;
        assert!(listed.keys().copied().eq(1..=CHANGES as u64), "{:?}", listed.keys());
        assert!(!seen.is_empty());
        for (sequence, change) in &seen {
            assert_eq!(listed.get(sequence), Some(change));
        }
        services.signal("TERM");
        assert_eq!(services.end().0, Some(0));
        drop(restarted);
    });
}

#[test]
fn what_was_published_and_not_noted_when_the_services_were_killed_comes_again_under_its_id() {
    block_on(async {
        let ground = Ground::new();
        let (_broker, broker) = ground.broker("127.0.0.1:0");
        let client = ground.client(&broker).await;
        let mut heard = client.subscribe("users.*").await.unwrap().explicit();
        let (services, [listen, _]) = ground.services(&broker);
        ground.grpc(&listen).await.create_user(create(1)).await.unwrap();
        let first = heard.next_event().await.unwrap();
        // It is out, and nobody has processed it: nothing is noted.
        services.signal("KILL");
        assert_eq!(services.end().0, None);
        // Processed too late for whoever published it.
        first.done();
        let (services, _) = ground.services(&broker);
        let again = heard.next_event().await.unwrap();
        again.done();
        let changes = [&first, &again].map(|event| Change::decode(event.payload()).unwrap());
        assert_eq!(changes[0], changes[1]);
        services.signal("TERM");
        assert_eq!(services.end().0, Some(0));
    });
}
