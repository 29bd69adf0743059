//! The delivery stream: what waits in the outbox, out.

use std::rc::Rc;

use bytes::BytesMut;
use quinn::Connection;
use tokio::time::timeout;

use super::{
    Ending, Served,
    stream::{finish, write_all},
};
use crate::{session::Session, worker::Worker};

/// Bytes of deliveries copied into one flat chunk per write. Many small chunks would cost quinn more than the copy:
/// its send buffer scans them one by one.
const WRITE_BYTES: usize = 64 << 10;

/// Writes deliveries: at once when the stream is idle, many in one chunk when they come faster than it takes them.
pub(super) async fn write(worker: Rc<Worker>, session: Rc<Session>, connection: Connection) -> Served {
    let stall = worker.shared.config.connections.slow_consumer_timeout;
    let mut stream = None;
    let mut chunk = BytesMut::new();
    while session.outbox_filled().await {
        let send = match &mut stream {
            Some(send) => send,
            None => {
                let opened = timeout(stall, connection.open_uni()).await;
                let stalled = Ending::Stalled { stream: "delivery" };
                stream.insert(opened.map_err(|_| stalled)?.map_err(|_| Ending::StreamAborted)?)
            }
        };
        let now_us = worker.shared.now_us();
        worker.count(|stats| {
            let residence = &mut stats.residence;
            let waited = |waited_us| residence.record(waited_us);
            let drained = session.take_from_outbox(|outbox| outbox.drain(&mut chunk, WRITE_BYTES, now_us, waited));
            stats.deliveries_out += drained.deliveries;
            stats.gaps_out += drained.gaps;
            stats.delivery_bytes_out += chunk.len() as u64;
        });
        // Who is over the mark holds its publishers back. That may last as long as a standstill may, dribble or not.
        let patience = || stall.saturating_sub(session.over_for());
        write_all(send, chunk.split().freeze(), patience, "delivery").await?;
    }
    if let Some(send) = stream {
        finish(send).await;
    }
    Ok(())
}
