//! What the broker's frames on the control stream lead to.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;
use zonecast_protocol::{
    Refusal,
    codec::{decode_server_frame, encode_client_frame},
    wire::{self, server_frame},
};

use super::{
    driver::Driver,
    live::{GOING_AWAY_PATIENCE, Leaving, Live},
};
use crate::{
    error::LinkError,
    handle::AckToken,
    item::{TopicItem, ZoneItem, ZoneSpec},
    session::{Effect, Renewal, SessionError, refusal},
    state::ConnectionState,
    sync::locked,
};

impl Driver {
    /// Takes what was read of the control stream.
    pub(super) fn take_frames(&mut self, live: &mut Live, bytes: usize) -> Result<(), LinkError> {
        let mut acks = Vec::new();
        let counted = self.take_each_frame(live, &mut acks);
        // What came before a broken frame is whole.
        self.on_acks(&mut acks);
        self.shared.intake.control_received(counted?, bytes);
        Ok(())
    }

    /// How many frames of those that count were taken. Acknowledgements at the end are left to the caller.
    fn take_each_frame(&mut self, live: &mut Live, acks: &mut Vec<wire::PublishAck>) -> Result<u64, LinkError> {
        let mut counted = 0;
        while let Some(frame) = live.cutter.next_frame()? {
            let frame = decode_server_frame(frame)?;
            counted += u64::from(!matches!(frame, server_frame::Frame::GoAway(_)));
            let is_answer =
                matches!(frame, server_frame::Frame::InterestApplied(_) | server_frame::Frame::RequestRefused(_));
            match frame {
                server_frame::Frame::PublishAck(ack) => {
                    acks.push(ack);
                    continue;
                }
                server_frame::Frame::PublishRefused(refused) => {
                    self.on_acks(acks);
                    self.on_publish_refused(refused);
                    continue;
                }
                frame => {
                    self.on_acks(acks);
                    self.session.on_frame(frame).map_err(|error| match error {
                        SessionError::Frame(error) => LinkError::Framing(error),
                        SessionError::Violation(what) => LinkError::Violation { what },
                    })?;
                }
            }
            if is_answer && live.connected_since.is_none() && live.leaving == Leaving::No && live.going_away.is_none() {
                // A long renewal that gets on may take its time.
                live.deadline = Some(Instant::now() + self.settings.timing.attempt_timeout);
            }
            self.perform(live)?;
        }
        Ok(counted)
    }

    /// Tells who waits for them. They come in long runs of one lane, of which each is one visit to its queue.
    fn on_acks(&self, acks: &mut Vec<wire::PublishAck>) {
        for run in acks.chunk_by(|ack, next| ack.lane == next.lane) {
            let lane = run.first().and_then(|ack| u8::try_from(ack.lane).ok());
            if let Some(lane) = lane.and_then(|lane| self.shared.lane(lane)) {
                lane.acked(run);
            }
        }
        acks.clear();
    }

    /// Carries out what the session has decided.
    pub(super) fn perform(&mut self, live: &mut Live) -> Result<(), LinkError> {
        while let Some(effect) = self.session.next_effect() {
            match effect {
                Effect::Send(frame) => encode_client_frame(frame, &mut live.out),
                Effect::Answer { token, result } => {
                    // Whoever asked may have stopped waiting.
                    let _ = token.reply.send(result);
                }
                Effect::Renewed => self.on_renewed(live),
                Effect::Received(received) => self.on_received(received)?,
                Effect::NotRenewed { what, refusal } => self.on_not_renewed(what, &refusal),
                Effect::TokenShown(shown) => self.on_token_shown(live, shown),
                Effect::GoingAway(go_away) => {
                    // What is not on its way yet is better sent on the next connection.
                    for lane in self.shared.open_lanes() {
                        locked(&lane.queue).pause(true);
                    }
                    let patience = Instant::now() + GOING_AWAY_PATIENCE;
                    // Who is leaving anyway waits no longer for it.
                    live.deadline = Some(live.deadline.filter(|_| live.leaving != Leaving::No).unwrap_or(patience));
                    live.reason_due = None;
                    live.going_away = Some(go_away);
                }
            }
        }
        Ok(())
    }

    fn on_renewed(&mut self, live: &mut Live) {
        live.connected_since = Some(Instant::now());
        if live.leaving == Leaving::No && live.going_away.is_none() {
            live.deadline = None;
        }
        let (address, session_id, resumed) = (live.connection.remote_address(), live.session_id, live.resumed);
        tracing::info!(client_id = %self.shared.client_id, %address, session_id, resumed, "connected");
        self.set_state(ConnectionState::Connected { address, session_id, resumed });
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
        // Only now, so that a request does not overtake the subscription that its reply needs.
        self.write_lanes(live);
    }

    pub(super) fn write_lanes(&self, live: &mut Live) {
        for lane in self.shared.open_lanes() {
            let wake = locked(&lane.queue).pause(live.going_away.is_some());
            if wake {
                lane.work.notify_one();
            }
            live.write(lane);
        }
    }

    fn on_received(&self, received: wire::ZonesReceived) -> Result<(), LinkError> {
        let zones = received.zones.into_iter().map(ZoneSpec::from_wire).collect::<Result<Vec<_>, _>>();
        let Ok(zones) = zones else {
            return Err(LinkError::Violation { what: "a zone that was handed over is no rectangle" });
        };
        let notice = ZoneItem::Received { from: received.from_client_id, zones, epoch: received.epoch };
        match &self.shared.routes.table().zones {
            Some(mailbox) => mailbox.push_notice(notice),
            None => tracing::warn!(?notice, "zones were handed over, and there is no zone subscription"),
        }
        Ok(())
    }

    /// Tells the subscription that it does not hold this any more.
    fn on_not_renewed(&self, what: Renewal, refusal: &Refusal) {
        tracing::warn!(client_id = %self.shared.client_id, ?what, %refusal, "the broker refuses to renew");
        let table = self.shared.routes.table();
        match what {
            Renewal::Zones(zones) => {
                let zones = zones.into_iter().filter_map(|zone| ZoneSpec::from_wire(zone).ok()).collect();
                if let Some(mailbox) = &table.zones {
                    mailbox.push_notice(ZoneItem::Refused { zones, refusal: refusal.clone() });
                }
            }
            Renewal::Topics(topics) => {
                for topic in topics {
                    match table.topics.iter().find(|route| route.id == topic.id) {
                        Some(route) => route.mailbox.push_notice(TopicItem::Refused { refusal: refusal.clone() }),
                        // The topics for replies have no subscription: the next request asks for them anew.
                        None => self.shared.inbox.refused.store(true, Relaxed),
                    }
                }
            }
        }
    }

    fn answered(&self, lane: u32, lane_seq: u64) -> Option<AckToken> {
        let lane = self.shared.lane(u8::try_from(lane).ok()?)?;
        lane.answered(lane_seq)
    }

    fn on_publish_refused(&self, refused: wire::PublishRefused) {
        let why = refusal(refused.code, refused.message);
        let token = self.answered(refused.lane, refused.lane_seq);
        self.shared.refuse(refused.lane, refused.lane_seq, token, why);
    }
}
