//! Publishing, acknowledgements, back-pressure, and what a lost connection does to them.

use std::time::Duration;

use zonecast_client::{Circle, Client, ErrorCode, Publish, PublishError, RefusalItem, RequestError};
use zonecast_protocol::wire::{self, client_frame::Frame as ClientFrame, server_frame::Frame as ServerFrame};

use crate::broker::{Conversation, FakeBroker, guarded, topic_event};

async fn connected(broker: &FakeBroker) -> (Client, Conversation) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    (client.unwrap(), conversation)
}

#[tokio::test]
async fn an_event_arrives_as_it_was_published() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let circle = Circle::new(103.0, 54.0, 5.0).unwrap();
    let quake = Publish::at("earth", circle).kind("quake").payload("M5").lane(2).exclude_self();
    let id = client.publish(quake).await.unwrap();
    let (publish, event) = conversation.lane().await.next_publish().await;
    assert_eq!((publish.ack, publish.exclude_self, publish.resent), (1, true, false));
    assert_eq!((event.source, event.lane, event.lane_seq), (client.source(), 2, 1));
    assert_eq!((id.source, id.lane, id.lane_seq), (client.source(), 2, 1));
    let place = wire::Place { world: "earth".into(), x: 103.0, y: 54.0, radius: 5.0 };
    assert_eq!(event.target, Some(wire::event::Target::Place(place)));
    assert!(event.kind == "quake" && &event.payload[..] == b"M5" && event.published_at_us > 1_600_000_000_000_000);
}

#[tokio::test]
async fn lanes_are_numbered_and_ordered_each_by_itself() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let publishing = tokio::spawn(async move {
        for n in 0..5000_u32 {
            client.publish(Publish::to_topic("t").lane(u8::from(n % 2 == 1)).payload(vec![0; 100])).await.unwrap();
        }
        client
    });
    for _ in 0..2 {
        let mut lane = conversation.lane().await;
        for lane_seq in 1..=2500 {
            assert_eq!(lane.next_publish().await.1.lane_seq, lane_seq);
        }
    }
    publishing.await.unwrap();
}

#[tokio::test]
async fn many_acknowledgements_may_be_under_way() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let mut receipts = Vec::new();
    for _ in 0..100 {
        receipts.push(client.publish_with_ack(Publish::to_topic("t")).await.unwrap());
    }
    let mut lane = conversation.lane().await;
    for n in 0..100 {
        let (publish, event) = lane.next_publish().await;
        assert_eq!(publish.ack, 1);
        conversation.ack(&event, n).await;
    }
    for (n, receipt) in (0..100).zip(receipts).rev() {
        assert_eq!(receipt.await.unwrap().matched, n);
    }
}

#[tokio::test]
async fn refusals_are_seen_with_and_without_acknowledgement() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let mut refusals = client.refusals();
    let receipt = client.publish_with_ack(Publish::to_topic("t")).await.unwrap();
    client.publish(Publish::to_topic("t")).await.unwrap();
    for lane_seq in 1..=2 {
        let code = ErrorCode::PermissionDenied.into();
        let refused = wire::PublishRefused { lane: 0, lane_seq, code, message: "no right to t".into() };
        conversation.send(ServerFrame::PublishRefused(refused)).await;
    }
    let Err(PublishError::Refused(refusal)) = receipt.await else { panic!("refused") };
    assert_eq!((refusal.code, &refusal.message[..]), (ErrorCode::PermissionDenied, "no right to t"));
    let Some(RefusalItem::Refused(refused)) = guarded("the refusal", refusals.next()).await else { panic!("refused") };
    assert_eq!((refused.lane_seq, refused.refusal.code), (2, ErrorCode::PermissionDenied));
    assert_eq!(client.stats().refused, 2);
}

#[tokio::test]
async fn a_refusal_whose_receipt_was_dropped_is_seen_like_one_that_nobody_asked_for() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let mut refusals = client.refusals();
    drop(client.publish_with_ack(Publish::to_topic("a")).await.unwrap());
    conversation.lane().await.next_publish().await;
    let refused = wire::PublishRefused { lane: 0, lane_seq: 1, code: 51, message: "no".into() };
    conversation.send(ServerFrame::PublishRefused(refused)).await;
    let Some(RefusalItem::Refused(refused)) = guarded("the refusal", refusals.next()).await else { panic!("refused") };
    assert_eq!((refused.lane, refused.lane_seq, refused.refusal.code), (0, 1, ErrorCode::PermissionDenied));
}

#[tokio::test]
async fn what_the_broker_would_refuse_is_not_sent() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let Err(PublishError::Invalid(refusal)) = client.publish(Publish::to_topic("a b")).await else { panic!("invalid") };
    assert_eq!(refusal.code, ErrorCode::InvalidName);
    assert!(matches!(client.publish(Publish::to_topic("a").lane(16)).await, Err(PublishError::Invalid(_))));
    client.publish(Publish::to_topic("a")).await.unwrap();
    assert_eq!(conversation.lane().await.next_publish().await.1.lane_seq, 1, "nothing was used up");
}

#[tokio::test]
async fn a_full_lane_holds_the_publisher_back_and_is_emptied_by_the_next_connection() {
    let broker = FakeBroker::start();
    let config = broker.config("c").lane_queue_bytes_max(10_000).publish_timeout(Duration::from_millis(20));
    let (client, conversation) = tokio::join!(Client::connect(config), broker.welcome());
    let client = client.unwrap();
    conversation.close(ErrorCode::ShuttingDown, "");
    let waiting = broker.accept().await;
    let mut queued = 0;
    let error = loop {
        match client.publish(Publish::to_topic("t").payload(vec![0; 1000])).await {
            Ok(_) => queued += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PublishError::TimedOut { .. }), "{error:?}");
    assert!((8..=9).contains(&queued), "{queued}");
    let full = client.try_publish(&Publish::to_topic("t").payload(vec![0; 1000]));
    assert_eq!(full, Err(PublishError::LaneFull));
    let mut waiting = waiting;
    waiting.welcome().await;
    let mut lane = waiting.lane().await;
    for lane_seq in 1..=queued {
        let (_, event) = lane.next_publish().await;
        assert_eq!(event.lane_seq, lane_seq);
        let full = client.try_publish(&Publish::to_topic("t").payload(vec![0; 9_800]));
        assert_eq!(full, Err(PublishError::LaneFull), "it is written, but not answered");
        waiting.ack(&event, 1).await;
    }
    let greater_than_the_queue = Publish::to_topic("t").payload(vec![0; 50_000]);
    guarded("room", async {
        while client.try_publish(&greater_than_the_queue) == Err(PublishError::LaneFull) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(lane.next_publish().await.1.payload.len(), 50_000);
}

#[tokio::test]
async fn a_request_finds_its_reply() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move {
            let first = client.request("svc.echo", "hello", Duration::from_secs(20)).await;
            (first, client.request("svc.none", "hello", Duration::from_secs(20)).await)
        }
    });
    let inbox = format!("_inbox.{:016x}.>", client.source());
    assert_eq!(conversation.grant_topics().await.add[0].pattern, inbox);
    let mut lane = conversation.lane().await;
    let (publish, event) = lane.next_publish().await;
    assert_eq!(publish.ack, 1, "so that an absent service is known at once");
    conversation.deliver(&topic_event(&event.reply_to, 1)).await;
    conversation.ack(&event, 1).await;
    let (_, event) = lane.next_publish().await;
    conversation.ack(&event, 0).await;
    let (first, second) = asking.await.unwrap();
    assert_eq!(first.unwrap().payload(), b"1");
    assert_eq!(second.unwrap_err(), RequestError::NoResponder { topic: "svc.none".into() });
    // A reply that nobody awaits any more is only counted.
    conversation.deliver(&topic_event(&event.reply_to, 2)).await;
    let error = client.request("svc.slow", "", Duration::from_millis(30)).await.unwrap_err();
    assert!(matches!(error, RequestError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_is_answered_where_it_says() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let (subscription, _) = tokio::join!(client.subscribe("svc.echo"), conversation.grant_topics());
    let mut subscription = subscription.unwrap();
    let mut asked = topic_event("svc.echo", 1);
    asked.reply_to = "_inbox.1.1".into();
    conversation.deliver(&asked).await;
    conversation.deliver(&topic_event("svc.echo", 2)).await;
    let request = subscription.next_event().await.unwrap();
    client.reply(&request, request.payload()).await.unwrap();
    let (_, reply) = conversation.lane().await.next_publish().await;
    assert_eq!(reply.target, Some(wire::event::Target::Topic("_inbox.1.1".into())));
    let no_request = subscription.next_event().await.unwrap();
    assert_eq!(client.reply(&no_request, "").await, Err(PublishError::NoReplyTopic));
    drop((subscription, client));
    assert!(matches!(conversation.control.next().await, ClientFrame::UpdateTopics(_)));
}
