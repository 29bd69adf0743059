//! The life of one connection, from the broker's welcome to the end.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use quinn::{Connection, ReadError, RecvStream, SendStream};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use zonecast_protocol::{
    codec::{FrameCutter, decode_server_frame, encode_client_frame},
    wire::{self, client_frame},
};

use super::{
    delivery::read_deliveries,
    dial::{Link, close},
    driver::{Driver, Leave},
    lane::write_lane,
};
use crate::{
    error::{LinkError, PublishError},
    handle::{AckToken, Lane, Shared},
    item::{TopicItem, ZoneItem, ZoneSpec},
    publisher::{Receipt, RefusedPublish},
    session::{Effect, SessionError, refusal},
    state::ConnectionState,
    sync::locked,
};

/// How long a broker that has announced its leave may take to close.
const GOING_AWAY_PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes that wait to be written on the control stream before further commands must wait.
const CONTROL_WAITING_BYTES_MAX: usize = 4 << 20;
/// Most bytes that are read from the control stream at once.
const CONTROL_READ_BYTES_MAX: usize = 64 * 1024;

/// How a connection ended.
pub(super) struct LinkEnd {
    pub(super) error: LinkError,
    /// Whether it got as far as having all subscriptions in force.
    pub(super) was_connected: bool,
    /// What the broker wants as the least wait.
    pub(super) retry_after: Duration,
}

/// What is open on a connection.
struct Live {
    connection: Connection,
    session_id: u64,
    send: SendStream,
    receive: RecvStream,
    cutter: FrameCutter,
    /// What is to be written on the control stream.
    out: BytesMut,
    writers: JoinSet<Option<LinkError>>,
    lanes_written: BTreeSet<u8>,
    reader: JoinSet<Result<Infallible, LinkError>>,
    /// Since when all subscriptions are in force.
    connected_since: Option<Instant>,
    going_away: Option<wire::GoAway>,
    leaving: Leaving,
    /// The broker has said all that it will on the control stream.
    control_ended: bool,
    /// When the present step must be done.
    deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// Lanes are written to their ends and answers awaited.
    Draining,
    /// Goodbye is said.
    Gone,
}

impl Live {
    fn new(link: Link, shared: &Arc<Shared>, patience: Duration) -> Self {
        let mut reader = JoinSet::new();
        let frame_bytes_max = link.limits.frame_bytes_max;
        reader.spawn(read_deliveries(link.connection.clone(), shared.clone(), frame_bytes_max));
        Self {
            connection: link.connection,
            session_id: link.session_id,
            send: link.send,
            receive: link.receive,
            cutter: FrameCutter::new(frame_bytes_max),
            out: BytesMut::new(),
            writers: JoinSet::new(),
            lanes_written: BTreeSet::new(),
            reader,
            connected_since: None,
            going_away: None,
            leaving: Leaving::No,
            control_ended: false,
            deadline: Some(Instant::now() + patience),
        }
    }

    fn write(&mut self, lane: &Arc<Lane>) {
        if self.lanes_written.insert(lane.number) {
            self.writers.spawn(write_lane(self.connection.clone(), lane.clone()));
        }
    }

    fn takes_commands(&self) -> bool {
        self.leaving == Leaving::No && self.out.len() < CONTROL_WAITING_BYTES_MAX
    }

    /// Ends everything that belongs to the connection, so that nothing of it meets the next one.
    async fn close(mut self, error: &LinkError) {
        close(&self.connection, error);
        self.writers.shutdown().await;
        self.reader.shutdown().await;
    }
}

impl Driver {
    /// Lives on a connection to its end; `Leave` when the application wanted that end.
    pub(super) async fn live(&mut self, link: Link) -> Result<LinkEnd, Leave> {
        self.shared.set_limits(link.limits.clone());
        self.session.connected(&link.limits);
        if Shared::count(&self.shared.counters.connections) > 1 {
            self.tell_of_interruption();
        }
        let mut live = Live::new(link, &self.shared, self.settings.timing.attempt_timeout);
        let error = match self.run_link(&mut live).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let (connected_since, leaving) = (live.connected_since, live.leaving);
        let going_away = live.going_away.take();
        live.close(&error).await;
        if leaving != Leaving::No {
            return Err(Leave);
        }
        self.after_loss(connected_since);
        let (error, retry_after) = match going_away {
            Some(told) => {
                let retry_after = Duration::from_millis(told.reconnect_after_ms.into());
                (LinkError::Ended { code: told.code.unsigned_abs(), message: told.message }, retry_after)
            }
            None => (error, Duration::ZERO),
        };
        Ok(LinkEnd { error, was_connected: connected_since.is_some(), retry_after })
    }

    /// Before the first delivery of a new connection, behind the last of the old one.
    fn tell_of_interruption(&self) {
        let table = self.shared.routes.table();
        let zones = table.zones.as_ref().is_none_or(|zones| zones.push_notice(ZoneItem::Interrupted));
        let topics = table.topics.iter().filter(|topic| !topic.mailbox.push_notice(TopicItem::Interrupted)).count();
        if !zones || topics > 0 {
            tracing::warn!("a subscription that nobody reads is not told of a lost connection any more");
        }
    }

    async fn run_link(&mut self, live: &mut Live) -> Result<Infallible, LinkError> {
        loop {
            self.perform(live)?;
            self.leave_step_by_step(live);
            let (takes_commands, deadline) = (live.takes_commands(), live.deadline);
            let (control_ended, leaving) = (live.control_ended, live.leaving != Leaving::No);
            let is_ending = leaving || live.going_away.is_some();
            let Live { connection, send, receive, out, writers, reader, .. } = &mut *live;
            tokio::select! {
                biased;
                written = send.write(out), if !out.is_empty() => match written {
                    Ok(count) => out.advance(count),
                    Err(_) => return Err(LinkError::from_quic(connection.closed().await)),
                },
                command = self.commands.recv(), if takes_commands => match self.on_command(command) {
                    Ok(Some(lane)) if live.connected_since.is_some() && live.going_away.is_none() => live.write(&lane),
                    Ok(_) => {}
                    Err(Leave) => self.begin_to_leave(live),
                },
                chunk = receive.read_chunk(CONTROL_READ_BYTES_MAX, true), if !control_ended => match chunk {
                    Ok(Some(chunk)) => {
                        live.cutter.push(chunk.bytes);
                        self.take_frames(live)?;
                    }
                    // An orderly end: the broker has said all there, and closes when the deliveries have arrived too.
                    Ok(None) if is_ending => live.control_ended = true,
                    Err(ReadError::ConnectionLost(error)) => return Err(LinkError::from_quic(error)),
                    _ => return Err(LinkError::Violation { what: "the broker ended the control stream" }),
                },
                Some(ended) = writers.join_next() => {
                    if let Ok(Some(error)) = ended {
                        return Err(error);
                    }
                }
                // Who leaves has no use for deliveries that still wait to be read; who is sent away by a broker that
                // shuts down has, and the reader ends when all of them are passed on.
                error = connection.closed(), if control_ended && leaving => return Err(LinkError::from_quic(error)),
                Some(ended) = reader.join_next() => match ended {
                    Ok(Err(error)) => return Err(error),
                    _ => return Err(LinkError::Violation { what: "the delivery stream could not be read on" }),
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(self.too_late(live));
                }
            }
        }
    }

    fn too_late(&self, live: &Live) -> LinkError {
        let timing = &self.settings.timing;
        match (&live.going_away, live.leaving) {
            (Some(_), _) => LinkError::NoAnswer { waited: GOING_AWAY_PATIENCE },
            (None, Leaving::No) => LinkError::NoAnswer { waited: timing.attempt_timeout },
            (None, _) => LinkError::NoAnswer { waited: timing.close_timeout },
        }
    }

    fn take_frames(&mut self, live: &mut Live) -> Result<(), LinkError> {
        while let Some(frame) = live.cutter.next_frame()? {
            self.session.on_frame(decode_server_frame(frame)?).map_err(|error| match error {
                SessionError::Frame(error) => LinkError::Framing(error),
                SessionError::Violation(what) => LinkError::Violation { what },
                SessionError::RenewalRefused(refusal) => LinkError::RenewalRefused(refusal),
            })?;
            self.perform(live)?;
        }
        Ok(())
    }

    /// Carries out what the session has decided.
    fn perform(&mut self, live: &mut Live) -> Result<(), LinkError> {
        while let Some(effect) = self.session.next_effect() {
            match effect {
                Effect::Send(frame) => encode_client_frame(frame, &mut live.out),
                Effect::Answer { token, result } => {
                    // Whoever asked may have stopped waiting.
                    let _ = token.reply.send(result);
                }
                Effect::Renewed => self.on_renewed(live),
                Effect::Received(received) => self.on_received(received)?,
                Effect::Acked(ack) => {
                    if let Some(token) = self.answered(ack.lane, ack.lane_seq) {
                        let _ = token.send(Ok(Receipt { matched: ack.matched }));
                    }
                }
                Effect::PublishRefused(refused) => self.on_publish_refused(refused),
                Effect::GoingAway(go_away) => {
                    // What is not on its way yet is better sent on the next connection.
                    for lane in self.shared.open_lanes() {
                        locked(&lane.queue).pause(true);
                    }
                    let patience = Instant::now() + GOING_AWAY_PATIENCE;
                    // Who is leaving anyway waits no longer for it.
                    live.deadline = Some(live.deadline.filter(|_| live.leaving != Leaving::No).unwrap_or(patience));
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
        let (address, session_id) = (live.connection.remote_address(), live.session_id);
        tracing::info!(client_id = %self.shared.client_id, %address, session_id, "connected");
        self.set_state(ConnectionState::Connected { address, session_id });
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
        // Only now, so that a request does not overtake the subscription that its reply needs.
        self.write_lanes(live);
    }

    fn write_lanes(&self, live: &mut Live) {
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
            Some(mailbox) if mailbox.push_notice(notice.clone()) => {}
            _ => tracing::warn!(?notice, "zones were handed over, and nobody reads the zone subscription"),
        }
        Ok(())
    }

    fn answered(&self, lane: u32, lane_seq: u64) -> Option<AckToken> {
        let lane = self.shared.lane(u8::try_from(lane).ok()?)?;
        locked(&lane.queue).answered(lane_seq)
    }

    fn on_publish_refused(&self, refused: wire::PublishRefused) {
        let count = Shared::count(&self.shared.counters.refused);
        let why = refusal(refused.code, refused.message);
        if let Some(token) = self.answered(refused.lane, refused.lane_seq) {
            let _ = token.send(Err(PublishError::Refused(why)));
            return;
        }
        // One line for each doubling: refusals can come as fast as publishes.
        if count.is_power_of_two() {
            tracing::warn!(lane = refused.lane, lane_seq = refused.lane_seq, %why, count, "a publish was refused");
        }
        self.shared.on_refused(RefusedPublish::new(refused.lane, refused.lane_seq, why));
    }

    fn begin_to_leave(&mut self, live: &mut Live) {
        live.leaving = Leaving::Draining;
        live.deadline = Some(Instant::now() + self.settings.timing.close_timeout);
        self.write_lanes(live);
        for lane in self.shared.open_lanes() {
            let wake = locked(&lane.queue).finish();
            if wake {
                lane.work.notify_one();
            }
        }
    }

    /// Says goodbye when all lanes are written and answered, and ends the control stream behind it.
    fn leave_step_by_step(&self, live: &mut Live) {
        let answered = || !self.shared.open_lanes().any(|lane| locked(&lane.queue).has_awaited());
        if live.leaving == Leaving::Draining && live.writers.is_empty() && answered() {
            encode_client_frame(client_frame::Frame::Goodbye(wire::Goodbye {}), &mut live.out);
            live.leaving = Leaving::Gone;
        } else if live.leaving == Leaving::Gone && live.out.is_empty() {
            // The second time it is finished already.
            let _ = live.send.finish();
        }
    }
}
