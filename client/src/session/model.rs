//! A session between an application and a broker that keep to the protocol: for the tests, and for fuzzing.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a difference fails the test")]

use std::collections::{BTreeMap, BTreeSet};

use zonecast_protocol::HANDED_OVER_ZONE_ID_MIN;

use super::*;

mod broker;

use broker::{Broker, request_id};

/// What happens to a session.
#[derive(Debug, Clone)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Step {
    Put(#[cfg_attr(fuzzing, arbitrary(with = crate::fuzzing::own_id))] u32, u8),
    Set(#[cfg_attr(fuzzing, arbitrary(with = crate::fuzzing::own_ids))] Vec<u32>),
    Remove(#[cfg_attr(fuzzing, arbitrary(with = crate::fuzzing::any_id))] u32),
    HandOver(#[cfg_attr(fuzzing, arbitrary(with = crate::fuzzing::any_id))] u32),
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
    Receive(#[cfg_attr(fuzzing, arbitrary(with = crate::fuzzing::few))] u8),
    /// Another access token is shown.
    ShowToken,
}

pub(super) fn zone(id: u32, mark: u8) -> wire::Zone {
    wire::Zone { id, world: "w".into(), max_x: mark.into(), ..Default::default() }
}

/// A session, its broker, and what the application may believe: everything that was confirmed to it, and no more.
pub(super) struct World {
    pub(super) session: Session<u64>,
    broker: Option<Broker>,
    connected: bool,
    /// Whether the broker still reads.
    open: bool,
    asked: BTreeMap<u64, Operation>,
    /// Zones by the application's ids.
    believed: BTreeMap<u32, wire::Zone>,
    live_topics: BTreeSet<u32>,
    last_token: u64,
    last_topic: u32,
    renewed: bool,
    tokens: usize,
    tokens_shown: usize,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            session: Session::new(),
            broker: None,
            connected: false,
            open: false,
            asked: BTreeMap::new(),
            believed: BTreeMap::new(),
            live_topics: BTreeSet::new(),
            last_token: 0,
            last_topic: 0,
            renewed: false,
            tokens: 0,
            tokens_shown: 0,
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
                Effect::NotRenewed { what: Renewal::Zones(zones), .. } => {
                    assert_eq!(zones.len(), 1, "only what is refused by itself is dropped");
                    assert!(self.believed.remove(&zones[0].id).is_some());
                }
                Effect::NotRenewed { what: Renewal::Topics(topics), .. } => {
                    assert_eq!(topics.len(), 1, "only what is refused by itself is dropped");
                    self.live_topics.remove(&topics[0].id);
                }
                Effect::TokenShown(_) => self.tokens_shown += 1,
                Effect::GoingAway(_) => self.open = false,
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
            Operation::Subscribe(_) | Operation::Unsubscribe(_) | Operation::EndZones | Operation::ShowToken(_) => {}
        }
    }

    pub(super) fn step(&mut self, step: Step) {
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
            Step::ShowToken => {
                self.tokens += 1;
                self.session.submit(Operation::ShowToken("t".into()), None);
            }
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
        }
    }

    fn answer(&mut self, refuse: bool) {
        let Some(broker) = &mut self.broker else { return };
        let Some(frame) = broker.unanswered.front() else { return };
        let is_renewal = self.session.renewing.iter().any(|renewing| renewing.request_id == request_id(frame));
        let is_token = matches!(frame, client_frame::Frame::Renew(_));
        // A topic that is refused at first was never the application's.
        let refuse = refuse && (is_renewal || !matches!(frame, client_frame::Frame::UpdateTopics(_)));
        let Some((request_id, done)) = broker.answer(refuse) else { return };
        assert!(done || refuse || !is_renewal, "a renewal asks for nothing that a new session must refuse");
        broker.unheard.push_back(if done && is_token {
            ServerFrame::Renewed(wire::Renewed { request_id, token_expires_in_ms: 1 })
        } else if done {
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

/// After any sequence of operations, losses and answers: once all is answered, what the broker of the present
/// connection was told, what the session holds and what the application was told are the same.
pub(crate) fn run(steps: impl IntoIterator<Item = Step>) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    world.settle();
    assert!(world.asked.is_empty(), "everything is answered: {:?}", world.asked);
    assert!(world.renewed);
    assert!(world.tokens_shown <= world.tokens, "each is answered once, or not at all");
    let broker = world.broker.as_ref().unwrap();
    assert_eq!(world.session.zones.keys().collect::<Vec<_>>(), world.believed.keys().collect::<Vec<_>>());
    assert_eq!(&world.session.zones, &world.believed);
    for (id, zone) in &world.session.zones {
        let on_wire = world.session.ids.on_wire(*id);
        assert_eq!(broker.zones.get(&on_wire), Some(&wire::Zone { id: on_wire, ..zone.clone() }));
    }
    assert_eq!(shapes(broker.zones.values()), shapes(world.believed.values()));
    assert_eq!(&broker.topics, &world.session.topics);
    assert_eq!(broker.topics.keys().copied().collect::<BTreeSet<_>>(), world.live_topics);
}
