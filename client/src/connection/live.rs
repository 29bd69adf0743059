//! The life of one connection, from the broker's welcome to the end.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use quinn::{Chunk, Connection, ReadError, RecvStream, SendStream, WriteError};
use tokio::{
    sync::OwnedMutexGuard,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use zonecast_protocol::{
    codec::{FrameCutter, encode_client_frame},
    wire::{self, client_frame},
};

use super::{
    delivery::read_deliveries,
    dial::{Link, close},
    dispatch::Dispatcher,
    driver::{Driver, Leave},
    lane::{Stopped, write_lane},
};
use crate::{
    error::LinkError,
    handle::{Lane, Shared},
    intake::Due,
    sync::locked,
};

/// How long a broker that has announced its leave may take to close.
pub(super) const GOING_AWAY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a broker that has stopped a stream may take to say why: what it says may be lost on the way and sent again.
const STOPPED_PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes that wait to be written on the control stream before further commands must wait.
const CONTROL_WAITING_BYTES_MAX: usize = 4 << 20;
/// Most bytes that are read from the control stream at once.
const CONTROL_READ_BYTES_MAX: usize = 64 * 1024;

/// How a connection ended.
pub(super) struct LinkEnd {
    pub(super) error: LinkError,
    /// Whether it got as far as having all subscriptions in force.
    pub(super) was_connected: bool,
    /// Whether it ended without a word of the broker, who may keep the session.
    pub(super) was_cut: bool,
    /// What the broker wants as the least wait.
    pub(super) retry_after: Duration,
}

/// What is open on a connection.
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) session_id: u64,
    pub(super) resumed: bool,
    send: SendStream,
    receive: RecvStream,
    pub(super) cutter: FrameCutter,
    /// What is to be written on the control stream.
    pub(super) out: BytesMut,
    writers: JoinSet<Result<(), Stopped>>,
    lanes_written: BTreeSet<u8>,
    reader: JoinSet<Result<Infallible, LinkError>>,
    /// Since when all subscriptions are in force.
    pub(super) connected_since: Option<Instant>,
    /// When publishes that may have been sent before are sent again.
    resend_at: Option<Instant>,
    /// When to ask for another token.
    pub(super) renew_at: Option<Instant>,
    /// Whoever is asked for one.
    asked: JoinSet<Result<String, LinkError>>,
    pub(super) going_away: Option<wire::GoAway>,
    pub(super) leaving: Leaving,
    /// The broker has said all that it will on the control stream.
    control_ended: bool,
    /// The broker reads the control stream no longer.
    control_stopped: bool,
    /// By when the broker must say why it has stopped a stream.
    pub(super) reason_due: Option<Instant>,
    /// When the present step must be done.
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Lanes are written to their ends and answers awaited.
    Draining,
    /// Goodbye is said.
    Gone,
}

impl Live {
    fn new(link: Link, shared: Arc<Shared>, dispatcher: OwnedMutexGuard<Dispatcher>, patience: Duration) -> Self {
        let mut reader = JoinSet::new();
        let frame_bytes_max = link.limits.frame_bytes_max;
        reader.spawn(read_deliveries(link.connection.clone(), shared, dispatcher, frame_bytes_max));
        Self {
            connection: link.connection,
            session_id: link.session_id,
            resumed: link.resumed.is_some(),
            send: link.send,
            receive: link.receive,
            cutter: FrameCutter::new(frame_bytes_max),
            out: BytesMut::new(),
            writers: JoinSet::new(),
            lanes_written: BTreeSet::new(),
            reader,
            connected_since: None,
            resend_at: None,
            renew_at: None,
            asked: JoinSet::new(),
            going_away: None,
            leaving: Leaving::No,
            control_ended: false,
            control_stopped: false,
            reason_due: None,
            deadline: Some(Instant::now() + patience),
        }
    }

    pub(super) fn write(&mut self, lane: &Arc<Lane>) {
        if self.lanes_written.insert(lane.number) {
            self.writers.spawn(write_lane(self.connection.clone(), lane.clone()));
        }
    }

    fn has_room(&self) -> bool {
        self.out.len() < CONTROL_WAITING_BYTES_MAX
    }

    /// The broker has stopped a stream: as it does when it sends its client away, and its word of that may come later.
    fn await_reason(&mut self) {
        if self.leaving == Leaving::No && self.going_away.is_none() {
            self.reason_due.get_or_insert(Instant::now() + STOPPED_PATIENCE);
        }
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
        let has_resends = self.begin_session(&link).await;
        let dispatcher = self.dispatcher.clone().lock_owned().await;
        let token_expires_in_ms = link.token_expires_in_ms;
        let mut live = Live::new(link, self.shared.clone(), dispatcher, self.settings.timing.attempt_timeout);
        live.resend_at = has_resends.then(|| Instant::now() + self.settings.timing.resend_hold_off);
        self.renew_in_time(&mut live, token_expires_in_ms);
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
        // An orderly end that nobody asked for says nothing either.
        let silent =
            matches!(error, LinkError::Lost(_) | LinkError::NoAnswer { .. } | LinkError::Ended { code: 0, .. });
        let was_cut = going_away.is_none() && silent;
        self.after_loss(connected_since, was_cut);
        let (error, retry_after) = match going_away {
            Some(told) => {
                let retry_after = Duration::from_millis(told.reconnect_after_ms.into());
                (LinkError::Ended { code: told.code.unsigned_abs(), message: told.message }, retry_after)
            }
            None => (error, Duration::ZERO),
        };
        Ok(LinkEnd { error, was_connected: connected_since.is_some(), was_cut, retry_after })
    }

    async fn run_link(&mut self, live: &mut Live) -> Result<Infallible, LinkError> {
        loop {
            self.perform(live)?;
            let tell_at = self.tell_what_was_received(live);
            self.leave_step_by_step(live);
            let (has_room, resend_at, renew_at) = (live.has_room(), live.resend_at, live.renew_at);
            let deadline = [live.deadline, live.reason_due].into_iter().flatten().min();
            // Whatever else there is to do at once, all the time.
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(self.too_late(live));
            }
            let (control_ended, leaving) = (live.control_ended, live.leaving != Leaving::No);
            let is_ending = leaving || live.going_away.is_some();
            let writes = !live.out.is_empty() && !live.control_stopped;
            let Live { connection, send, receive, out, writers, reader, asked, .. } = &mut *live;
            tokio::select! {
                biased;
                written = send.write(out), if writes => match written {
                    Ok(count) => out.advance(count),
                    Err(WriteError::Stopped(_)) => {
                        live.control_stopped = true;
                        live.await_reason();
                    }
                    Err(_) => return Err(LinkError::from_quic(connection.closed().await)),
                },
                command = self.commands.next(has_room), if !leaving => match self.on_command(command) {
                    Ok(Some(lane)) if live.connected_since.is_some() && live.going_away.is_none() => live.write(&lane),
                    Ok(_) => {}
                    Err(Leave) => self.begin_to_leave(live),
                },
                chunk = read_control(&self.shared, receive), if !control_ended => match chunk {
                    Ok(Some(chunk)) => {
                        let bytes = chunk.bytes.len();
                        live.cutter.push(chunk.bytes);
                        self.take_frames(live, bytes)?;
                    }
                    // An orderly end: the broker has said all there, and closes when the deliveries have arrived too.
                    Ok(None) if is_ending => live.control_ended = true,
                    Err(ReadError::ConnectionLost(error)) => return Err(LinkError::from_quic(error)),
                    _ => return Err(LinkError::Violation { what: "the broker ended the control stream" }),
                },
                Some(ended) = writers.join_next() => {
                    if let Ok(Err(Stopped)) = ended {
                        live.await_reason();
                    }
                }
                () = self.shared.intake.wake.notified() => {}
                () = sleep_until(tell_at.unwrap_or_else(Instant::now)), if tell_at.is_some() => {}
                () = sleep_until(resend_at.unwrap_or_else(Instant::now)), if resend_at.is_some() => {
                    live.resend_at = None;
                    self.release_lanes();
                }
                () = sleep_until(renew_at.unwrap_or_else(Instant::now)), if renew_at.is_some() => {
                    live.renew_at = None;
                    let source = self.settings.token.clone();
                    live.asked.spawn(async move { source.get().await });
                }
                Some(Ok(token)) = asked.join_next() => self.show_token(live, token),
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
            (None, Leaving::No) if live.reason_due.is_some_and(|due| due <= Instant::now()) => {
                LinkError::Violation { what: "the broker stopped a stream of this client and does not say why" }
            }
            (None, Leaving::No) => LinkError::NoAnswer { waited: timing.attempt_timeout },
            (None, _) => LinkError::NoAnswer { waited: timing.close_timeout },
        }
    }

    /// Puts what the broker must be told now behind what waits to be written. When there will be more to tell.
    fn tell_what_was_received(&self, live: &mut Live) -> Option<Instant> {
        // After a goodbye of either side nobody listens.
        if live.going_away.is_some() || live.leaving == Leaving::Gone || live.control_stopped {
            return None;
        }
        while live.has_room() {
            match self.shared.intake.due() {
                Due::Now(ack) => encode_client_frame(client_frame::Frame::DeliveryAck(ack), &mut live.out),
                Due::At(later) => return Some(later),
                Due::Nothing => break,
            }
        }
        None
    }

    fn release_lanes(&self) {
        for lane in self.shared.open_lanes() {
            let wake = locked(&lane.queue).release();
            if wake {
                lane.work.notify_one();
            }
        }
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
        let answered = || !self.shared.open_lanes().any(|lane| locked(&lane.queue).has_unanswered());
        if live.leaving == Leaving::Draining && live.writers.is_empty() && answered() {
            if let Some(ack) = self.shared.intake.last_words() {
                encode_client_frame(client_frame::Frame::DeliveryAck(ack), &mut live.out);
            }
            encode_client_frame(client_frame::Frame::Goodbye(wire::Goodbye {}), &mut live.out);
            live.leaving = Leaving::Gone;
        } else if live.leaving == Leaving::Gone && live.out.is_empty() {
            // The second time it is finished already.
            let _ = live.send.finish();
        }
    }
}

/// Waits for the next bytes of the control stream; and before that until the zone subscription is not too far behind with
/// what came on it.
async fn read_control(shared: &Shared, receive: &mut RecvStream) -> Result<Option<Chunk>, ReadError> {
    if let Some(zones) = &shared.routes.table().zones {
        zones.room_for_notices().await;
    }
    receive.read_chunk(CONTROL_READ_BYTES_MAX, true).await
}
