//! One worker: its copy of the interest table, its sessions, and how it deals with the other workers.

mod state;
mod thread;

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};
use zonecast_core::{InterestChange, InterestOp, Router, SessionId, SessionRules};
use zonecast_protocol::{
    ClientId, Limits, Refusal, source_of,
    wire::{self, ErrorCode, server_frame},
};

use self::state::State;
pub(crate) use self::thread::{Phase, WorkerThread, spawn};
use crate::{
    BrokerConfig, Rights,
    admission::{Admission, Claim},
    mail::{HandOver, Mail, TakeZones},
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
    pub(crate) mailboxes: Vec<mpsc::Sender<Mail>>,
    /// Number of the latest change of interest.
    pub(crate) epoch: AtomicU64,
    pub(crate) started: Instant,
    /// Where each worker's numbering of sessions begins; greater with each start, so that numbers do not come again.
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
}

/// What the events of one read leave to be done once the worker's state is free again.
pub(crate) struct Aftermath {
    /// For each worker the events that matched sessions of it.
    hand_overs: Vec<Vec<HandOver>>,
    /// Sessions over their soft mark that lasting events went to.
    held_by: Vec<Arc<Gauge>>,
}

impl Aftermath {
    /// Whether the publisher is to be held back before it publishes more.
    pub(crate) fn holds_back(&self) -> bool {
        !self.held_by.is_empty()
    }
}

/// Zones told of in one `ZonesReceived`: with the longest names, 32 kinds each and a little more, some 800 KB.
const ZONES_PER_FRAME: usize = 300;

impl Worker {
    pub(crate) fn new(index: u16, shared: Arc<Shared>) -> Self {
        Self { shared, index, state: RefCell::default(), interest_order: Mutex::new(()), draining: Cell::new(false) }
    }

    /// Counts something.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.state.borrow_mut().stats);
    }

    fn neighbours(&self) -> impl Iterator<Item = &mpsc::Sender<Mail>> {
        let own = usize::from(self.index);
        self.shared.mailboxes.iter().enumerate().filter(move |(at, _)| *at != own).map(|(_, mailbox)| mailbox)
    }

    /// Begins a session for an admitted client, whose first answer is `welcome`'s. Returns once every worker knows its
    /// gauge, and nothing is matched any more for a session that it replaces.
    pub(crate) async fn open_session(
        &self,
        client: ClientId,
        incarnation: u64,
        address: IpAddr,
        welcome: impl FnOnce(&Session, u64) -> wire::Welcome,
    ) -> Result<(Rc<Session>, Claim), Refusal> {
        if self.draining.get() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the broker is shutting down"));
        }
        let id = {
            let mut state = self.state.borrow_mut();
            state.sessions_numbered += 1;
            SessionId::new(self.index, self.shared.first_session + state.sessions_numbered)
        };
        let (claim, replaced) = self.shared.admission.claim(&client, incarnation, id)?;
        let source = source_of(&client, incarnation);
        let rules = SessionRules::new(id, source, Arc::clone(&self.shared.rights), Arc::clone(&self.shared.limits));
        let session = Rc::new(Session::new(id, client, rules, self.shared.config.outbox));
        // Before anyone knows of the session: the welcome must be the first thing that the client hears.
        session.answer(server_frame::Frame::Welcome(welcome(&session, source)));
        {
            let mut state = self.state.borrow_mut();
            state.stats.sessions_opened += 1;
            state.sessions.insert(id, Rc::clone(&session));
            state.gauges.insert(id, Arc::clone(&session.gauge));
        }
        for neighbour in self.neighbours() {
            // A closed mailbox means that the broker is stopping; then nobody will publish there any more.
            let _ = neighbour.send(Mail::Opened(id, Arc::clone(&session.gauge))).await;
        }
        if let Some(replaced) = replaced {
            let reason = format!("client {} connected again from {address}", session.client);
            let (ended, end) = oneshot::channel();
            self.tell(replaced, Mail::End(replaced, ErrorCode::SessionReplaced, reason, ended)).await;
            // Nothing is ever sent: the channel ends with the old session's interest.
            let _ = end.await;
        }
        Ok((session, claim))
    }

    /// Ends a session's interest and forgets it. Whoever replaces the session waits for this.
    pub(crate) async fn forget_session(&self, session: &Session, claim: Claim) {
        let ended = self
            .change_interest(|_| {
                session.interest_ended.set(true);
                Ok(vec![InterestOp::EndSession(session.id)])
            })
            .await;
        debug_assert!(ended.is_ok(), "ending a session is never refused");
        {
            let mut state = self.state.borrow_mut();
            state.sessions.remove(&session.id);
            // At once: until here it counted by being there, and a count must never fall.
            state.stats.dropped_transient += session.outbox().dropped_total();
        }
        drop(claim);
        session.tell_interest_ended();
    }

    /// Sends mail to the worker that owns the session; to this one directly.
    async fn tell(&self, session: SessionId, mail: Mail) {
        if session.worker() == self.index {
            if let Some(take) = self.take_mail(mail) {
                self.take_zones(take).await;
            }
        } else if let Some(mailbox) = self.shared.mailboxes.get(usize::from(session.worker())) {
            let _ = mailbox.send(mail).await;
        }
    }

    /// Makes a change of interest, here and on every other worker, and returns its epoch once all have applied it.
    ///
    /// `check` sees the interest as it stands when the change's turn has come.
    pub(crate) async fn change_interest(
        &self,
        check: impl FnOnce(&Router) -> Result<Vec<InterestOp>, Refusal>,
    ) -> Result<u64, Refusal> {
        let (applied, mut all_applied) = mpsc::channel(1);
        let epoch = {
            let _turn = self.interest_order.lock().await;
            let change = {
                let mut state = self.state.borrow_mut();
                let ops = check(&state.router)?;
                let epoch = self.shared.epoch.fetch_add(1, Ordering::Relaxed) + 1;
                let change = Arc::new(InterestChange { epoch, ops });
                state.apply(&change);
                change
            };
            for neighbour in self.neighbours() {
                let _ = neighbour.send(Mail::Interest(Arc::clone(&change), applied.clone())).await;
            }
            change.epoch
        };
        drop(applied);
        // Nothing is ever sent: the channel ends when the last worker drops its sender.
        let _ = all_applied.recv().await;
        Ok(epoch)
    }

    /// Gives zones of `session` to the live session of another client.
    pub(crate) async fn hand_over_zones(
        &self,
        session: &Session,
        request: &wire::HandOverZones,
    ) -> Result<u64, Refusal> {
        let to_client = ClientId::new(&request.to_client_id)?;
        let unknown = || {
            let message = format!("client {to_client} has no live session on this broker");
            Refusal::new(ErrorCode::UnknownClient, message)
        };
        let zones = session.rules.borrow().give_zones(&self.state.borrow().router, &request.zone_ids)?;
        let to = self.shared.admission.session_of(&to_client).ok_or_else(unknown)?;
        let (answer, answered) = oneshot::channel();
        let from_client = session.client.clone();
        self.tell(to, Mail::TakeZones(TakeZones { from: session.id, from_client, to, zones, answer })).await;
        // No answer: the receiver's session, or the broker, ended meanwhile.
        answered.await.unwrap_or_else(|_| Err(unknown()))
    }

    /// The receiver's side of a hand-over.
    pub(crate) async fn take_zones(&self, take: TakeZones) {
        let session = self.state.borrow().sessions.get(&take.to).cloned();
        // Dropping the answer tells the sender.
        let Some(session) = session else { return };
        let mut taken = Vec::new();
        let changed = self
            .change_interest(|router| {
                if session.interest_ended.get() {
                    let message = format!("client {} has just left", session.client);
                    return Err(Refusal::new(ErrorCode::UnknownClient, message));
                }
                let (ops, zones) = session.rules.borrow_mut().take_zones(router, take.from, take.zones)?;
                taken = zones;
                Ok(ops)
            })
            .await;
        if let Ok(epoch) = changed {
            for zones in taken.chunks(ZONES_PER_FRAME) {
                let from_client_id = take.from_client.as_str().to_owned();
                let received = wire::ZonesReceived { from_client_id, zones: zones.to_vec(), epoch };
                session.answer(server_frame::Frame::ZonesReceived(received));
            }
        }
        let _ = take.answer.send(changed);
    }

    /// Routes one publish of `session`: queues its deliveries here, notes those for other workers in `after`.
    pub(crate) fn publish(&self, session: &Session, publish: &wire::Publish, after: &mut Aftermath) {
        let mut rules = session.rules.borrow_mut();
        let mut state = self.state.borrow_mut();
        let event = match rules.admit(publish) {
            Ok(event) => event,
            Err(refused) => {
                *state.stats.refusals.entry(refused.refusal.code).or_default() += 1;
                drop(state);
                return session.answer(server_frame::Frame::PublishRefused(wire::PublishRefused {
                    lane: refused.lane,
                    lane_seq: refused.lane_seq,
                    code: refused.refusal.code.into(),
                    message: refused.refusal.message,
                }));
            }
        };
        let exclude = publish.exclude_self.then_some(session.id);
        let matched = state.route(self, &event, &publish.event, exclude, after);
        drop(state);
        if publish.ack != i32::from(wire::AckLevel::Unspecified) {
            let ack = wire::PublishAck { lane: event.lane, lane_seq: event.lane_seq, matched };
            session.answer(server_frame::Frame::PublishAck(ack));
        }
    }

    /// A fresh, empty aftermath.
    pub(crate) fn aftermath(&self) -> Aftermath {
        let workers = self.shared.mailboxes.len();
        Aftermath { hand_overs: (0..workers).map(|_| Vec::new()).collect(), held_by: Vec::new() }
    }

    /// Hands events over to other workers.
    pub(crate) async fn hand_over(&self, after: &mut Aftermath) {
        for (batch, mailbox) in after.hand_overs.iter_mut().zip(&self.shared.mailboxes) {
            if !batch.is_empty() {
                let _ = mailbox.send(Mail::Deliveries(std::mem::take(batch))).await;
            }
        }
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
                () = relieved => {}
                () = publisher.reading_stopped() => {}
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
            Mail::Interest(change, applied) => {
                self.state.borrow_mut().apply(&change);
                drop(applied);
            }
            Mail::Deliveries(batch) => {
                let mut state = self.state.borrow_mut();
                batch.iter().for_each(|hand_over| state.deliver(hand_over));
            }
            Mail::End(id, code, reason, ended) => {
                if let Some(session) = self.state.borrow().sessions.get(&id) {
                    session.end(code, &reason);
                    session.tell_when_interest_ended(ended);
                }
            }
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
