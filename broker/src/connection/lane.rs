//! Lane streams: publishes in, in order.

use std::rc::Rc;

use quinn::{Connection, RecvStream};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use zonecast_protocol::{
    codec::{FrameError, decode_client_frame},
    wire::client_frame,
};

use super::{Busy, Ending, Served, control::name_of, first_ending, stream::FrameStream};
use crate::{
    session::Session,
    worker::{Aftermath, Worker},
};

/// Accepts lane streams and reads them, until the client says goodbye and all that it published before is routed.
pub(super) async fn accept(
    worker: Rc<Worker>,
    session: Rc<Session>,
    connection: Connection,
    mut goodbye: oneshot::Receiver<()>,
    busy: Busy,
) -> Served {
    let mut lanes = JoinSet::<Served>::new();
    let read = |lanes: &mut JoinSet<Served>, stream| {
        lanes.spawn_local(read(Rc::clone(&worker), Rc::clone(&session), stream, busy.clone()));
    };
    loop {
        tokio::select! {
            biased;
            () = session.reading_stopped() => {
                drop(busy);
                // The lanes finish their steps; they are kept until the connection is closed, see `Busy`.
                return Err(first_ending(&mut lanes).await);
            }
            accepted = connection.accept_uni() => read(&mut lanes, accepted.map_err(|_| Ending::StreamAborted)?),
            ending = first_ending(&mut lanes) => return Err(ending),
            left = &mut goodbye => match left {
                Ok(()) => break,
                // The control stream broke; its own task says how.
                Err(_) => return Ok(()),
            }
        }
    }
    // A client finishes its lanes before it says goodbye, so all of them are here.
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept_uni() => read(&mut lanes, accepted.map_err(|_| Ending::StreamAborted)?),
            () = std::future::ready(()) => break,
        }
    }
    let all_read = async {
        while let Some(joined) = lanes.join_next().await {
            joined.unwrap_or(Err(Ending::StreamAborted))?;
        }
        Err(Ending::Goodbye)
    };
    // A lane may be held back by a slow receiver, but no longer than it takes to end that one.
    let patience = 2 * worker.shared.config.connections.slow_consumer_timeout;
    let unfinished = FrameError::Unexpected { frame: "Goodbye", place: "before the lane streams are finished" };
    timeout(patience, all_read).await.unwrap_or(Err(unfinished.into()))
}

/// Reads one lane stream to its end. What is read at once is routed at once, then handed on.
async fn read(worker: Rc<Worker>, session: Rc<Session>, stream: RecvStream, busy: Busy) -> Served {
    let mut frames = FrameStream::new(stream, worker.shared.limits.frame_bytes_max);
    let mut after = worker.aftermath();
    loop {
        let filled = tokio::select! {
            biased;
            () = session.reading_stopped() => return busy.rest().await,
            filled = frames.fill() => filled?,
        };
        if !filled {
            return Ok(());
        }
        while let Some(frame) = frames.cut()? {
            match decode_client_frame(frame)? {
                client_frame::Frame::Publish(publish) => worker.publish(&session, &publish, &mut after),
                other => {
                    return Err(FrameError::Unexpected { frame: name_of(&other), place: "on a lane stream" }.into());
                }
            }
            if after.holds_back() || session.answers_are_many() {
                settle(&worker, &session, &mut after).await;
            }
        }
        settle(&worker, &session, &mut after).await;
    }
}

/// Waiting here leaves the stream unread, so that QUIC's flow control holds this lane's publisher back.
async fn settle(worker: &Worker, session: &Session, after: &mut Aftermath) {
    worker.settle(session, after).await;
    session.room_for_answers().await;
}
