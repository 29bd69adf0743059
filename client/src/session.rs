//! The client's side of a session: what is wanted, what was asked for, and what each answer changes.
//!
//! Pure: no runtime, no clock, no socket. The driver feeds it the application's operations, the broker's frames, and
//! the coming and going of connections; it says what to send and whom to answer by [`Effect`]s.
//!
//! What is **held** was confirmed by a broker. **Operations** change it one after the other: each is sent, and applied to
//! what is held when its answer comes. A session outlives its connection when the broker **resumes** it on the next one:
//! then the requests that the broker has not taken are sent again under their old numbers, and everything else goes on.
//! Otherwise a new session begins: what is held is **renewed**, and the operations that have no answer are sent behind
//! that, in their old order, so each gets an answer of its own; only a hand-over that may have happened is given up
//! instead, for sending it twice could be wrong. Of what is renewed, a broker may **refuse** some: a request that it refuses
//! is sent again in halves, so that in the end only what it refuses by itself is dropped, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zonecast_protocol::{
    ErrorCode, Limits, Refusal,
    codec::FrameError,
    wire::{self, client_frame, server_frame::Frame as ServerFrame},
};

mod answers;
mod operation;
mod pending;
mod renewal;
mod zone_ids;

use answers::Done;
pub(crate) use operation::Operation;
pub(crate) use renewal::Renewal;
use zone_ids::ZoneIds;

/// Why an operation was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OperationError {
    Refused(Refusal),
    /// A hand-over that may or may not have happened.
    ConnectionLost,
    /// Overtaken by the end of its subscription.
    Ended,
}

/// What the driver must do, in this order.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect<T> {
    /// Send the frame on the control stream.
    Send(client_frame::Frame),
    /// Tell whoever asked; the number is the epoch.
    Answer {
        token: T,
        result: Result<u64, OperationError>,
    },
    /// All that was held is held again: the session is usable.
    Renewed,
    /// Zones that another client handed over, under the ids by which the application knows them.
    Received(wire::ZonesReceived),
    /// One zone or topic that was held is not held any more: the broker refuses it.
    NotRenewed {
        what: Renewal,
        refusal: Refusal,
    },
    /// What came of a token that was shown: it ends in so many milliseconds, or is not taken.
    TokenShown(Result<u64, Refusal>),
    GoingAway(wire::GoAway),
}

/// A frame after which the connection cannot go on.
#[derive(Debug, PartialEq)]
pub(crate) enum SessionError {
    Frame(FrameError),
    Violation(&'static str),
}

struct Renewing {
    request_id: u64,
    what: Renewal,
    frame: client_frame::Frame,
}

struct Pending<T> {
    operation: Operation,
    token: Option<T>,
    /// The number under which it was sent in this session.
    request_id: Option<u64>,
}

pub(crate) struct Session<T> {
    zones: BTreeMap<u32, wire::Zone>,
    topics: BTreeMap<u32, wire::TopicSubscription>,
    /// Sent ones first.
    pending: VecDeque<Pending<T>>,
    /// Requests of the renewal without an answer. None of `pending` is sent before all are answered: it may be about what is
    /// being renewed.
    renewing: VecDeque<Renewing>,
    link: Link,
    ids: ZoneIds,
    last_request_id: u64,
    /// Bounds what hand-overs may bring.
    zones_max: usize,
    frame_bytes_max: usize,
    effects: VecDeque<Effect<T>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// There is no session: what is given up needs no broker.
    Down,
    /// The connection is lost, and the session may go on.
    Suspended,
    Up,
    /// Still read, no longer written: the broker has said that it will close.
    GoingAway,
}

impl<T> Session<T> {
    pub(crate) fn new() -> Self {
        Self {
            zones: BTreeMap::new(),
            topics: BTreeMap::new(),
            pending: VecDeque::new(),
            renewing: VecDeque::new(),
            link: Link::Down,
            ids: ZoneIds::new(),
            last_request_id: 0,
            zones_max: usize::MAX,
            frame_bytes_max: usize::MAX,
            effects: VecDeque::new(),
        }
    }

    /// The next thing to do. Call it until `None` after every other call.
    pub(crate) fn next_effect(&mut self) -> Option<Effect<T>> {
        self.effects.pop_front()
    }

    /// Carries out an operation as soon as the connection permits. Its answer goes to `token`.
    pub(crate) fn submit(&mut self, operation: Operation, token: Option<T>) {
        self.pending.push_back(Pending { operation, token, request_id: None });
        match self.link {
            Link::Down => self.settle(),
            Link::Up => self.send_pending(),
            Link::Suspended | Link::GoingAway => {}
        }
    }

    /// A broker has said welcome, and what it permits, and begins a new session.
    pub(crate) fn connected(&mut self, limits: &Limits) {
        self.forget_session();
        self.begin(limits);
        self.ids.start(&self.zones);
        let (requests, too_long) = renewal::requests(&self.zones, &self.topics, &self.ids, self.frame_bytes_max);
        for what in too_long {
            self.drop_refused(what, too_long_for(self.frame_bytes_max));
        }
        for what in requests {
            self.renew(what);
        }
        self.go_on_when_renewed();
    }

    fn begin(&mut self, limits: &Limits) {
        self.link = Link::Up;
        self.zones_max = limits.zones_per_session_max as usize;
        self.frame_bytes_max = limits.frame_bytes_max as usize;
    }

    fn renew(&mut self, what: Renewal) {
        let request_id = self.next_request_id();
        let frame = what.to_frame(request_id, &self.ids);
        self.renewing.push_back(Renewing { request_id, what, frame: frame.clone() });
        // A broker that goes away reads no more; the next one is asked for all.
        if self.link == Link::Up {
            self.effects.push_back(Effect::Send(frame));
        }
    }

    /// A broker has said welcome, and that the session goes on; it has taken the requests up to this number.
    pub(crate) fn resumed(&mut self, limits: &Limits, last_request_id: u64) {
        self.begin(limits);
        for renewing in self.renewing.iter().filter(|renewing| renewing.request_id > last_request_id) {
            self.effects.push_back(Effect::Send(renewing.frame.clone()));
        }
        for pending in &self.pending {
            if let Some(request_id) = pending.request_id.filter(|id| *id > last_request_id) {
                self.effects.push_back(Effect::Send(pending.operation.to_frame(request_id, &self.ids)));
            }
        }
        self.go_on_when_renewed();
    }

    fn go_on_when_renewed(&mut self) {
        if self.renewing.is_empty() {
            self.effects.push_back(Effect::Renewed);
            self.send_pending();
        }
    }

    /// The connection is gone. `may_resume`: the session may go on with the next one.
    pub(crate) fn lost(&mut self, may_resume: bool) {
        if may_resume && self.link != Link::Down {
            self.link = Link::Suspended;
        } else {
            self.forget_session();
        }
    }

    /// The session is over: what was asked of it has no answer any more.
    fn forget_session(&mut self) {
        self.link = Link::Down;
        self.renewing.clear();
        for pending in std::mem::take(&mut self.pending) {
            match pending.operation {
                // The next session begins with a token of its own.
                Operation::ShowToken(_) => {}
                Operation::HandOver { .. } if pending.request_id.is_some() => {
                    self.answer(pending.token, Err(OperationError::ConnectionLost));
                }
                _ => self.pending.push_back(Pending { request_id: None, ..pending }),
            }
        }
        self.settle();
    }

    /// Takes a frame of the control stream.
    pub(crate) fn on_frame(&mut self, frame: ServerFrame) -> Result<(), SessionError> {
        match frame {
            ServerFrame::InterestApplied(applied) => {
                return self.on_answer(applied.request_id, Ok(Done::Applied(applied.epoch)));
            }
            ServerFrame::Renewed(renewed) => {
                return self.on_answer(renewed.request_id, Ok(Done::Renewed(renewed.token_expires_in_ms)));
            }
            ServerFrame::RequestRefused(refused) => {
                let refusal = refusal(refused.code, refused.message);
                return self.on_answer(refused.request_id, Err(refusal));
            }
            ServerFrame::ZonesReceived(received) => return self.on_received(received),
            // What becomes of publishes is the lanes' affair.
            ServerFrame::PublishAck(_) | ServerFrame::PublishRefused(_) => {}
            ServerFrame::GoAway(go_away) => {
                self.link = Link::GoingAway;
                self.effects.push_back(Effect::GoingAway(go_away));
            }
            // Nothing in here sends a Ping; an answer to none does no harm.
            ServerFrame::Pong(_) => {}
            ServerFrame::Welcome(_) => return Err(misplaced("Welcome", "after the first")),
            ServerFrame::Deliver(_) => return Err(misplaced("Deliver", "on the control stream")),
            ServerFrame::Gap(_) => return Err(misplaced("Gap", "on the control stream")),
            ServerFrame::Datagrams(_) => return Err(misplaced("Datagrams", "on the control stream")),
        }
        Ok(())
    }

    fn drop_refused(&mut self, what: Renewal, refusal: Refusal) {
        match &what {
            Renewal::Zones(zones) => zones.iter().for_each(|zone| drop(self.zones.remove(&zone.id))),
            Renewal::Topics(topics) => topics.iter().for_each(|topic| drop(self.topics.remove(&topic.id))),
        }
        self.effects.push_back(Effect::NotRenewed { what, refusal });
    }

    fn on_received(&mut self, mut received: wire::ZonesReceived) -> Result<(), SessionError> {
        let taken = self.take_received(&mut received.zones);
        if let Err((count, what)) = taken {
            // The application is not told of them, so no later session may bring them back.
            for zone in &received.zones[..count] {
                self.zones.remove(&zone.id);
            }
            return Err(SessionError::Violation(what));
        }
        self.effects.push_back(Effect::Received(received));
        Ok(())
    }

    /// Holds zones under the ids by which the application will know them. Otherwise, how many it holds, and what is wrong.
    fn take_received(&mut self, zones: &mut [wire::Zone]) -> Result<(), (usize, &'static str)> {
        let mentioned = self.pending.iter().flat_map(|pending| pending.operation.zone_ids()).collect::<BTreeSet<_>>();
        for (count, zone) in zones.iter_mut().enumerate() {
            let Some(id) = self.ids.receive(zone.id, &self.zones, &mentioned) else {
                return Err((count, "a zone was handed over under an id that is taken or not permitted"));
            };
            zone.id = id;
            self.zones.insert(id, zone.clone());
        }
        if self.zones.len() > self.zones_max {
            return Err((zones.len(), "more zones were handed over than the broker permits"));
        }
        Ok(())
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::ChangeZones { replace_all, upsert, remove } => {
                if replace_all {
                    self.zones.clear();
                }
                for id in remove {
                    self.zones.remove(&id);
                }
                self.zones.extend(upsert.into_iter().map(|zone| (zone.id, zone)));
            }
            Operation::HandOver { zone_ids, .. } => {
                for id in zone_ids {
                    self.zones.remove(&id);
                }
            }
            Operation::EndZones => self.zones.clear(),
            Operation::Subscribe(topic) => {
                self.topics.insert(topic.id, topic);
            }
            Operation::Unsubscribe(id) => {
                self.topics.remove(&id);
            }
            Operation::ShowToken(_) => {}
        }
    }

    fn answer(&mut self, token: Option<T>, result: Result<u64, OperationError>) {
        if let Some(token) = token {
            self.effects.push_back(Effect::Answer { token, result });
        }
    }

    fn next_request_id(&mut self) -> u64 {
        self.last_request_id += 1;
        self.last_request_id
    }
}

/// From the wire's code and sentence.
pub(crate) fn refusal(code: i32, message: String) -> Refusal {
    Refusal { code: ErrorCode::try_from(code).unwrap_or(ErrorCode::Unspecified), message }
}

fn too_long_for(frame_bytes_max: usize) -> Refusal {
    let message = format!("it makes a frame of more than the {frame_bytes_max} bytes that this broker permits");
    Refusal::new(ErrorCode::InvalidArgument, message)
}

fn misplaced(frame: &'static str, place: &'static str) -> SessionError {
    SessionError::Frame(FrameError::Unexpected { frame, place })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;
