//! Events that are acknowledged when they are processed: by whom they are received, and by whom they are published.

use std::time::Duration;

use zonecast_client::{
    Client, DeliveryClass, ErrorCode, Event, Publish, PublishError, TopicSubscription, Zone, ZoneSpec, ZoneSubscription,
};
use zonecast_protocol::wire::{self, server_frame::Frame as ServerFrame};

use crate::broker::{Conversation, FakeBroker, guarded, place_event, topic_event};

async fn connected(broker: &FakeBroker) -> (Client, Conversation) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), async {
        let mut conversation = broker.accept().await;
        conversation.welcome_to(5).await;
        conversation
    });
    (client.unwrap(), conversation)
}

async fn receiver(broker: &FakeBroker) -> (Client, Conversation, ZoneSubscription) {
    let (client, mut conversation) = connected(broker).await;
    let zone = ZoneSpec::new(1, "earth", Zone::new(0.0, 0.0, 100.0, 50.0).unwrap());
    let (zones, _) = tokio::join!(client.subscribe_zones([zone]), conversation.grant_zones());
    (client, conversation, zones.unwrap())
}

async fn topic(client: &Client, conversation: &mut Conversation, pattern: &str) -> TopicSubscription {
    let (topic, _) = tokio::join!(client.subscribe(pattern), conversation.grant_topics());
    topic.unwrap().explicit()
}

async fn next(zones: &mut ZoneSubscription) -> Event {
    guarded("an event", zones.next_event()).await.unwrap()
}

/// Everything that the client had to say before this went out.
async fn quiet(client: &Client, conversation: &mut Conversation) {
    let (topic, _) = tokio::join!(client.subscribe("quiet"), conversation.grant_topics());
    drop(topic);
    conversation.grant_topics().await;
    assert!(conversation.acks.iter().all(|ack| ack.processed.is_empty() && ack.rejected.is_empty()));
}

#[tokio::test]
async fn by_default_an_event_is_done_when_the_next_is_asked_for() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = receiver(&broker).await;
    conversation.deliver(&place_event(1)).await;
    conversation.deliver_awaited(&place_event(2)).await;
    assert!(!next(&mut zones).await.awaits_processing());
    let event = next(&mut zones).await;
    assert!(event.awaits_processing());
    drop(event);
    quiet(&client, &mut conversation).await;
    let asking = tokio::spawn(async move { (next(&mut zones).await, zones) });
    assert_eq!(conversation.verdicts(1).await, (vec![2], vec![]));
    conversation.deliver_awaited(&place_event(3)).await;
    conversation.deliver_awaited(&place_event(4)).await;
    let (event, zones) = asking.await.unwrap();
    // Said early, it is said.
    event.done();
    conversation.acked_until(|acks| acks.iter().any(|ack| ack.through_seq >= 4)).await;
    drop(zones);
    drop(event);
    conversation.grant_zones().await;
    let (processed, rejected) = conversation.verdicts(2).await;
    let seqs = (conversation.last_seq - 1, conversation.last_seq);
    assert_eq!((processed, rejected), (vec![seqs.0], vec![seqs.1]), "what nobody reads is rejected");
}

#[tokio::test]
async fn explicitly_an_event_is_done_when_it_is_said_and_rejected_when_it_is_dropped() {
    let broker = FakeBroker::start();
    let (client, mut conversation, zones) = receiver(&broker).await;
    let mut zones = zones.explicit();
    for n in 1..=4 {
        conversation.deliver_awaited(&place_event(n)).await;
    }
    let events = [next(&mut zones).await, next(&mut zones).await, next(&mut zones).await];
    quiet(&client, &mut conversation).await;
    let [first, second, third] = events;
    second.done();
    second.done();
    assert_eq!(conversation.verdicts(1).await, (vec![2], vec![]));
    let clone = first.clone();
    drop(first);
    quiet(&client, &mut conversation).await;
    drop(clone);
    assert_eq!(conversation.verdicts(1).await, (vec![], vec![1]));
    tokio::spawn(async move { third.detached().done() }).await.unwrap();
    assert_eq!(conversation.verdicts(1).await, (vec![3], vec![]));
    drop(zones);
    conversation.grant_zones().await;
    assert_eq!(conversation.verdicts(1).await, (vec![], vec![4]));
}

#[tokio::test]
async fn an_event_for_several_subscriptions_is_done_when_all_are() {
    let broker = FakeBroker::start();
    let (client, mut conversation, zones) = receiver(&broker).await;
    drop(zones);
    conversation.grant_zones().await;
    let mut one = topic(&client, &mut conversation, "a.*").await;
    let mut other = topic(&client, &mut conversation, "a.b").await;
    conversation.deliver_awaited(&topic_event("a.b", 1)).await;
    conversation.deliver_awaited(&topic_event("a.b", 2)).await;
    conversation.deliver_awaited(&place_event(3)).await;
    assert_eq!(conversation.verdicts(1).await, (vec![], vec![3]), "there is nobody for it any more");
    let (first, second) = (one.next_event().await.unwrap(), one.next_event().await.unwrap());
    let (same, again) = (other.next_event().await.unwrap(), other.next_event().await.unwrap());
    first.done();
    second.done();
    quiet(&client, &mut conversation).await;
    same.done();
    assert_eq!(conversation.verdicts(1).await, (vec![1], vec![]));
    drop(again);
    assert_eq!(conversation.verdicts(1).await, (vec![], vec![2]), "one rejection is one");
}

#[tokio::test]
async fn an_event_that_comes_again_gets_the_same_verdict() {
    let broker = FakeBroker::start();
    let (_client, mut conversation, zones) = receiver(&broker).await;
    let mut zones = zones.explicit();
    for n in 1..=5 {
        conversation.deliver_awaited(&place_event(n)).await;
    }
    let mut events = Vec::new();
    for _ in 1..=5 {
        events.push(next(&mut zones).await);
    }
    let mut events = events.into_iter();
    events.next().unwrap().done();
    assert_eq!(conversation.verdicts(1).await, (vec![1], vec![]));
    conversation.deliver_awaited_again(&place_event(1)).await;
    assert_eq!(conversation.verdicts(1).await, (vec![6], vec![]), "at once");
    conversation.cut();
    let mut again = broker.accept().await;
    // Done while there is no session, one way and the other.
    events.next().unwrap().done();
    drop(events.next());
    again.resume(6, 1, 0).await;
    for n in [5, 2, 3, 4] {
        again.deliver_awaited_again(&place_event(n)).await;
    }
    assert_eq!(again.verdicts(2).await, (vec![2], vec![3]));
    let (fourth, fifth) = (events.next().unwrap(), events.next().unwrap());
    fourth.done();
    assert_eq!(again.verdicts(1).await, (vec![4], vec![]), "by its number in this session");
    again.cut();
    let mut third = broker.accept().await;
    third.welcome_to(7).await;
    third.grant_zones().await;
    third.deliver_awaited_again(&place_event(3)).await;
    third.deliver_awaited_again(&place_event(5)).await;
    assert_eq!(third.verdicts(1).await, (vec![], vec![1]), "rejected stays rejected");
    fifth.done();
    assert_eq!(third.verdicts(1).await, (vec![2], vec![]));
}

#[tokio::test]
async fn what_a_new_run_inherits_waits_for_its_subscriptions() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    conversation.deliver_awaited_again(&place_event(1)).await;
    conversation.deliver_awaited_again(&topic_event("a.b", 2)).await;
    conversation.deliver_awaited_again(&topic_event("a.b", 3)).await;
    conversation.deliver(&place_event(4)).await;
    conversation.acked_until(|acks| acks.last().is_some_and(|ack| ack.through_seq == 4)).await;
    // The link is lost while they wait.
    conversation.cut();
    let mut again = broker.accept().await;
    again.resume(6, 0, 0).await;
    again.deliver_awaited_again(&place_event(1)).await;
    again.deliver_awaited_again(&topic_event("a.b", 2)).await;
    again.deliver_awaited_again(&topic_event("a.b", 3)).await;
    let mut one = topic(&client, &mut again, "a.*").await;
    let mut other = topic(&client, &mut again, "a.>").await;
    again.deliver_awaited(&topic_event("a.b", 5)).await;
    for lane_seq in [2, 3, 5] {
        let event = guarded("an event", one.next_event()).await.unwrap();
        assert_eq!(event.lane_seq(), lane_seq);
        event.done();
    }
    assert_eq!(guarded("an event", other.next_event()).await.unwrap().lane_seq(), 5, "the first took the others");
    assert_eq!(again.verdicts(3).await, (vec![2, 3], vec![4]));
    let zone = ZoneSpec::new(1, "earth", Zone::new(0.0, 0.0, 100.0, 50.0).unwrap());
    let (zones, _) = tokio::join!(client.subscribe_zones([zone]), again.grant_zones());
    let mut zones = zones.unwrap();
    assert_eq!((next(&mut zones).await.lane_seq(), next(&mut zones).await.lane_seq()), (1, 4));
    assert_eq!(again.verdicts(1).await, (vec![1], vec![]));
}

#[tokio::test]
async fn a_publisher_learns_what_became_of_its_event() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let publish = || Publish::to_topic("t").expires_in(Duration::from_millis(1500));
    let mut receipts = Vec::new();
    for _ in 0..5 {
        receipts.push(client.publish_with_processed_ack(publish()).await.unwrap());
    }
    let strict = publish().require_match();
    receipts.push(client.publish_with_processed_ack(strict).await.unwrap());
    let mut lane = conversation.lane().await;
    for lane_seq in 1..=6 {
        let (publish, event) = lane.next_publish().await;
        assert_eq!((publish.ack, publish.expires_in_ms, publish.require_match), (2, 1500, lane_seq == 6));
        let code = match lane_seq {
            // Answers come in any order; the first comes last.
            1 => continue,
            2 => ErrorCode::SessionLost,
            3 => ErrorCode::Poison,
            4 => ErrorCode::Expired,
            5 => ErrorCode::TooManyUnprocessed,
            _ => ErrorCode::NoMatch,
        };
        let refused = wire::PublishRefused { lane: 0, lane_seq, code: code.into(), message: String::new() };
        conversation.send(ServerFrame::PublishRefused(refused)).await;
        assert_eq!(event.lane_seq, lane_seq);
    }
    conversation.ack(&wire::Event { lane_seq: 1, ..Default::default() }, 3).await;
    let mut answers = Vec::new();
    for receipt in receipts {
        answers.push(guarded("the receipt", receipt).await);
    }
    assert_eq!(answers[0].as_ref().unwrap().matched, 3);
    let code = |answer: &Result<_, PublishError>| match answer {
        Err(PublishError::Unprocessed(refusal)) => (true, refusal.code),
        Err(PublishError::Refused(refusal)) => (false, refusal.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&answers[1]), (true, ErrorCode::SessionLost));
    assert_eq!(code(&answers[2]), (true, ErrorCode::Poison));
    assert_eq!(answers[3], Err(PublishError::Expired));
    assert_eq!(code(&answers[4]), (false, ErrorCode::TooManyUnprocessed));
    assert_eq!(code(&answers[5]), (false, ErrorCode::NoMatch));
    let state = Publish::to_topic("t").class(DeliveryClass::State).key("k");
    assert!(matches!(client.publish_processed(state).await, Err(PublishError::Invalid(_))));
}

#[tokio::test]
async fn without_a_broker_an_event_expires_all_the_same_and_is_not_sent_later() {
    let broker = FakeBroker::start();
    let (client, mut conversation) = connected(&broker).await;
    let publish = || Publish::to_topic("t").expires_in(Duration::from_millis(100));
    let sent = client.publish_with_processed_ack(publish()).await.unwrap();
    conversation.lane().await.next_publish().await;
    conversation.cut();
    let mut again = broker.accept().await;
    let queued = client.publish_with_processed_ack(publish()).await.unwrap();
    // Nothing moves on the network from here on, so all waiting is for time.
    tokio::time::pause();
    assert_eq!(sent.await, Err(PublishError::Expired));
    assert_eq!(queued.await, Err(PublishError::Expired));
    tokio::time::resume();
    let receipt = client.publish_with_ack(Publish::to_topic("t")).await.unwrap();
    again.resume(6, 0, 0).await;
    let (publish, event) = again.lane().await.next_publish().await;
    assert_eq!((publish.resent, event.lane_seq), (false, 3));
    again.ack(&event, 1).await;
    guarded("the receipt", receipt).await.unwrap();
}
