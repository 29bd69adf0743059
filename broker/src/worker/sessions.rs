//! How sessions begin, outlive their links, take each other's place, and end.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::sleep};
use tracing::{info, warn};
use zonecast_core::{InterestOp, Outcome, SessionId, SessionRights, SessionRules, TokenBucket};
use zonecast_protocol::{ClientId, Refusal, source_of, wire::ErrorCode};

use super::Worker;
use crate::{
    admission::{Claim, Kept},
    grant::Grant,
    mail::Mail,
    session::{Bearer, Heritage, Resume, Session, TakeOver},
    stats::end_label,
};

/// Who begins a session, as its hello says.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) client: ClientId,
    pub(crate) incarnation: u64,
    pub(crate) grant: Grant,
    pub(crate) address: IpAddr,
    /// For how long the session is to outlive its link; zero: not at all.
    pub(crate) resume_window: Duration,
    pub(crate) resume: Option<Resume>,
}

/// A session that has begun.
pub(crate) struct Begun {
    pub(crate) session: Rc<Session>,
    pub(crate) claim: Claim,
    /// Whether it goes on where the session stood that the client named.
    pub(crate) resumed: bool,
}

impl Worker {
    /// Begins a session for an admitted client. Returns once every worker knows its gauge, nothing is matched any more
    /// for a session that it replaces, and what that one left is here.
    pub(crate) async fn open_session(&self, newcomer: Newcomer) -> Result<Begun, Refusal> {
        if self.draining.get() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the broker is shutting down"));
        }
        let Newcomer { client, incarnation, grant, address, resume_window, resume } = newcomer;
        let id = {
            let mut state = self.state.borrow_mut();
            state.sessions_numbered += 1;
            SessionId::new(self.index, self.shared.first_session + state.sessions_numbered)
        };
        let (claim, replaced) = self.shared.admission.claim(&client, incarnation, id)?;
        let source = source_of(&client, incarnation);
        let rights = SessionRights::new(Arc::clone(&self.shared.rights), Arc::clone(&grant.rights));
        let (per_second, burst) = self.publish_rate(&rights);
        let rules = SessionRules::new(id, source, rights.clone(), Arc::clone(&self.shared.limits));
        let window = resume_window.min(self.shared.config.sessions.resume_window_max);
        let rate = TokenBucket::new(per_second, burst, self.shared.now_us());
        let outbox = self.shared.config.outbox;
        let bearer = Bearer { client, incarnation, grant: grant.clone() };
        let session = Rc::new(Session::new(id, bearer, window, rules, outbox, rate));
        {
            let mut state = self.state.borrow_mut();
            session.set_scarcity(self.scarcity.get());
            state.stats.sessions_opened += 1;
            state.sessions.insert(id, Rc::clone(&session));
        }
        for neighbour in self.neighbours() {
            // A closed mailbox means that the broker is stopping; then nobody will publish there any more.
            let _ = neighbour.send(Mail::Opened(id, Arc::clone(&session.gauge))).await;
        }
        let mut resumed = false;
        if let Some(replaced) = replaced {
            let (answer, answered) = oneshot::channel();
            let take_over = TakeOver { from: replaced, to: id, incarnation, grant, rights, address, resume, answer };
            self.post(replaced.worker(), Mail::TakeOver(take_over)).await;
            if let Ok(heritage) = answered.await {
                resumed = heritage.resumed.is_some();
                self.count(|stats| stats.sessions_resumed += u64::from(resumed));
                self.inherit(&session, heritage);
            }
        }
        session.set_ready();
        Ok(Begun { session, claim, resumed })
    }

    fn inherit(&self, session: &Session, heritage: Heritage) {
        let redeliveries_max = self.shared.config.sessions.redeliveries_max;
        let (mut poisoned, mut given_up) = (Vec::new(), 0);
        session.inherit(heritage, redeliveries_max, |ticket| {
            given_up += 1;
            poisoned.extend(ticket.map(|ticket| (ticket, Outcome::Rejected)));
        });
        if given_up > 0 {
            let client = &session.client;
            warn!(%client, given_up, "deliveries were given up: too many runs of the client were lost with them");
            self.count(|stats| stats.poisoned += given_up);
        }
        self.report(poisoned);
    }

    /// Names the heir of a session of this worker, and ends it.
    pub(super) fn end_for_heir(&self, take_over: TakeOver) {
        // Dropping the message tells the heir that there is nothing to inherit.
        let Some(session) = self.session(take_over.from) else { return };
        let reason = format!("client {} connected again from {}", session.client, take_over.address);
        session.name_heir(take_over);
        session.end(ErrorCode::SessionReplaced, &reason);
    }

    /// A place for a session without a link, if there is one.
    pub(crate) fn keep(&self) -> Option<Kept> {
        self.shared.admission.keep(&self.shared.config.connections)
    }

    /// Keeps a session whose link was lost, until it is resumed, ended or given up. Says in a few words why it ended.
    pub(crate) async fn keep_detached(&self, session: &Rc<Session>, claim: Claim, _kept: Kept) {
        session.detached.set(true);
        self.count(|stats| stats.sessions_detached += 1);
        let limits = &self.shared.config.connections;
        let (code, reason) = tokio::select! {
            biased;
            ended = session.ended() => ended,
            () = session.over_too_long(limits, || self.count(|stats| stats.publishers_let_go += 1)) => {
                (ErrorCode::SlowConsumer, "its queue was over the mark for too long without a link".to_owned())
            }
            () = sleep(session.resume_window) => (ErrorCode::SessionLost, "its client did not come back".to_owned()),
        };
        if code != ErrorCode::SessionReplaced {
            session.forfeit_resume();
        }
        let left = self.part_with(session, claim).await;
        session.close();
        let label = if code == ErrorCode::SessionLost { end_label(None) } else { end_label(Some(code)) };
        self.count(|stats| stats.count_end(label, left));
        info!(session = %session.id, client = %session.client, end = label, %reason, "session ends");
    }

    /// Ends a session's interest, or gives it to its heir, and hands over what it leaves. Returns how many deliveries
    /// are lost with it.
    pub(crate) async fn part_with(&self, session: &Rc<Session>, claim: Claim) -> usize {
        let (mut resumed, mut held) = (false, None);
        let parted = self
            .change_interest(|router| {
                session.interest_ended.set(true);
                // An heir may still come when the router knows nothing of the session any more.
                held = router.held(session.id).cloned();
                let heir = session.heir();
                Ok(match heir.as_ref().filter(|heir| heir.resumes(session, router)) {
                    Some(heir) => {
                        resumed = true;
                        vec![InterestOp::Rehome(session.id, heir.to)]
                    }
                    None => vec![InterestOp::EndSession(session.id)],
                })
            })
            .await;
        debug_assert!(parted.is_ok(), "ending a session is never refused");
        session.steps_done().await;
        self.all_mail_handled().await;
        let heir = session.take_heir();
        let heritage = session.bequeath(heir.as_ref(), resumed);
        {
            let mut state = self.state.borrow_mut();
            state.sessions.remove(&session.id);
            // At once: until here it counted by being there, and a count must never fall.
            state.stats.dropped_transient += session.outbox().dropped_total();
        }
        drop(claim);
        let lost = match heir {
            // The heir may have gone in the meantime.
            Some(heir) if resumed || heir.may_inherit(session, held.as_ref()) => heir.answer.send(heritage).err(),
            // Dropping it tells an heir that there is nothing to inherit.
            Some(_) => {
                let (client, deliveries) = (&session.client, heritage.deliveries.len());
                info!(%client, deliveries, "its next session has not the right to what this one leaves");
                Some(heritage)
            }
            None => Some(heritage),
        };
        let Some(Heritage { deliveries, .. }) = lost else { return 0 };
        self.report(deliveries.tickets().map(|ticket| (ticket, Outcome::Lost)));
        deliveries.len()
    }

    /// Waits until all mail that was sent to this worker so far has been handled.
    async fn all_mail_handled(&self) {
        let (turn, come) = oneshot::channel();
        self.post(self.index, Mail::Barrier(turn)).await;
        // Nothing is ever sent.
        let _ = come.await;
    }
}
