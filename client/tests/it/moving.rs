//! From one broker to the next, or to the same with other limits.

use std::time::{Duration, Instant};

use zonecast_client::{
    Client, ConnectionState, DeliveryClass, ErrorCode, LinkError, Publish, PublishError, RefusalItem, ZoneItem,
    ZoneSpec,
};
use zonecast_protocol::wire::{self, server_frame::Frame as ServerFrame};

use crate::broker::{Conversation, FakeBroker, guarded};

async fn connected(broker: &FakeBroker) -> (Client, Conversation) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    (client.unwrap(), conversation)
}

async fn disconnected(client: &Client) -> (LinkError, Duration) {
    let mut states = client.states();
    let disconnected = states.wait_for(|state| matches!(state, ConnectionState::Disconnected { .. }));
    match guarded("the loss", disconnected).await {
        Some(ConnectionState::Disconnected { reason, retry_in }) => (reason, retry_in),
        other => panic!("{other:?}"),
    }
}

fn go_away(reconnect_after_ms: u32) -> ServerFrame {
    ServerFrame::GoAway(wire::GoAway { code: 23, message: "restarting".into(), reconnect_after_ms })
}

#[tokio::test]
async fn the_patience_that_a_broker_asks_for_is_its_own_and_bounded() {
    let (broker, other) = (FakeBroker::start(), FakeBroker::start());
    let config = broker.config("c").address(other.address.to_string()).tls(broker.tls_with(&other));
    let (client, mut conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let client = client.unwrap();
    let mut refusals = client.refusals();
    conversation.send(go_away(u32::MAX)).await;
    // Read behind the GoAway, so it tells that the client knows.
    conversation.send(ServerFrame::PublishRefused(wire::PublishRefused::default())).await;
    guarded("the client to know", refusals.next()).await;
    conversation.close(ErrorCode::ShuttingDown, "");
    let left = Instant::now();
    let again = other.welcome().await;
    assert!(left.elapsed() < Duration::from_secs(20), "the other broker has asked for nothing");
    again.close(ErrorCode::ShuttingDown, "");
    // Not the loss of the first connection, after which there was nothing to wait for.
    let long = Duration::from_secs(30);
    let waits =
        |state: &ConnectionState| matches!(state, ConnectionState::Disconnected { retry_in, .. } if *retry_in > long);
    let mut states = client.states();
    let Some(ConnectionState::Disconnected { retry_in, .. }) = guarded("the wait", states.wait_for(waits)).await else {
        panic!("disconnected")
    };
    assert!(
        (30.0..=61.1).contains(&retry_in.as_secs_f64()),
        "the first is left in peace, but not for ever: {retry_in:?}"
    );
}

#[tokio::test]
async fn the_patience_that_is_asked_for_instead_of_a_welcome_is_kept() {
    let broker = FakeBroker::start();
    let (client, conversation) = connected(&broker).await;
    conversation.cut();
    let mut again = broker.accept().await;
    again.send(go_away(50_000)).await;
    let mut states = client.states();
    let asked = |state: &ConnectionState| {
        matches!(state, ConnectionState::Disconnected { reason: LinkError::Ended { code: 23, .. }, .. })
    };
    guarded("the refusal", states.wait_for(asked)).await.unwrap();
    let (_, retry_in) = disconnected(&client).await;
    assert!((50.0..=51.1).contains(&retry_in.as_secs_f64()), "{retry_in:?}");
}

#[tokio::test]
async fn what_a_new_brokers_limits_forbid_is_refused_and_the_rest_is_sent() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let mut refusals = client.refusals();
    // One that was sent, and others that were not.
    let sent = client.publish_with_ack(Publish::to_topic("a").payload(vec![1; 2000])).await.unwrap();
    conversation.lane().await.next_publish().await;
    conversation.cut();
    disconnected(&client).await;
    let long = client.publish_with_ack(Publish::to_topic("a").payload(vec![2; 2000])).await.unwrap();
    client.publish(Publish::to_topic("a").payload(vec![3; 2000])).await.unwrap();
    let far = client.publish_with_ack(Publish::to_topic("a").lane(3)).await.unwrap();
    let short = client.publish_with_ack(Publish::to_topic("a").payload("short")).await.unwrap();
    let mut again = broker.accept().await;
    again
        .welcome_with(|welcome| {
            let limits = welcome.limits.as_mut().unwrap();
            (limits.frame_bytes_max, limits.lanes_max) = (1000, 3);
        })
        .await;
    for (receipt, what) in [(sent, "1000 bytes"), (long, "1000 bytes"), (far, "lanes 0 to 2")] {
        let answer = guarded("the refusal", receipt).await;
        assert!(matches!(&answer, Err(PublishError::Refused(refusal)) if refusal.message.contains(what)), "{answer:?}");
    }
    let Some(RefusalItem::Refused(refused)) = guarded("a refusal", refusals.next()).await else { panic!("refused") };
    assert_eq!((refused.lane, refused.lane_seq), (0, 3));
    let (publish, event) = again.lane().await.next_publish().await;
    assert_eq!((&event.payload[..], publish.resent), (&b"short"[..], false));
    again.ack(&event, 0).await;
    guarded("the receipt", short).await.unwrap();
    let too_long = client.publish(Publish::to_topic("a").payload(vec![4; 1000])).await;
    assert!(matches!(&too_long, Err(PublishError::Invalid(refusal)) if refusal.code == ErrorCode::PayloadTooLarge));
    client.publish(Publish::to_topic("a").payload(vec![4; 900])).await.unwrap();
}

/// A broker whose operator has taken lanes away does not know what to make of a session that had more.
#[tokio::test]
async fn a_session_that_cannot_be_resumed_is_no_reason_to_stay_away() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = tokio::join!(Client::connect(broker.config("c")), async {
        let mut conversation = broker.accept().await;
        conversation.welcome_to(5).await;
        conversation
    });
    let client = client.unwrap();
    let (zones, _) = tokio::join!(client.subscribe_zones(Vec::<ZoneSpec>::new()), conversation.grant_zones());
    let mut zones = zones.unwrap();
    client.publish(Publish::to_topic("a").lane(7)).await.unwrap();
    conversation.lane().await.next_publish().await;
    conversation.cut();
    let resuming = broker.accept().await;
    assert_eq!((resuming.hello.resume_session_id, resuming.hello.lanes.len()), (5, 1));
    resuming.close(ErrorCode::InvalidHello, "lanes has 1 entries; there are 0 lanes");
    let mut anew = broker.accept().await;
    assert_eq!((anew.hello.resume_session_id, anew.hello.lanes.len()), (0, 0));
    anew.welcome().await;
    assert!(matches!(guarded("a word", zones.next()).await, Some(ZoneItem::Interrupted)));
}

#[tokio::test]
async fn of_what_is_soon_out_of_date_only_the_newest_waits_for_a_connection() {
    let broker = FakeBroker::start();
    let (client, conversation) = connected(&broker).await;
    conversation.cut();
    let mut again = broker.accept().await;
    // Twice as much as waits, on a lane that was never used, with something between that must arrive.
    let position = |n: u8| Publish::to_topic("a").class(DeliveryClass::Transient).payload(vec![n; 1000]).lane(1);
    for n in 0..128 {
        client.publish(position(n)).await.unwrap();
        if n == 3 {
            client.publish(Publish::to_topic("a").payload("kept").lane(1)).await.unwrap();
        }
    }
    guarded("the driver to know of the lane", async {
        while client.stats().dropped_unsent == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let dropped = client.stats().dropped_unsent;
    assert!((62..70).contains(&dropped), "{dropped}");
    again.welcome().await;
    let mut lane = again.lane().await;
    let (_, kept) = lane.next_publish().await;
    assert_eq!(&kept.payload[..], b"kept");
    for n in dropped..128 {
        let (_, event) = lane.next_publish().await;
        assert_eq!(u64::from(event.payload[0]), n);
    }
}

#[tokio::test]
async fn a_request_that_nobody_awaits_any_more_is_taken_back() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.request("svc.buy", "", Duration::from_millis(300)).await.map(drop) }
    });
    conversation.grant_topics().await;
    conversation.lane().await.next_publish().await;
    guarded("the time-out", asking).await.unwrap().unwrap_err();
    conversation.cut();
    let mut again = broker.accept().await;
    // And one that was never sent.
    let unsent = tokio::spawn({
        let client = client.clone();
        async move { client.request("svc.buy", "", Duration::from_secs(30)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    unsent.abort();
    assert!(unsent.await.unwrap_err().is_cancelled());
    client.publish(Publish::to_topic("other")).await.unwrap();
    again.welcome().await;
    again.grant_topics().await;
    let (_, event) = again.lane().await.next_publish().await;
    assert!(matches!(&event.target, Some(wire::event::Target::Topic(topic)) if topic == "other"), "{event:?}");
}
