//! Who is let in by which token, and what that token permits.

use std::time::Duration;

use tokio::time::Instant;
use zonecast_access::Claims;
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{ALPN, Area, ErrorCode, Permitted, PublishRights, Rights, Zone};

use crate::{
    issuer::{Issuer, now_s},
    knocking::introduced,
    operations::metric,
    raw::{Authority, Identity, Peer, World, code_and_reason, hello, zone},
};

crate::with_one_and_two_workers! {
    nobody_is_let_in_without_a_valid_token
    a_token_is_for_its_subjects_own_clients
    certificate_and_token_must_both_hold
    without_trust_tokens_are_not_looked_at
    zones_and_events_keep_to_their_rectangles
    a_zone_is_handed_only_to_who_may_hold_it
    topics_keep_to_their_patterns
    answers_need_a_right_to_hear_and_asking_a_right_to_publish
    publishes_are_held_to_the_tokens_rate
}

/// A broker that trusts the issuer.
pub(crate) async fn world(workers: usize, issuer: &Issuer) -> World {
    let (trust, upkeep) = (issuer.trust(), issuer.upkeep());
    World::with(workers, |config| (config.trust, config.trust_upkeep) = (trust, upkeep)).await
}

pub(crate) fn with_token(hello: wire::Hello, token: String) -> wire::Hello {
    wire::Hello { token, ..hello }
}

/// Why a hello is refused.
pub(crate) async fn refused(world: &World, hello: wire::Hello) -> String {
    let mut peer = Peer::open(world.connection().await).await;
    peer.send(client_frame::Frame::Hello(hello)).await;
    let (code, reason) = peer.closed().await;
    assert_eq!(code, ErrorCode::Unauthenticated, "{reason}");
    reason
}

pub(crate) async fn joined(world: &World, name: &str, token: String) -> Peer {
    Peer::welcomed(world.connection().await, with_token(hello(name, 1), token)).await
}

async fn nobody_is_let_in_without_a_valid_token(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let valid = issuer.claims("server:zone", Rights::everything());
    let now = now_s();
    let mut forged = issuer.token(&valid).into_bytes();
    let last = forged.len() - 10;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    for (token, words, result) in [
        (String::new(), "without a token", "missing"),
        ("nonsense".into(), "cannot be read", "malformed"),
        (issuer.unsigned(&valid), "algorithm is not EdDSA", "algorithm"),
        (issuer.with_the_public_key_as_secret(&valid), "algorithm is not EdDSA", "algorithm"),
        (Issuer::new().token(&valid), "signature is wrong", "signature"),
        (String::from_utf8(forged).unwrap(), "signature is wrong", "signature"),
        (issuer.token_by("another", &valid), "key is not known", "unknown_key"),
        (issuer.token(&Claims { expires_at: now - 1, ..valid.clone() }), "has expired", "expired"),
        (issuer.token(&Claims { issued_at: now + 600, ..valid.clone() }), "in the future", "not_yet"),
        (
            issuer.token(&Claims { audience: ["else".to_owned()].into(), ..valid.clone() }),
            "another audience",
            "audience",
        ),
        (issuer.token(&Claims { issuer: "https://else".into(), ..valid.clone() }), "another issuer", "issuer"),
        (issuer.token(&valid) + &"A".repeat(9_000), "longer than", "too_long"),
    ] {
        let reason = refused(&world, with_token(hello("zone", 1), token)).await;
        assert!(reason.contains(words), "{result}: {reason}");
        let counted = metric(&world, &format!("zonecast_token_checks_total{{result=\"{result}\"}}")).await;
        assert_ne!(counted, "0", "{result}");
    }
    joined(&world, "zone", issuer.token(&valid)).await;
    assert_eq!(metric(&world, "zonecast_token_checks_total{result=\"admitted\"}").await, "1");
}

async fn a_token_is_for_its_subjects_own_clients(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    for client in ["zone", "zone.7", "zone.7.b"] {
        joined(&world, client, issuer.grant("server:zone", Rights::everything())).await;
    }
    for (subject, client) in [("server:zone", "zone-7"), ("server:zone", "other"), ("user:zone", "zone")] {
        let hello = with_token(hello(client, 1), issuer.grant(subject, Rights::everything()));
        let reason = refused(&world, hello).await;
        assert!(reason.contains(subject) && reason.contains(client), "{reason}");
    }
}

async fn certificate_and_token_must_both_hold(workers: usize) {
    let (issuer, clients) = (Issuer::new(), Authority::new());
    let (roots, trust) = (clients.roots(), issuer.trust());
    let world = World::with(workers, |config| {
        config.tls = config.tls.clone().with_client_roots(roots);
        config.trust = trust;
    })
    .await;
    let connection =
        async |identity: Identity| world.connection_as(ALPN, world.authority.roots(), Some(identity)).await.unwrap();
    let own = clients.identity("zone", |_| {});
    let token = issuer.grant("server:zone", Rights::everything());
    let error = introduced(connection(own).await, "zone").await.err().unwrap();
    assert!(code_and_reason(error).1.contains("without a token"));
    let other = connection(clients.identity("other", |_| {})).await;
    let mut peer = Peer::open(other).await;
    peer.send(client_frame::Frame::Hello(with_token(hello("zone", 1), token.clone()))).await;
    assert_eq!(peer.closed().await.0, ErrorCode::Unauthenticated);
    let own = connection(clients.identity("zone", |_| {})).await;
    Peer::welcomed(own, with_token(hello("zone", 1), token)).await;
}

async fn without_trust_tokens_are_not_looked_at(workers: usize) {
    let world = World::new(workers).await;
    let mut peer = joined(&world, "anybody", "nonsense".into()).await;
    assert_eq!(peer.renew("more nonsense").await, Ok(0), "and lasts for ever");
}

fn within(corners: [f64; 4]) -> Area {
    let [min_x, min_y, max_x, max_y] = corners;
    Area::Within(vec![Zone::new(min_x, min_y, max_x, max_y).unwrap()])
}

/// The ten by ten at the origin of the earth, fires of radius 5, users' topics to hear and chats to publish on.
pub(crate) fn narrow() -> Rights {
    let patterns = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    Rights {
        worlds: ["earth".parse().unwrap()].into_iter().collect(),
        zones: within([0.0, 0.0, 10.0, 10.0]),
        publish: PublishRights {
            within: within([0.0, 0.0, 10.0, 10.0]),
            radius_max: 5.0,
            kinds: ["fire".parse().unwrap()].into_iter().collect(),
            per_second_max: None,
        },
        publish_topics: patterns(&["chat.*"]),
        subscribe_topics: patterns(&["users.>"]),
    }
}

/// Publishes; the right that is missing where it is refused.
pub(crate) async fn publish(peer: &mut Peer, event: wire::Event) -> Result<u32, String> {
    use prost::Message;
    let event = event.encode_to_vec().into();
    peer.write_publish(wire::Publish { ack: 1, event, ..Default::default() }).await;
    match peer.next().await {
        server_frame::Frame::PublishAck(ack) => Ok(ack.matched),
        server_frame::Frame::PublishRefused(refused) => {
            assert_eq!(refused.code(), ErrorCode::PermissionDenied);
            Err(missing(&refused.message))
        }
        other => panic!("{other:?}"),
    }
}

fn missing(message: &str) -> String {
    let (_, right) = message.rsplit_once("(the right ").unwrap_or_else(|| panic!("{message}"));
    right.trim_end_matches(')').to_owned()
}

async fn zones_and_events_keep_to_their_rectangles(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut peer = joined(&world, "zone", issuer.grant("server:zone", narrow())).await;
    assert!(peer.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 10.0])]).await.is_ok());
    for outside in [
        zone(2, "earth", [0.0, 0.0], [10.0_f64.next_up(), 1.0]),
        zone(1, "earth", [-1.0, 0.0], [1.0, 1.0]),
        zone(2, "mars", [1.0, 1.0], [2.0, 2.0]),
    ] {
        assert_eq!(peer.put_zones(vec![outside]).await, Err(ErrorCode::PermissionDenied));
    }
    let fire = |event: wire::Event| wire::Event { kind: "fire".into(), ..event };
    let event = fire(peer.event_at("earth", 10.0, 10.0, 5.0));
    assert_eq!(publish(&mut peer, event).await, Ok(1), "its circle reaches out, its centre does not");
    for (event, right) in [
        (fire(peer.event_at("mars", 1.0, 1.0, 1.0)), "worlds"),
        (fire(peer.event_at("earth", 10.5, 1.0, 1.0)), "publish.within"),
        (fire(peer.event_at("earth", 1.0, 1.0, 5.5)), "publish.radius_max"),
        (peer.event_at("earth", 1.0, 1.0, 1.0), "publish.kinds"),
        (wire::Event { kind: "flood".into(), ..peer.event_at("earth", 1.0, 1.0, 1.0) }, "publish.kinds"),
    ] {
        assert_eq!(publish(&mut peer, event).await, Err(right.to_owned()));
    }
    let event = fire(peer.event_at("earth", 1.0, 1.0, 1.0));
    assert_eq!(publish(&mut peer, event).await, Ok(1), "the connection goes on");
}

async fn a_zone_is_handed_only_to_who_may_hold_it(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut giver = joined(&world, "giver", issuer.grant("server:giver", Rights::everything())).await;
    let _taker = joined(&world, "taker", issuer.grant("server:taker", narrow())).await;
    let zones = vec![zone(1, "earth", [0.0, 0.0], [1.0, 1.0]), zone(2, "earth", [0.0, 0.0], [11.0, 1.0])];
    giver.put_zones(zones).await.unwrap();
    for (id, outcome) in [(2, Err(ErrorCode::PermissionDenied)), (1, Ok(()))] {
        let request = wire::HandOverZones {
            request_id: giver.request_id(),
            zone_ids: vec![id],
            to_client_id: "taker".to_owned(),
        };
        assert_eq!(giver.request(client_frame::Frame::HandOverZones(request)).await.map(drop), outcome);
    }
}

async fn topics_keep_to_their_patterns(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut peer = joined(&world, "zone", issuer.grant("server:zone", narrow())).await;
    assert!(peer.listen(1, "users.*", "").await.is_ok());
    for wider in [">", "*", "*.created", "users", "chat.a", "_rpc.>"] {
        assert_eq!(peer.listen(2, wider, "").await, Err(ErrorCode::PermissionDenied), "{wider}");
    }
    let event = peer.event_on("chat.hello");
    assert_eq!(publish(&mut peer, event).await, Ok(0));
    for other in ["chat", "chat.a.b", "users.created", "_rpc.users"] {
        let event = peer.event_on(other);
        assert_eq!(publish(&mut peer, event).await, Err("topics.publish".to_owned()), "{other}");
    }
}

async fn answers_need_a_right_to_hear_and_asking_a_right_to_publish(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut asker = joined(&world, "asker", issuer.grant("server:asker", narrow())).await;
    let inbox = format!("_inbox.{:016x}", asker.source);
    assert!(asker.listen(1, &format!("{inbox}.>"), "").await.is_ok(), "the own inbox is everybody's");
    let mut answerer = joined(&world, "answerer", issuer.grant("server:answerer", narrow())).await;
    let event = answerer.event_on(&format!("{inbox}.1"));
    assert_eq!(publish(&mut answerer, event).await, Ok(1));
    for (topic, right) in [("_inbox.1", "topics.publish"), ("_inbox", "topics.publish")] {
        let event = answerer.event_on(topic);
        assert_eq!(publish(&mut answerer, event).await, Err(right.to_owned()));
    }
    let deaf = Rights { subscribe_topics: Permitted::none(), ..narrow() };
    let mut deaf = joined(&world, "deaf", issuer.grant("server:deaf", deaf)).await;
    let event = deaf.event_on(&format!("{inbox}.1"));
    assert_eq!(publish(&mut deaf, event).await, Err("topics.publish".to_owned()));
    // Nobody is asked to publish for the asker what that one may not publish itself.
    for (reply_to, outcome) in [
        (format!("{inbox}.2"), Ok(0)),
        ("chat.answers".to_owned(), Ok(0)),
        ("users.created".to_owned(), Err("topics.publish".to_owned())),
    ] {
        let event = wire::Event { reply_to, ..asker.event_on("chat.question") };
        assert_eq!(publish(&mut asker, event).await, outcome);
    }
}

async fn publishes_are_held_to_the_tokens_rate(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut rights = Rights::everything();
    rights.publish.per_second_max = Some(20);
    let mut peer = joined(&world, "zone", issuer.grant("server:zone", rights.clone())).await;
    let begun = Instant::now();
    for _ in 0..30 {
        let event = peer.event_on("a");
        assert_eq!(publish(&mut peer, event).await, Ok(0));
    }
    // A second's worth at once, then one each 50 ms; the wait for the last comes after it.
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    rights.publish.per_second_max = Some(0);
    assert!(peer.renew(&issuer.grant("server:zone", rights)).await.is_ok());
    let event = peer.event_on("a");
    assert_eq!(publish(&mut peer, event).await, Err("publish.per_second_max".to_owned()));
}
