//! How interest changes: in one order, on every worker, and the same way for zones that change hands.

use std::{
    convert::Infallible,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use zonecast_core::{InterestChange, InterestOp, Router};
use zonecast_protocol::{
    ClientId, Refusal,
    wire::{self, ErrorCode, server_frame},
};

use super::Worker;
use crate::{
    mail::{Applied, Mail, TakeZones},
    session::Session,
};

/// Zones told of in one `ZonesReceived`: with the longest names, 32 kinds each and a little more, some 800 KB.
const ZONES_PER_FRAME: usize = 300;

/// How long zones that are handed over wait for a receiver that is connecting again.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// Held by whoever has events that were matched and are not in the other workers' mailboxes yet.
pub(super) type Flight = mpsc::Sender<Infallible>;

/// The flights that began since the last change that had to wait for them.
pub(super) struct Flights {
    flight: Flight,
    landed: mpsc::Receiver<Infallible>,
}

impl Default for Flights {
    fn default() -> Self {
        let (flight, landed) = mpsc::channel(1);
        Self { flight, landed }
    }
}

impl Worker {
    /// Begins a flight: events were matched, and have yet to be put into mailboxes.
    pub(super) fn flight(&self) -> Flight {
        self.flights.borrow().flight.clone()
    }

    /// Applies a change. It is in force here when `applied` is dropped.
    ///
    /// Where a session's interest ends, that waits until what was matched before is in the mailboxes: the session's
    /// worker then has all that was ever matched for it.
    pub(super) fn apply_change(&self, change: &InterestChange, applied: Applied) {
        self.state.borrow_mut().apply(change);
        let ends = |op: &InterestOp| matches!(op, InterestOp::EndSession(_) | InterestOp::Rehome(..));
        if !change.ops.iter().any(ends) {
            return;
        }
        let Flights { flight, mut landed } = self.flights.take();
        drop(flight);
        // The next change that waits, waits for these flights too: they count as one of those that begin now.
        let still_flying = self.flight();
        tokio::task::spawn_local(async move {
            // Nothing is ever sent: the channel ends with the last flight.
            let _ = landed.recv().await;
            drop((applied, still_flying));
        });
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
            let ops = check(&self.state.borrow().router)?;
            let epoch = self.shared.epoch.fetch_add(1, Ordering::Relaxed) + 1;
            let change = Arc::new(InterestChange { epoch, ops });
            self.apply_change(&change, applied.clone());
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
        if to_client == session.client {
            let message = "to_client_id names the sender; zones go to another client";
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        }
        let zones = session.rules.borrow().give_zones(&self.state.borrow().router, &request.zone_ids)?;
        let to = self.shared.admission.session_of(&to_client).ok_or_else(unknown)?;
        let (answer, answered) = oneshot::channel();
        let from_client = session.client.clone();
        let take = Mail::TakeZones(TakeZones { from: session.id, from_client, to, zones, answer });
        if to.worker() == self.index {
            if let Some(take) = self.take_mail(take) {
                self.take_zones(take).await;
            }
        } else {
            self.post(to.worker(), take).await;
        }
        // No answer: the receiver's session, or the broker, ended meanwhile.
        answered.await.unwrap_or_else(|_| Err(unknown()))
    }

    /// The receiver's side of a hand-over.
    pub(crate) async fn take_zones(&self, take: TakeZones) {
        // Dropping the answer tells the sender.
        let Some(session) = self.session(take.to) else { return };
        // A session that is to resume another has its zones, and their ids, only then. That may wait for the sender's own
        // session, so it must not be waited for without an end.
        if timeout(READY_TIMEOUT, session.ready()).await.is_err() {
            let message = format!("client {} is just connecting again; try again", session.client);
            let _ = take.answer.send(Err(Refusal::new(ErrorCode::UnknownClient, message)));
            return;
        }
        let _step = session.step();
        let mut taken = Vec::new();
        let changed = self
            .change_interest(|router| {
                if session.interest_ended.get() {
                    let message = format!("client {} has just left, or is connecting again", session.client);
                    return Err(Refusal::new(ErrorCode::UnknownClient, message));
                }
                let (ops, zones) = session.rules.borrow_mut().take_zones(router, take.from, take.zones)?;
                taken = zones;
                Ok(ops)
            })
            .await;
        if let Ok(epoch) = changed {
            self.tell_of_zones(&session, &take.from_client, &taken, epoch);
        }
        let _ = take.answer.send(changed);
    }

    fn tell_of_zones(&self, session: &Rc<Session>, from: &ClientId, taken: &[wire::Zone], epoch: u64) {
        for zones in taken.chunks(ZONES_PER_FRAME) {
            let from_client_id = from.as_str().to_owned();
            let received = wire::ZonesReceived { from_client_id, zones: zones.to_vec(), epoch };
            session.answer(server_frame::Frame::ZonesReceived(received));
        }
    }
}
