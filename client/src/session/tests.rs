use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use zonecast_protocol::HANDED_OVER_ZONE_ID_MIN;

use super::*;

mod broker;

use broker::{Broker, request_id};

/// What happens to a session.
#[derive(Debug, Clone)]
enum Step {
    Put(u32, u8),
    Set(Vec<u32>),
    Remove(u32),
    HandOver(u32),
    EndZones,
    Subscribe,
    Unsubscribe(usize),
    /// True: the broker resumes the session, if it still has it.
    Connect(bool),
    /// True: the broker keeps the session.
    Lose(bool),
    GoAway,
    /// The broker reads a frame.
    Read,
    /// The client hears one.
    Hear,
    /// The broker answers its oldest request; true: refuses it, if it may.
    Answer(bool),
    /// Another client hands zones over.
    Receive(u8),
}

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
    ]
}

fn zone(id: u32, mark: u8) -> wire::Zone {
    wire::Zone { id, world: "w".into(), max_x: mark.into(), ..Default::default() }
}

/// A session, its broker, and what the application may believe: everything that was confirmed to it, and no more.
struct World {
    session: Session<u64>,
    broker: Option<Broker>,
    connected: bool,
    /// Whether the broker still reads.
    open: bool,
    /// The requests that renew.
    renewals: BTreeSet<u64>,
    asked: BTreeMap<u64, Operation>,
    /// Zones by the application's ids.
    believed: BTreeMap<u32, wire::Zone>,
    live_topics: BTreeSet<u32>,
    last_token: u64,
    last_topic: u32,
    renewed: bool,
}

impl World {
    fn new() -> Self {
        Self {
            session: Session::new(),
            broker: None,
            connected: false,
            open: false,
            renewals: BTreeSet::new(),
            asked: BTreeMap::new(),
            believed: BTreeMap::new(),
            live_topics: BTreeSet::new(),
            last_token: 0,
            last_topic: 0,
            renewed: false,
        }
    }

    fn ask(&mut self, operation: Operation) {
        self.last_token += 1;
        self.asked.insert(self.last_token, operation.clone());
        self.session.submit(operation, Some(self.last_token));
    }

    fn perform(&mut self) {
        while let Some(effect) = self.session.next_effect() {
            match effect {
                Effect::Send(frame) => {
                    assert!(self.open, "nothing is sent without a connection");
                    self.broker.as_mut().unwrap().on_the_way.push_back(frame);
                }
                Effect::Answer { token, result } => {
                    let operation = self.asked.remove(&token).expect("each is answered once");
                    if result.is_ok() {
                        self.believe(operation);
                    }
                }
                Effect::Renewed => self.renewed = true,
                Effect::Received(received) => {
                    for zone in received.zones {
                        assert!(zone.id >= HANDED_OVER_ZONE_ID_MIN);
                        assert!(self.believed.insert(zone.id, zone).is_none(), "an id that is not in use");
                    }
                }
                Effect::GoingAway(_) => self.open = false,
                Effect::Acked(_) | Effect::PublishRefused(_) => unreachable!("nothing is published"),
            }
        }
    }

    fn believe(&mut self, operation: Operation) {
        match operation {
            Operation::ChangeZones { replace_all, upsert, remove } => {
                if replace_all {
                    self.believed.clear();
                }
                self.believed.retain(|id, _| !remove.contains(id));
                self.believed.extend(upsert.into_iter().map(|zone| (zone.id, zone)));
            }
            Operation::HandOver { zone_ids, .. } => self.believed.retain(|id, _| !zone_ids.contains(id)),
            Operation::Subscribe(_) | Operation::Unsubscribe(_) | Operation::EndZones => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(id, mark) => {
                self.ask(Operation::ChangeZones { replace_all: false, upsert: vec![zone(id, mark)], remove: vec![] });
            }
            Step::Set(ids) => {
                let upsert = ids.into_iter().map(|id| zone(id, 0)).collect();
                self.ask(Operation::ChangeZones { replace_all: true, upsert, remove: vec![] });
            }
            Step::Remove(id) => {
                self.ask(Operation::ChangeZones { replace_all: false, upsert: vec![], remove: vec![id] });
            }
            Step::HandOver(id) => {
                self.ask(Operation::HandOver { zone_ids: vec![id], to_client_id: "other".into() });
            }
            // The application ends its subscription only when nothing else is under way; else beliefs are muddled.
            Step::EndZones if self.asked.is_empty() && self.broker.is_none() => {
                self.session.submit(Operation::EndZones, None);
                self.believed.clear();
            }
            Step::EndZones => {}
            Step::Subscribe => {
                self.last_topic += 1;
                self.live_topics.insert(self.last_topic);
                let topic = wire::TopicSubscription { id: self.last_topic, pattern: "a".into(), ..Default::default() };
                self.ask(Operation::Subscribe(topic));
            }
            Step::Unsubscribe(choice) => {
                if let Some(id) = self.live_topics.iter().nth(choice % self.live_topics.len().max(1)).copied() {
                    self.live_topics.remove(&id);
                    self.session.submit(Operation::Unsubscribe(id), None);
                }
            }
            Step::Connect(resume) if !self.connected => self.connect(resume),
            Step::Lose(keeps) if self.connected => {
                (self.connected, self.open) = (false, false);
                if !keeps {
                    self.broker = None;
                }
                if let Some(broker) = &mut self.broker {
                    broker.on_the_way.clear();
                }
                self.session.lost(keeps);
            }
            Step::GoAway if self.connected => {
                self.session.on_frame(ServerFrame::GoAway(wire::GoAway::default())).unwrap();
            }
            Step::Connect(_) | Step::Lose(_) | Step::GoAway => {}
            Step::Read => self.broker.iter_mut().for_each(Broker::read),
            Step::Hear => {
                let broker = self.broker.as_mut().filter(|_| self.connected);
                if let Some(frame) = broker.and_then(|broker| broker.unheard.pop_front()) {
                    self.session.on_frame(frame).unwrap();
                }
            }
            Step::Answer(refuse) => self.answer(refuse),
            Step::Receive(count) => self.receive(count),
        }
        self.perform();
    }

    fn connect(&mut self, resume: bool) {
        (self.connected, self.open) = (true, true);
        let limits = Limits { frame_bytes_max: 150, ..Limits::default() };
        if let Some(broker) = self.broker.as_ref().filter(|_| resume) {
            self.session.resumed(&limits, broker.last_request_id);
        } else {
            (self.broker, self.renewed) = (Some(Broker::new()), false);
            self.session.connected(&limits);
            self.renewals = self.session.renewing.iter().map(|(request_id, _)| *request_id).collect();
        }
    }

    fn answer(&mut self, refuse: bool) {
        let Some(broker) = &mut self.broker else { return };
        let Some(frame) = broker.unanswered.front() else { return };
        let is_renewal = self.renewals.contains(&request_id(frame));
        // A topic that is refused was never the application's.
        let refuse = refuse && !is_renewal && !matches!(frame, client_frame::Frame::UpdateTopics(_));
        let Some((request_id, done)) = broker.answer(refuse) else { return };
        assert!(done || !is_renewal, "a renewal asks for nothing that a new session must refuse");
        broker.unheard.push_back(if done {
            ServerFrame::InterestApplied(wire::InterestApplied { request_id, epoch: 1 })
        } else {
            ServerFrame::RequestRefused(wire::RequestRefused { request_id, code: 46, message: String::new() })
        });
    }

    fn receive(&mut self, count: u8) {
        let Some(broker) = &mut self.broker else { return };
        let mut zones = Vec::new();
        for mark in 0..count {
            zones.push(zone(broker.next_handed_over, mark));
            broker.zones.insert(broker.next_handed_over, zone(broker.next_handed_over, mark));
            broker.next_handed_over += 1;
        }
        let received = wire::ZonesReceived { from_client_id: "other".into(), zones, epoch: 1 };
        broker.unheard.push_back(ServerFrame::ZonesReceived(received));
    }

    /// Lets all requests be answered on a connection that holds.
    fn settle(&mut self) {
        if self.connected && !self.open {
            self.step(Step::Lose(true));
        }
        self.step(Step::Connect(true));
        let busy = |broker: &Broker| {
            !(broker.on_the_way.is_empty() && broker.unanswered.is_empty() && broker.unheard.is_empty())
        };
        while self.broker.as_ref().is_some_and(busy) {
            for step in [Step::Read, Step::Answer(false), Step::Hear] {
                self.step(step);
            }
        }
    }
}

/// Without their ids, which may differ between the application and the wire.
fn shapes<'a>(zones: impl Iterator<Item = &'a wire::Zone>) -> Vec<String> {
    let mut shapes = zones.map(|zone| format!("{} {}", zone.world, zone.max_x)).collect::<Vec<_>>();
    shapes.sort();
    shapes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// After any sequence of operations, losses and answers: once all is answered, what the broker of the present
    /// connection was told, what the session holds and what the application was told are the same.
    #[test]
    fn broker_session_and_application_agree(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        prop_assert!(world.asked.is_empty(), "everything is answered: {:?}", world.asked);
        prop_assert!(world.renewed);
        let broker = world.broker.as_ref().unwrap();
        prop_assert_eq!(world.session.zones.keys().collect::<Vec<_>>(), world.believed.keys().collect::<Vec<_>>());
        prop_assert_eq!(&world.session.zones, &world.believed);
        for (id, zone) in &world.session.zones {
            let on_wire = world.session.ids.on_wire(*id);
            prop_assert_eq!(broker.zones.get(&on_wire), Some(&wire::Zone { id: on_wire, ..zone.clone() }));
        }
        prop_assert_eq!(shapes(broker.zones.values()), shapes(world.believed.values()));
        prop_assert_eq!(&broker.topics, &world.session.topics);
        prop_assert_eq!(broker.topics.keys().copied().collect::<BTreeSet<_>>(), world.live_topics);
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
