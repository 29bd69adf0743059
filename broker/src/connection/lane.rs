//! Lane streams: publishes in, in order.

use std::rc::Rc;

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use zonecast_protocol::{
    PublishView,
    codec::{FrameError, decode_client_frame},
    wire::client_frame,
};

use super::{Busy, Ending, Served, control::name_of, first_ending, stream::FrameStream};
use crate::{
    session::Session,
    worker::{Aftermath, Worker},
};

/// Accepts lane streams and reads them, until the client says goodbye and all that it published before is routed, or
/// nothing more is read from it.
///
/// Whatever ends this, every lane first finishes the step it is at: what was matched reaches its receivers.
pub(super) async fn accept(
    worker: Rc<Worker>,
    session: Rc<Session>,
    connection: Connection,
    goodbye: oneshot::Receiver<()>,
    busy: Busy,
) -> Served {
    let (lane_busy, mut lanes_rest) = mpsc::channel(1);
    let mut lanes = Lanes { worker, session, connection, reading: JoinSet::new(), busy: Busy { _step: lane_busy } };
    let ending = lanes.serve(goodbye).await;
    let Lanes { session, reading, busy: lane_busy, .. } = lanes;
    session.stop_reading();
    drop(lane_busy);
    let _ = lanes_rest.recv().await;
    match ending {
        Some(ending) => Err(ending),
        None => {
            // The lanes, and with them their streams, are kept until the connection is closed.
            let served = busy.rest().await;
            drop(reading);
            served
        }
    }
}

/// The lane streams of a session.
struct Lanes {
    worker: Rc<Worker>,
    session: Rc<Session>,
    connection: Connection,
    reading: JoinSet<Served>,
    busy: Busy,
}

impl Lanes {
    /// Why the session must end; `None` when that was decided elsewhere.
    async fn serve(&mut self, mut goodbye: oneshot::Receiver<()>) -> Option<Ending> {
        let session = Rc::clone(&self.session);
        loop {
            tokio::select! {
                biased;
                () = session.reading_stopped() => return None,
                accepted = self.connection.accept_uni() => match accepted {
                    Ok(stream) => self.read(stream),
                    Err(_) => return Some(Ending::StreamAborted),
                },
                ending = first_ending(&mut self.reading) => return Some(ending),
                left = &mut goodbye => match left {
                    Ok(()) => break,
                    // The control stream broke; its own task says how, and this one is stopped.
                    Err(_) => {
                        session.reading_stopped().await;
                        return None;
                    }
                }
            }
        }
        tokio::select! {
            biased;
            () = session.reading_stopped() => None,
            ending = self.finish() => Some(ending),
        }
    }

    fn read(&mut self, stream: RecvStream) {
        let lane = read(Rc::clone(&self.worker), Rc::clone(&self.session), stream, self.busy.clone());
        self.reading.spawn_local(lane);
    }

    /// After a goodbye: reads every lane to its end. A client finishes its lanes before it says goodbye, so all of them
    /// are here.
    async fn finish(&mut self) -> Ending {
        loop {
            tokio::select! {
                biased;
                accepted = self.connection.accept_uni() => match accepted {
                    Ok(stream) => self.read(stream),
                    Err(_) => return Ending::StreamAborted,
                },
                () = std::future::ready(()) => break,
            }
        }
        // A lane may be held back by a slow receiver, but no longer than it takes to end that one.
        let patience = 2 * self.worker.shared.config.connections.slow_consumer_timeout;
        let all_read = async {
            while let Some(joined) = self.reading.join_next().await {
                if let Err(ending) = joined.unwrap_or(Err(Ending::Panicked)) {
                    return ending;
                }
            }
            Ending::Goodbye
        };
        let unfinished = FrameError::Unexpected { frame: "Goodbye", place: "before the lane streams are finished" };
        timeout(patience, all_read).await.unwrap_or(unfinished.into())
    }
}

/// Reads one lane stream to its end. What is read at once is routed at once, then handed on.
async fn read(worker: Rc<Worker>, session: Rc<Session>, stream: RecvStream, busy: Busy) -> Served {
    let mut frames = FrameStream::new(stream, worker.shared.limits.frame_bytes_max);
    let mut after = worker.aftermath();
    let routed = route(&worker, &session, &mut frames, &mut after).await;
    // Whatever ended it, what was matched reaches its receivers.
    worker.hand_over(&mut after).await;
    match routed {
        Ok(Routed::All) => Ok(()),
        Ok(Routed::UntilStopped) => busy.rest().await,
        Err(ending) => Err(ending),
    }
}

/// How far a lane was read.
enum Routed {
    /// To its end.
    All,
    /// Until nothing more was to be read from the client.
    UntilStopped,
}

async fn route(
    worker: &Worker,
    session: &Session,
    frames: &mut FrameStream,
    after: &mut Aftermath,
) -> Result<Routed, Ending> {
    loop {
        let filled = tokio::select! {
            biased;
            () = session.reading_stopped() => return Ok(Routed::UntilStopped),
            filled = frames.fill() => filled?,
        };
        if !filled {
            return Ok(Routed::All);
        }
        after.now_us = worker.shared.now_us();
        while let Some(frame) = frames.cut()? {
            match PublishView::read(&frame) {
                Some(publish) => worker.publish(session, &publish, after),
                None => publish_unusual(worker, session, frame, after)?,
            }
            if after.holds_back() || session.answers_are_many() {
                settle(worker, session, after).await;
                after.now_us = worker.shared.now_us();
            }
        }
        settle(worker, session, after).await;
    }
}

/// As for the others, for a publish that is written in another way than usual.
fn publish_unusual(worker: &Worker, session: &Session, frame: Bytes, after: &mut Aftermath) -> Result<(), FrameError> {
    match decode_client_frame(frame)? {
        client_frame::Frame::Publish(publish) => {
            worker.publish(session, &PublishView::from(&publish), after);
            Ok(())
        }
        other => Err(FrameError::Unexpected { frame: name_of(&other), place: "on a lane stream" }),
    }
}

/// Waiting here leaves the stream unread, so that QUIC's flow control holds this lane's publisher back.
async fn settle(worker: &Worker, session: &Session, after: &mut Aftermath) {
    worker.hand_over(after).await;
    worker.wait_for_receivers(session, after).await;
    worker.wait_for_rate(session, after).await;
    session.room_for_answers().await;
}
