//! A connection's life: handshake, hello, the tasks that serve it, and its end.

mod control;
mod deliveries;
mod hello;
mod identity;
mod lane;
mod stream;

use std::{convert::Infallible, rc::Rc, time::Duration};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Incoming, SendStream, VarInt};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};
use zonecast_protocol::{
    codec::FrameError,
    wire::{self, ErrorCode, server_frame},
};

use self::stream::FrameStream;
use crate::{
    admission::{Claim, Place},
    session::Session,
    stats::end_label,
    worker::{Begun, Worker},
};

/// How long a peer that is sent away may take to acknowledge the last words.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// What a client that is sent away is asked to wait before it connects again.
const RECONNECT_AFTER_MS: u32 = 250;

/// Why a task of a connection ended the connection.
#[derive(Debug, Error)]
enum Ending {
    /// The client broke the framing.
    #[error(transparent)]
    Framing(#[from] FrameError),
    /// The client took nothing, or too little, for too long.
    #[error("the {stream} stream is read too slowly for too long (connections.slow_consumer_timeout_ms)")]
    Stalled {
        /// Which stream.
        stream: &'static str,
    },
    /// The client does not acknowledge what it is sent.
    #[error("too many deliveries are unacknowledged for too long (connections.slow_consumer_timeout_ms)")]
    Unacknowledged,
    /// The client said goodbye.
    #[error("the client left")]
    Goodbye,
    /// A stream was reset or stopped by the client, or is gone with the connection.
    #[error("a stream of the session was reset or stopped")]
    StreamAborted,
    /// A task of the connection panicked, which is a defect of the broker.
    #[error("the broker failed to serve this connection; its log says more")]
    Panicked,
}

/// Held by each task that reads from the client while it is at a step that must not be cut off halfway, such as handing
/// matched events to other workers.
#[derive(Clone)]
struct Busy {
    /// Nothing is ever sent; dropping the last one is what tells.
    _step: mpsc::Sender<Infallible>,
}

impl Busy {
    /// Tells that the step is finished, and keeps the task, and with it its stream, until the connection is closed: a
    /// stream that is dropped is stopped, which a client that is being drained would take for an error.
    async fn rest(self) -> Served {
        drop(self);
        std::future::pending().await
    }
}

/// Resolves to an ending when the connection must end, to `Ok` when the task's work is done.
type Served = Result<(), Ending>;

/// The application error code of a QUIC close.
pub(crate) fn close_code(code: ErrorCode) -> VarInt {
    VarInt::from_u32(u32::try_from(i32::from(code)).unwrap_or(0))
}

/// Serves one incoming connection until it ends; then its place is free again.
pub(crate) async fn serve(worker: &Rc<Worker>, incoming: Incoming, mut place: Place) {
    let address = incoming.remote_address();
    let introduced = match hello::introduce(worker, incoming, &mut place).await {
        Ok(introduced) => introduced,
        Err(failure) => {
            debug!(%address, %failure, "no session");
            return worker.count(|stats| *stats.handshakes_failed.entry(failure.label()).or_default() += 1);
        }
    };
    let hello::Introduced { connection, control, begun, welcome, software, coalesce } = introduced;
    let Begun { session, claim, resumed } = begun;
    let subject = session.grant.borrow().subject().map(ToString::to_string);
    info!(session = %session.id, client = %session.client, subject, %address, %software, resumed, "session begins");
    let attendance = Attendance { worker, connection: &connection, session: &session, coalesce };
    let (tasks, end) = attendance.attend(control, welcome).await;
    let (farewell, reason) = farewell(&connection, end).await;
    if matches!(farewell, Farewell::None)
        && session.keeps()
        && !worker.is_draining()
        && let Some(kept) = worker.keep()
    {
        info!(session = %session.id, client = %session.client, %reason, "link lost; the session is kept");
        // The connection's place is free again; the session is not the connection's any more.
        drop(tasks);
        let worker = Rc::clone(worker);
        tokio::task::spawn_local(async move { worker.keep_detached(&session, claim, kept).await });
        return;
    }
    let label = attendance.take_leave(tasks, farewell, &reason, claim).await;
    info!(session = %session.id, client = %session.client, end = label, %reason, "session ends");
}

/// A live session on its connection.
struct Attendance<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Connection,
    session: &'a Rc<Session>,
    /// For how long deliveries may wait for others.
    coalesce: Duration,
}

/// The tasks that serve a session.
struct Tasks {
    writers: JoinSet<Served>,
    /// Kept until the connection is closed, with the streams that they read: a stream that is dropped is stopped, and a
    /// client that is being drained may hear of that before it hears why.
    _readers: JoinSet<Served>,
}

/// Why a session ends.
enum End {
    /// A task of the connection says so.
    Task(Ending),
    /// The broker wants it.
    Broker(ErrorCode, String),
    /// The connection is gone.
    Connection(ConnectionError),
}

/// How a session's end is told to the client.
enum Farewell {
    /// By closing at once: the client broke the framing.
    Close(ErrorCode),
    /// By writing what waits, then closing.
    AfterLastWords(ErrorCode),
    /// By a `GoAway`, then as above.
    GoAway(ErrorCode),
    /// Not at all: there is nobody left.
    None,
}

impl Attendance<'_> {
    /// Runs the session's tasks until one of them, the client, or the broker ends it. The writers are still running then.
    async fn attend(&self, (send, frames): (SendStream, FrameStream), welcome: Bytes) -> (Tasks, End) {
        let (worker, connection, session) = (self.worker, self.connection, self.session);
        let limits = &worker.shared.config.connections;
        let stall = limits.slow_consumer_timeout;
        let (left, goodbye) = oneshot::channel();
        let (busy, mut all_rest) = mpsc::channel(1);
        let busy = Busy { _step: busy };
        let mut readers = JoinSet::<Served>::new();
        readers.spawn_local(control::read(Rc::clone(worker), Rc::clone(session), frames, left, busy.clone()));
        readers.spawn_local(lane::accept(Rc::clone(worker), Rc::clone(session), connection.clone(), goodbye, busy));
        let mut writers = JoinSet::<Served>::new();
        writers.spawn_local(control::write(Rc::clone(session), send, welcome, stall));
        writers.spawn_local(deliveries::write(
            Rc::clone(worker),
            Rc::clone(session),
            connection.clone(),
            self.coalesce,
        ));
        let end = tokio::select! {
            biased;
            ending = first_ending(&mut readers) => End::Task(ending),
            ending = first_ending(&mut writers) => End::Task(ending),
            (code, reason) = session.ended() => End::Broker(code, reason),
            () = session.over_too_long(limits, || worker.count(|stats| stats.publishers_let_go += 1)) => {
                End::Task(Ending::Unacknowledged)
            }
            error = connection.closed() => End::Connection(error),
        };
        session.stop_reading();
        // Nothing is ever sent: the channel ends with the last step that was under way.
        let _ = all_rest.recv().await;
        (Tasks { writers, _readers: readers }, end)
    }

    /// Ends the session, tells the client so, and closes the connection. Returns the end's name.
    async fn take_leave(&self, mut tasks: Tasks, farewell: Farewell, reason: &str, claim: Claim) -> &'static str {
        let (worker, connection, session) = (self.worker, self.connection, self.session);
        let writers = &mut tasks.writers;
        if let Farewell::GoAway(ErrorCode::ShuttingDown) = farewell {
            say_go_away(session, ErrorCode::ShuttingDown, reason);
            // The client is there and reads: it gets what waits for it, as long as the broker's grace lasts.
            tokio::select! {
                biased;
                () = session.outbox_drained() => {}
                () = session.disowned() => {}
                _ = connection.closed() => {}
                _ = first_ending(writers) => {}
            }
        }
        // Before the last words, which may take their time: a newer connection of the same client waits for this. Who
        // said goodbye is sent what waits for it first, unless its next run is there already.
        let begun = Instant::now();
        let stall = worker.shared.config.connections.slow_consumer_timeout;
        if let Farewell::AfterLastWords(_) = farewell {
            tokio::select! {
                biased;
                () = session.outbox_drained() => {}
                _ = connection.closed() => {}
                _ = first_ending(writers) => {}
                _ = session.ended() => {}
                () = sleep(stall) => {}
            }
        }
        if !matches!(farewell, Farewell::None | Farewell::GoAway(ErrorCode::SessionReplaced)) {
            session.forfeit_resume();
        }
        let left_behind = worker.part_with(session, claim).await;
        if let Farewell::GoAway(code) = farewell
            && code != ErrorCode::ShuttingDown
        {
            say_go_away(session, code, reason);
        }
        session.close();
        let code = match farewell {
            Farewell::Close(code) => Some(code),
            Farewell::AfterLastWords(code) | Farewell::GoAway(code) => {
                let all_written = async { while writers.join_next().await.is_some() {} };
                // Who leaves or is drained in good order is given the time that a slow reader has anyway.
                let is_orderly =
                    matches!(code, ErrorCode::Unspecified | ErrorCode::ShuttingDown) && !session.is_disowned();
                let patience = if is_orderly { stall.saturating_sub(begun.elapsed()) } else { LAST_WORDS_TIMEOUT };
                let _ = timeout(patience, all_written).await;
                Some(code)
            }
            Farewell::None => None,
        };
        if let Some(code) = code {
            connection.close(close_code(code), reason.as_bytes());
        }
        let label = end_label(code);
        worker.count(|stats| stats.count_end(label, left_behind));
        label
    }
}

/// Decides how to tell the client, and in which words.
async fn farewell(connection: &Connection, end: End) -> (Farewell, String) {
    match end {
        End::Task(Ending::Framing(error)) => (Farewell::Close(error.code()), error.to_string()),
        End::Task(ending @ (Ending::Stalled { .. } | Ending::Unacknowledged)) => {
            (Farewell::GoAway(ErrorCode::SlowConsumer), ending.to_string())
        }
        End::Task(ending @ Ending::Goodbye) => (Farewell::AfterLastWords(ErrorCode::Unspecified), ending.to_string()),
        End::Task(ending @ Ending::StreamAborted) if connection.close_reason().is_none() => {
            (Farewell::Close(ErrorCode::MalformedFrame), ending.to_string())
        }
        End::Task(ending @ Ending::Panicked) => (Farewell::Close(ErrorCode::Internal), ending.to_string()),
        End::Task(Ending::StreamAborted) => (Farewell::None, connection.closed().await.to_string()),
        End::Broker(code, reason) => (Farewell::GoAway(code), reason),
        End::Connection(error) => (Farewell::None, error.to_string()),
    }
}

fn say_go_away(session: &Session, code: ErrorCode, reason: &str) {
    // A client that was replaced must not come back by itself.
    let reconnect_after_ms = if code == ErrorCode::SessionReplaced { 0 } else { RECONNECT_AFTER_MS };
    let go_away = wire::GoAway { code: code.into(), message: reason.to_owned(), reconnect_after_ms };
    session.say_last(server_frame::Frame::GoAway(go_away));
}

/// Waits until one of the tasks ends the connection. A task that panicked does; one that is done does not.
async fn first_ending(tasks: &mut JoinSet<Served>) -> Ending {
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(Ok(())) => {}
            Ok(Err(ending)) => return ending,
            Err(_) => return Ending::Panicked,
        }
    }
    std::future::pending().await
}
