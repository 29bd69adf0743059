//! One worker: its copy of the interest table, its sessions, and how it deals with the other workers.

mod grants;
mod interest;
mod processing;
mod retained;
mod sessions;
mod state;
mod thread;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
};

use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::{Instant, sleep},
};
use zonecast_core::{Admitted, SessionId};
use zonecast_protocol::{
    AckLevel, Limits, PublishView, Refusal,
    wire::{self, ErrorCode, server_frame},
};

use self::{
    interest::{Flight, Flights},
    processing::Unreported,
    state::State,
};
pub(crate) use self::{
    retained::Retained,
    sessions::{Begun, Newcomer},
    thread::{Phase, run, spawn},
};
use crate::{
    BrokerConfig, Rights,
    admission::Admission,
    mail::{HandOvers, Mail, TakeZones},
    serving::Serving,
    session::{Gauge, Session},
    stats::Stats,
};

/// What all workers of a broker know.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: BrokerConfig,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rights: Arc<Rights>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) serving: Serving,
    /// What all sessions hold together.
    pub(crate) retained: Retained,
    pub(crate) mailboxes: Vec<mpsc::Sender<Mail>>,
    /// Number of the latest change of interest.
    pub(crate) epoch: AtomicU64,
    pub(crate) started: Instant,
    /// Where each worker's numbering of sessions begins; drawn by chance, so that numbers do not come again.
    pub(crate) first_session: u64,
}

impl Shared {
    /// Microseconds on the broker's own clock.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// One worker. Lives on one thread; its tasks borrow its state between two awaits, never across one.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    index: u16,
    state: RefCell<State>,
    /// Held while a change of interest is checked, applied here and put into every mailbox, so that all workers see
    /// the changes that one worker starts in the same order.
    interest_order: Mutex<()>,
    /// Set when no more sessions may begin.
    draining: Cell<bool>,
    flights: RefCell<Flights>,
    unreported: RefCell<Unreported>,
    to_report: Notify,
    ticket_issued: Notify,
    /// How often the soft marks of sessions are halved.
    scarcity: Cell<u32>,
}

/// What the events of one read leave to be done once the worker's state is free again.
pub(crate) struct Aftermath {
    /// For each worker the events that matched sessions of it.
    hand_overs: Vec<HandOvers>,
    /// When what is being routed came, in microseconds on the broker's own clock.
    pub(crate) now_us: u64,
    /// Publishes that do not count against the client's rate yet.
    publishes: u32,
    /// While events are on their way to other workers.
    flight: Option<Flight>,
    /// Sessions over their soft mark that lasting events went to.
    held_by: Vec<Arc<Gauge>>,
}

impl Aftermath {
    /// Whether the publisher is to be held back before it publishes more.
    pub(crate) fn holds_back(&self) -> bool {
        !self.held_by.is_empty()
    }
}

impl Worker {
    pub(crate) fn new(index: u16, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            index,
            state: RefCell::new(State::new(index)),
            interest_order: Mutex::new(()),
            draining: Cell::new(false),
            flights: RefCell::default(),
            unreported: RefCell::default(),
            to_report: Notify::new(),
            ticket_issued: Notify::new(),
            scarcity: Cell::new(0),
        }
    }

    /// Counts something.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.state.borrow_mut().stats);
    }

    fn neighbours(&self) -> impl Iterator<Item = &mpsc::Sender<Mail>> {
        let own = usize::from(self.index);
        self.shared.mailboxes.iter().enumerate().filter(move |(at, _)| *at != own).map(|(_, mailbox)| mailbox)
    }

    /// A session of this worker.
    fn session(&self, id: SessionId) -> Option<Rc<Session>> {
        self.state.borrow().sessions.get(&id).cloned()
    }

    /// Sends mail to a worker, which may be this one.
    async fn post(&self, worker: u16, mail: Mail) {
        if let Some(mailbox) = self.shared.mailboxes.get(usize::from(worker)) {
            // A closed mailbox means that the broker is stopping.
            let _ = mailbox.send(mail).await;
        }
    }

    /// Routes one publish of `session`: queues its deliveries here, notes those for other workers in `after`.
    pub(crate) fn publish(&self, session: &Session, publish: &PublishView<'_>, after: &mut Aftermath) {
        after.publishes += 1;
        let mut rules = session.rules.borrow_mut();
        let admitted = match rules.admit(publish) {
            Ok(admitted) => admitted,
            Err(refused) => return self.refuse(session, refused.lane, refused.lane_seq, refused.refusal),
        };
        drop(rules);
        let Admitted { event, ack } = admitted;
        let (lane, lane_seq) = (event.lane, event.lane_seq);
        match self.route(session, publish, admitted, after) {
            Err(refusal) => self.refuse(session, lane, lane_seq, refusal),
            // Answered when its ticket is settled.
            Ok(1..) if ack == AckLevel::Processed => {}
            Ok(_) if ack == AckLevel::Unspecified => {}
            Ok(matched) => {
                session.answer(server_frame::Frame::PublishAck(wire::PublishAck { lane, lane_seq, matched }));
            }
        }
    }

    fn refuse(&self, session: &Session, lane: u32, lane_seq: u64, Refusal { code, message }: Refusal) {
        self.count(|stats| *stats.refusals.entry(code).or_default() += 1);
        let refused = wire::PublishRefused { lane, lane_seq, code: code.into(), message };
        session.answer(server_frame::Frame::PublishRefused(refused));
    }

    /// A fresh, empty aftermath.
    pub(crate) fn aftermath(&self) -> Aftermath {
        let workers = self.shared.mailboxes.len();
        Aftermath {
            hand_overs: (0..workers).map(|_| HandOvers::default()).collect(),
            now_us: 0,
            publishes: 0,
            flight: None,
            held_by: Vec::new(),
        }
    }

    /// Hands events over to other workers.
    pub(crate) async fn hand_over(&self, after: &mut Aftermath) {
        for (batch, mailbox) in after.hand_overs.iter_mut().zip(&self.shared.mailboxes) {
            if !batch.is_empty() {
                let _ = mailbox.send(Mail::Deliveries(batch.take())).await;
            }
        }
        after.flight = None;
    }

    /// Waits until no session that lasting events went to is over its mark, or nothing more is read from the publisher.
    pub(crate) async fn wait_for_receivers(&self, publisher: &Session, after: &mut Aftermath) {
        if !after.held_by.is_empty() {
            self.count(|stats| stats.publishers_held += 1);
            let relieved = async {
                for gauge in after.held_by.drain(..) {
                    gauge.relieved().await;
                }
            };
            tokio::select! {
                biased;
                () = relieved => {}
                () = publisher.reading_stopped() => {}
            }
        }
    }

    /// Waits while the publisher is ahead of its rate, or until nothing more is read from it.
    pub(crate) async fn wait_for_rate(&self, publisher: &Session, after: &mut Aftermath) {
        let wait = publisher.count_publishes(std::mem::take(&mut after.publishes), self.shared.now_us());
        if !wait.is_zero() {
            self.count(|stats| stats.publishers_ahead_of_rate += 1);
            tokio::select! {
                biased;
                () = publisher.reading_stopped() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Handles mail that needs no waiting; what does need it is handed back.
    pub(crate) fn take_mail(&self, mail: Mail) -> Option<TakeZones> {
        match mail {
            Mail::TakeZones(take) => return Some(take),
            Mail::Opened(id, gauge) => {
                self.state.borrow_mut().gauges.insert(id, gauge);
            }
            Mail::Interest(change, applied) => self.apply_change(&change, applied),
            Mail::Deliveries(batch) => {
                let mut state = self.state.borrow_mut();
                state.deliver(&batch);
                let lost = state.take_lost();
                drop(state);
                self.report(lost);
            }
            Mail::TakeOver(take_over) => self.end_for_heir(take_over),
            Mail::Barrier(turn) => drop(turn),
            Mail::Outcomes(outcomes) => self.take_outcomes(outcomes),
            Mail::Settled(settled) => self.take_settled(settled),
            Mail::Snapshot(answer) => {
                let _ = answer.send(self.state.borrow().snapshot());
            }
        }
        None
    }

    /// Whether no more sessions may begin.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Asks for the end of all sessions here, and lets no more begin.
    pub(crate) fn end_all(&self, code: ErrorCode, reason: &str) {
        self.draining.set(true);
        for session in self.state.borrow().sessions.values() {
            session.end(code, reason);
        }
    }
}
