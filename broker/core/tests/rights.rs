//! What a session may do, against a plain reading of its rights: point by point, topic by topic.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

use std::sync::Arc;

use proptest::{prelude::*, sample::subsequence};
use prost::Message;
use zonecast_core::{
    InterestChange, InterestOp, KindFilter, Router, SessionId, SessionRights, SessionRules, ZoneInterest,
};
use zonecast_protocol::{
    AckLevel, Area, ErrorCode, Limits, Permitted, PublishRights, PublishView, Refusal, Rights, TopicPattern, Zone,
    wire::{self, event::Target},
};

const SOURCE: u64 = 0x65;
const WORLDS: [&str; 3] = ["earth", "mars", "venus"];
const KINDS: [&str; 3] = ["fire", "rain", ""];
const PATTERNS: [&str; 10] = ["a", "a.b", "a.*", "*.b", ">", "a.>", "b.>", "_rpc.x", "_rpc.>", "_inbox.>"];
const TOPICS: [&str; 9] = [
    "a",
    "a.b",
    "b.a",
    "a.b.c",
    "_rpc.x",
    "_rpc.x.y",
    "_inbox.0000000000000065.1",
    "_inbox.00000000000000ff.1",
    "_inbox.ff.1",
];

/// What the rights of one side are made of. All coordinates are whole, so that halves tell inside from outside.
#[derive(Debug, Clone)]
struct Said {
    worlds: Option<Vec<&'static str>>,
    zones: Option<Vec<[i8; 4]>>,
    within: Option<Vec<[i8; 4]>>,
    radius_max: Option<u8>,
    kinds: Option<Vec<&'static str>>,
    silent: bool,
    publish: Option<Vec<&'static str>>,
    subscribe: Option<Vec<&'static str>>,
}

fn rectangle() -> impl Strategy<Value = [i8; 4]> {
    (-4_i8..4, -4_i8..4, 0_i8..6, 0_i8..6).prop_map(|(x, y, width, height)| [x, y, x + width, y + height])
}

fn some_of<const N: usize>(names: [&'static str; N]) -> impl Strategy<Value = Option<Vec<&'static str>>> {
    proptest::option::weighted(0.7, subsequence(names.to_vec(), 0..=N))
}

fn said() -> impl Strategy<Value = Said> {
    let area = || proptest::option::weighted(0.7, proptest::collection::vec(rectangle(), 0..3));
    let radius_max = proptest::option::of(0_u8..5);
    // The empty kind has no name by which it could be permitted.
    let kinds = some_of(["fire", "rain"]);
    let topics = || some_of(PATTERNS);
    let silent = proptest::bool::weighted(0.1);
    (some_of(WORLDS), area(), area(), radius_max, kinds, silent, topics(), topics()).prop_map(
        |(worlds, zones, within, radius_max, kinds, silent, publish, subscribe)| Said {
            worlds,
            zones,
            within,
            radius_max,
            kinds,
            silent,
            publish,
            subscribe,
        },
    )
}

fn permitted<T: Ord + std::str::FromStr<Err: std::fmt::Debug>>(names: Option<&Vec<&str>>) -> Permitted<T> {
    names.map_or(Permitted::Any, |names| names.iter().map(|name| name.parse().unwrap()).collect())
}

fn zone([min_x, min_y, max_x, max_y]: [i8; 4]) -> Zone {
    Zone::new(min_x.into(), min_y.into(), max_x.into(), max_y.into()).unwrap()
}

fn area(rectangles: Option<&Vec<[i8; 4]>>) -> Area {
    rectangles.map_or(Area::Everywhere, |all| Area::Within(all.iter().map(|corners| zone(*corners)).collect()))
}

impl Said {
    fn rights(&self) -> Rights {
        Rights {
            worlds: permitted(self.worlds.as_ref()),
            zones: area(self.zones.as_ref()),
            publish: PublishRights {
                within: area(self.within.as_ref()),
                radius_max: self.radius_max.map_or(f64::INFINITY, f64::from),
                kinds: permitted(self.kinds.as_ref()),
                per_second_max: self.silent.then_some(0),
            },
            publish_topics: permitted(self.publish.as_ref()),
            subscribe_topics: permitted(self.subscribe.as_ref()),
        }
    }

    fn names(names: Option<&Vec<&str>>, name: &str) -> bool {
        names.is_none_or(|names| names.contains(&name))
    }

    /// Whether a point, in halves, lies in one of the rectangles.
    fn lies_in([x, y]: [i8; 2], [min_x, min_y, max_x, max_y]: [i8; 4]) -> bool {
        x >= 2 * min_x && x <= 2 * max_x && y >= 2 * min_y && y <= 2 * max_y
    }

    fn may_hold(&self, world: &str, [min_x, min_y, max_x, max_y]: [i8; 4]) -> bool {
        let points = (2 * min_x..=2 * max_x).flat_map(|x| (2 * min_y..=2 * max_y).map(move |y| [x, y]));
        let mut points = points.collect::<Vec<_>>().into_iter();
        let fits = |of: &[i8; 4]| points.clone().all(|point| Self::lies_in(point, *of));
        let inside = self.zones.as_ref().is_none_or(|rectangles| rectangles.iter().any(fits));
        assert!(points.next().is_some(), "every rectangle has a point");
        inside && Self::names(self.worlds.as_ref(), world)
    }

    fn may_publish_at(&self, world: &str, centre: [i8; 2], radius: u8, kind: &str) -> bool {
        let lies_within = |all: &Vec<[i8; 4]>| all.iter().any(|rectangle| Self::lies_in(centre, *rectangle));
        !self.silent
            && Self::names(self.worlds.as_ref(), world)
            && Self::names(self.kinds.as_ref(), kind)
            && self.within.as_ref().is_none_or(lies_within)
            && self.radius_max.is_none_or(|most| radius <= most)
    }

    fn may_publish_on(&self, topic: &str) -> bool {
        let matches =
            |patterns: &Vec<&str>| patterns.iter().any(|pattern| TopicPattern::new(pattern).unwrap().matches(topic));
        let answers = ["_inbox.0000000000000065.1", "_inbox.00000000000000ff.1"].contains(&topic)
            && self.subscribe.as_ref().is_none_or(|patterns| !patterns.is_empty());
        self.publish.as_ref().is_none_or(matches) || answers
    }

    fn may_hear(&self, pattern: &str) -> bool {
        let wanted = TopicPattern::new(pattern).unwrap();
        // One token that no pattern names stands for all the others.
        let tokens = ["a", "b", "c", "x", "_rpc", "other"];
        let one = tokens.map(str::to_owned);
        let two = one.iter().flat_map(|one| tokens.map(|next| format!("{one}.{next}"))).collect::<Vec<_>>();
        let three = two.iter().flat_map(|two| tokens.map(|next| format!("{two}.{next}"))).collect::<Vec<_>>();
        let topics = one.iter().chain(&two).chain(&three).filter(|topic| wanted.matches(topic)).collect::<Vec<_>>();
        let covers = |permitted: &&str| {
            let permitted = TopicPattern::new(permitted).unwrap();
            topics.iter().all(|topic| permitted.matches(topic))
        };
        self.subscribe.as_ref().is_none_or(|patterns| patterns.iter().any(covers))
    }
}

fn rules(everybody: &Said, own: &Said) -> SessionRules {
    let rights = SessionRights::new(Arc::new(everybody.rights()), Arc::new(own.rights()));
    SessionRules::new(SessionId::new(0, 1), SOURCE, rights, Arc::new(Limits::default()))
}

fn publish(rules: &mut SessionRules, target: Target, kind: &str, reply_to: &str) -> Result<(), Refusal> {
    let event = wire::Event {
        target: Some(target),
        kind: kind.into(),
        source: SOURCE,
        lane_seq: rules.standing().lane_taken_through(0) + 1,
        reply_to: reply_to.into(),
        ..Default::default()
    };
    let event = event.encode_to_vec().into();
    let publish = wire::Publish { ack: AckLevel::Routed.into(), event, ..Default::default() };
    rules.admit(&PublishView::from(&publish)).map(drop).map_err(|refused| refused.refusal)
}

fn on_wire(world: &str, [min_x, min_y, max_x, max_y]: [i8; 4]) -> wire::UpdateZones {
    let (min_x, min_y, max_x, max_y) = (min_x.into(), min_y.into(), max_x.into(), max_y.into());
    let zone = wire::Zone { id: 1, world: world.into(), min_x, min_y, max_x, max_y, kinds: Vec::new() };
    wire::UpdateZones { request_id: 1, upsert: vec![zone], ..Default::default() }
}

fn listen(pattern: &str) -> wire::UpdateTopics {
    let topic = wire::TopicSubscription { id: 1, pattern: pattern.into(), ..Default::default() };
    wire::UpdateTopics { request_id: 1, add: vec![topic], remove: Vec::new() }
}

/// Refused means: for want of a right, which is named.
fn is_permitted<T: std::fmt::Debug>(done: Result<T, Refusal>) -> bool {
    let Err(refusal) = done else { return true };
    assert_eq!(refusal.code, ErrorCode::PermissionDenied, "{refusal}");
    assert!(refusal.message.contains("(the right ") || refusal.message.contains("of _inbox only"), "{refusal}");
    false
}

proptest! {
    #[test]
    fn zones_are_held_where_both_permit_every_point(
        everybody in said(), own in said(), world in 0_usize..3, corners in rectangle(),
    ) {
        let (world, mut rules) = (WORLDS[world], rules(&everybody, &own));
        let expected = everybody.may_hold(world, corners) && own.may_hold(world, corners);
        let mut router = Router::new();
        prop_assert_eq!(is_permitted(rules.update_zones(&router, on_wire(world, corners))), expected);
        // Whoever hands one over cannot give more than the receiver may hold.
        let giver = SessionId::new(0, 2);
        let given = ZoneInterest { world: world.parse().unwrap(), zone: zone(corners), kinds: KindFilter::All };
        router.apply(&InterestChange { epoch: 1, ops: vec![InterestOp::PutZone(giver, 7, given.clone())] });
        prop_assert_eq!(is_permitted(rules.take_zones(&router, giver, vec![(7, given)])), expected);
    }

    #[test]
    fn events_are_published_where_both_permit_it(
        everybody in said(), own in said(), world in 0_usize..3, x in -10_i8..10, y in -10_i8..10, radius in 0_u8..6,
        kind in 0_usize..3,
    ) {
        let (world, kind, mut rules) = (WORLDS[world], KINDS[kind], rules(&everybody, &own));
        let (half_x, half_y) = (f64::from(x) / 2.0, f64::from(y) / 2.0);
        let place = wire::Place { world: world.into(), x: half_x, y: half_y, radius: radius.into() };
        let expected = [&everybody, &own].iter().all(|said| said.may_publish_at(world, [x, y], radius, kind));
        prop_assert_eq!(is_permitted(publish(&mut rules, Target::Place(place), kind, "")), expected);
    }

    #[test]
    fn topics_are_published_on_and_answered_on_where_both_permit_it(
        everybody in said(), own in said(), topic in 0_usize..9, reply_to in 0_usize..9,
    ) {
        let (topic, reply_to, mut rules) = (TOPICS[topic], TOPICS[reply_to], rules(&everybody, &own));
        let both = [&everybody, &own];
        let silent = both.iter().any(|said| said.silent);
        let on = !silent && both.iter().all(|said| said.may_publish_on(topic));
        prop_assert_eq!(is_permitted(publish(&mut rules, Target::Topic(topic.into()), "", "")), on);
        let answered = reply_to == "_inbox.0000000000000065.1" || both.iter().all(|said| said.may_publish_on(reply_to));
        let asked = publish(&mut rules, Target::Topic(topic.into()), "", reply_to);
        prop_assert_eq!(is_permitted(asked), on && answered);
    }

    #[test]
    fn patterns_are_listened_to_where_both_permit_every_topic(
        everybody in said(), own in said(), pattern in 0_usize..9,
    ) {
        let (pattern, rules) = (PATTERNS[pattern], rules(&everybody, &own));
        let expected = everybody.may_hear(pattern) && own.may_hear(pattern);
        prop_assert_eq!(is_permitted(rules.update_topics(&Router::new(), listen(pattern))), expected);
        prop_assert!(is_permitted(rules.update_topics(&Router::new(), listen("_inbox.0000000000000065.>"))));
        for other in ["_inbox.00000000000000ff.>", "_inbox.>", "_inbox.*.1", "_inbox"] {
            prop_assert!(!is_permitted(rules.update_topics(&Router::new(), listen(other))), "{}", other);
        }
    }

    /// Other rights are taken when they permit all that is held, and only then.
    #[test]
    fn rights_are_replaced_by_those_that_permit_what_is_held(
        before in said(), after in said(), corners in rectangle(), pattern in 0_usize..9,
    ) {
        let everybody = Arc::new(Rights::everything());
        let session = SessionId::new(0, 1);
        let rights = SessionRights::new(everybody, Arc::new(before.rights()));
        let mut rules = SessionRules::new(session, SOURCE, rights.clone(), Arc::new(Limits::default()));
        let mut router = Router::new();
        let zones = rules.update_zones(&router, on_wire("earth", corners));
        let topics = rules.update_topics(&router, listen(PATTERNS[pattern]));
        let (has_zone, has_topic) = (zones.is_ok(), topics.is_ok());
        let ops = zones.into_iter().chain(topics).flatten().collect();
        router.apply(&InterestChange { epoch: 1, ops });
        let expected = (!has_zone || after.may_hold("earth", corners)) && (!has_topic || after.may_hear(PATTERNS[pattern]));
        let replaced = rules.replace_rights(&router, rights.with_own(Arc::new(after.rights())));
        prop_assert_eq!(is_permitted(replaced), expected);
        let now = if expected { &after } else { &before };
        let hears = is_permitted(rules.update_zones(&router, on_wire("mars", corners)));
        prop_assert_eq!(hears, now.may_hold("mars", corners));
    }
}

#[test]
fn the_lower_rate_counts() {
    let with = |per_second_max| {
        let mut rights = Rights::everything();
        rights.publish.per_second_max = per_second_max;
        Arc::new(rights)
    };
    for (everybody, own, least) in
        [(None, None, None), (Some(5), None, Some(5)), (None, Some(7), Some(7)), (Some(5), Some(7), Some(5))]
    {
        assert_eq!(SessionRights::new(with(everybody), with(own)).publishes_per_second_max(), least);
    }
}
