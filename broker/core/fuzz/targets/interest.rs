//! Any requests of any sessions: the rules let nothing through that breaks a limit, the router routes as its model does,
//! and nothing is left behind when all sessions have ended.
#![no_main]

#[path = "../../tests/router/model.rs"]
mod model;

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use model::Model;
use prost::Message;
use zonecast_core::{InterestChange, InterestOp, Router, SessionId, SessionRights, SessionRules};
use zonecast_protocol::{
    Area, HANDED_OVER_ZONE_ID_MIN, Limits, PublishRights, PublishView, Rights, Target, WorldName, Zone, wire,
};

const CLIENTS: u64 = 4;
const WORLDS: [&str; 5] = ["earth", "mars", "forbidden", "", "no world"];
const KINDS: [&str; 4] = ["fire", "quake", "rain", "no kind"];
const GROUPS: [&str; 3] = ["", "g", "no group"];
const PATTERNS: [&str; 10] =
    ["a", "a.b", "a.*", "*.b", ">", "a.>", "_inbox.0000000000000065.>", "_inbox.>", "a..b", ""];
const TOPICS: [&str; 6] = ["a", "a.b", "b.b", "a.b.c", "_inbox.0000000000000065.1", "a."];
const NUMBERS: [f64; 12] = [0.0, 1.0, 2.0, 3.0, 5.0, -4.0, 0.5, 1e3, 1e12, 2e12, f64::NAN, f64::INFINITY];

#[derive(Debug, Arbitrary)]
struct Op {
    #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=CLIENTS - 1))]
    client: u64,
    what: What,
}

#[derive(Debug, Arbitrary)]
enum What {
    Zones {
        replace_all: bool,
        upsert: Vec<Rectangle>,
        #[arbitrary(with = ids)]
        remove: Vec<u32>,
    },
    Topics {
        add: Vec<Topic>,
        #[arbitrary(with = ids)]
        remove: Vec<u32>,
    },
    HandOver {
        #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=CLIENTS - 1))]
        to: u64,
        #[arbitrary(with = ids)]
        ids: Vec<u32>,
    },
    /// The client comes back, to the session that it had.
    Rehome,
    End,
    Request(u8),
    Rights {
        narrow: bool,
    },
    Publish(Published),
}

#[derive(Debug, Arbitrary)]
struct Rectangle {
    #[arbitrary(with = id)]
    id: u32,
    #[arbitrary(with = |input: &mut Unstructured| Ok(*input.choose(&WORLDS)?))]
    world: &'static str,
    #[arbitrary(with = numbers)]
    corners: [f64; 4],
    #[arbitrary(with = kinds)]
    kinds: Vec<String>,
}

#[derive(Debug, Arbitrary)]
struct Topic {
    #[arbitrary(with = id)]
    id: u32,
    #[arbitrary(with = |input: &mut Unstructured| Ok(*input.choose(&PATTERNS)?))]
    pattern: &'static str,
    #[arbitrary(with = |input: &mut Unstructured| Ok(*input.choose(&GROUPS)?))]
    group: &'static str,
}

#[derive(Debug, Arbitrary)]
struct Published {
    right_source: bool,
    #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=2))]
    lane: u32,
    lane_seq: u8,
    #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=4))]
    class: i32,
    #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=4))]
    ack: i32,
    require_match: bool,
    echo: bool,
    /// A topic, or a place.
    #[arbitrary(with = |input: &mut Unstructured| Ok(if input.arbitrary()? { Some(*input.choose(&TOPICS)?) } else { None }))]
    topic: Option<&'static str>,
    #[arbitrary(with = |input: &mut Unstructured| Ok(*input.choose(&WORLDS)?))]
    world: &'static str,
    #[arbitrary(with = numbers)]
    circle: [f64; 4],
    #[arbitrary(with = kinds)]
    kinds: Vec<String>,
}

/// Few, so that they meet, with 0 and some of the broker's range.
fn id(input: &mut Unstructured<'_>) -> Result<u32> {
    let id = input.int_in_range(0..=11)?;
    Ok(if id < 7 { id } else { HANDED_OVER_ZONE_ID_MIN + id - 7 })
}

fn ids(input: &mut Unstructured<'_>) -> Result<Vec<u32>> {
    (0..input.int_in_range(0..=3)?).map(|_| id(input)).collect()
}

fn kinds(input: &mut Unstructured<'_>) -> Result<Vec<String>> {
    (0..input.int_in_range(0..=3)?).map(|_| Ok((*input.choose(&KINDS)?).to_owned())).collect()
}

fn numbers(input: &mut Unstructured<'_>) -> Result<[f64; 4]> {
    let mut numbers = [0.0; 4];
    for number in &mut numbers {
        *number = *input.choose(&NUMBERS)?;
    }
    Ok(numbers)
}

fn narrow() -> Rights {
    let within = Area::Within(vec![Zone::new(-4.0, -4.0, 3.0, 3.0).expect("a rectangle")]);
    let patterns = |patterns: &[&str]| patterns.iter().map(|text| text.parse().expect("a pattern")).collect();
    Rights {
        worlds: [WorldName::new("earth").expect("a name")].into_iter().collect(),
        zones: within.clone(),
        publish: PublishRights { within, radius_max: 2.0, ..Rights::everything().publish },
        publish_topics: patterns(&["a.b"]),
        subscribe_topics: patterns(&["a.*"]),
    }
}

struct Run {
    router: Router,
    model: Model,
    limits: Arc<Limits>,
    /// What everybody may do, and what those may whose token says less.
    rights: Arc<Rights>,
    narrow: Arc<Rights>,
    /// The session of each client.
    rules: Vec<(SessionId, SessionRules)>,
    sessions: u64,
}

impl Run {
    fn new() -> Self {
        let limits = Limits {
            zones_per_session_max: 5,
            topics_per_session_max: 4,
            kinds_per_zone_max: 2,
            lanes_max: 2,
            ..Limits::default()
        };
        let worlds = ["earth", "mars"].map(|name| WorldName::new(name).expect("a name"));
        let rights = Rights { worlds: worlds.into_iter().collect(), ..Rights::everything() };
        let mut run = Self {
            router: Router::new(),
            model: Model::default(),
            limits: Arc::new(limits),
            rights: Arc::new(rights),
            narrow: Arc::new(narrow()),
            rules: Vec::new(),
            sessions: 0,
        };
        run.rules = (0..CLIENTS).map(|client| run.session(client)).collect();
        run
    }

    fn session(&mut self, client: u64) -> (SessionId, SessionRules) {
        self.sessions += 1;
        // Two workers, so that the order of sessions is not that of their creation alone.
        let id = SessionId::new((self.sessions % 2) as u16, self.sessions);
        (id, SessionRules::new(id, 100 + client, self.rights_of(false), Arc::clone(&self.limits)))
    }

    fn rights_of(&self, narrow: bool) -> SessionRights {
        let own = if narrow { Arc::clone(&self.narrow) } else { Arc::new(Rights::everything()) };
        SessionRights::new(Arc::clone(&self.rights), own)
    }

    fn apply(&mut self, ops: Vec<InterestOp>) {
        self.model.apply(&ops);
        self.router.apply(&InterestChange { epoch: self.router.epoch() + 1, ops });
        for (session, rules) in &self.rules {
            rules.rights().check_held(self.router.held(*session), rules.source()).expect("all that is held is permitted");
            let mut zones: Vec<_> = self.router.zones(*session).map(|(id, zone)| (id, zone.clone())).collect();
            zones.sort_by_key(|(id, _)| *id);
            assert_eq!(zones, self.model.zones_of(*session));
            assert!(zones.len() <= self.limits.zones_per_session_max as usize && zones.iter().all(|(id, _)| *id > 0));
            let topics = self.model.topic_ids_of(*session);
            assert!(topics.iter().all(|id| *id > 0 && self.router.holds_topic(*session, *id)));
            assert_eq!(self.router.topic_count(*session), topics.len());
            assert!(topics.len() <= self.limits.topics_per_session_max as usize);
        }
        assert_eq!(self.router.zones_total(), self.model.zones.len());
        assert_eq!(self.router.topics_total(), self.model.topics.len());
        assert_eq!(self.router.is_empty(), self.model.zones.is_empty() && self.model.topics.is_empty());
        let mut worlds: Vec<_> = self.router.worlds().map(|stats| (stats.name.to_owned(), stats.zones)).collect();
        worlds.sort();
        assert_eq!(worlds, self.model.worlds());
    }

    fn step(&mut self, Op { client, what }: Op) {
        let at = client as usize;
        let (session, rules) = &mut self.rules[at];
        let ops = match what {
            What::Zones { replace_all, upsert, remove } => {
                let upsert = upsert.into_iter().map(Rectangle::into_wire).collect();
                let request = wire::UpdateZones { request_id: 1, replace_all, upsert, remove };
                rules.update_zones(&self.router, request).unwrap_or_default()
            }
            What::Topics { add, remove } => {
                let add = add.into_iter().map(|topic| wire::TopicSubscription {
                    id: topic.id,
                    pattern: topic.pattern.to_owned(),
                    queue_group: topic.group.to_owned(),
                });
                let request = wire::UpdateTopics { request_id: 1, add: add.collect(), remove };
                rules.update_topics(&self.router, request).unwrap_or_default()
            }
            What::HandOver { to, ids } => self.hand_over(at, to as usize, &ids),
            What::Rehome => {
                let (old, standing) = (*session, rules.standing().clone());
                let (new, mut rules) = self.session(client);
                rules.resume(standing);
                self.rules[at] = (new, rules);
                vec![InterestOp::Rehome(old, new)]
            }
            What::End => {
                let old = *session;
                self.rules[at] = self.session(client);
                vec![InterestOp::EndSession(old)]
            }
            What::Request(number) => {
                let last = rules.standing().last_request_id();
                let taken = rules.number_request(number.into()).is_ok();
                assert_eq!(taken, u64::from(number) > last, "numbers rise");
                assert_eq!(rules.standing().last_request_id(), last.max(number.into()));
                return;
            }
            What::Rights { narrow } => {
                let (session, source) = (*session, rules.source());
                let other = self.rights_of(narrow);
                let permits = other.check_held(self.router.held(session), source).is_ok();
                let (_, rules) = &mut self.rules[at];
                assert_eq!(rules.replace_rights(&self.router, other).is_ok(), permits);
                Vec::new()
            }
            What::Publish(published) => return self.publish(at, &published),
        };
        self.apply(ops);
    }

    fn hand_over(&mut self, from: usize, to: usize, ids: &[u32]) -> Vec<InterestOp> {
        let giver = self.rules[from].0;
        let Ok(given) = self.rules[from].1.give_zones(&self.router, ids) else { return Vec::new() };
        assert_eq!(given.len(), ids.len());
        let (taker, rules) = &mut self.rules[to];
        let Ok((ops, taken)) = rules.take_zones(&self.router, giver, given) else { return Vec::new() };
        assert!(from != to && taken.len() == ids.len(), "all of them change hands");
        for zone in taken {
            assert!(zone.id >= HANDED_OVER_ZONE_ID_MIN && self.router.zone(*taker, zone.id).is_none(), "a new id");
        }
        ops
    }

    fn publish(&mut self, at: usize, published: &Published) {
        let (session, rules) = &mut self.rules[at];
        let publish = published.to_wire(rules.source());
        let last = rules.standing().lane_taken_through(published.lane);
        let admitted = rules.admit(&PublishView::from(&publish));
        let lane_seq = u64::from(published.lane_seq);
        if published.lane < self.limits.lanes_max {
            let through = rules.standing().lane_taken_through(published.lane);
            assert_eq!(through, last.max(lane_seq), "a refused one uses its number up");
        }
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => return assert_eq!((refused.lane, refused.lane_seq), (published.lane, lane_seq)),
        };
        assert!(published.right_source && published.lane < self.limits.lanes_max && lane_seq > last);
        let exclude = (!published.echo).then_some(*session);
        let expected = match &admitted.event.target {
            Target::Place { world, circle } => self.model.place(world, circle, admitted.event.kind, exclude),
            Target::Topic(topic) => self.model.topic(topic, exclude),
        };
        assert_eq!(self.router.route(&admitted.event, exclude), expected);
    }

    /// Ends all sessions, every other one piece by piece.
    fn end(mut self) {
        for (at, session) in self.rules.iter().map(|(session, _)| *session).enumerate().collect::<Vec<_>>() {
            if at % 2 == 0 {
                self.apply(vec![InterestOp::EndSession(session)]);
                continue;
            }
            let zones = self.model.zones_of(session).into_iter().map(|(id, _)| InterestOp::RemoveZone(session, id));
            let topics = self.model.topic_ids_of(session).into_iter().map(|id| InterestOp::RemoveTopic(session, id));
            let ops = zones.chain(topics).collect();
            self.apply(ops);
        }
        assert!(self.router.is_empty(), "something is left behind");
    }
}

impl Rectangle {
    fn into_wire(self) -> wire::Zone {
        let [min_x, min_y, max_x, max_y] = self.corners;
        wire::Zone { id: self.id, world: self.world.to_owned(), min_x, min_y, max_x, max_y, kinds: self.kinds }
    }
}

impl Published {
    fn to_wire(&self, source: u64) -> wire::Publish {
        let [x, y, radius, _] = self.circle;
        let place = || wire::event::Target::Place(wire::Place { world: self.world.to_owned(), x, y, radius });
        let topic = self.topic.map(|topic| wire::event::Target::Topic(topic.to_owned()));
        let event = wire::Event {
            target: Some(topic.unwrap_or_else(place)),
            kind: self.kinds.first().cloned().unwrap_or_default(),
            source: if self.right_source { source } else { source + 1 },
            lane: self.lane,
            lane_seq: self.lane_seq.into(),
            class: self.class,
            ..Default::default()
        };
        wire::Publish {
            event: event.encode_to_vec().into(),
            ack: self.ack,
            require_match: self.require_match,
            ..Default::default()
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let mut run = Run::new();
    while !input.is_empty()
        && let Ok(op) = Op::arbitrary(&mut input)
    {
        run.step(op);
    }
    run.end();
});
