//! How long a token lasts, what renews it, and what ends it before.

use std::time::Duration;

use tokio::time::Instant;
use zonecast_access::Claims;
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{ErrorCode, Permitted, Rights};

use crate::{
    issuer::{Issuer, now_s},
    lifecycle::flood,
    operations::metric,
    raw::{Peer, World, hello, zone},
    reliability::{ack, answer, delivery, lasting_hello, processed},
    tokens::{joined, narrow, publish, refused, with_token, world},
};

crate::with_one_and_two_workers! {
    a_renewal_changes_the_rights_and_lasts_longer
    a_renewal_that_cannot_be_changes_nothing
    at_expiry_the_session_ends_and_is_not_resumed
    a_session_is_resumed_only_with_the_right_to_what_it_holds
    what_waits_is_inherited_only_with_the_right_to_what_was_held
    revocation_ends_live_and_detached_sessions
    revocation_counts_while_the_broker_drains
    a_new_key_is_taken_and_asked_for
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
    let mut other =
        Peer::welcomed(world.connection().await, with_token(hello("zone.b", 1), issuer.token(&claims))).await;
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

async fn what_waits_is_inherited_only_with_the_right_to_what_was_held(workers: usize) {
    let issuer = Issuer::new();
    let world = world(workers, &issuer).await;
    let mut publisher = joined(&world, "publisher", issuer.grant("server:publisher", Rights::everything())).await;
    for (incarnation, next, corner, is_inherited) in
        [(1, 1, 10.0, true), (2, 3, 10.0, true), (4, 4, 10.5, false), (5, 6, 10.5, false)]
    {
        let hello = |incarnation, rights| {
            let token = issuer.grant("server:zone", rights);
            with_token(lasting_hello("zone", incarnation), token)
        };
        let (mut wide, _) = Peer::opened(world.connection().await, hello(incarnation, Rights::everything())).await;
        wide.put_zones(vec![zone(1, "earth", [0.0, 0.0], [corner, 1.0])]).await.unwrap();
        let event = publisher.event_at("earth", 1.0, 1.0, 0.0);
        publisher.write_publish(processed(&event)).await;
        let first = delivery(&mut wide).await;
        wide.connection.close(0_u32.into(), b"cut");
        let (mut narrower, welcome) = Peer::opened(world.connection().await, hello(next, narrow())).await;
        assert!(!welcome.resumed);
        if is_inherited {
            let again = delivery(&mut narrower).await;
            assert_eq!((again.event, again.resent), (first.event, true));
            narrower.send(ack(again.seq, &[again.seq])).await;
            assert_eq!(answer(publisher.next().await), (event.lane_seq, Ok(1)));
        } else {
            let refused = answer(publisher.next().await);
            assert_eq!(refused, (event.lane_seq, Err(ErrorCode::SessionLost)), "whoever published is told");
            narrower.listen(1, "users.created", "").await.unwrap();
            let event = publisher.event_on("users.created");
            assert_eq!(publish(&mut publisher, event).await, Ok(1));
            assert_eq!(delivery(&mut narrower).await.seq, 1, "nothing came before it");
        }
        narrower.send(client_frame::Frame::Goodbye(wire::Goodbye {})).await;
        narrower.closed().await;
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

async fn revocation_counts_while_the_broker_drains(workers: usize) {
    let issuer = Issuer::new();
    let (trust, upkeep) = (issuer.trust(), issuer.upkeep());
    let world = World::with(workers, |config| {
        (config.trust, config.trust_upkeep) = (trust, upkeep);
        config.shutdown_grace = Duration::from_secs(600);
        config.connections.slow_consumer_timeout = Duration::from_secs(600);
    })
    .await;
    let claims = issuer.claims("server:deaf", Rights::everything());
    let token = issuer.token(&Claims { login: "one".into(), ..claims });
    let mut deaf = joined(&world, "deaf", token).await;
    deaf.listen(1, "flood", "").await.unwrap();
    let mut flooder = joined(&world, "flooder", issuer.grant("server:flooder", Rights::everything())).await;
    tokio::select! {
        () = flood(&mut flooder, "flood", 8192) => panic!("it should be held back"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    let draining = tokio::spawn(world.broker.shutdown());
    let server_frame::Frame::GoAway(go_away) = deaf.next().await else { panic!("no farewell") };
    assert_eq!(go_away.code(), ErrorCode::ShuttingDown);
    issuer.revoke(&["one"]);
    tokio::time::timeout(Duration::from_secs(60), draining).await.expect("nobody is waited for").unwrap();
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
