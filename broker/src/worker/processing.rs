//! Publishes that wait to be processed: what becomes of their deliveries is reported here, and answered.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep_until};
use zonecast_core::{Outcome, Settled, Ticket};
use zonecast_protocol::wire::{self, ErrorCode, server_frame};

use super::Worker;
use crate::mail::Mail;

/// What is to be reported or answered, and may have to be sent to other workers.
#[derive(Default)]
pub(super) struct Unreported {
    outcomes: Vec<(Ticket, Outcome)>,
    settled: Vec<Settled>,
}

impl Worker {
    /// Reports what became of deliveries to those who wait for it. Does not wait itself.
    pub(crate) fn report(&self, outcomes: impl IntoIterator<Item = (Ticket, Outcome)>) {
        let mut unreported = self.unreported.borrow_mut();
        unreported.outcomes.extend(outcomes);
        if !unreported.outcomes.is_empty() {
            self.to_report.notify_one();
        }
    }

    /// Takes what other workers report of the tickets that this one issued.
    pub(super) fn take_outcomes(&self, outcomes: Vec<(u64, Outcome)>) {
        let settled = {
            let mut state = self.state.borrow_mut();
            outcomes.into_iter().filter_map(|(number, outcome)| state.tickets.report(number, outcome)).collect()
        };
        self.answer_later(settled);
    }

    /// Has publishers answered, on whichever worker their sessions are by now.
    pub(super) fn answer_later(&self, settled: Vec<Settled>) {
        if !settled.is_empty() {
            self.unreported.borrow_mut().settled.extend(settled);
            self.to_report.notify_one();
        }
    }

    /// Gives answers to sessions of this worker; those of sessions that have moved go on to where they are.
    pub(super) fn take_settled(&self, settled: Vec<Settled>) {
        let (mut moved, state) = (Vec::new(), self.state.borrow());
        for answer in settled {
            let session = self.shared.admission.session_of_publisher(answer.publisher);
            match session.and_then(|id| state.sessions.get(&id)) {
                Some(session) => session.answer(frame_of(answer)),
                // Without a session there is nobody to tell; elsewhere there is.
                None if session.is_none_or(|id| id.worker() == self.index) => {}
                None => moved.push(answer),
            }
        }
        drop(state);
        self.answer_later(moved);
    }

    /// Sees to it that everything is reported and answered, and that what has expired is.
    pub(super) async fn settle_tickets(self: Rc<Self>) {
        loop {
            let expiry = self.state.borrow().tickets.next_expiry_us();
            let expiry = expiry.map(|at_us| self.shared.started + Duration::from_micros(at_us));
            tokio::select! {
                biased;
                () = self.to_report.notified() => {}
                () = self.ticket_issued.notified() => {}
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => self.expire(),
            }
            self.send_reports().await;
        }
    }

    fn expire(&self) {
        let now_us = self.shared.now_us();
        let mut settled = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            while let Some(answer) = state.tickets.expire(now_us) {
                settled.push(answer);
            }
        }
        self.answer_later(settled);
    }

    async fn send_reports(&self) {
        let Unreported { outcomes, settled } = self.unreported.take();
        let mut by_worker = BTreeMap::<u16, Vec<(u64, Outcome)>>::new();
        for (ticket, outcome) in outcomes {
            by_worker.entry(ticket.worker).or_default().push((ticket.number, outcome));
        }
        for (worker, outcomes) in by_worker {
            if worker == self.index {
                self.take_outcomes(outcomes);
            } else {
                self.post(worker, Mail::Outcomes(outcomes)).await;
            }
        }
        let mut by_worker = BTreeMap::<u16, Vec<Settled>>::new();
        for answer in settled {
            self.count(|stats| stats.count_settled(answer.result));
            // A publisher without a session has nobody who waits.
            if let Some(session) = self.shared.admission.session_of_publisher(answer.publisher) {
                by_worker.entry(session.worker()).or_default().push(answer);
            }
        }
        for (worker, settled) in by_worker {
            if worker == self.index {
                self.take_settled(settled);
            } else {
                self.post(worker, Mail::Settled(settled)).await;
            }
        }
    }
}

fn frame_of(Settled { lane, lane_seq, result, .. }: Settled) -> server_frame::Frame {
    match result {
        Ok(matched) => server_frame::Frame::PublishAck(wire::PublishAck { lane, lane_seq, matched }),
        Err(code) => {
            let message = match code {
                ErrorCode::Expired => "not every receiver has processed it in time",
                ErrorCode::Poison => "a receiver rejected it",
                _ => "a receiver's session ended before it was processed",
            };
            let refused = wire::PublishRefused { lane, lane_seq, code: code.into(), message: message.to_owned() };
            server_frame::Frame::PublishRefused(refused)
        }
    }
}
