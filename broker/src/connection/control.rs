//! The control stream: requests in, answers out.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::oneshot;
use zonecast_protocol::{
    Refusal,
    codec::{FrameError, decode_client_frame},
    wire::{self, client_frame, server_frame},
};

use super::{
    Busy, Served,
    stream::{Cut, FrameStream, finish, write_all},
};
use crate::{session::Session, worker::Worker};

/// Frames of one session that are answered before the worker's other tasks have their turn: what is read at once may
/// hold ten thousand pings.
const FRAMES_PER_TURN: u64 = 64;

/// Reads requests and carries them out one after the other. `left` is told when the client says goodbye.
pub(super) async fn read(
    worker: Rc<Worker>,
    session: Rc<Session>,
    mut frames: FrameStream,
    left: oneshot::Sender<()>,
    busy: Busy,
) -> Served {
    for turn in 1_u64.. {
        if turn.is_multiple_of(FRAMES_PER_TURN) {
            tokio::task::yield_now().await;
        }
        let next = tokio::select! {
            biased;
            () = session.reading_stopped() => return busy.rest().await,
            next = frames.next() => next?,
        };
        let Cut::Frame(frame) = next else { break };
        session.answers_written().await;
        match decode_client_frame(frame)? {
            client_frame::Frame::UpdateZones(request) => {
                let id = request.request_id;
                let change = worker.change_interest(|router| session.rules.borrow().update_zones(router, request));
                answer(&worker, &session, id, change).await;
            }
            client_frame::Frame::HandOverZones(request) => {
                answer(&worker, &session, request.request_id, worker.hand_over_zones(&session, &request)).await;
            }
            client_frame::Frame::UpdateTopics(request) => {
                let id = request.request_id;
                let change = worker.change_interest(|router| session.rules.borrow().update_topics(router, request));
                answer(&worker, &session, id, change).await;
            }
            client_frame::Frame::Renew(request) => renew(&worker, &session, &request).await,
            client_frame::Frame::Ping(ping) => {
                session.answer(server_frame::Frame::Pong(wire::Pong { nonce: ping.nonce }));
            }
            client_frame::Frame::DeliveryAck(ack) => acknowledge(&worker, &session, &ack)?,
            client_frame::Frame::Goodbye(_) => break,
            other @ (client_frame::Frame::Hello(_) | client_frame::Frame::Publish(_)) => {
                let place = "on the control stream after the hello";
                return Err(FrameError::Unexpected { frame: name_of(&other), place }.into());
            }
        }
    }
    // The lanes tell when all that was published before has been routed. The stream is kept until the connection is
    // closed, see `Busy`.
    let _ = left.send(());
    busy.rest().await
}

async fn answer(
    worker: &Worker,
    session: &Session,
    request_id: u64,
    change: impl Future<Output = Result<u64, Refusal>>,
) {
    let applied = |epoch| server_frame::Frame::InterestApplied(wire::InterestApplied { request_id, epoch });
    answer_with(worker, session, request_id, change, applied).await;
}

async fn renew(worker: &Worker, session: &Session, wire::Renew { request_id, token }: &wire::Renew) {
    let renewed = |token_expires_in_ms| {
        server_frame::Frame::Renewed(wire::Renewed { request_id: *request_id, token_expires_in_ms })
    };
    answer_with(worker, session, *request_id, worker.renew(session, token), renewed).await;
}

async fn answer_with(
    worker: &Worker,
    session: &Session,
    request_id: u64,
    done: impl Future<Output = Result<u64, Refusal>>,
    frame: impl FnOnce(u64) -> server_frame::Frame,
) {
    let numbered = session.rules.borrow_mut().number_request(request_id);
    let done = match numbered {
        Ok(()) => done.await,
        Err(refusal) => Err(refusal),
    };
    session.answer(match done {
        Ok(outcome) => frame(outcome),
        Err(Refusal { code, message }) => {
            worker.count(|stats| *stats.refusals.entry(code).or_default() += 1);
            server_frame::Frame::RequestRefused(wire::RequestRefused { request_id, code: code.into(), message })
        }
    });
}

fn acknowledge(worker: &Worker, session: &Session, ack: &wire::DeliveryAck) -> Result<(), FrameError> {
    let mut settled = Vec::new();
    let acknowledged = session.acknowledge(ack, |ticket, outcome| settled.push((ticket, outcome)));
    worker.report(settled);
    acknowledged.map_err(|error| FrameError::Impossible { frame: "DeliveryAck", problem: error.to_string() })
}

/// Writes the welcome, then answers as they come, many at once when many wait.
pub(super) async fn write(session: Rc<Session>, mut send: SendStream, welcome: Bytes, stall: Duration) -> Served {
    write_all(&mut send, &mut [welcome], || stall, "control").await?;
    while let Some(answers) = session.next_answers().await {
        write_all(&mut send, &mut [answers], || stall, "control").await?;
    }
    finish(send).await;
    Ok(())
}

/// The frame's name in the protocol.
pub(super) fn name_of(frame: &client_frame::Frame) -> &'static str {
    match frame {
        client_frame::Frame::Hello(_) => "Hello",
        client_frame::Frame::UpdateZones(_) => "UpdateZones",
        client_frame::Frame::HandOverZones(_) => "HandOverZones",
        client_frame::Frame::UpdateTopics(_) => "UpdateTopics",
        client_frame::Frame::Publish(_) => "Publish",
        client_frame::Frame::DeliveryAck(_) => "DeliveryAck",
        client_frame::Frame::Ping(_) => "Ping",
        client_frame::Frame::Goodbye(_) => "Goodbye",
        client_frame::Frame::Renew(_) => "Renew",
    }
}
