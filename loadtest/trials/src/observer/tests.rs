//! Hand-made histories: each promise kept, and each broken in the smallest way.

use super::*;

const BROKER: BrokerNumber = BrokerNumber(0);
const OTHER_BROKER: BrokerNumber = BrokerNumber(1);
const PUBLISHER: Run = Run { client: 0, incarnation: 1 };
const READER: Run = Run { client: 1, incarnation: 1 };
const EAR: Ear = Ear { run: READER, subscription: 0 };
const OTHER_READER: Run = Run { client: 2, incarnation: 1 };
const OTHER_EAR: Ear = Ear { run: OTHER_READER, subscription: 0 };

fn name(lane_seq: u64) -> Name {
    Name { publisher: PUBLISHER, lane: 3, lane_seq }
}

fn topic() -> Aim {
    Aim::Topic("t.a".into())
}

/// Publisher and reader on one broker, the reader listening.
fn listening() -> Observer {
    let mut observer = Observer::default();
    for run in [PUBLISHER, READER, OTHER_READER] {
        observer.started(run);
        observer.linked(run, BROKER, false);
    }
    observer.in_force(EAR, 1, Want::Topics("t.*".into()));
    observer
}

fn publish(observer: &mut Observer, lane_seq: u64, level: Level) {
    observer.published(name(lane_seq), topic(), Class::Reliable, level);
}

fn acked(observer: &mut Observer, lane_seq: u64) {
    observer.answered(name(lane_seq), Answer::Acked { matched: 1 });
}

/// The only kind of violation, how often.
fn only(observer: Observer) -> Option<(ViolationKind, u64)> {
    let findings = observer.finish();
    let kinds: Vec<_> = findings.counts().collect();
    assert!(kinds.len() <= 1, "{:?}", findings.violations());
    kinds.first().copied()
}

#[test]
fn promises_kept_are_no_violations() {
    let mut observer = listening();
    for lane_seq in 1..=3 {
        publish(&mut observer, lane_seq, if lane_seq == 2 { Level::Processed } else { Level::Routed });
        observer.delivered(EAR, name(lane_seq), false);
        observer.processed(EAR, name(lane_seq));
        acked(&mut observer, lane_seq);
    }
    assert_eq!(observer.findings.acked_routed, 2);
    assert_eq!(observer.findings.acked_processed, 1);
    assert_eq!(only(observer), None);
}

#[test]
fn an_acknowledgement_before_processing_is_found() {
    let mut observer = listening();
    publish(&mut observer, 1, Level::Processed);
    observer.delivered(EAR, name(1), false);
    acked(&mut observer, 1);
    observer.processed(EAR, name(1));
    // Both by the count and by the one who certainly listens.
    assert_eq!(only(observer), Some((ViolationKind::AckedLost, 2)));
}

#[test]
fn a_listener_that_was_left_out_of_an_acknowledgement_is_found() {
    let mut observer = listening();
    observer.in_force(OTHER_EAR, 1, Want::Topics("t.>".into()));
    publish(&mut observer, 1, Level::Processed);
    observer.delivered(EAR, name(1), false);
    observer.processed(EAR, name(1));
    acked(&mut observer, 1);
    assert_eq!(only(observer), Some((ViolationKind::AckedLost, 1)));
}

#[test]
fn a_listener_at_another_broker_is_not_left_out() {
    let mut observer = listening();
    observer.linked(OTHER_READER, OTHER_BROKER, false);
    observer.in_force(OTHER_EAR, 1, Want::Topics("t.>".into()));
    publish(&mut observer, 1, Level::Routed);
    observer.delivered(EAR, name(1), false);
    acked(&mut observer, 1);
    assert_eq!(only(observer), None);
}

#[test]
fn what_is_given_twice_is_found_but_not_over_two_runs() {
    let mut observer = listening();
    publish(&mut observer, 1, Level::None);
    let next_run = Ear { run: Run { incarnation: 2, ..READER }, ..EAR };
    observer.delivered(EAR, name(1), false);
    observer.delivered(next_run, name(1), true);
    observer.delivered(EAR, name(1), true);
    assert_eq!(only(observer), Some((ViolationKind::Duplicated, 1)));
}

#[test]
fn disorder_is_found_unless_it_is_flagged_or_no_promise() {
    for (class, resent, found) in [
        (Class::Reliable, false, Some((ViolationKind::UnflaggedReorder, 1))),
        (Class::Reliable, true, None),
        (Class::State("k".into()), false, None),
        (Class::Transient, false, None),
    ] {
        let mut observer = listening();
        observer.published(name(1), topic(), class, Level::None);
        publish(&mut observer, 2, Level::None);
        observer.delivered(EAR, name(2), false);
        observer.delivered(EAR, name(1), resent);
        assert_eq!(only(observer), found);
    }
}

#[test]
fn an_older_value_of_a_key_behind_a_newer_one_is_found_flagged_or_not() {
    let reorder = Some((ViolationKind::UnflaggedReorder, 1));
    let other_ear = Ear { subscription: 7, ..EAR };
    for (key, ear, resent, found) in [
        ("k", EAR, false, reorder),
        ("k", EAR, true, reorder),
        ("other", EAR, true, None),
        ("k", other_ear, false, None),
    ] {
        let mut observer = listening();
        observer.published(name(1), topic(), Class::State("k".into()), Level::None);
        observer.published(name(2), topic(), Class::State(key.into()), Level::None);
        observer.delivered(EAR, name(2), false);
        observer.delivered(ear, name(1), resent);
        assert_eq!(only(observer), found, "{key}, {ear}, {resent}");
    }
}

#[test]
fn a_silent_gap_is_found_and_a_shown_one_is_not() {
    for (shown, found) in
        [(None, Some((ViolationKind::SilentGap, 1))), (Some(Notice::Gap), None), (Some(Notice::Interrupted), None)]
    {
        let mut observer = listening();
        publish(&mut observer, 1, Level::Routed);
        acked(&mut observer, 1);
        if let Some(notice) = shown {
            observer.noticed(EAR, notice);
        }
        assert_eq!(observer.findings.routed_due, 0);
        assert_eq!(only(observer), found);
    }
}

#[test]
fn a_gap_must_be_shown_in_its_place() {
    let mut observer = listening();
    publish(&mut observer, 1, Level::Routed);
    acked(&mut observer, 1);
    publish(&mut observer, 2, Level::Routed);
    observer.delivered(EAR, name(2), false);
    acked(&mut observer, 2);
    observer.noticed(EAR, Notice::Gap);
    assert_eq!(only(observer), Some((ViolationKind::SilentGap, 1)));
}

#[test]
fn a_notice_from_before_excuses_nothing() {
    let mut observer = listening();
    observer.noticed(EAR, Notice::Interrupted);
    publish(&mut observer, 1, Level::Routed);
    acked(&mut observer, 1);
    assert_eq!(only(observer), Some((ViolationKind::SilentGap, 1)));
}

#[test]
fn between_an_interruption_and_the_next_connection_nothing_is_certain() {
    let mut observer = listening();
    observer.unlinked(READER);
    observer.noticed(EAR, Notice::Interrupted);
    publish(&mut observer, 1, Level::Routed);
    acked(&mut observer, 1);
    observer.linked(READER, BROKER, false);
    publish(&mut observer, 2, Level::Routed);
    acked(&mut observer, 2);
    let findings = observer.finish();
    assert_eq!(findings.count(ViolationKind::SilentGap), 1);
    assert!(findings.violations()[0].what.contains("c0#1/3/2"), "{:?}", findings.violations());
}

#[test]
fn what_is_published_while_a_session_waits_for_its_client_is_due() {
    for (resumed, found) in [(true, Some((ViolationKind::SilentGap, 1))), (false, None)] {
        let mut observer = listening();
        observer.unlinked(READER);
        publish(&mut observer, 1, Level::Routed);
        observer.linked(READER, BROKER, resumed);
        acked(&mut observer, 1);
        assert_eq!(only(observer), found);
    }
}

#[test]
fn what_is_published_around_a_change_is_held_against_nobody() {
    let mut observer = listening();
    publish(&mut observer, 1, Level::Routed);
    observer.giving_up(EAR, 1);
    acked(&mut observer, 1);
    publish(&mut observer, 2, Level::Routed);
    observer.in_force(EAR, 1, Want::Topics("t.a".into()));
    acked(&mut observer, 2);
    assert_eq!(only(observer), None);
}

#[test]
fn losses_by_a_crash_are_counted_and_must_be_shown_too() {
    for shown in [true, false] {
        let mut observer = listening();
        publish(&mut observer, 1, Level::Routed);
        acked(&mut observer, 1);
        observer.broker_killed(BROKER);
        observer.unlinked(READER);
        if shown {
            observer.noticed(EAR, Notice::Interrupted);
        }
        observer.linked(READER, BROKER, false);
        let findings = observer.finish();
        assert_eq!((findings.routed_due, findings.routed_lost_on_crash), (1, u64::from(shown)));
        assert_eq!(findings.count(ViolationKind::SilentGap), u64::from(!shown));
    }
}

#[test]
fn a_state_value_may_be_replaced_by_a_newer_one() {
    for (key, found) in [("k", None), ("other", Some((ViolationKind::SilentGap, 1)))] {
        let mut observer = listening();
        observer.published(name(1), topic(), Class::State("k".into()), Level::Routed);
        acked(&mut observer, 1);
        observer.published(name(2), topic(), Class::State(key.into()), Level::Routed);
        acked(&mut observer, 2);
        observer.delivered(EAR, name(2), false);
        assert_eq!(only(observer), found);
    }
}

#[test]
fn nobody_is_owed_what_is_not_for_him() {
    let mut observer = listening();
    let own = Ear { run: PUBLISHER, subscription: 0 };
    observer.in_force(own, 1, Want::Topics("t.a".into()));
    publish(&mut observer, 1, Level::Routed);
    observer.excludes_self(name(1));
    observer.delivered(EAR, name(1), false);
    acked(&mut observer, 1);
    // And who drops a subscription does not get what still waits in it.
    publish(&mut observer, 2, Level::Routed);
    observer.excludes_self(name(2));
    acked(&mut observer, 2);
    observer.ear_ended(EAR);
    assert_eq!(only(observer), None);
}

#[test]
fn what_is_never_finished_is_found() {
    let mut observer = listening();
    publish(&mut observer, 1, Level::Processed);
    publish(&mut observer, 2, Level::None);
    observer.unlinked(READER);
    assert_eq!(only(observer), Some((ViolationKind::Stuck, 2)));
    let mut observer = listening();
    publish(&mut observer, 1, Level::Processed);
    observer.ended(PUBLISHER);
    assert_eq!(only(observer), None);
}

#[test]
fn an_event_from_nowhere_is_found() {
    let mut observer = listening();
    observer.delivered(EAR, name(1), false);
    assert_eq!(only(observer), Some((ViolationKind::Phantom, 1)));
}

#[test]
fn a_newer_value_may_go_with_a_subscription_that_is_dropped() {
    let mut observer = listening();
    let other = Ear { subscription: 7, ..EAR };
    observer.in_force(other, 1, Want::Topics("u.a".into()));
    observer.published(name(1), topic(), Class::State("k".into()), Level::Routed);
    acked(&mut observer, 1);
    observer.published(name(2), Aim::Topic("u.a".into()), Class::State("k".into()), Level::None);
    observer.ear_ended(other);
    assert_eq!(only(observer), None);
}

/// A zone that the reader hands to the other reader while events are published.
fn handed_over(heard_by: &[Ear], resent: bool) -> Option<(ViolationKind, u64)> {
    let mut observer = listening();
    let zone = Want::Zone { world: "w".into(), min: (0, 0), max: (10, 10) };
    observer.in_force(EAR, 9, zone.clone());
    observer.handing_over(EAR, OTHER_EAR, 9);
    let aim = Aim::Place { world: "w".into(), at: (13, 14), radius: 5 };
    observer.published(name(1), aim, Class::Reliable, Level::Routed);
    observer.handed_over(OTHER_EAR, 9, zone);
    for ear in heard_by {
        observer.delivered(*ear, name(1), resent);
    }
    acked(&mut observer, 1);
    only(observer)
}

#[test]
fn one_side_of_a_hand_over_hears_each_event() {
    assert_eq!(handed_over(&[EAR], false), None);
    assert_eq!(handed_over(&[OTHER_EAR], false), None);
    assert_eq!(handed_over(&[], false), Some((ViolationKind::SilentGap, 1)));
    assert_eq!(handed_over(&[EAR, OTHER_EAR], false), Some((ViolationKind::Duplicated, 1)));
    assert_eq!(handed_over(&[EAR, OTHER_EAR], true), None);
}

#[test]
fn matching_is_that_of_the_protocol() {
    let zone = Want::Zone { world: "w".into(), min: (0, 0), max: (10, 10) };
    let place = |x, y, radius| Aim::Place { world: "w".into(), at: (x, y), radius };
    assert!(zone.matches(&place(13, 14, 5)) && !zone.matches(&place(13, 14, 4)));
    assert!(zone.matches(&place(10, 0, 0)) && !zone.matches(&place(11, 0, 0)));
    assert!(!zone.matches(&Aim::Place { world: "v".into(), at: (1, 1), radius: 0 }));
    let matches = |pattern: &str, topic: &str| Want::Topics(pattern.into()).matches(&Aim::Topic(topic.into()));
    assert!(matches("t.*", "t.a") && !matches("t.*", "t") && !matches("t.*", "t.a.b"));
    assert!(matches("t.>", "t.a") && matches("t.>", "t.a.b") && !matches("t.>", "t"));
    assert!(matches("t.a", "t.a") && !matches("t.a", "t.b") && !zone.matches(&topic()));
}
