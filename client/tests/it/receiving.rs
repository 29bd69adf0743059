//! What is handed on: everything once, and what is missing shown.

use zonecast_client::{Client, DeliveryClass, GapReason, Zone, ZoneItem, ZoneSpec, ZoneSubscription};
use zonecast_protocol::codec::DeliverFlags;

use crate::broker::{Conversation, FakeBroker, guarded, place_event, topic_event};

async fn receiver(broker: &FakeBroker) -> (Client, Conversation, ZoneSubscription) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), async {
        let mut conversation = broker.accept().await;
        conversation.welcome_to(5).await;
        conversation
    });
    let (client, mut conversation) = (client.unwrap(), conversation);
    let zone = ZoneSpec::new(1, "earth", Zone::new(0.0, 0.0, 100.0, 50.0).unwrap());
    let (zones, _) = tokio::join!(client.subscribe_zones([zone]), conversation.grant_zones());
    (client, conversation, zones.unwrap())
}

async fn next(zones: &mut ZoneSubscription) -> ZoneItem {
    guarded("an item", zones.next()).await.unwrap()
}

async fn next_event(zones: &mut ZoneSubscription) -> u64 {
    let item = next(zones).await;
    item.event().unwrap_or_else(|| panic!("{item:?} is no event")).lane_seq()
}

fn transient(lane_seq: u64) -> zonecast_protocol::wire::Event {
    zonecast_protocol::wire::Event { class: DeliveryClass::Transient.into(), ..place_event(lane_seq) }
}

const RESENT: DeliverFlags = DeliverFlags { resent: true, await_processing: false };

#[tokio::test]
async fn an_event_that_comes_again_is_not_handed_on_again() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = receiver(&broker).await;
    let of_other_lane = zonecast_protocol::wire::Event { lane: 1, ..place_event(1) };
    let of_other_source = zonecast_protocol::wire::Event { source: 78, ..place_event(1) };
    for event in [place_event(1), place_event(3), place_event(2)] {
        conversation.deliver(&event).await;
        conversation.deliver_as(&event, RESENT).await;
    }
    conversation.deliver(&of_other_lane).await;
    conversation.deliver(&of_other_source).await;
    for expected in [1, 3, 2, 1, 1] {
        assert_eq!(next_event(&mut zones).await, expected);
    }
    conversation.cut();
    let mut again = broker.accept().await;
    again.welcome_to(6).await;
    again.grant_zones().await;
    again.deliver_as(&place_event(3), RESENT).await;
    again.deliver_as(&place_event(4), RESENT).await;
    assert!(matches!(next(&mut zones).await, ZoneItem::Interrupted));
    let item = next(&mut zones).await;
    let event = item.event().unwrap();
    assert_eq!((event.lane_seq(), event.is_resent()), (4, true));
    assert_eq!((client.stats().duplicates, client.stats().delivered), (4, 10));
}

#[tokio::test]
async fn transient_events_are_not_remembered() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = receiver(&broker).await;
    conversation.deliver(&transient(1)).await;
    conversation.deliver(&transient(1)).await;
    assert_eq!((next_event(&mut zones).await, next_event(&mut zones).await), (1, 1));
    assert_eq!(client.stats().duplicates, 0);
}

fn state(key: &str, lane_seq: u64) -> zonecast_protocol::wire::Event {
    let class = DeliveryClass::State.into();
    zonecast_protocol::wire::Event { class, key: key.into(), ..place_event(lane_seq) }
}

/// On its way to this client the second value had replaced the first, which its publisher then sent again.
#[tokio::test]
async fn no_older_value_of_a_key_comes_behind_a_newer_one() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = receiver(&broker).await;
    conversation.deliver(&state("k", 12)).await;
    assert_eq!(next_event(&mut zones).await, 12);
    conversation.cut();
    let mut again = broker.accept().await;
    again.welcome_to(6).await;
    again.grant_zones().await;
    again.deliver_as(&state("k", 11), RESENT).await;
    again.deliver_as(&state("k", 12), RESENT).await;
    // Of another key, publisher or lane it is no older value; nor does it matter that one is not flagged.
    again.deliver_as(&state("other", 10), RESENT).await;
    again.deliver(&zonecast_protocol::wire::Event { lane: 1, ..state("k", 11) }).await;
    again.deliver(&zonecast_protocol::wire::Event { source: 78, ..state("k", 11) }).await;
    again.deliver(&state("k", 14)).await;
    again.deliver(&state("k", 13)).await;
    again.deliver(&state("k", 15)).await;
    assert!(matches!(next(&mut zones).await, ZoneItem::Interrupted));
    for expected in [10, 11, 11, 14, 15] {
        assert_eq!(next_event(&mut zones).await, expected);
    }
    let stats = client.stats();
    assert_eq!((stats.duplicates, stats.outdated, stats.missing), (1, 2, 0));
}

#[tokio::test]
async fn datagrams_are_handed_on_and_missed_when_they_do_not_come() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = receiver(&broker).await;
    // Before it is named, and after.
    conversation.send_datagram(1, &transient(10));
    assert_eq!(next_event(&mut zones).await, 10);
    conversation.name_datagrams(4).await;
    conversation.deliver(&place_event(1)).await;
    assert_eq!(next_event(&mut zones).await, 1);
    conversation.send_datagram(3, &transient(30));
    assert_eq!(next_event(&mut zones).await, 30);
    for missing in [2, 4] {
        let item = next(&mut zones).await;
        let ZoneItem::Gap { from_seq, to_seq, reason } = item else { panic!("{item:?}") };
        assert_eq!((from_seq, to_seq, reason), (missing, missing, GapReason::Lost));
    }
    // Too late, and twice: both are settled.
    conversation.send_datagram(2, &transient(20));
    conversation.send_datagram(3, &transient(30));
    conversation.send_datagram(6, &transient(60));
    assert_eq!(next_event(&mut zones).await, 60);
    conversation.cut();
    let mut again = broker.accept().await;
    assert_eq!((again.hello.delivered_through, &again.hello.datagrams[..]), (5, &[6][..]));
    again.resume(6, 1, 0).await;
    // What is missing when the link is lost is missing at once.
    again.name_datagrams(2).await;
    again.deliver(&place_event(2)).await;
    assert_eq!(next_event(&mut zones).await, 2);
    again.cut();
    let mut third = broker.accept().await;
    third.resume(7, 1, 0).await;
    assert!(matches!(next(&mut zones).await, ZoneItem::Gap { from_seq: 1, to_seq: 2, reason: GapReason::Lost }));
    assert_eq!(client.stats().missing, 4);
}

#[tokio::test]
async fn a_broken_datagram_leads_to_a_new_connection() {
    let broker = FakeBroker::start();
    let (_client, conversation, _zones) = receiver(&broker).await;
    conversation.connection.send_datagram(vec![0xff; 20].into()).unwrap();
    guarded("the client to leave", conversation.connection.closed()).await;
    assert_eq!(broker.accept().await.hello.resume_session_id, 0, "who breaks the protocol is not trusted with more");
}

#[tokio::test]
async fn a_client_that_wants_no_datagrams_gets_none() {
    let broker = FakeBroker::start();
    let mut transport = zonecast_client::TransportOptions::default();
    transport.datagram_receive_buffer_bytes = 0;
    let config = broker.config("c").transport(transport);
    let (_client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
    assert_eq!(conversation.connection.max_datagram_size(), None);
}

#[tokio::test]
async fn a_request_that_gave_up_leaves_its_subscription_to_the_next() {
    let broker = FakeBroker::start();
    let (client, mut conversation, _zones) = receiver(&broker).await;
    for _ in 0..3 {
        let patience = std::time::Duration::from_millis(5);
        client.request("svc", "", patience).await.unwrap_err();
    }
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.request("svc", "", std::time::Duration::from_secs(30)).await }
    });
    conversation.grant_topics().await;
    let (_, event) = conversation.lane().await.next_publish().await;
    conversation.deliver(&topic_event(&event.reply_to, 1)).await;
    guarded("the reply", asking).await.unwrap().unwrap();
    let (topic, asked) = tokio::join!(client.subscribe("a"), conversation.grant_topics());
    assert_eq!((topic.is_ok(), &asked.add[0].pattern[..]), (true, "a"), "it was asked for once");
}
