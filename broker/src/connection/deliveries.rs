//! Deliveries: what waits in the outbox, out on the delivery stream, and transient events as datagrams.

use std::{rc::Rc, time::Duration};

use quinn::{Connection, SendStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use zonecast_core::{Chunks, Datagrams};

use super::{
    Ending, Served,
    stream::{finish, write_all},
};
use crate::{
    session::{Session, WRITE_BYTES},
    worker::Worker,
};

/// How long the stream may say nothing of datagrams that were sent.
const DATAGRAMS_EXPLAINED_AFTER: Duration = Duration::from_millis(50);

/// Writes deliveries: at once when the stream is idle, many in one chunk when they come faster than it takes them. With
/// `coalesce`, the first waits for so long for others.
pub(super) async fn write(
    worker: Rc<Worker>,
    session: Rc<Session>,
    connection: Connection,
    coalesce: Duration,
) -> Served {
    let stall = worker.shared.config.connections.slow_consumer_timeout;
    let mut stream = None;
    let mut chunks = Chunks::default();
    // When the datagrams that were sent must be explained on the stream.
    let mut explain_at = None;
    loop {
        let filled = tokio::select! {
            biased;
            filled = session.outbox_filled() => filled,
            () = sleep_until(explain_at.unwrap_or_else(Instant::now)), if explain_at.is_some() => true,
        };
        if !filled {
            break;
        }
        if !coalesce.is_zero() && !session.outbox().is_empty() {
            let latest = Instant::now() + coalesce;
            let _ = timeout_at(explain_at.map_or(latest, |at| at.min(latest)), session.enough_waits()).await;
        }
        take_some(&worker, &session, &connection, &mut chunks);
        let unexplained = session.outbox().has_unexplained_datagrams();
        if unexplained && explain_at.is_some_and(|at| at <= Instant::now()) {
            session.take_from_outbox(|outbox| outbox.explain_datagrams(&mut chunks));
            explain_at = None;
        } else if unexplained {
            explain_at = explain_at.or_else(|| Some(Instant::now() + DATAGRAMS_EXPLAINED_AFTER));
        } else {
            explain_at = None;
        }
        if !chunks.is_empty() {
            let send = opened(&connection, &mut stream, stall).await?;
            // Who is over the mark holds its publishers back. That may last as long as a standstill may, dribble or not.
            let patience = || stall.saturating_sub(session.over_for());
            write_all(send, &mut chunks.take(), patience, "delivery").await?;
        }
    }
    session.take_from_outbox(|outbox| outbox.explain_datagrams(&mut chunks));
    if !chunks.is_empty() {
        let send = opened(&connection, &mut stream, stall).await?;
        write_all(send, &mut chunks.take(), || stall, "delivery").await?;
    }
    if let Some(send) = stream {
        finish(send).await;
    }
    Ok(())
}

/// Takes what waits from the outbox: into the chunks, or out as datagrams.
fn take_some(worker: &Worker, session: &Session, connection: &Connection, chunks: &mut Chunks) {
    let mut datagrams = Datagrams {
        datagram_bytes_max: connection.max_datagram_size().unwrap_or(0),
        room_bytes: connection.datagram_send_buffer_space(),
        ready: Vec::new(),
    };
    let now_us = worker.shared.now_us();
    worker.count(|stats| {
        let residence = &mut stats.residence;
        let waited = |waited_us, count| residence.record_many(waited_us, count as u64);
        let drained =
            session.take_from_outbox(|outbox| outbox.drain(chunks, WRITE_BYTES, &mut datagrams, now_us, waited));
        stats.deliveries_out += drained.deliveries;
        stats.gaps_out += drained.gaps;
        stats.delivery_bytes_out += chunks.len() as u64;
        stats.datagrams_out += datagrams.ready.len() as u64;
    });
    for datagram in datagrams.ready {
        // There is room for it; what is lost after this the receiver finds out by its number.
        let _ = connection.send_datagram(datagram);
    }
}

/// The delivery stream, opened when the first delivery is due.
async fn opened<'a>(
    connection: &Connection,
    stream: &'a mut Option<SendStream>,
    stall: Duration,
) -> Result<&'a mut SendStream, Ending> {
    match stream {
        Some(send) => Ok(send),
        None => {
            let opened = timeout(stall, connection.open_uni()).await;
            let send = opened.map_err(|_| Ending::Stalled { stream: "delivery" })?;
            Ok(stream.insert(send.map_err(|_| Ending::StreamAborted)?))
        }
    }
}
