//! The router against a model that looks at everything it holds, one by one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "router/model.rs"]
mod model;

use proptest::prelude::*;
use zonecast_core::{
    InterestChange, InterestOp, KindFilter, Router, SessionId, TopicInterest, WorldStats, ZoneInterest,
};
use zonecast_protocol::{Circle, EventView, Kind, QueueGroup, Target, TopicPattern, WorldName, Zone};

use model::Model;

fn session(number: u64) -> SessionId {
    // Two workers, so that the order of sessions is not that of their creation alone.
    SessionId::new(u16::try_from(number % 2).unwrap(), number)
}

fn event<'a>(target: Target<'a>, kind: &'a str) -> EventView<'a> {
    EventView {
        target,
        kind,
        source: 1,
        lane: 0,
        lane_seq: 1,
        class: zonecast_protocol::DeliveryClass::Reliable,
        key: "",
        reply_to: "",
        published_at_us: 0,
        traceparent: "",
        payload: b"",
    }
}

fn place<'a>(world: &'a str, circle: Circle, kind: &'a str) -> EventView<'a> {
    event(Target::Place { world, circle }, kind)
}

fn circle(x: f64, y: f64, radius: f64) -> Circle {
    Circle::new(x, y, radius).unwrap()
}

fn zone_in(world: &str, [min_x, min_y, max_x, max_y]: [f64; 4], kinds: &[&str]) -> ZoneInterest {
    let kinds = if kinds.is_empty() {
        KindFilter::All
    } else {
        KindFilter::Only(kinds.iter().map(|kind| Kind::new(kind).unwrap()).collect())
    };
    let zone = Zone::new(min_x, min_y, max_x, max_y).unwrap();
    ZoneInterest { world: WorldName::new(world).unwrap(), zone, kinds }
}

fn topic_of(pattern: &str, group: Option<&str>) -> TopicInterest {
    TopicInterest {
        pattern: TopicPattern::new(pattern).unwrap(),
        queue_group: group.map(|group| QueueGroup::new(group).unwrap()),
    }
}

fn apply(router: &mut Router, ops: Vec<InterestOp>) {
    let epoch = router.epoch() + 1;
    router.apply(&InterestChange { epoch, ops });
}

/// What [`Model`] and [`Router`] say of the state that can be looked up.
fn assert_same_holdings(router: &Router, model: &Model, sessions: u64) {
    for held_by in (0..sessions).map(session) {
        let mut zones: Vec<_> = router.zones(held_by).map(|(id, interest)| (id, interest.clone())).collect();
        zones.sort_by_key(|(id, _)| *id);
        assert_eq!(zones, model.zones_of(held_by));
        assert_eq!(router.zone_count(held_by), zones.len());
        for (id, interest) in &zones {
            assert_eq!(router.zone(held_by, *id), Some(interest));
        }
        let topics = model.topic_ids_of(held_by);
        assert_eq!(router.topic_count(held_by), topics.len());
        assert!(topics.iter().all(|id| router.holds_topic(held_by, *id)));
        assert!(!router.holds_topic(held_by, u32::MAX) && router.zone(held_by, u32::MAX).is_none());
    }
    assert_eq!(router.is_empty(), model.zones.is_empty() && model.topics.is_empty());
    assert_eq!(router.zones_total(), model.zones.len());
    assert_eq!(router.topics_total(), model.topics.len());
    let mut worlds: Vec<_> = router.worlds().map(|stats| (stats.name.to_owned(), stats.zones)).collect();
    worlds.sort();
    assert_eq!(worlds, model.worlds());
}

/// Coordinates are small whole numbers times this, so that distances are exact and edges are often hit exactly.
/// The extremes leave the range in which squares are normal numbers.
const SCALES: [f64; 9] = [1.0, 0.25, 1e12, 1e-12, 1e150, 1e-160, 1e-300, 1e300, 5e-324];

const SESSIONS: u64 = 6;
const KINDS: [&str; 4] = ["", "fire", "quake", "rain"];

fn any_session() -> impl Strategy<Value = SessionId> {
    (0..SESSIONS).prop_map(session)
}

/// Corners on a grid; every fourth or so has no width or no height.
fn any_corners() -> impl Strategy<Value = [i32; 4]> {
    [-8..=8, -8..=8, 0..=3, 0..=3].prop_map(|[x, y, width, height]| [x, y, x + width, y + height])
}

fn any_zone(scale: f64) -> impl Strategy<Value = ZoneInterest> {
    let kinds = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::sample::subsequence(KINDS[1..].to_vec(), 1..=2),
    ];
    (prop::sample::select(vec!["earth", "mars"]), any_corners(), kinds)
        .prop_map(move |(world, corners, kinds)| zone_in(world, corners.map(|n| f64::from(n) * scale), &kinds))
}

fn any_token(wild: bool) -> impl Strategy<Value = &'static str> {
    let tokens = if wild { vec!["a", "b", "_c", "*", "*"] } else { vec!["a", "b", "_c", "ab"] };
    prop::sample::select(tokens)
}

fn any_topic() -> impl Strategy<Value = String> {
    prop::collection::vec(any_token(false), 1..5).prop_map(|tokens| tokens.join("."))
}

fn any_pattern() -> impl Strategy<Value = String> {
    (prop::collection::vec(any_token(true), 0..4), any::<bool>()).prop_map(|(mut tokens, open)| {
        if open || tokens.is_empty() {
            tokens.push(">");
        }
        tokens.join(".")
    })
}

fn any_subscription() -> impl Strategy<Value = TopicInterest> {
    let group = prop_oneof![2 => Just(None), 1 => Just(Some("g")), 1 => Just(Some("h"))];
    (any_pattern(), group).prop_map(|(pattern, group)| topic_of(&pattern, group))
}

fn any_op(scale: f64) -> impl Strategy<Value = InterestOp> {
    let id = 0..40_u32;
    prop_oneof![
        24 => (any_session(), id.clone(), any_zone(scale)).prop_map(|(s, id, z)| InterestOp::PutZone(s, id, z)),
        6 => (any_session(), id.clone()).prop_map(|(s, id)| InterestOp::RemoveZone(s, id)),
        12 => (any_session(), id.clone(), any_subscription()).prop_map(|(s, id, t)| InterestOp::PutTopic(s, id, t)),
        6 => (any_session(), id).prop_map(|(s, id)| InterestOp::RemoveTopic(s, id)),
        1 => any_session().prop_map(InterestOp::EndSession),
        1 => (any_session(), any_session()).prop_map(|(from, to)| InterestOp::Rehome(from, to)),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Change(Vec<InterestOp>),
    /// One session's zones to another, in one change.
    HandOver(SessionId, SessionId),
    Place(&'static str, Circle, &'static str, Option<SessionId>),
    Topic(String, Option<SessionId>),
}

fn any_step(scale: f64) -> impl Strategy<Value = Step> {
    // 3-4-5 and 6-8-10 triangles reach corners exactly; 0 is a point.
    let radius = prop::sample::select(vec![0, 0, 1, 2, 3, 5, 5, 10, 40]);
    let circle = (-10..=10, -10..=10, radius)
        .prop_map(move |(x, y, r)| circle(f64::from(x) * scale, f64::from(y) * scale, f64::from(r) * scale));
    let world = prop::sample::select(vec!["earth", "mars", "void"]);
    let exclude = || prop::option::weighted(0.3, any_session());
    prop_oneof![
        2 => prop::collection::vec(any_op(scale), 1..60).prop_map(Step::Change),
        2 => prop::collection::vec(any_op(scale), 1..3).prop_map(Step::Change),
        1 => (any_session(), any_session()).prop_map(|(from, to)| Step::HandOver(from, to)),
        8 => (world, circle, prop::sample::select(KINDS.to_vec()), exclude())
            .prop_map(|(world, circle, kind, exclude)| Step::Place(world, circle, kind, exclude)),
        6 => (any_topic(), exclude()).prop_map(|(topic, exclude)| Step::Topic(topic, exclude)),
    ]
}

fn hand_over(router: &Router, from: SessionId, to: SessionId) -> Vec<InterestOp> {
    let zones = router.zones(from).enumerate().map(|(count, (id, interest))| {
        let new_id = 1000 + u32::try_from(count).unwrap();
        [InterestOp::RemoveZone(from, id), InterestOp::PutZone(to, new_id, interest.clone())]
    });
    zones.flatten().collect()
}

/// Ends all interest: of half of the sessions as a whole, of the others piece by piece.
fn farewell(model: &Model) -> Vec<InterestOp> {
    let (whole, pieces): (Vec<_>, Vec<_>) = (0..SESSIONS).map(session).partition(|session| session.worker() == 0);
    let mut ops: Vec<_> = whole.into_iter().map(InterestOp::EndSession).collect();
    for session in pieces {
        ops.extend(model.zones_of(session).into_iter().map(|(id, _)| InterestOp::RemoveZone(session, id)));
        ops.extend(model.topic_ids_of(session).into_iter().map(|id| InterestOp::RemoveTopic(session, id)));
    }
    ops
}

fn run(steps: Vec<Step>) {
    let (mut router, mut model) = (Router::new(), Model::default());
    for step in steps {
        match step {
            Step::Change(ops) => {
                model.apply(&ops);
                apply(&mut router, ops);
                assert_same_holdings(&router, &model, SESSIONS);
            }
            Step::HandOver(from, to) => {
                let ops = hand_over(&router, from, to);
                model.apply(&ops);
                apply(&mut router, ops);
                assert_same_holdings(&router, &model, SESSIONS);
            }
            Step::Place(world, circle, kind, exclude) => {
                let expected = model.place(world, &circle, kind, exclude);
                assert_eq!(router.route(&place(world, circle, kind), exclude), expected, "{world} {circle:?} {kind}");
            }
            Step::Topic(topic, exclude) => {
                let expected = model.topic(&topic, exclude);
                assert_eq!(router.route(&event(Target::Topic(&topic), ""), exclude), expected, "{topic}");
            }
        }
    }
    apply(&mut router, farewell(&model));
    assert!(router.is_empty(), "something is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_history_routes_as_the_model_does(
        steps in prop::sample::select(SCALES.to_vec())
            .prop_flat_map(|scale| prop::collection::vec(any_step(scale), 1..60))
    ) {
        run(steps);
    }
}

/// A number of any exponent, or one of those whose squares are no normal numbers but are not 0 either.
fn awkward(rng: &mut fastrand::Rng, squares_are_tiny: bool) -> f64 {
    if squares_are_tiny {
        return (rng.f64() - 0.5) * 1e-160;
    }
    let sign = if rng.bool() { 1.0 } else { -1.0 };
    let magnitude = match rng.u8(..6) {
        0 => 0.0,
        1 => rng.f64() * 1e12,
        2 => rng.f64() * 10_f64.powi(rng.i32(-320..308)),
        3 => f64::from_bits(rng.u64(..0x10_0000_0000_0000)),
        _ => rng.f64() * 1000.0,
    };
    sign * magnitude
}

/// As near as rounding lets a circle come to touching a zone's corner: the radius is the rounded distance or one of
/// its neighbours.
fn grazing(rng: &mut fastrand::Rng, zone: &Zone, squares_are_tiny: bool) -> Option<Circle> {
    let [corner_x, corner_y] = [zone.min(), zone.max()][rng.usize(..2)];
    let (x, y) = (corner_x + awkward(rng, squares_are_tiny), corner_y + awkward(rng, squares_are_tiny));
    let radius = (x - corner_x).hypot(y - corner_y);
    let radius = [radius, radius.next_up(), radius.next_down().max(0.0), (x - corner_x).abs()][rng.usize(..4)];
    Circle::new(x, y, radius).ok()
}

/// Bounds of inner nodes must never hide a zone that touches, whatever rounding does. Enough zones for a deep tree.
#[test]
fn inner_nodes_hide_no_zone_from_grazing_circles() {
    for seed in 0..24 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let squares_are_tiny = seed % 4 == 0;
        let (mut router, mut model) = (Router::new(), Model::default());
        let mut zones = Vec::new();
        while zones.len() < 400 {
            let mut number = || awkward(&mut rng, squares_are_tiny);
            let [x, y, width, height] = if seed % 2 == 0 {
                // Points on a diagonal: their corners are corners of inner nodes too.
                let x = number();
                [x, x, 0.0, 0.0]
            } else {
                [number(), number(), number().abs(), number().abs()]
            };
            if (x + width).is_finite() && (y + height).is_finite() {
                zones.push(zone_in("w", [x, y, x + width, y + height], &[]));
            }
        }
        for (number, batch) in zones.chunks(100).enumerate() {
            let ops: Vec<_> = batch
                .iter()
                .enumerate()
                .map(|(id, zone)| {
                    let held_by = session((number * 100 + id) as u64);
                    InterestOp::PutZone(held_by, u32::try_from(id).unwrap(), zone.clone())
                })
                .collect();
            model.apply(&ops);
            // The first as one change onto an empty world, the others zone by zone.
            let changes = if number == 0 { vec![ops] } else { ops.into_iter().map(|op| vec![op]).collect() };
            changes.into_iter().for_each(|ops| apply(&mut router, ops));
        }
        let mut hits = 0;
        for _ in 0..2_000 {
            let near = &zones[rng.usize(..zones.len())].zone;
            let Some(circle) = grazing(&mut rng, near, squares_are_tiny) else { continue };
            let reached = router.route(&place("w", circle, ""), None);
            assert_eq!(reached, model.place("w", &circle, "", None), "seed {seed} {circle:?}");
            hits += reached.len();
        }
        assert!(hits > 1_000, "the circles are meant to graze zones, not to miss all: {hits}");
    }
}

/// Thousands of moves do not wear the index out.
#[test]
fn a_long_run_of_moves_routes_as_the_model_does() {
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut router, mut model) = (Router::new(), Model::default());
    let random_zone = |rng: &mut fastrand::Rng| {
        let (x, y) = (f64::from(rng.i32(-50..50)), f64::from(rng.i32(-50..50)));
        zone_in("w", [x, y, x + f64::from(rng.i32(0..4)), y + f64::from(rng.i32(0..4))], &[])
    };
    for round in 0..20_000_u32 {
        let op = InterestOp::PutZone(session(rng.u64(..30)), rng.u32(..10), random_zone(&mut rng));
        model.apply(std::slice::from_ref(&op));
        apply(&mut router, vec![op]);
        if round % 20 == 0 {
            let probe = circle(f64::from(rng.i32(-55..55)), f64::from(rng.i32(-55..55)), f64::from(rng.i32(0..6)));
            assert_eq!(router.route(&place("w", probe, ""), None), model.place("w", &probe, "", None));
        }
    }
    assert_same_holdings(&router, &model, 30);
}

#[test]
fn a_queue_group_takes_turns() {
    let mut router = Router::new();
    let members = [session(1), session(2), session(3)];
    let put = |id| move |member| InterestOp::PutTopic(member, id, topic_of("jobs.*", Some("workers")));
    apply(&mut router, members.into_iter().map(put(1)).collect());
    // Holding the pattern twice does not make a member twice as busy.
    apply(&mut router, vec![put(2)(members[0])]);
    let mut turns = |exclude, count| {
        let mut served = members.map(|_| 0);
        for _ in 0..count {
            let [one] = router.route(&event(Target::Topic("jobs.x"), ""), exclude) else { panic!("exactly one") };
            served[members.iter().position(|member| member == one).unwrap()] += 1;
        }
        served
    };
    assert_eq!(turns(None, 300), [100, 100, 100]);
    assert_eq!(turns(Some(members[1]), 300), [150, 0, 150]);

    apply(&mut router, vec![InterestOp::EndSession(members[0]), InterestOp::EndSession(members[2])]);
    assert_eq!(router.route(&event(Target::Topic("jobs.x"), ""), None), [members[1]]);
    assert_eq!(router.route(&event(Target::Topic("jobs.x"), ""), Some(members[1])), []);
}

#[test]
fn groups_of_other_names_and_patterns_each_get_the_event() {
    let mut router = Router::new();
    let ops = [("jobs.*", "a"), ("jobs.*", "b"), ("jobs.>", "a")];
    let ops = ops.iter().zip(1..).flat_map(|((pattern, group), number)| {
        [number, number + 10].map(|s| InterestOp::PutTopic(session(s), 1, topic_of(pattern, Some(group))))
    });
    apply(&mut router, ops.collect());
    for _ in 0..2 {
        assert_eq!(router.route(&event(Target::Topic("jobs.x"), ""), None).len(), 3);
    }
}

#[test]
fn a_world_counts_its_events_from_its_first_zone_to_its_last() {
    let mut router = Router::new();
    let here = circle(0.0, 0.0, 1.0);
    let put = |s, world: &str, x| InterestOp::PutZone(session(s), 1, zone_in(world, [x, 0.0, x, 0.0], &[]));
    assert_eq!(router.route(&place("w", here, ""), None), []);
    assert_eq!(router.worlds().count(), 0);

    apply(&mut router, vec![put(1, "w", 0.0)]);
    let _ = router.route(&place("w", here, ""), None);
    let _ = router.route(&place("elsewhere", here, ""), None);
    assert_eq!(router.worlds().collect::<Vec<_>>(), [WorldStats { name: "w", zones: 1, events: 1 }]);

    // Its only zone moves, then changes hands, each in one change: the world goes on.
    apply(&mut router, vec![put(1, "w", 50.0)]);
    apply(&mut router, vec![InterestOp::RemoveZone(session(1), 1), put(2, "w", 50.0)]);
    let _ = router.route(&place("w", here, ""), None);
    assert_eq!(router.worlds().collect::<Vec<_>>(), [WorldStats { name: "w", zones: 1, events: 2 }]);

    apply(&mut router, vec![put(2, "x", 0.0)]);
    assert_eq!(router.worlds().collect::<Vec<_>>(), [WorldStats { name: "x", zones: 1, events: 0 }]);
}

#[test]
fn the_epoch_is_the_greatest_applied() {
    let mut router = Router::new();
    for (epoch, greatest) in [(0, 0), (3, 3), (2, 3), (9, 9)] {
        router.apply(&InterestChange { epoch, ops: Vec::new() });
        assert_eq!(router.epoch(), greatest);
    }
}
