//! Zones and topics: asking for them, changing them, reading, and having them renewed.

use zonecast_client::{
    Client, ConnectionState, ErrorCode, GapReason, SubscribeError, TopicItem, Zone, ZoneError, ZoneItem, ZoneSpec,
};
use zonecast_protocol::wire::{self, client_frame::Frame as ClientFrame, server_frame::Frame as ServerFrame};

use crate::broker::{Conversation, FakeBroker, guarded, place_event, topic_event};

async fn connected(broker: &FakeBroker) -> (Client, Conversation) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    (client.unwrap(), conversation)
}

fn zone(id: u32) -> ZoneSpec {
    ZoneSpec::new(id, "earth", Zone::new(0.0, -10.0, 100.0, 50.0).unwrap()).kinds(["quake"])
}

fn ids(zones: &[wire::Zone]) -> Vec<u32> {
    zones.iter().map(|zone| zone.id).collect()
}

#[tokio::test]
async fn zones_are_in_force_when_the_call_returns_and_their_events_come() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, asked) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    assert!(asked.replace_all && asked.upsert == [wire_zone(1)]);
    for n in 1..=3000 {
        conversation.deliver(&place_event(n)).await;
    }
    conversation.gap(4).await;
    for n in 1..=3000 {
        let item = guarded("an event", zones.next()).await.unwrap();
        let event = item.event().expect("an event");
        assert_eq!((event.lane_seq(), event.world(), event.source()), (n, Some("earth"), 77));
    }
    let Some(ZoneItem::Gap { from_seq, to_seq, reason }) = zones.next().await else { panic!("a gap") };
    assert_eq!((from_seq, to_seq, reason), (3001, 3004, GapReason::SlowConsumer));
}

fn wire_zone(id: u32) -> wire::Zone {
    wire::Zone {
        id,
        world: "earth".into(),
        min_x: 0.0,
        min_y: -10.0,
        max_x: 100.0,
        max_y: 50.0,
        kinds: vec!["quake".into()],
    }
}

#[tokio::test]
async fn zones_change_while_another_task_reads() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    let control = zones.control();
    let reading = tokio::spawn(async move { zones.next_event().await.map(|event| (event, zones)) });
    let (epoch, asked) = tokio::join!(control.put([zone(2)]), conversation.grant_zones());
    assert_eq!((epoch.unwrap(), asked.replace_all, ids(&asked.upsert)), (100 + asked.request_id, false, vec![2]));
    let (epoch, asked) = tokio::join!(control.remove([1]), conversation.grant_zones());
    assert_eq!((epoch.is_ok(), asked.remove), (true, vec![1]));
    let (epoch, asked) = tokio::join!(control.set([zone(3)]), conversation.grant_zones());
    assert_eq!((epoch.is_ok(), asked.replace_all, ids(&asked.upsert)), (true, true, vec![3]));
    let (epoch, asked) = tokio::join!(control.hand_over([3], "other"), async {
        let ClientFrame::HandOverZones(asked) = conversation.control.next().await else { panic!("a hand-over") };
        conversation.applied(asked.request_id).await;
        asked
    });
    assert_eq!((epoch.is_ok(), asked.zone_ids, &asked.to_client_id[..]), (true, vec![3], "other"));
    conversation.deliver(&place_event(1)).await;
    let (_, zones) = reading.await.unwrap().unwrap();
    drop(zones);
    assert_eq!(control.put([zone(1)]).await, Err(ZoneError::SubscriptionEnded));
    let given_up = conversation.grant_zones().await;
    assert!(given_up.replace_all && given_up.upsert.is_empty());
}

#[tokio::test]
async fn there_is_one_zone_subscription_at_a_time() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([]), conversation.grant_zones());
    assert_eq!(client.subscribe_zones([]).await.unwrap_err(), ZoneError::AlreadySubscribed);
    drop(zones);
    conversation.grant_zones().await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    zones.unwrap();
}

#[tokio::test]
async fn refusals_change_nothing() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let zones = zones.unwrap();
    assert!(matches!(zones.put([zone(2), zone(2)]).await, Err(ZoneError::Invalid(_))));
    assert!(matches!(zones.put([zone(0)]).await, Err(ZoneError::Invalid(_))));
    let refuse = async |conversation: &mut Conversation| {
        let ClientFrame::UpdateZones(asked) = conversation.control.next().await else { panic!("zones") };
        let (request_id, code) = (asked.request_id, ErrorCode::PermissionDenied.into());
        let refused = wire::RequestRefused { request_id, code, message: "not this world".into() };
        conversation.send(ServerFrame::RequestRefused(refused)).await;
    };
    let (refused, ()) = tokio::join!(zones.put([zone(2)]), refuse(&mut conversation));
    let Err(ZoneError::Refused(refusal)) = refused else { panic!("refused") };
    assert_eq!((refusal.code, &refusal.message[..]), (ErrorCode::PermissionDenied, "not this world"));
    conversation.close(ErrorCode::ShuttingDown, "");
    let mut again = broker.welcome().await;
    assert_eq!(ids(&again.grant_zones().await.upsert), [1], "only what was granted is renewed");
}

#[tokio::test]
async fn everything_is_renewed_before_it_counts_as_connected() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1), zone(2)]), conversation.grant_zones());
    let (topic, _) = tokio::join!(client.subscribe("users.*"), conversation.grant_topics());
    let (group, _) = tokio::join!(client.queue_subscribe("work.>", "resizers"), conversation.grant_topics());
    let (mut zones, mut topic, _group) = (zones.unwrap(), topic.unwrap(), group.unwrap());
    let mut states = client.states();
    conversation.close(ErrorCode::ShuttingDown, "");
    guarded("the loss", states.wait_for(|state| !matches!(state, ConnectionState::Connected { .. }))).await.unwrap();
    let mut again = broker.welcome().await;
    let ClientFrame::UpdateZones(renewed) = again.control.next().await else { panic!("zones") };
    let ClientFrame::UpdateTopics(topics) = again.control.next().await else { panic!("topics") };
    assert_eq!(ids(&renewed.upsert), [1, 2]);
    let patterns = topics.add.iter().map(|topic| (&topic.pattern[..], &topic.queue_group[..])).collect::<Vec<_>>();
    assert_eq!(patterns, [("users.*", ""), ("work.>", "resizers")]);
    again.applied(renewed.request_id).await;
    assert!(!matches!(states.current(), ConnectionState::Connected { .. }));
    again.applied(topics.request_id).await;
    guarded("connected", states.wait_for(|state| matches!(state, ConnectionState::Connected { .. }))).await.unwrap();
    again.deliver(&place_event(1)).await;
    again.deliver(&topic_event("users.created", 2)).await;
    assert!(matches!(zones.next().await, Some(ZoneItem::Interrupted)));
    assert!(zones.next().await.unwrap().event().is_some());
    assert!(matches!(topic.next().await, Some(TopicItem::Interrupted)));
    assert!(topic.next().await.unwrap().event().is_some());
}

/// The next request, refused.
async fn refuse(conversation: &mut Conversation) -> Vec<u32> {
    let (request_id, refused) = match conversation.next_request().await {
        ClientFrame::UpdateZones(update) => (update.request_id, ids(&update.upsert)),
        ClientFrame::UpdateTopics(update) => (update.request_id, update.add.iter().map(|topic| topic.id).collect()),
        other => panic!("{other:?}"),
    };
    let (code, message) = (ErrorCode::PermissionDenied as i32, "not any more".to_owned());
    conversation.send(ServerFrame::RequestRefused(wire::RequestRefused { request_id, code, message })).await;
    refused
}

#[tokio::test]
async fn what_a_broker_refuses_to_renew_is_dropped_and_the_rest_goes_on() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1), zone(2), zone(3)]), conversation.grant_zones());
    let (topic, _) = tokio::join!(client.subscribe("users.*"), conversation.grant_topics());
    let (mut zones, mut topic) = (zones.unwrap(), topic.unwrap());
    conversation.close(ErrorCode::ShuttingDown, "");
    let mut again = broker.welcome().await;
    let change = tokio::spawn({
        let control = zones.control();
        async move { control.put([zone(4)]).await }
    });
    assert_eq!(refuse(&mut again).await, [1, 2, 3]);
    assert_eq!(refuse(&mut again).await, [1], "the topic");
    // In halves: the first is good, in the second only the third is.
    assert_eq!(ids(&again.grant_zones().await.upsert), [1]);
    assert_eq!(refuse(&mut again).await, [2, 3]);
    assert_eq!(refuse(&mut again).await, [2]);
    assert_eq!(ids(&again.grant_zones().await.upsert), [3]);
    assert_eq!(ids(&again.grant_zones().await.upsert), [4], "changes come behind the whole renewal");
    guarded("the change", change).await.unwrap().unwrap();
    again.deliver(&place_event(1)).await;
    let mut refused = Vec::new();
    loop {
        match guarded("an item", zones.next()).await.unwrap() {
            ZoneItem::Refused { zones, refusal } => {
                assert_eq!((refusal.code, &refusal.message[..]), (ErrorCode::PermissionDenied, "not any more"));
                refused.extend(zones.iter().map(ZoneSpec::id));
            }
            ZoneItem::Interrupted => {}
            ZoneItem::Event(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, [2]);
    while !matches!(guarded("an item", topic.next()).await, Some(TopicItem::Refused { .. })) {}
    again.close(ErrorCode::ShuttingDown, "");
    let mut third = broker.welcome().await;
    assert_eq!(ids(&third.grant_zones().await.upsert), [1, 3, 4], "and what was refused is not asked for again");
    let connected = |state: &ConnectionState| matches!(state, ConnectionState::Connected { .. });
    guarded("connected", client.states().wait_for(connected)).await.unwrap();
}

#[tokio::test]
async fn what_makes_too_long_a_frame_for_the_next_broker_is_refused_and_not_sent() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let long = zone(2).kinds((0..30).map(|n| format!("{n:060}")));
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1), long.clone()]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    let pending = tokio::spawn({
        let control = zones.control();
        async move { control.put([ZoneSpec::new(3, "earth", long.zone()).kinds(long.kind_filter().to_vec())]).await }
    });
    assert!(matches!(conversation.next_request().await, ClientFrame::UpdateZones(_)));
    conversation.close(ErrorCode::ShuttingDown, "");
    let mut again = broker.accept().await;
    again.welcome_with(|welcome| welcome.limits.as_mut().unwrap().frame_bytes_max = 1000).await;
    assert_eq!(ids(&again.grant_zones().await.upsert), [1]);
    let refused = guarded("the answer", pending).await.unwrap();
    assert!(matches!(&refused, Err(ZoneError::Refused(refusal)) if refusal.message.contains("1000")), "{refused:?}");
    loop {
        if let ZoneItem::Refused { zones, .. } = guarded("an item", zones.next()).await.unwrap() {
            assert_eq!(zones.iter().map(ZoneSpec::id).collect::<Vec<_>>(), [2]);
            break;
        }
    }
}

#[tokio::test]
async fn a_change_that_the_loss_overtakes_is_made_on_the_next_connection() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let zones = zones.unwrap();
    let control = zones.control();
    let change = tokio::spawn({
        let control = control.clone();
        async move { control.put([zone(2)]).await }
    });
    assert!(matches!(conversation.control.next().await, ClientFrame::UpdateZones(_)));
    let hand_over = tokio::spawn(async move { control.hand_over([1], "other").await });
    assert!(matches!(conversation.control.next().await, ClientFrame::HandOverZones(_)));
    conversation.close(ErrorCode::ShuttingDown, "");
    assert_eq!(hand_over.await.unwrap(), Err(ZoneError::ConnectionLost), "it may have happened");
    let mut again = broker.welcome().await;
    assert_eq!(ids(&again.grant_zones().await.upsert), [1]);
    assert_eq!(ids(&again.grant_zones().await.upsert), [2]);
    change.await.unwrap().unwrap();
}

#[tokio::test]
async fn zones_that_are_handed_over_are_shown_and_renewed() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    let given = 1 << 31;
    let received = wire::ZonesReceived { from_client_id: "other".into(), zones: vec![wire_zone(given)], epoch: 9 };
    conversation.send(ServerFrame::ZonesReceived(received.clone())).await;
    let Some(ZoneItem::Received { from, zones: received_zones, epoch }) = zones.next().await else {
        panic!("received")
    };
    assert_eq!((&from[..], epoch, received_zones[0].id()), ("other", 9, given));
    conversation.close(ErrorCode::ShuttingDown, "");
    let mut again = broker.welcome().await;
    let renewed = again.grant_zones().await;
    assert_eq!(ids(&renewed.upsert), [1, given - 1], "under an id of the client's range");
    let (removed, asked) = tokio::join!(zones.remove([given]), again.grant_zones());
    assert_eq!((removed.is_ok(), asked.remove), (true, vec![given - 1]));
    assert!(matches!(zones.next().await, Some(ZoneItem::Interrupted)));
    // The new session's broker counts anew.
    again.send(ServerFrame::ZonesReceived(received)).await;
    assert!(matches!(zones.next().await, Some(ZoneItem::Received { .. })));
}

#[tokio::test]
async fn an_event_reaches_every_matching_subscription_and_a_group_once() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (first, _) = tokio::join!(client.subscribe("users.*"), conversation.grant_topics());
    let (second, _) = tokio::join!(client.subscribe("users.created"), conversation.grant_topics());
    let (mut first, mut second) = (first.unwrap(), second.unwrap());
    let error = client.queue_subscribe("users.>", "g").await.unwrap_err();
    assert!(matches!(error, SubscribeError::OverlapsQueueGroup { .. }), "{error:?}");
    let (left, _) = tokio::join!(client.queue_subscribe("work.>", "g"), conversation.grant_topics());
    let (right, _) = tokio::join!(client.queue_subscribe("work.>", "g"), conversation.grant_topics());
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    conversation.deliver(&topic_event("users.created", 1)).await;
    conversation.deliver(&topic_event("users.gone", 2)).await;
    conversation.deliver(&topic_event("work.a", 3)).await;
    conversation.deliver(&topic_event("work.b", 4)).await;
    assert_eq!(first.next_event().await.unwrap().lane_seq(), 1);
    assert_eq!(first.next_event().await.unwrap().lane_seq(), 2);
    assert_eq!(second.next_event().await.unwrap().lane_seq(), 1);
    let shared = [left.next_event().await.unwrap().lane_seq(), right.next_event().await.unwrap().lane_seq()];
    assert!(shared == [3, 4] || shared == [4, 3], "{shared:?}");
}

#[tokio::test]
async fn a_dropped_subscription_is_given_up_and_blocks_nobody() {
    let broker = FakeBroker::start();
    let config = broker.config("c").delivery_queue_items_max(1);
    let (client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let (client, mut conversation) = (client.unwrap(), conversation);
    let (dropped, asked) = tokio::join!(client.subscribe("a"), conversation.grant_topics());
    let (kept, _) = tokio::join!(client.subscribe("b"), conversation.grant_topics());
    let mut kept = kept.unwrap();
    for n in 0..10 {
        conversation.deliver(&topic_event("a", 1 + n)).await;
    }
    conversation.deliver(&topic_event("b", 100)).await;
    drop(dropped);
    assert_eq!(conversation.grant_topics().await.remove, [asked.add[0].id]);
    assert_eq!(guarded("the neighbour's event", kept.next_event()).await.unwrap().lane_seq(), 100);
}

#[tokio::test]
async fn a_slow_reader_is_felt_by_the_broker_and_loses_nothing() {
    let broker = FakeBroker::start();
    let mut transport = zonecast_client::TransportOptions::default();
    transport.stream_receive_window_bytes = 32 * 1024;
    let config = broker.config("c").delivery_queue_items_max(10).transport(transport);
    let (client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let (client, mut conversation) = (client.unwrap(), conversation);
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    let sending = tokio::spawn(async move {
        for n in 1..=2000 {
            let mut event = place_event(n);
            event.payload = vec![0; 1000].into();
            conversation.deliver(&event).await;
        }
        conversation
    });
    // Acknowledgements come on another stream, which the full queue does not hold up.
    let states = client.states();
    assert!(matches!(states.current(), ConnectionState::Connected { .. }) && !sending.is_finished());
    for n in 1..=2000 {
        assert_eq!(guarded("an event", zones.next_event()).await.unwrap().lane_seq(), n);
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn closing_ends_the_streams() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (zones, _) = tokio::join!(client.subscribe_zones([zone(1)]), conversation.grant_zones());
    let (topic, _) = tokio::join!(client.subscribe("a"), conversation.grant_topics());
    let (mut zones, mut topic) = (zones.unwrap(), topic.unwrap());
    let (closed, ()) = tokio::join!(client.close(), async {
        assert!(matches!(conversation.control.next().await, ClientFrame::Goodbye(_)));
        conversation.close(ErrorCode::Unspecified, "");
    });
    closed.unwrap();
    assert!(zones.next().await.is_none() && topic.next().await.is_none());
    assert_eq!(zones.put([zone(2)]).await, Err(ZoneError::Closed));
    assert_eq!(client.subscribe("b").await.unwrap_err(), SubscribeError::Closed);
}

#[tokio::test]
async fn of_zones_that_are_handed_over_every_one_is_shown_however_late_it_is_read() {
    let broker = FakeBroker::start();
    let config = broker.config("c").delivery_queue_items_max(1);
    let (client, mut conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let client = client.unwrap();
    let (zones, _) = tokio::join!(client.subscribe_zones([]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    for n in 0..2000 {
        let given = vec![wire_zone((1 << 31) + n)];
        let received = wire::ZonesReceived { from_client_id: "other".into(), zones: given, epoch: 1 };
        conversation.send(ServerFrame::ZonesReceived(received)).await;
    }
    // Behind them all, so it tells that the client has read them.
    let (topic, _) = tokio::join!(client.subscribe("a"), conversation.grant_topics());
    topic.unwrap();
    for n in 0..2000 {
        let item = guarded("a zone", zones.next()).await.unwrap();
        let ZoneItem::Received { zones, .. } = item else { panic!("{item:?}") };
        assert_eq!(zones[0].id(), (1 << 31) + n);
    }
}
