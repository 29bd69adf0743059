//! Lost connections: what goes on, what is sent again, and what begins anew.

use std::time::{Duration, Instant};

use zonecast_client::{
    Client, ClientConfig, ConnectionState, DeliveryClass, ErrorCode, Publish, PublishError, Zone, ZoneError, ZoneItem,
    ZoneSpec, ZoneSubscription,
};
use zonecast_protocol::wire::{self, client_frame::Frame as ClientFrame};

use crate::broker::{Conversation, FakeBroker, guarded, place_event, topic_event};

/// A client in session 5, which outlives its connection.
async fn connected_by(broker: &FakeBroker, config: ClientConfig) -> (Client, Conversation) {
    let (client, conversation) = tokio::join!(Client::connect(config), async {
        let mut conversation = broker.accept().await;
        conversation.welcome_to(5).await;
        conversation
    });
    (client.unwrap(), conversation)
}

async fn connected(broker: &FakeBroker) -> (Client, Conversation) {
    connected_by(broker, broker.config("c")).await
}

fn zone(id: u32) -> ZoneSpec {
    ZoneSpec::new(id, "earth", Zone::new(0.0, -10.0, 100.0, 50.0).unwrap())
}

async fn with_zones(client: &Client, conversation: &mut Conversation) -> ZoneSubscription {
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    zones.unwrap()
}

async fn next_event(zones: &mut ZoneSubscription) -> u64 {
    let item = guarded("an event", zones.next()).await.unwrap();
    item.event().unwrap_or_else(|| panic!("{item:?} is no event")).lane_seq()
}

#[tokio::test]
async fn a_session_goes_on_where_it_stood() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    assert_eq!((conversation.hello.resume_window_ms, conversation.hello.resume_session_id), (30_000, 0));
    let mut zones = with_zones(&client, &mut conversation).await;
    for n in 1..=3 {
        conversation.deliver(&place_event(n)).await;
    }
    for n in 1..=3 {
        assert_eq!(next_event(&mut zones).await, n);
    }
    conversation.cut();
    let mut again = broker.accept().await;
    let hello = again.hello.clone();
    assert_eq!((hello.resume_session_id, hello.delivered_through, hello.control_through), (5, 3, 1));
    assert!(hello.lanes.is_empty() && hello.datagrams.is_empty());
    again.resume(6, 1, 0).await;
    again.deliver(&place_event(4)).await;
    assert_eq!(next_event(&mut zones).await, 4, "and nothing is said of an interruption");
    assert!(matches!(client.states().current(), ConnectionState::Connected { session_id: 6, resumed: true, .. }));
    assert_eq!((client.stats().connections, client.stats().resumed), (2, 1));
    let (changed, asked) = tokio::join!(zones.put([zone(2)]), again.grant_zones());
    assert_eq!((changed.is_ok(), asked.request_id), (true, 2), "nothing was renewed, and numbers go on");
    again.cut();
    let hello = broker.accept().await.hello;
    assert_eq!((hello.resume_session_id, hello.delivered_through, hello.control_through), (6, 1, 2));
}

#[tokio::test]
async fn a_session_that_is_not_resumed_begins_anew_and_says_so() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let mut zones = with_zones(&client, &mut conversation).await;
    conversation.cut();
    let mut again = broker.accept().await;
    assert_eq!(again.hello.resume_session_id, 5);
    again.welcome_to(9).await;
    assert_eq!(again.grant_zones().await.upsert.len(), 1);
    again.deliver(&place_event(1)).await;
    assert!(matches!(guarded("a word", zones.next()).await, Some(ZoneItem::Interrupted)));
    assert_eq!(next_event(&mut zones).await, 1);
    assert!(matches!(client.states().current(), ConnectionState::Connected { session_id: 9, resumed: false, .. }));
    again.cut();
    let hello = broker.accept().await.hello;
    assert_eq!((hello.resume_session_id, hello.delivered_through, hello.control_through), (9, 1, 1));
}

#[tokio::test]
async fn events_that_were_taken_and_not_read_outlive_the_connection() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected_by(&broker, broker.config("c").delivery_queue_items_max(2)).await;
    let mut zones = with_zones(&client, &mut conversation).await;
    for n in 1..=20 {
        conversation.deliver(&place_event(n)).await;
    }
    // Told although nobody reads: received is not processed.
    conversation.acked_until(|acks| acks.last().is_some_and(|ack| ack.through_seq > 2)).await;
    conversation.cut();
    let mut again = broker.accept().await;
    let received = again.hello.delivered_through;
    again.resume(6, 1, 0).await;
    for n in received + 1..=20 {
        again.deliver(&place_event(n)).await;
    }
    for n in 1..=20 {
        assert_eq!(next_event(&mut zones).await, n);
    }
}

#[tokio::test]
async fn what_was_received_is_told_late_but_surely() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let zones = with_zones(&client, &mut conversation).await;
    for n in 1..=1000 {
        conversation.deliver(&place_event(n)).await;
    }
    let last = |acks: &[wire::DeliveryAck]| acks.last().map(|ack| (ack.through_seq, ack.control_through));
    conversation.acked_until(|acks| last(acks) == Some((1000, 1))).await;
    assert!(conversation.acks.len() <= 200, "not one by one: {}", conversation.acks.len());
    for n in 1..=600 {
        conversation.ack(&topic_event("t", n), 0).await;
    }
    conversation.acked_until(|acks| last(acks) == Some((1000, 601))).await;
    drop(zones);
}

#[tokio::test]
async fn what_was_taken_is_awaited_and_the_rest_is_sent_again_at_once() {
    let broker = FakeBroker::start();
    let config = broker.config("c").resend_hold_off(Duration::from_secs(3600));
    let (client, mut conversation) = connected_by(&broker, config).await;
    let mut receipts = Vec::new();
    for _ in 0..4 {
        receipts.push(client.publish_with_ack(Publish::to_topic("t").payload("p")).await.unwrap());
    }
    client.publish(Publish::to_topic("t").class(DeliveryClass::Transient)).await.unwrap();
    let mut lane = conversation.lane().await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(lane.next_publish().await);
    }
    assert!(sent.iter().all(|(publish, _)| !publish.resent));
    conversation.ack(&sent[0].1, 1).await;
    let mut receipts = receipts.into_iter();
    assert_eq!(receipts.next().unwrap().await.unwrap().matched, 1);
    conversation.cut();
    let mut again = broker.accept().await;
    assert_eq!(again.hello.lanes, [wire::LanePosition { lane: 0, lane_seq: 2 }]);
    assert_eq!(again.hello.control_through, 1);
    again.resume(6, 0, 3).await;
    again.ack(&sent[1].1, 2).await;
    again.ack(&sent[2].1, 3).await;
    let mut lane = again.lane().await;
    let (publish, event) = lane.next_publish().await;
    assert_eq!((publish.resent, publish.event), (true, sent[3].0.event.clone()), "the same bytes");
    again.ack(&event, 4).await;
    for (receipt, matched) in receipts.zip(2..) {
        assert_eq!(guarded("the receipt", receipt).await.unwrap().matched, matched);
    }
    client.publish(Publish::to_topic("t")).await.unwrap();
    let (publish, event) = lane.next_publish().await;
    assert_eq!((publish.resent, event.lane_seq), (false, 6), "the transient one is not sent twice");
}

#[tokio::test]
async fn everything_unanswered_is_sent_again_in_order_when_receivers_had_time_to_come_back() {
    let broker = FakeBroker::start();
    let hold_off = Duration::from_millis(200);
    let (client, mut conversation) = connected_by(&broker, broker.config("c").resend_hold_off(hold_off)).await;
    let first = client.publish_with_ack(Publish::to_topic("t")).await.unwrap();
    client.publish(Publish::to_topic("t")).await.unwrap();
    let mut lane = conversation.lane().await;
    lane.next_publish().await;
    lane.next_publish().await;
    conversation.cut();
    let mut again = broker.accept().await;
    let newer = client.publish_with_ack(Publish::to_topic("t")).await.unwrap();
    let welcomed = Instant::now();
    again.welcome_to(7).await;
    let mut lane = again.lane().await;
    for (lane_seq, resent) in [(1, true), (2, true), (3, false)] {
        let (publish, event) = lane.next_publish().await;
        assert_eq!((event.lane_seq, publish.resent), (lane_seq, resent));
        again.ack(&event, 9).await;
    }
    assert!(welcomed.elapsed() >= hold_off);
    assert_eq!(guarded("the receipt", first).await.unwrap().matched, 9);
    assert_eq!(guarded("the receipt", newer).await.unwrap().matched, 9);
}

#[tokio::test]
async fn lanes_on_which_nothing_is_in_doubt_do_not_wait() {
    let broker = FakeBroker::start();
    let config = broker.config("c").resend_hold_off(Duration::from_secs(3600)).close_timeout(Duration::from_millis(50));
    let (client, mut conversation) = connected_by(&broker, config).await;
    client.publish(Publish::to_topic("t").lane(1)).await.unwrap();
    conversation.lane().await.next_publish().await;
    conversation.cut();
    let mut again = broker.accept().await;
    again.welcome_to(7).await;
    client.publish(Publish::to_topic("t").lane(1)).await.unwrap();
    client.publish(Publish::to_topic("t").lane(2)).await.unwrap();
    assert_eq!(again.lane().await.next_publish().await.1.lane, 2);
    let unsent = guarded("closing", client.close()).await.unwrap_err().to_string();
    assert!(unsent.starts_with('2'), "{unsent}");
}

#[tokio::test]
async fn acknowledged_transients_are_not_sent_twice() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let transient = || Publish::to_topic("t").class(DeliveryClass::Transient);
    let receipt = client.publish_with_ack(transient()).await.unwrap();
    conversation.lane().await.next_publish().await;
    conversation.cut();
    let mut again = broker.accept().await;
    again.welcome_to(7).await;
    assert_eq!(guarded("the verdict", receipt).await, Err(PublishError::ConnectionLost));
    client.publish(transient()).await.unwrap();
    assert_eq!(again.lane().await.next_publish().await.1.lane_seq, 2);
}

#[tokio::test]
async fn requests_that_were_not_taken_are_sent_again_and_others_awaited() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let zones = with_zones(&client, &mut conversation).await;
    let control = zones.control();
    let ask = |operation: &str| {
        let (control, hands_over) = (control.clone(), operation == "hand over");
        tokio::spawn(async move {
            if hands_over { control.hand_over([1], "other").await } else { control.put([zone(2)]).await }
        })
    };
    let hand_over = ask("hand over");
    assert!(matches!(conversation.next_request().await, ClientFrame::HandOverZones(asked) if asked.request_id == 2));
    let put = ask("put");
    assert!(matches!(conversation.next_request().await, ClientFrame::UpdateZones(asked) if asked.request_id == 3));
    conversation.cut();
    let mut again = broker.accept().await;
    again.resume(6, 2, 0).await;
    again.applied(2).await;
    assert_eq!(hand_over.await.unwrap(), Ok(102), "it was taken, and its answer comes");
    let asked = again.grant_zones().await;
    assert_eq!((asked.request_id, asked.upsert[0].id), (3, 2), "it was not taken, and comes again");
    assert_eq!(put.await.unwrap(), Ok(103));
    let hand_over = ask("hand over");
    assert!(matches!(again.next_request().await, ClientFrame::HandOverZones(_)));
    again.cut();
    let mut anew = broker.accept().await;
    anew.welcome_to(8).await;
    assert_eq!(hand_over.await.unwrap(), Err(ZoneError::ConnectionLost), "it may have happened");
    assert_eq!(anew.grant_zones().await.upsert[0].id, 2);
}

#[tokio::test]
async fn an_application_may_turn_it_off() {
    let broker = FakeBroker::start();
    let config = broker.config("c").resume_window(Duration::ZERO);
    let (_client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
    assert_eq!(conversation.hello.resume_window_ms, 0);
    conversation.cut();
    assert_eq!(broker.accept().await.hello.resume_session_id, 0);
}

#[tokio::test]
async fn a_broker_that_resumes_what_was_not_asked_for_is_left() {
    let broker = FakeBroker::start();
    let connecting = tokio::spawn(Client::connect(broker.config("c")));
    let mut conversation = broker.accept().await;
    conversation.resume(5, 0, 0).await;
    guarded("the client leaves", conversation.connection.closed()).await;
    let _good = broker.welcome().await;
    connecting.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_same_broker_is_tried_first_and_then_the_next() {
    let (first, second) = (FakeBroker::start(), FakeBroker::start());
    let config = first.config("c").address(second.address.to_string()).tls(first.tls_with(&second));
    let (client, mut conversation) = connected_by(&first, config).await;
    let mut zones = with_zones(&client, &mut conversation).await;
    let receipt = client.publish_with_ack(Publish::to_topic("t")).await.unwrap();
    conversation.lane().await.next_publish().await;
    conversation.cut();
    let again = first.accept().await;
    assert_eq!(again.hello.resume_session_id, 5);
    again.close(ErrorCode::Internal, "");
    let mut elsewhere = second.accept().await;
    assert_eq!(elsewhere.hello.resume_session_id, 0, "the number means nothing there");
    assert_eq!(elsewhere.hello.lanes.len(), 0, "nor is anything known of lanes");
    elsewhere.welcome_to(5).await;
    elsewhere.grant_zones().await;
    let (publish, event) = elsewhere.lane().await.next_publish().await;
    assert!(publish.resent);
    elsewhere.ack(&event, 1).await;
    assert_eq!(guarded("the receipt", receipt).await.unwrap().matched, 1);
    assert!(matches!(guarded("a word", zones.next()).await, Some(ZoneItem::Interrupted)));
}

#[tokio::test]
async fn a_long_renewal_may_take_its_time_as_long_as_it_gets_on() {
    let broker = FakeBroker::start();
    let patience = Duration::from_secs(3);
    let (client, mut conversation) = connected_by(&broker, broker.config("c").attempt_timeout(patience)).await;
    let many = (1..=2000).map(zone);
    let (zones, _) = tokio::join!(client.subscribe_zones(many), conversation.grant_zones());
    let _zones = zones.unwrap();
    conversation.cut();
    let mut again = broker.accept().await;
    again.welcome_to(7).await;
    let (mut renewed, mut requests) = (0, 0);
    let mut states = client.states();
    while renewed < 2000 {
        let ClientFrame::UpdateZones(asked) = again.next_request().await else { panic!("zones") };
        (renewed, requests) = (renewed + asked.upsert.len(), requests + 1);
        // What is tested is time itself: each answer comes late, but not too late.
        tokio::time::sleep(patience * 6 / 10).await;
        again.applied(asked.request_id).await;
    }
    assert!(requests >= 2);
    let connected = states.wait_for(|state| matches!(state, ConnectionState::Connected { session_id: 7, .. }));
    guarded("connected", connected).await.unwrap();
    assert_eq!(client.stats().connections, 2);
}
