//! How a session takes the place of an earlier one of the same client.

use std::{cell::Ref, net::IpAddr, rc::Rc};

use tokio::{sync::oneshot, time::Instant};
use zonecast_core::{
    Holdings, LeftDeliveries, LeftFrames, ResumePoint, Router, SessionId, SessionRights, Standing, Succession, Ticket,
};

use super::Session;
use crate::grant::Grant;

/// Which session a client wants to go on with, and what it has of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resume {
    /// `Welcome.session_id` of that session.
    pub(crate) session_id: u64,
    pub(crate) point: ResumePoint,
    pub(crate) control_through: u64,
}

/// A new session takes the place of an older one.
#[derive(Debug)]
pub(crate) struct TakeOver {
    pub(crate) from: SessionId,
    pub(crate) to: SessionId,
    pub(crate) incarnation: u64,
    pub(crate) grant: Grant,
    /// What the new session may do.
    pub(crate) rights: SessionRights,
    /// Where the client connected from, for the log.
    pub(crate) address: IpAddr,
    pub(crate) resume: Option<Resume>,
    /// Dropped when there is nothing to inherit.
    pub(crate) answer: oneshot::Sender<Heritage>,
}

/// What a session leaves to the one that takes its place.
#[derive(Debug)]
pub(crate) struct Heritage {
    pub(crate) deliveries: LeftDeliveries,
    pub(crate) standing: Standing,
    /// The frames of the control stream that the client has not got: when the session is resumed, and its interest is
    /// the new one's already.
    pub(crate) resumed: Option<LeftFrames>,
    /// The session that is named in the new one's hello, when it is resumed.
    pub(crate) resumed_from: Option<u64>,
    /// Since when the queue was over its soft mark.
    pub(crate) over_since: Option<Instant>,
    /// Whether both belong to the same run of the client.
    pub(crate) same_run: bool,
}

/// A step under way; dropped when it is done.
pub(crate) struct Step(Rc<Session>);

impl Drop for Step {
    fn drop(&mut self) {
        self.0.steps.set(self.0.steps.get() - 1);
        self.0.step_done.notify_waiters();
    }
}

impl TakeOver {
    /// Whether what `session` leaves is this one's: both are of the same subject, and this one may hold all that the other
    /// held, by which it came to what it leaves.
    pub(crate) fn may_inherit(&self, session: &Session, held: Option<&Holdings>) -> bool {
        self.grant.subject() == session.grant.borrow().subject()
            && self.rights.check_held(held, session.rules.borrow().source()).is_ok()
    }

    /// Whether this resumes `session`: the same run of the client goes on where it stood.
    pub(crate) fn resumes(&self, session: &Session, router: &Router) -> bool {
        let Some(resume) = &self.resume else { return false };
        let is_named =
            resume.session_id == session.id.get() && session.outbox.borrow().has_sent(resume.point.delivered_through);
        // The client never got the welcome of the session between, and so nothing else of it.
        let is_between = session.resumed_from.get() == Some(resume.session_id);
        (is_named || is_between)
            && self.incarnation == session.incarnation
            && self.may_inherit(session, router.held(session.id))
            && session.resumable.get()
            && !session.outbox.borrow().has_overflowed()
            && session.control.borrow().goes_on_from(resume.control_through)
    }
}

impl Session {
    /// Makes `take_over`'s session the heir of this one.
    pub(crate) fn name_heir(&self, take_over: TakeOver) {
        *self.heir.borrow_mut() = Some(take_over);
    }

    /// The session that takes this one's place, if one does by now.
    pub(crate) fn heir(&self) -> Ref<'_, Option<TakeOver>> {
        self.heir.borrow()
    }

    /// As [`heir`](Self::heir), to be answered.
    pub(crate) fn take_heir(&self) -> Option<TakeOver> {
        self.heir.take()
    }

    /// Begins a step that may change what the session leaves behind.
    pub(crate) fn step(self: &Rc<Self>) -> Step {
        self.steps.set(self.steps.get() + 1);
        Step(Rc::clone(self))
    }

    /// Waits until no such step is under way.
    pub(crate) async fn steps_done(&self) {
        loop {
            let done = self.step_done.notified();
            if self.steps.get() == 0 {
                return;
            }
            done.await;
        }
    }

    /// Takes out all that this session leaves behind. Nothing must be matched for it any more.
    pub(crate) fn bequeath(&self, heir: Option<&TakeOver>, resumed: bool) -> Heritage {
        let rules = self.rules.borrow();
        let resume = heir.and_then(|heir| heir.resume.as_ref()).filter(|_| resumed);
        // What the client says of another session's numbers says nothing of this one's.
        let own = resume.filter(|resume| resume.session_id == self.id.get());
        let point = own.map(|resume| resume.point.clone()).unwrap_or_default();
        let heritage = Heritage {
            deliveries: self.outbox.borrow_mut().bequeath(&point),
            standing: rules.standing().clone(),
            resumed: resume.and_then(|resume| self.control.borrow_mut().bequeath(resume.control_through)),
            resumed_from: resume.map(|resume| resume.session_id),
            over_since: self.over_since.get(),
            same_run: heir.is_some_and(|heir| heir.incarnation == self.incarnation),
        };
        self.set_gauge();
        heritage
    }

    /// Begins where another session has ended. `poison` is told the tickets of deliveries that are given up.
    pub(crate) fn inherit(&self, heritage: Heritage, redeliveries_max: u32, poison: impl FnMut(Option<Ticket>)) {
        let Heritage { deliveries, standing, resumed, resumed_from, over_since, same_run } = heritage;
        let succession = match (resumed.is_some(), same_run) {
            (true, _) => Succession::Resumed,
            (false, true) => Succession::Anew,
            (false, false) => Succession::OtherRun,
        };
        self.outbox.borrow_mut().inherit(deliveries, succession, redeliveries_max, poison);
        if let Some(frames) = resumed {
            self.rules.borrow_mut().resume(standing);
            self.control.borrow_mut().inherit(frames);
            self.resumed_from.set(resumed_from);
        }
        self.set_gauge();
        if self.over_since.get().is_some() && same_run {
            // Or whoever connects again and again would hold its publishers back without an end.
            self.over_since.set(over_since.or(self.over_since.get()));
        }
    }

    /// The session has all that it inherits: zones can be handed over to it.
    pub(crate) fn set_ready(&self) {
        self.ready.set(true);
        self.ready_set.notify_waiters();
    }

    /// Waits until the session has all that it inherits.
    pub(crate) async fn ready(&self) {
        let ready = self.ready_set.notified();
        if !self.ready.get() {
            ready.await;
        }
    }
}
