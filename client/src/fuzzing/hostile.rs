//! A session whose broker says anything at any time: nothing panics, and whoever asked is answered once.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Result, Unstructured};
use zonecast_protocol::{
    Limits,
    wire::{self, client_frame, server_frame::Frame as ServerFrame},
};

use super::{any_id, own_id, own_ids};
use crate::session::{Effect, Operation, Session};

/// Few, so that a broker that brings more is met.
const ZONES_MAX: u32 = 12;

#[derive(Debug, Arbitrary)]
pub(super) enum Step {
    Ask(Asked),
    Connect {
        frame_bytes_max: u8,
    },
    /// A connection on which the session goes on; the number is what the broker says that it has taken.
    Resume(#[arbitrary(with = number)] u64),
    /// True: the session may go on with the next one.
    Lose(bool),
    /// The oldest request that has no answer gets one; true: it is refused.
    Answer(bool),
    Say(Said),
}

#[derive(Debug, Arbitrary)]
pub(super) enum Asked {
    Put(#[arbitrary(with = own_id)] u32),
    Set(#[arbitrary(with = own_ids)] Vec<u32>),
    Remove(#[arbitrary(with = any_id)] u32),
    HandOver(#[arbitrary(with = any_id)] u32),
    EndZones,
    Subscribe,
    Unsubscribe(#[arbitrary(with = number)] u64),
    ShowToken,
}

#[derive(Debug, Arbitrary)]
pub(super) enum Said {
    Applied(#[arbitrary(with = number)] u64),
    Refused(#[arbitrary(with = number)] u64, i8),
    Received(#[arbitrary(with = any_ids)] Vec<u32>),
    Acked(u8),
    PublishRefused(i8),
    GoAway,
    Pong,
    Misplaced(u8),
    Renewed(#[arbitrary(with = number)] u64, u64),
}

/// Of a request or a topic, near those that are in use.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(if input.ratio(1, 50)? { input.arbitrary()? } else { input.int_in_range(0..=12)? })
}

fn any_ids(input: &mut Unstructured<'_>) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for _ in 0..input.int_in_range(0..=4)? {
        ids.push(any_id(input)?);
    }
    Ok(ids)
}

/// Runs the steps, and then a broker that answers everything.
pub(super) fn run(steps: impl Iterator<Item = Step>) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    world.lose(false);
    world.step(Step::Connect { frame_bytes_max: u8::MAX });
    while !world.sent.is_empty() {
        world.step(Step::Answer(false));
    }
    assert!(world.open, "a broker that keeps to the protocol is not left");
    assert!(world.waiting.is_empty(), "who asked is answered: {:?}", world.waiting);
}

/// A session, and what may be known of it from outside.
struct World {
    session: Session<u64>,
    /// There is a connection.
    connected: bool,
    /// And it is still written.
    open: bool,
    /// The session may go on with the next connection.
    may_resume: bool,
    /// Requests of this session, without those that were answered rightly.
    sent: Vec<u64>,
    /// The number of the last request on this connection.
    last_sent: u64,
    last_token: u64,
    last_topic: u32,
    waiting: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            session: Session::new(),
            connected: false,
            open: false,
            may_resume: false,
            sent: Vec::new(),
            last_sent: 0,
            last_token: 0,
            last_topic: 0,
            waiting: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(asked) => self.ask(asked),
            Step::Connect { frame_bytes_max } if !self.connected => {
                self.begin();
                self.sent.clear();
                self.session.connected(&limits(frame_bytes_max.into()));
            }
            Step::Resume(last_request_id) if !self.connected && self.may_resume => {
                self.begin();
                self.session.resumed(&limits(u32::MAX), last_request_id);
            }
            Step::Lose(may_resume) if self.connected => self.lose(may_resume),
            Step::Connect { .. } | Step::Resume(_) | Step::Lose(_) => {}
            Step::Answer(refuse) => {
                if let Some(oldest) = self.sent.first().copied() {
                    let said = if refuse { Said::Refused(oldest, 46) } else { Said::Applied(oldest) };
                    self.sent.remove(0);
                    self.say(said);
                }
            }
            Step::Say(said) => self.say(said),
        }
        self.perform();
    }

    fn begin(&mut self) {
        (self.connected, self.open, self.last_sent) = (true, true, 0);
    }

    fn lose(&mut self, may_resume: bool) {
        (self.connected, self.open, self.may_resume) = (false, false, may_resume);
        self.session.lost(may_resume);
        self.perform();
    }

    fn ask(&mut self, asked: Asked) {
        let change = |replace_all, upsert, remove| Operation::ChangeZones { replace_all, upsert, remove };
        let operation = match asked {
            Asked::Put(id) => change(false, vec![zone(id)], Vec::new()),
            Asked::Set(ids) => change(true, ids.into_iter().map(zone).collect(), Vec::new()),
            Asked::Remove(id) => change(false, Vec::new(), vec![id]),
            Asked::HandOver(id) => Operation::HandOver { zone_ids: vec![id], to_client_id: "other".into() },
            Asked::Subscribe => {
                self.last_topic += 1;
                let topic = wire::TopicSubscription { id: self.last_topic, pattern: "a".into(), ..Default::default() };
                Operation::Subscribe(topic)
            }
            Asked::ShowToken => return self.session.submit(Operation::ShowToken("t".into()), None),
            Asked::EndZones => return self.session.submit(Operation::EndZones, None),
            Asked::Unsubscribe(number) => {
                let id = u32::try_from(number).unwrap_or(u32::MAX);
                return self.session.submit(Operation::Unsubscribe(id), None);
            }
        };
        self.last_token += 1;
        self.waiting.insert(self.last_token);
        self.session.submit(operation, Some(self.last_token));
    }

    fn say(&mut self, said: Said) {
        let frame = match said {
            _ if !self.connected => return,
            Said::Applied(request_id) => ServerFrame::InterestApplied(wire::InterestApplied { request_id, epoch: 1 }),
            Said::Refused(request_id, code) => ServerFrame::RequestRefused(wire::RequestRefused {
                request_id,
                code: code.into(),
                ..Default::default()
            }),
            Said::Received(ids) => ServerFrame::ZonesReceived(wire::ZonesReceived {
                zones: ids.into_iter().map(zone).collect(),
                ..Default::default()
            }),
            Said::Acked(lane) => ServerFrame::PublishAck(wire::PublishAck { lane: lane.into(), ..Default::default() }),
            Said::PublishRefused(code) => {
                ServerFrame::PublishRefused(wire::PublishRefused { code: code.into(), ..Default::default() })
            }
            Said::Renewed(request_id, token_expires_in_ms) => {
                ServerFrame::Renewed(wire::Renewed { request_id, token_expires_in_ms })
            }
            Said::GoAway => ServerFrame::GoAway(wire::GoAway::default()),
            Said::Pong => ServerFrame::Pong(wire::Pong::default()),
            Said::Misplaced(0) => ServerFrame::Welcome(wire::Welcome::default()),
            Said::Misplaced(1) => ServerFrame::Deliver(wire::Deliver::default()),
            Said::Misplaced(2) => ServerFrame::Gap(wire::Gap::default()),
            Said::Misplaced(_) => ServerFrame::Datagrams(wire::Datagrams::default()),
        };
        if self.session.on_frame(frame).is_err() {
            self.perform();
            self.lose(false);
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.session.next_effect() {
            match effect {
                Effect::Send(frame) => {
                    let request_id = request_id(&frame);
                    assert!(self.open, "nothing is sent without a connection");
                    assert!(request_id > self.last_sent, "numbers rise");
                    self.last_sent = request_id;
                    if !self.sent.contains(&request_id) {
                        self.sent.push(request_id);
                    }
                }
                Effect::Answer { token, .. } => assert!(self.waiting.remove(&token), "each is answered once"),
                Effect::GoingAway(_) => self.open = false,
                Effect::Renewed | Effect::TokenShown(_) | Effect::Received(_) | Effect::NotRenewed { .. } => {}
            }
        }
    }
}

fn limits(frame_bytes_max: u32) -> Limits {
    Limits { frame_bytes_max, zones_per_session_max: ZONES_MAX, ..Limits::default() }
}

fn zone(id: u32) -> wire::Zone {
    wire::Zone { id, world: "w".into(), ..Default::default() }
}

fn request_id(frame: &client_frame::Frame) -> u64 {
    match frame {
        client_frame::Frame::UpdateZones(update) => update.request_id,
        client_frame::Frame::HandOverZones(hand_over) => hand_over.request_id,
        client_frame::Frame::UpdateTopics(update) => update.request_id,
        client_frame::Frame::Renew(renew) => renew.request_id,
        other => panic!("{other:?} is no request"),
    }
}
