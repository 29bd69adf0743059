use proptest::prelude::*;
use zonecast_protocol::HANDED_OVER_ZONE_ID_MIN;

use super::{
    model::{Step, World, run, zone},
    *,
};

fn zone_id() -> impl Strategy<Value = u32> {
    // Few, so that they meet; with the ends of both ranges, where renamed zones live.
    prop_oneof![1..6_u32, HANDED_OVER_ZONE_ID_MIN - 3..HANDED_OVER_ZONE_ID_MIN + 3, Just(u32::MAX)]
}

fn step() -> impl Strategy<Value = Step> {
    let own_id = || prop_oneof![1..6_u32, HANDED_OVER_ZONE_ID_MIN - 3..HANDED_OVER_ZONE_ID_MIN];
    prop_oneof![
        3 => (own_id(), any::<u8>()).prop_map(|(id, mark)| Step::Put(id, mark)),
        1 => proptest::collection::btree_set(own_id(), 0..4).prop_map(|ids| Step::Set(ids.into_iter().collect())),
        2 => zone_id().prop_map(Step::Remove),
        1 => zone_id().prop_map(Step::HandOver),
        1 => Just(Step::EndZones),
        2 => Just(Step::Subscribe),
        1 => any::<usize>().prop_map(Step::Unsubscribe),
        3 => any::<bool>().prop_map(Step::Connect),
        2 => any::<bool>().prop_map(Step::Lose),
        1 => Just(Step::GoAway),
        8 => Just(Step::Read),
        8 => Just(Step::Hear),
        8 => any::<bool>().prop_map(Step::Answer),
        2 => (1..4_u8).prop_map(Step::Receive),
        1 => Just(Step::ShowToken),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn broker_session_and_application_agree(steps in proptest::collection::vec(step(), 0..60)) {
        run(steps);
    }

    /// Whatever a broker sends, the session says no rather than panic.
    #[test]
    fn no_frame_makes_it_panic(
        frames in proptest::collection::vec((0..4_u8, any::<u64>(), zone_id()), 0..30),
        steps in proptest::collection::vec(step(), 0..10),
    ) {
        let mut world = World::new();
        world.step(Step::Connect(false));
        for step in steps {
            world.step(step);
        }
        for (kind, number, id) in frames {
            let request_id = number % 8;
            let frame = match kind {
                0 => ServerFrame::InterestApplied(wire::InterestApplied { request_id, epoch: number }),
                1 => ServerFrame::RequestRefused(wire::RequestRefused { request_id, ..Default::default() }),
                2 => ServerFrame::ZonesReceived(wire::ZonesReceived { zones: vec![zone(id, 1)], ..Default::default() }),
                _ => ServerFrame::Welcome(wire::Welcome::default()),
            };
            // Yes or no are both good answers here.
            let _ = world.session.on_frame(frame);
            while world.session.next_effect().is_some() {}
        }
    }
}

#[test]
fn a_renewal_is_cut_to_the_brokers_limit() {
    let mut session = Session::<u64>::new();
    let upsert = (1..=1000).map(|id| zone(id, 1)).collect();
    session.connected(&Limits::default());
    session.submit(Operation::ChangeZones { replace_all: true, upsert, remove: vec![] }, None);
    session.on_frame(ServerFrame::InterestApplied(wire::InterestApplied { request_id: 1, epoch: 1 })).unwrap();
    session.lost(false);
    while session.next_effect().is_some() {}
    session.connected(&Limits { frame_bytes_max: 1000, ..Limits::default() });
    let (mut zones, mut frames) = (0, 0);
    while let Some(Effect::Send(client_frame::Frame::UpdateZones(update))) = session.next_effect() {
        assert!(prost::Message::encoded_len(&update) <= 1000);
        zones += update.upsert.len();
        frames += 1;
    }
    assert!(zones == 1000 && frames > 10, "{zones} zones in {frames} frames");
}

#[test]
fn what_ends_while_a_session_may_go_on_is_ended_there() {
    let mut session = Session::<u64>::new();
    session.connected(&Limits::default());
    session.submit(Operation::ChangeZones { replace_all: true, upsert: vec![zone(1, 1)], remove: vec![] }, Some(1));
    session.on_frame(ServerFrame::InterestApplied(wire::InterestApplied { request_id: 1, epoch: 1 })).unwrap();
    session.lost(true);
    session.submit(Operation::EndZones, None);
    while session.next_effect().is_some() {}
    session.resumed(&Limits::default(), 1);
    assert_eq!(session.next_effect(), Some(Effect::Renewed));
    let end = wire::UpdateZones { request_id: 2, replace_all: true, ..Default::default() };
    assert_eq!(session.next_effect(), Some(Effect::Send(client_frame::Frame::UpdateZones(end))));
    session.lost(false);
    session.connected(&Limits::default());
    assert_eq!(session.next_effect(), Some(Effect::Renewed), "nothing is left to renew or to end");
    assert_eq!(session.next_effect(), None);
}

#[test]
fn what_ends_while_there_is_no_connection_needs_no_broker() {
    let mut session = Session::<u64>::new();
    let topic = wire::TopicSubscription { id: 1, pattern: "a".into(), ..Default::default() };
    session.submit(Operation::Subscribe(topic), Some(1));
    session.submit(Operation::ChangeZones { replace_all: true, upsert: vec![zone(1, 1)], remove: vec![] }, Some(2));
    session.submit(Operation::Unsubscribe(1), None);
    session.submit(Operation::EndZones, None);
    for token in [1, 2] {
        assert_eq!(session.next_effect(), Some(Effect::Answer { token, result: Err(OperationError::Ended) }));
    }
    session.connected(&Limits::default());
    assert_eq!(session.next_effect(), Some(Effect::Renewed));
    assert_eq!(session.next_effect(), None);
}

#[test]
fn zones_that_come_against_the_protocol_are_not_brought_to_the_next_broker() {
    let first = HANDED_OVER_ZONE_ID_MIN;
    for (zones_per_session_max, ids) in [(10, [first, first]), (10, [first, 1]), (1, [first, first + 1])] {
        let mut session = Session::<u64>::new();
        session.connected(&Limits { zones_per_session_max, ..Limits::default() });
        let zones = ids.map(|id| zone(id, 1)).to_vec();
        let received = ServerFrame::ZonesReceived(wire::ZonesReceived { zones, ..Default::default() });
        assert!(matches!(session.on_frame(received), Err(SessionError::Violation(_))));
        assert_eq!((session.next_effect(), session.next_effect()), (Some(Effect::Renewed), None));
        session.lost(false);
        session.connected(&Limits::default());
        assert_eq!((session.next_effect(), session.next_effect()), (Some(Effect::Renewed), None), "{ids:?}");
    }
}

#[test]
fn who_asked_is_answered_by_the_next_broker_when_this_one_answers_something_else() {
    let renewed = ServerFrame::Renewed(wire::Renewed { request_id: 1, token_expires_in_ms: 1 });
    let applied = |request_id| ServerFrame::InterestApplied(wire::InterestApplied { request_id, epoch: 7 });
    let mut session = Session::<u64>::new();
    session.connected(&Limits::default());
    session.submit(Operation::ChangeZones { replace_all: true, upsert: vec![zone(1, 1)], remove: vec![] }, Some(1));
    assert_eq!(session.on_frame(renewed), Err(SessionError::Violation("an answer is to another kind of request")));
    session.lost(false);
    session.connected(&Limits::default());
    session.on_frame(applied(2)).unwrap();
    let answers = std::iter::from_fn(|| session.next_effect()).filter(|effect| matches!(effect, Effect::Answer { .. }));
    assert_eq!(answers.collect::<Vec<_>>(), [Effect::Answer { token: 1, result: Ok(7) }]);
}
