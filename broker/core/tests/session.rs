//! What a session may ask for: each rule at its edge, and the sets of zones and topics against plain ones.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;
use zonecast_core::{InterestChange, KindFilter, RefusedPublish, Router, SessionId, SessionRights, SessionRules};
use zonecast_protocol::codec::DELIVER_OVERHEAD_BYTES_MAX;
use zonecast_protocol::wire;
use zonecast_protocol::{
    AckLevel, DeliveryClass, ErrorCode, HANDED_OVER_ZONE_ID_MIN, Limits, Permitted, PublishRights, PublishView, Rights,
};

const SOURCE: u64 = 0x65;

/// Too small for what the tests ask for.
fn limits() -> Limits {
    Limits {
        zones_per_session_max: 3,
        topics_per_session_max: 3,
        kinds_per_zone_max: 2,
        radius_max: 10.0,
        lanes_max: 2,
        ..Limits::default()
    }
}

fn rights() -> Rights {
    let all = Rights::everything();
    Rights {
        worlds: ["earth", "mars"].into_iter().map(|world| world.parse().unwrap()).collect(),
        publish: PublishRights { kinds: ["fire".parse().unwrap()].into_iter().collect(), ..all.publish },
        ..all
    }
}

/// A session, and what all sessions hold.
struct Session {
    id: SessionId,
    rules: SessionRules,
}

impl Session {
    fn new(number: u64, rights: Rights) -> Self {
        let id = SessionId::new(0, number);
        let rights = SessionRights::new(Arc::new(rights), Arc::new(Rights::everything()));
        Self { id, rules: SessionRules::new(id, SOURCE, rights, Arc::new(limits())) }
    }

    fn update_zones(&self, router: &mut Router, request: wire::UpdateZones) -> Result<(), ErrorCode> {
        let ops = self.rules.update_zones(router, request).map_err(|refusal| refusal.code)?;
        router.apply(&InterestChange { epoch: router.epoch() + 1, ops });
        Ok(())
    }

    fn update_topics(&self, router: &mut Router, request: wire::UpdateTopics) -> Result<(), ErrorCode> {
        let ops = self.rules.update_topics(router, request).map_err(|refusal| refusal.code)?;
        router.apply(&InterestChange { epoch: router.epoch() + 1, ops });
        Ok(())
    }

    fn hand_over(&self, router: &mut Router, to: &mut Self, ids: &[u32]) -> Result<Vec<wire::Zone>, ErrorCode> {
        let zones = self.rules.give_zones(router, ids).map_err(|refusal| refusal.code)?;
        let (ops, taken) = to.rules.take_zones(router, self.id, zones).map_err(|refusal| refusal.code)?;
        router.apply(&InterestChange { epoch: router.epoch() + 1, ops });
        Ok(taken)
    }

    fn zone_ids(&self, router: &Router) -> BTreeSet<u32> {
        router.zones(self.id).map(|(id, _)| id).collect()
    }

    /// The acknowledgement that is waited for, or why there will be none.
    fn publish(&mut self, event: &wire::Event, ack: AckLevel) -> Result<AckLevel, ErrorCode> {
        let publish = wire::Publish { event: event.encode_to_vec().into(), ack: ack.into(), ..Default::default() };
        let admitted = self.rules.admit(&PublishView::from(&publish)).map_err(|refused| {
            assert_eq!((refused.lane, refused.lane_seq), (event.lane, event.lane_seq), "it is named");
            refused.refusal.code
        })?;
        assert_eq!((admitted.event.lane, admitted.event.lane_seq), (event.lane, event.lane_seq));
        Ok(admitted.ack)
    }
}

fn zone(id: u32) -> wire::Zone {
    wire::Zone { id, world: "earth".into(), min_x: 0.0, min_y: 1.0, max_x: 2.0, max_y: 3.0, kinds: Vec::new() }
}

fn upsert(zones: Vec<wire::Zone>) -> wire::UpdateZones {
    wire::UpdateZones { upsert: zones, ..Default::default() }
}

fn remove(ids: &[u32]) -> wire::UpdateZones {
    wire::UpdateZones { remove: ids.to_vec(), ..Default::default() }
}

fn topic(id: u32, pattern: &str) -> wire::TopicSubscription {
    wire::TopicSubscription { id, pattern: pattern.into(), ..Default::default() }
}

fn add(topics: Vec<wire::TopicSubscription>) -> wire::UpdateTopics {
    wire::UpdateTopics { add: topics, ..Default::default() }
}

fn event(lane: u32, lane_seq: u64) -> wire::Event {
    let place = wire::Place { world: "earth".into(), radius: 10.0, ..Default::default() };
    wire::Event {
        target: Some(wire::event::Target::Place(place)),
        kind: "fire".into(),
        source: SOURCE,
        lane,
        lane_seq,
        ..Default::default()
    }
}

#[test]
fn requests_are_numbered_upwards() {
    let mut rules = Session::new(1, Rights::everything()).rules;
    let code = |rules: &mut SessionRules, id| rules.number_request(id).map_err(|refusal| refusal.code);
    assert_eq!(code(&mut rules, 0), Err(ErrorCode::InvalidArgument));
    assert_eq!(code(&mut rules, 1), Ok(()));
    assert_eq!(code(&mut rules, 1), Err(ErrorCode::InvalidArgument));
    assert_eq!(code(&mut rules, 7), Ok(()));
    assert_eq!(code(&mut rules, 6), Err(ErrorCode::InvalidArgument));
    assert_eq!(rules.standing().last_request_id(), 7);
}

#[test]
fn a_lane_rises_and_a_refused_event_uses_its_number_up() {
    let mut session = Session::new(1, rights());
    assert_eq!(session.rules.source(), SOURCE);
    assert_eq!(session.publish(&event(0, 1), AckLevel::Routed), Ok(AckLevel::Routed));
    assert_eq!(session.publish(&event(0, 1), AckLevel::Routed), Err(ErrorCode::OutOfSequence));
    assert_eq!(session.publish(&event(1, 1), AckLevel::Unspecified), Ok(AckLevel::Unspecified), "another lane");
    let elsewhere = wire::Event { source: SOURCE + 1, ..event(0, 5) };
    assert_eq!(session.publish(&elsewhere, AckLevel::Routed), Err(ErrorCode::WrongSource));
    assert_eq!(session.publish(&event(0, 5), AckLevel::Routed), Err(ErrorCode::OutOfSequence));
    let malformed = wire::Event { target: None, ..event(0, 8) };
    assert_eq!(session.publish(&malformed, AckLevel::Routed), Err(ErrorCode::InvalidArgument));
    let through = |session: &Session| [0, 1, 2].map(|lane| session.rules.standing().lane_taken_through(lane));
    assert_eq!(through(&session), [8, 1, 0]);

    let mut heir = Session::new(2, rights());
    heir.rules.resume(session.rules.standing().clone());
    assert_eq!(through(&heir), [8, 1, 0]);
    assert_eq!(heir.publish(&event(0, 8), AckLevel::Routed), Err(ErrorCode::OutOfSequence));
    assert_eq!(heir.publish(&event(0, 9), AckLevel::Routed), Ok(AckLevel::Routed));
    assert_eq!(heir.publish(&event(2, 1), AckLevel::Routed), Err(ErrorCode::InvalidArgument), "no such lane");
}

#[test]
fn what_cannot_be_read_has_no_place() {
    let mut session = Session::new(1, rights());
    let publish = wire::Publish { event: vec![0xff].into(), ..Default::default() };
    let Err(RefusedPublish { lane, lane_seq, refusal }) = session.rules.admit(&PublishView::from(&publish)) else {
        panic!("refused")
    };
    assert_eq!((lane, lane_seq, refusal.code), (0, 0, ErrorCode::InvalidArgument));
}

#[test]
fn a_publish_keeps_to_limits_and_rights() {
    let place = |change: &dyn Fn(&mut wire::Place)| {
        let mut place = wire::Place { world: "earth".into(), ..Default::default() };
        change(&mut place);
        wire::Event { target: Some(wire::event::Target::Place(place)), ..event(0, 1) }
    };
    let topic = |kind: &str| wire::Event {
        target: Some(wire::event::Target::Topic("jobs.x".into())),
        kind: kind.into(),
        ..event(0, 1)
    };
    let code = |event: &wire::Event| Session::new(1, rights()).publish(event, AckLevel::Routed);
    assert_eq!(code(&place(&|place| place.radius = 10.5)), Err(ErrorCode::GeometryOutOfRange));
    assert_eq!(code(&place(&|place| place.world = "mars".into())), Ok(AckLevel::Routed));
    assert_eq!(code(&place(&|place| place.world = "venus".into())), Err(ErrorCode::PermissionDenied));
    for kind in ["rain", ""] {
        let other = wire::Event { kind: kind.into(), ..event(0, 1) };
        assert_eq!(code(&other), Err(ErrorCode::PermissionDenied), "{kind:?}");
        assert_eq!(Session::new(1, Rights::everything()).publish(&other, AckLevel::Routed), Ok(AckLevel::Routed));
    }
    assert_eq!(code(&topic("rain")), Ok(AckLevel::Routed), "rights are for places");
}

#[test]
fn an_acknowledgement_is_one_that_there_is() {
    let publish = |event: wire::Event, ack: i32, require_match| {
        let publish = wire::Publish { event: event.encode_to_vec().into(), ack, require_match, ..Default::default() };
        Session::new(1, rights())
            .rules
            .admit(&PublishView::from(&publish))
            .map(|admitted| admitted.ack)
            .map_err(|no| no.refusal.code)
    };
    let [none, routed, processed] = [AckLevel::Unspecified, AckLevel::Routed, AckLevel::Processed].map(i32::from);
    let transient = wire::Event { class: DeliveryClass::Transient.into(), ..event(0, 1) };
    assert_eq!(publish(event(0, 1), processed, true), Ok(AckLevel::Processed));
    assert_eq!(publish(event(0, 1), routed, true), Ok(AckLevel::Routed));
    assert_eq!(publish(event(0, 1), none, false), Ok(AckLevel::Unspecified));
    assert_eq!(publish(event(0, 1), none, true), Err(ErrorCode::InvalidArgument));
    assert_eq!(publish(transient.clone(), routed, false), Ok(AckLevel::Routed));
    assert_eq!(publish(transient, processed, false), Err(ErrorCode::InvalidArgument));
    assert_eq!(publish(event(0, 1), 99, false), Err(ErrorCode::InvalidArgument));
}

/// A publish that is itself within a frame may become a delivery that is not.
#[test]
fn a_delivery_fits_into_a_frame() {
    let bytes = event(0, 1).encode_to_vec();
    let code = |frame_bytes_max: usize| {
        let frame_bytes_max = u32::try_from(frame_bytes_max).unwrap();
        let limits = Arc::new(Limits { frame_bytes_max, ..limits() });
        let everything = SessionRights::new(Arc::new(Rights::everything()), Arc::new(Rights::everything()));
        let mut rules = SessionRules::new(SessionId::new(0, 1), SOURCE, everything, limits);
        let publish = wire::Publish { event: bytes.clone().into(), ..Default::default() };
        rules.admit(&PublishView::from(&publish)).map(|_| ()).map_err(|refused| refused.refusal.code)
    };
    assert_eq!(code(bytes.len() + DELIVER_OVERHEAD_BYTES_MAX), Ok(()));
    assert_eq!(code(bytes.len() + DELIVER_OVERHEAD_BYTES_MAX - 1), Err(ErrorCode::PayloadTooLarge));
}

#[test]
fn bad_zones_are_refused_by_name_and_change_nothing() {
    let (session, mut router) = (Session::new(1, rights()), Router::new());
    session.update_zones(&mut router, upsert(vec![zone(1), zone(2)])).unwrap();
    let with = |change: &dyn Fn(&mut wire::Zone)| {
        let mut bad = zone(3);
        change(&mut bad);
        upsert(vec![bad])
    };
    for (request, code) in [
        (wire::UpdateZones { replace_all: true, ..remove(&[1]) }, ErrorCode::InvalidArgument),
        (upsert(vec![zone(3), zone(3)]), ErrorCode::DuplicateId),
        (wire::UpdateZones { upsert: vec![zone(1)], ..remove(&[1]) }, ErrorCode::DuplicateId),
        (remove(&[1, 1]), ErrorCode::DuplicateId),
        (remove(&[3]), ErrorCode::UnknownZone),
        (upsert(vec![zone(0)]), ErrorCode::InvalidArgument),
        (upsert(vec![zone(HANDED_OVER_ZONE_ID_MIN)]), ErrorCode::InvalidArgument),
        (with(&|zone| zone.min_x = 2.5), ErrorCode::InvalidGeometry),
        (with(&|zone| zone.max_y = 2e12), ErrorCode::GeometryOutOfRange),
        (with(&|zone| zone.world = "no world".into()), ErrorCode::InvalidName),
        (with(&|zone| zone.world = "venus".into()), ErrorCode::PermissionDenied),
        (with(&|zone| zone.kinds = vec!["no kind".into()]), ErrorCode::InvalidName),
        (with(&|zone| zone.kinds = ["a", "b", "c"].map(String::from).into()), ErrorCode::TooManyZones),
    ] {
        assert_eq!(session.update_zones(&mut router, request.clone()), Err(code), "{request:?}");
    }
    assert_eq!((session.zone_ids(&router), router.epoch()), ([1, 2].into(), 1));
}

#[test]
fn a_zone_is_held_as_it_was_asked_for() {
    let (session, mut router) = (Session::new(1, rights()), Router::new());
    let filtered = wire::Zone { kinds: ["rain", "fire"].map(String::from).into(), ..zone(HANDED_OVER_ZONE_ID_MIN - 1) };
    session.update_zones(&mut router, upsert(vec![zone(1), filtered.clone()])).unwrap();
    let held = router.zone(session.id, filtered.id).unwrap();
    assert_eq!((held.zone.min(), held.zone.max()), ([0.0, 1.0], [2.0, 3.0]));
    assert!(held.kinds.passes("rain") && held.kinds.passes("fire") && !held.kinds.passes("quake"));
    assert_eq!(router.zone(session.id, 1).unwrap().kinds, KindFilter::All);

    let mut other = Session::new(2, rights());
    let expected = wire::Zone { id: HANDED_OVER_ZONE_ID_MIN, ..filtered.clone() };
    assert_eq!(session.hand_over(&mut router, &mut other, &[filtered.id]), Ok(vec![expected]), "and handed over so");
}

#[test]
fn zones_are_handed_over_whole_and_under_ids_of_the_broker() {
    let (giver, mut taker, mut router) = (Session::new(1, rights()), Session::new(2, rights()), Router::new());
    giver.update_zones(&mut router, upsert(vec![zone(1), zone(2), zone(3)])).unwrap();
    taker.update_zones(&mut router, upsert(vec![zone(1)])).unwrap();
    assert_eq!(giver.hand_over(&mut router, &mut taker, &[]), Err(ErrorCode::InvalidArgument));
    assert_eq!(giver.hand_over(&mut router, &mut taker, &[1, 1]), Err(ErrorCode::DuplicateId));
    assert_eq!(giver.hand_over(&mut router, &mut taker, &[1, 4]), Err(ErrorCode::UnknownZone));
    assert_eq!(giver.hand_over(&mut router, &mut taker, &[1, 2, 3]), Err(ErrorCode::TooManyZones), "four in all");
    let given = giver.rules.give_zones(&router, &[1]).unwrap();
    let mut itself = Session::new(1, rights());
    let refused = itself.rules.take_zones(&router, giver.id, given.clone()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument, "to itself");
    let mut elsewhere = Session::new(3, Rights { worlds: Permitted::none(), ..Rights::everything() });
    assert_eq!(giver.hand_over(&mut router, &mut elsewhere, &[1]), Err(ErrorCode::PermissionDenied));

    let ids = |taken: Vec<wire::Zone>| taken.into_iter().map(|zone| zone.id).collect::<Vec<_>>();
    let first = HANDED_OVER_ZONE_ID_MIN;
    assert_eq!(giver.hand_over(&mut router, &mut taker, &[1, 3]).map(ids), Ok(vec![first, first + 1]));
    assert_eq!((giver.zone_ids(&router), taker.zone_ids(&router)), ([2].into(), [1, first, first + 1].into()));
    // Asked for before the first hand-over was applied: it does not give away what the giver no longer has.
    let late = taker.rules.take_zones(&router, giver.id, given).unwrap_err();
    assert_eq!(late.code, ErrorCode::TooManyZones);
    taker.update_zones(&mut router, remove(&[first])).unwrap();
    let given = giver.rules.give_zones(&router, &[2]).unwrap();
    giver.update_zones(&mut router, upsert(vec![wire::Zone { max_x: 9.0, ..zone(2) }])).unwrap();
    let changed = taker.rules.take_zones(&router, giver.id, given).unwrap_err();
    assert_eq!(changed.code, ErrorCode::UnknownZone);
    assert_eq!(giver.hand_over(&mut router, &mut taker, &[2]).map(ids), Ok(vec![first + 2]), "no id comes again");
    // What was handed over is the taker's to change.
    assert_eq!(taker.update_zones(&mut router, upsert(vec![zone(first + 2)])), Ok(()));
}

#[test]
fn bad_topics_are_refused_by_name_and_change_nothing() {
    let (session, mut router) = (Session::new(1, rights()), Router::new());
    session.update_topics(&mut router, add(vec![topic(1, "a"), topic(2, "a.*")])).unwrap();
    let remove = |ids: &[u32]| wire::UpdateTopics { remove: ids.to_vec(), ..Default::default() };
    let grouped = |group: &str| wire::TopicSubscription { queue_group: group.into(), ..topic(3, "a") };
    for (request, code) in [
        (remove(&[3]), ErrorCode::UnknownSubscription),
        (remove(&[1, 1]), ErrorCode::DuplicateId),
        (add(vec![topic(0, "a")]), ErrorCode::InvalidArgument),
        (add(vec![topic(3, "a"), topic(3, "b")]), ErrorCode::DuplicateId),
        (add(vec![topic(1, "b")]), ErrorCode::DuplicateId),
        (add(vec![topic(3, "a..b")]), ErrorCode::InvalidName),
        (add(vec![grouped("no group")]), ErrorCode::InvalidName),
        (add(vec![topic(3, "_inbox.>")]), ErrorCode::PermissionDenied),
        (add(vec![topic(3, "_inbox.0000000000000066.>")]), ErrorCode::PermissionDenied),
    ] {
        assert_eq!(session.update_topics(&mut router, request.clone()), Err(code), "{request:?}");
    }
    assert_eq!((router.topic_count(session.id), router.epoch()), (2, 1));
    let own = add(vec![topic(3, "_inbox.0000000000000065.>")]);
    assert_eq!(session.update_topics(&mut router, own), Ok(()), "its own inbox");
    assert_eq!(session.update_topics(&mut router, remove(&[3])), Ok(()));
    assert_eq!(session.update_topics(&mut router, add(vec![grouped("g")])), Ok(()));
}

/// What a request makes of a set, or that it makes too many of it.
fn expected(held: &BTreeSet<u32>, replace_all: bool, add: &BTreeSet<u32>, remove: &BTreeSet<u32>) -> BTreeSet<u32> {
    let kept = if replace_all { BTreeSet::new() } else { held - remove };
    &kept | add
}

proptest! {
    /// Nobody holds more than is permitted, and nobody is refused who would not.
    #[test]
    fn sets_of_zones_and_topics_are_as_asked_for_and_bounded(
        steps in prop::collection::vec(
            (any::<bool>(), any::<bool>(), prop::collection::btree_set(1..6_u32, 0..5), any::<[bool; 6]>()),
            0..30,
        ),
    ) {
        let (session, mut router) = (Session::new(1, Rights::everything()), Router::new());
        let (mut zones, mut topics) = (BTreeSet::new(), BTreeSet::new());
        for (of_zones, replace_all, add_ids, remove) in steps {
            let chosen = |held: &BTreeSet<u32>| -> BTreeSet<u32> {
                held.iter().copied().filter(|id| remove[*id as usize] && !add_ids.contains(id)).collect()
            };
            if of_zones {
                let remove = if replace_all { BTreeSet::new() } else { chosen(&zones) };
                let wanted = expected(&zones, replace_all, &add_ids, &remove);
                let request = wire::UpdateZones {
                    replace_all,
                    upsert: add_ids.into_iter().map(zone).collect(),
                    remove: remove.into_iter().collect(),
                    ..Default::default()
                };
                let permitted = wanted.len() <= 3;
                let answer = session.update_zones(&mut router, request);
                prop_assert_eq!(answer, if permitted { Ok(()) } else { Err(ErrorCode::TooManyZones) });
                zones = if permitted { wanted } else { zones };
            } else {
                let held: BTreeSet<u32> = topics.clone();
                let remove = chosen(&held);
                let fresh: BTreeSet<u32> = &add_ids - &held;
                let wanted = expected(&held, false, &fresh, &remove);
                let request = wire::UpdateTopics {
                    add: fresh.iter().map(|id| topic(*id, "a.b")).collect(),
                    remove: remove.into_iter().collect(),
                    ..Default::default()
                };
                let permitted = wanted.len() <= 3;
                let answer = session.update_topics(&mut router, request);
                prop_assert_eq!(answer, if permitted { Ok(()) } else { Err(ErrorCode::TooManyTopics) });
                if permitted {
                    topics = wanted;
                }
            }
            prop_assert_eq!(session.zone_ids(&router), zones.clone());
            prop_assert_eq!(router.topic_count(session.id), topics.len());
            prop_assert!(topics.iter().all(|id| router.holds_topic(session.id, *id)));
        }
    }
}
