//! Game servers at a real broker and a real directory: what they own is what they hear, at each moment.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

mod ground;

use std::time::Duration;

use tokio::time::timeout;
use zonecast_api::{
    characters::v1::characters_service_client::CharactersServiceClient,
    directory::v1::directory_service_client::DirectoryServiceClient,
};
use zonecast_doors::broker::Channel;
use zonecast_protocol::{
    characters::v1::CreateCharacterRequest,
    directory::v1::{DeregisterRequest, RegisterRequest, SpawnRequest},
};
use zonecast_zone_server::{AdmitError, Lease};

use ground::{PATIENCE, earth, next, publish, received, start};

const LEASE: Duration = Duration::from_secs(10);

fn block_on<F: Future<Output = ()>>(body: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
}

#[test]
fn who_owns_a_place_hears_it() {
    block_on(async {
        let ground = start(LEASE).await;
        let asking = ground.client("asking").await;
        let (one, mut zones) = ground.join("one").await;
        let (two, _zones_two) = ground.join("two").await;
        let owned = one.claim([earth(0.0, 0.0, 10.0, 10.0), earth(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
        assert_eq!((owned.len(), one.held()), (2, owned.clone()));
        assert_eq!(ground.owner(&asking, 5.0, 5.0).await.as_deref(), Some("one"));
        assert_eq!(publish(&asking, 5.0, 5.0, "a").await, 1);
        assert_eq!(next(&mut zones).await, "a");

        // Who is refused does not hear either.
        let refused = two.claim([earth(5.0, 5.0, 15.0, 15.0)]).await.unwrap_err();
        assert_eq!(refused.kind(), "refused", "{refused}");
        assert!(refused.to_string().contains("one owns"), "{refused}");
        assert_eq!((publish(&asking, 12.0, 12.0, "b").await, two.held()), (0, Vec::new()));

        // First nobody is sent there any more, and a little later it is not heard any more.
        one.release(&[owned[1].id]).await.unwrap();
        assert_eq!(ground.owner(&asking, 15.0, 5.0).await, None);
        let unheard = async { while publish(&asking, 15.0, 5.0, "c").await > 0 {} };
        timeout(PATIENCE, unheard).await.unwrap();
        assert_eq!(publish(&asking, 5.0, 5.0, "d").await, 1);
        assert_eq!(one.release(&[owned[1].id]).await.unwrap_err().kind(), "not_held");

        one.leave().await.unwrap();
        assert_eq!(ground.owner(&asking, 5.0, 5.0).await, None);
        assert_eq!(publish(&asking, 5.0, 5.0, "e").await, 0);
        ground.host.shutdown().await;
        ground.broker.shutdown().await;
    });
}

#[test]
fn a_hand_over_loses_nothing_and_doubles_nothing() {
    block_on(async {
        let ground = start(LEASE).await;
        let publishing = ground.client("publishing").await;
        let (one, mut zones_one) = ground.join("one").await;
        let (two, mut zones_two) = ground.join("two").await;
        let owned = one.claim([earth(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
        let published = async {
            for number in 0..400_u32 {
                assert_eq!(publish(&publishing, 5.0, 5.0, &number.to_string()).await, 1, "{number}");
            }
        };
        let mut heard = Vec::new();
        let moving = async {
            let moved = one.hand_over(&[owned[0].id], "two").await.unwrap();
            assert_eq!((moved[0].server.as_str(), one.held()), ("two", Vec::new()));
        };
        let ((), (), ()) = tokio::join!(published, moving, received(&mut zones_two, &mut heard));
        assert_eq!(publish(&publishing, 5.0, 5.0, "end").await, 1);
        loop {
            match next(&mut zones_two).await {
                end if end == "end" => break,
                number => heard.push(number),
            }
        }
        // The rest was heard by the former owner; that nothing more comes is said by what it hears next.
        one.claim([earth(50.0, 0.0, 60.0, 10.0)]).await.unwrap();
        publish(&publishing, 55.0, 5.0, "end").await;
        loop {
            match next(&mut zones_one).await {
                end if end == "end" => break,
                number => heard.push(number),
            }
        }
        let mut numbers: Vec<u32> = heard.iter().map(|number| number.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..400).collect::<Vec<_>>());
        assert_eq!(ground.owner(&publishing, 5.0, 5.0).await.as_deref(), Some("two"));
        // The new owner learns of it with a heartbeat, and can give it back.
        let learned = async {
            while two.held().is_empty() {
                tokio::task::yield_now().await
            }
        };
        timeout(PATIENCE, learned).await.unwrap();
        two.hand_over(&[owned[0].id], "one").await.unwrap();
        assert_eq!(publish(&publishing, 5.0, 5.0, "back").await, 1);
        assert_eq!(next(&mut zones_one).await, "back");
        // To somebody who is not there nothing is handed over.
        assert_eq!(one.hand_over(&[owned[0].id], "nobody").await.unwrap_err().kind(), "not_held", "not learned yet");
    });
}

/// The directory knows servers by name. What it says of one that has the same name is not about this one.
#[test]
fn what_is_held_is_not_forgotten_where_another_takes_the_name_between_two_questions() {
    block_on(async {
        let ground = start(Duration::from_secs(3)).await;
        let asking = ground.client("asking").await;
        let (one, _zones) = ground.join("one").await;
        one.claim([earth(0.0, 0.0, 10.0, 10.0), earth(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
        let mut lease = one.lease();
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut directory = DirectoryServiceClient::new(Channel::new(asking.clone()));
        ground.before_snapshot(async move {
            let register = RegisterRequest { name: "one".into(), address: "a:1".into(), ..RegisterRequest::default() };
            tell.send(directory.register(register).await.unwrap().into_inner().lease).unwrap();
        });
        let taken = timeout(PATIENCE, told).await.unwrap().unwrap();
        timeout(PATIENCE, lease.wait_for(|lease| *lease == Lease::Lost)).await.unwrap().unwrap();
        assert_eq!(one.held().len(), 2, "so that it is known what to claim again");
        let mut directory = DirectoryServiceClient::new(Channel::new(asking.clone()));
        directory.deregister(DeregisterRequest { name: "one".into(), lease: taken }).await.unwrap();
        assert_eq!(one.rejoin().await.unwrap(), []);
        assert_eq!(one.held().len(), 2);
        assert_eq!(ground.owner(&asking, 15.0, 5.0).await.as_deref(), Some("one"));
    });
}

#[test]
fn a_lost_lease_is_told_and_mended() {
    block_on(async {
        let ground = start(Duration::from_millis(900)).await;
        let asking = ground.client("asking").await;
        let (one, _zones) = ground.join("one").await;
        one.claim([earth(0.0, 0.0, 10.0, 10.0), earth(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
        one.set_load(0.5, 3);
        let mut lease = one.lease();
        assert_eq!(*lease.borrow_and_update(), Lease::Held);
        // Somebody else begins under its name, as a second process by mistake would, and leaves again.
        let mut directory = DirectoryServiceClient::new(Channel::new(asking.clone()));
        let register = RegisterRequest { name: "one".into(), address: "a:1".into(), ..RegisterRequest::default() };
        let registered = directory.register(register).await.unwrap().into_inner();
        timeout(PATIENCE, lease.wait_for(|lease| *lease == Lease::Lost)).await.unwrap().unwrap();
        directory.deregister(DeregisterRequest { name: "one".into(), lease: registered.lease }).await.unwrap();
        let (two, _zones_two) = ground.join("two").await;
        two.claim([earth(10.0, 0.0, 20.0, 10.0)]).await.unwrap();
        let lost = one.rejoin().await.unwrap();
        assert_eq!(lost.iter().map(|zone| zone.rectangle.unwrap().min_x).collect::<Vec<_>>(), [10.0]);
        assert_eq!((one.held().len(), *one.lease().borrow()), (1, Lease::Held));
        assert_eq!(ground.owner(&asking, 5.0, 5.0).await.as_deref(), Some("one"));
        assert_eq!(publish(&asking, 5.0, 5.0, "a").await, 1);
        let unheard = async { while publish(&asking, 15.0, 5.0, "b").await > 1 {} };
        timeout(PATIENCE, unheard).await.unwrap();
        // A server that falls silent loses its place.
        drop(two);
        let lost = async { while ground.owner(&asking, 15.0, 5.0).await.is_some() {} };
        timeout(PATIENCE, lost).await.unwrap();
        assert_eq!(*one.lease().borrow(), Lease::Held);
    });
}

/// Whoever cannot reach anybody must know that its zones may be somebody else's by now, whatever it waits for.
#[test]
fn a_lease_is_in_doubt_while_a_claim_waits_for_the_broker() {
    block_on(async {
        let ground = start(Duration::from_secs(2)).await;
        let (one, _zones) = ground.join("one").await;
        one.claim([earth(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
        let mut lease = one.lease();
        ground.broker.shutdown().await;
        let waiting = one.claim([earth(10.0, 0.0, 20.0, 10.0)]);
        tokio::select! {
            claimed = waiting => panic!("nobody is there: {claimed:?}"),
            doubted = timeout(PATIENCE, lease.wait_for(|lease| *lease == Lease::InDoubt)) => drop(doubted.unwrap().unwrap()),
        }
        assert_eq!(one.held().len(), 1, "what it held is known, to be claimed again");
    });
}

/// As a game does that puts a time-out around what it waits for.
#[test]
fn who_stops_waiting_for_a_hand_over_still_hears_what_is_its_own() {
    block_on(async {
        let ground = start(Duration::from_secs(3)).await;
        let publishing = ground.client("publishing").await;
        let (one, mut zones_one) = ground.join("one").await;
        let (two, mut zones_two) = ground.join("two").await;
        tokio::spawn(async move { while zones_two.next().await.is_some() {} });
        let owned = one.claim([earth(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
        // The broker has done its part when the directory is asked, which then does nothing in time.
        let (ids, (asked, was_asked)) = ([owned[0].id], tokio::sync::oneshot::channel());
        ground.before_hand_over(async move {
            asked.send(()).unwrap();
            std::future::pending().await
        });
        tokio::select! {
            moved = one.hand_over(&ids, "two") => panic!("{moved:?}"),
            asked = was_asked => asked.unwrap(),
        }
        assert_eq!(ground.owner(&publishing, 5.0, 5.0).await.as_deref(), Some("one"));
        let is_heard = async {
            loop {
                publish(&publishing, 5.0, 5.0, "again").await;
                if timeout(Duration::from_millis(100), next(&mut zones_one)).await.is_ok() {
                    break;
                }
            }
        };
        timeout(PATIENCE, is_heard).await.unwrap();
        assert_eq!(one.held().iter().map(|zone| zone.id).collect::<Vec<_>>(), [owned[0].id]);
        // The other was given it by the broker alone, and gives it up in the end.
        let unheard = async { while publish(&publishing, 5.0, 5.0, "alone").await > 1 {} };
        timeout(PATIENCE, unheard).await.unwrap();
        assert_eq!(two.held(), []);
    });
}

#[test]
fn a_player_is_let_in_once() {
    block_on(async {
        let ground = start(LEASE).await;
        let player = ground.client("player").await;
        let (one, _zones_one) = ground.join("one").await;
        let (two, _zones_two) = ground.join("two").await;
        one.claim([earth(0.0, 0.0, 10.0, 10.0)]).await.unwrap();
        let mut characters = CharactersServiceClient::new(Channel::new(player.clone()));
        let create = CreateCharacterRequest {
            user_id: "01920000-0000-7000-8000-000000000000".into(),
            world: "earth".into(),
            name: "zoe".into(),
            ..CreateCharacterRequest::default()
        };
        let character = characters.create_character(create).await.unwrap().into_inner().character.unwrap();
        let mut directory = DirectoryServiceClient::new(Channel::new(player));
        let spawn = SpawnRequest { character_id: character.id.clone() };
        let answer = directory.spawn(spawn).await.unwrap().into_inner();
        assert_eq!((answer.server.as_str(), answer.address.as_str()), ("one", "one.example:7000"));
        assert!(two.admit(&answer.ticket).is_err());
        let ticket = one.admit(&answer.ticket).unwrap();
        assert_eq!((ticket.character, ticket.user), (character.id, character.user_id));
        assert_eq!(one.admit(&answer.ticket), Err(AdmitError::Used));
        assert!(one.admit("nonsense").is_err());
    });
}
