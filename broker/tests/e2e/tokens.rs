//! Who is let in by which token, what that token permits, and when it no longer does.

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
    reliability::lasting_hello,
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
    a_renewal_changes_the_rights_and_lasts_longer
    a_renewal_that_cannot_be_changes_nothing
    at_expiry_the_session_ends_and_is_not_resumed
    a_session_is_resumed_only_with_the_right_to_what_it_holds
    revocation_ends_live_and_detached_sessions
    a_new_key_is_taken_and_asked_for
}

/// A broker that trusts the issuer.
async fn world(workers: usize, issuer: &Issuer) -> World {
    let (trust, upkeep) = (issuer.trust(), issuer.upkeep());
    World::with(workers, |config| (config.trust, config.trust_upkeep) = (trust, upkeep)).await
}

fn with_token(hello: wire::Hello, token: String) -> wire::Hello {
    wire::Hello { token, ..hello }
}

/// Why a hello is refused.
async fn refused(world: &World, hello: wire::Hello) -> String {
    let mut peer = Peer::open(world.connection().await).await;
    peer.send(client_frame::Frame::Hello(hello)).await;
    let (code, reason) = peer.closed().await;
    assert_eq!(code, ErrorCode::Unauthenticated, "{reason}");
    reason
}

async fn joined(world: &World, name: &str, token: String) -> Peer {
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
        (
            issuer.token(&Claims { issuer: "https://else".into(), ..valid.clone() }),
            "another issuer",
            "issuer",
        ),
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
    let connection = async |identity: Identity| {
        world.connection_as(ALPN, world.authority.roots(), Some(identity)).await.unwrap()
    };
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
fn narrow() -> Rights {
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
async fn publish(peer: &mut Peer, event: wire::Event) -> Result<u32, String> {
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

async fn a_renewal_changes_the_rights_and_lasts_longer(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let now = now_s();
    let claims = Claims { expires_at: now + 2, ..issuer.claims("server:zone", narrow()) };
    let (mut peer, welcome) =
        Peer::opened(world.connection().await, with_token(hello("zone", 1), issuer.token(&claims))).await;
    assert!((1..=2_000).contains(&welcome.token_expires_in_ms), "{}", welcome.token_expires_in_ms);
    assert_eq!(peer.listen(1, "mail.*", "").await, Err(ErrorCode::PermissionDenied));
    let wider = Claims { expires_at: now + 600, ..issuer.claims("server:zone", Rights::everything()) };
    let expires_in_ms = peer.renew(&issuer.token(&wider)).await.unwrap();
    assert!((590_000..=600_000).contains(&expires_in_ms), "{expires_in_ms}");
    assert!(peer.listen(1, "mail.*", "").await.is_ok());
    // When the first has expired and been looked for, the session is there still.
    let mut other = Peer::welcomed(world.connection().await, with_token(hello("zone.b", 1), issuer.token(&claims))).await;
    assert!(matches!(other.next().await, server_frame::Frame::GoAway(_)));
    let event = peer.event_on("mail.a");
    assert_eq!(publish(&mut peer, event).await, Ok(1));
}

async fn a_renewal_that_cannot_be_changes_nothing(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut peer = joined(&world, "zone", issuer.grant("server:zone", Rights::everything())).await;
    peer.put_zones(vec![zone(1, "earth", [0.0, 0.0], [20.0, 1.0])]).await.unwrap();
    for (token, code) in [
        (String::new(), ErrorCode::InvalidToken),
        ("nonsense".into(), ErrorCode::InvalidToken),
        (issuer.grant("service:zone", Rights::everything()), ErrorCode::InvalidToken),
        (issuer.grant("server:other", Rights::everything()), ErrorCode::InvalidToken),
        (issuer.grant("server:zone", narrow()), ErrorCode::PermissionDenied),
    ] {
        assert_eq!(peer.renew(&token).await, Err(code));
    }
    let event = peer.event_at("mars", 1.0, 1.0, 1.0);
    assert_eq!(publish(&mut peer, event).await, Ok(0), "the rights are what they were");
    // Without what they do not permit, the narrower rights are taken.
    peer.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 1.0])]).await.unwrap();
    assert!(peer.renew(&issuer.grant("server:zone", narrow())).await.is_ok());
    let event = peer.event_at("mars", 1.0, 1.0, 1.0);
    assert_eq!(publish(&mut peer, event).await, Err("worlds".to_owned()));
}

fn resuming(welcome: &wire::Welcome, token: String) -> wire::Hello {
    with_token(wire::Hello { resume_session_id: welcome.session_id, ..lasting_hello("zone", 1) }, token)
}

async fn at_expiry_the_session_ends_and_is_not_resumed(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let claims = Claims { expires_at: now_s() + 2, ..issuer.claims("server:zone", narrow()) };
    let token = issuer.token(&claims);
    let (mut peer, welcome) =
        Peer::opened(world.connection().await, with_token(lasting_hello("zone", 1), token.clone())).await;
    let server_frame::Frame::GoAway(go_away) = peer.next().await else { panic!("no farewell") };
    assert_eq!(go_away.code(), ErrorCode::TokenExpired);
    assert!(now_s() >= claims.expires_at && now_s() <= claims.expires_at + 1);
    assert_eq!(peer.closed().await.0, ErrorCode::TokenExpired);
    let reason = refused(&world, resuming(&welcome, token)).await;
    assert!(reason.contains("expired"), "{reason}");
    let fresh = issuer.grant("server:zone", narrow());
    let (_, again) = Peer::opened(world.connection().await, resuming(&welcome, fresh)).await;
    assert!(!again.resumed, "it has ended");
    assert_eq!(metric(&world, "zonecast_sessions_ended_total{code=\"TOKEN_EXPIRED\"}").await, "1");
}

async fn a_session_is_resumed_only_with_the_right_to_what_it_holds(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    for (rights, held, resumed) in [
        (narrow(), [10.0, 1.0], true),
        (narrow(), [10.5, 1.0], false),
        (Rights { subscribe_topics: Permitted::none(), ..narrow() }, [1.0, 1.0], false),
    ] {
        let wide = issuer.grant("server:zone", Rights::everything());
        let (mut peer, welcome) =
            Peer::opened(world.connection().await, with_token(lasting_hello("zone", 1), wide)).await;
        peer.put_zones(vec![zone(1, "earth", [0.0, 0.0], held)]).await.unwrap();
        peer.listen(1, "users.created", "").await.unwrap();
        peer.connection.close(0_u32.into(), b"cut");
        let hello = resuming(&welcome, issuer.grant("server:zone", rights));
        let (mut peer, again) = Peer::opened(world.connection().await, hello).await;
        assert_eq!(again.resumed, resumed, "{held:?}");
        peer.send(client_frame::Frame::Goodbye(wire::Goodbye {})).await;
        peer.closed().await;
    }
}

async fn revocation_ends_live_and_detached_sessions(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let of = |login: &str, name: &str| {
        let claims = issuer.claims(&format!("server:{name}"), Rights::everything());
        issuer.token(&Claims { login: login.into(), ..claims })
    };
    let mut live = joined(&world, "live", of("one", "live")).await;
    let mut bystander = joined(&world, "bystander", of("two", "bystander")).await;
    let zone_token = of("one", "zone");
    let (mut detached, welcome) =
        Peer::opened(world.connection().await, with_token(lasting_hello("zone", 1), zone_token.clone())).await;
    detached.put_zones(vec![zone(1, "earth", [0.0, 0.0], [1.0, 1.0])]).await.unwrap();
    detached.connection.close(0_u32.into(), b"cut");
    let event = bystander.event_at("earth", 0.0, 0.0, 0.0);
    assert_eq!(publish(&mut bystander, event).await, Ok(1), "it is kept");

    let revoked = Instant::now();
    issuer.revoke(&["one"]);
    let server_frame::Frame::GoAway(go_away) = live.next().await else { panic!("no farewell") };
    assert_eq!(go_away.code(), ErrorCode::Unauthenticated);
    assert!(go_away.message.contains("revoked"), "{}", go_away.message);
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    loop {
        let event = bystander.event_at("earth", 0.0, 0.0, 0.0);
        if publish(&mut bystander, event).await.unwrap() == 0 {
            break;
        }
        assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    }
    assert!(refused(&world, resuming(&welcome, zone_token)).await.contains("revoked"));
    assert_eq!(bystander.renew(&of("one", "bystander")).await, Err(ErrorCode::InvalidToken));
    assert!(bystander.renew(&of("three", "bystander")).await.is_ok());
}

async fn a_new_key_is_taken_and_asked_for(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let claims = issuer.claims("server:zone", Rights::everything());
    let token = issuer.token_by("newer", &claims);
    let (upkeep, hello) = (issuer.upkeep(), with_token(hello("zone", 1), token.clone()));
    let (reason, ()) = tokio::join!(refused(&world, hello), upkeep.unknown_key_seen());
    assert!(reason.contains("key is not known"), "{reason}");
    issuer.publish_key("newer");
    joined(&world, "zone", token).await;
}
