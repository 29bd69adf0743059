//! Writes one lane to its stream.

use std::sync::Arc;

use bytes::Buf;
use quinn::{Connection, SendStream, WriteError};

use crate::{handle::Lane, lanes::Next, sync::locked};

/// The broker reads a stream no longer. It says why on the control stream, or closes the connection.
pub(super) struct Stopped;

/// Most bytes that are written at once; a longer frame is written alone.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Writes what is queued, at once when there was nothing before, in chunks when there is more than the link takes.
///
/// Ends when the connection does, or when the queue was told to finish and the broker has all of it; with an error when
/// the broker stops the stream.
pub(super) async fn write_lane(connection: Connection, lane: Arc<Lane>) -> Result<(), Stopped> {
    let mut stream = None;
    loop {
        let next = locked(&lane.queue).next_chunk(CHUNK_BYTES_MAX);
        match next {
            Next::Idle => lane.work.notified().await,
            Next::Finish => {
                if let Some(stream) = stream {
                    finish(stream).await;
                }
                return Ok(());
            }
            Next::Chunk(mut chunk) => {
                let stream = match &mut stream {
                    Some(stream) => stream,
                    // Opened with the first frame, so that unused lanes cost nothing.
                    None => match connection.open_uni().await {
                        Ok(opened) => stream.insert(opened),
                        Err(_) => return Ok(()),
                    },
                };
                while chunk.has_remaining() {
                    match stream.write_chunks(std::slice::from_mut(&mut chunk)).await {
                        Ok(written) => {
                            let room = locked(&lane.queue).wrote(written.bytes);
                            lane.room.add_permits(room as usize);
                        }
                        Err(WriteError::Stopped(_)) => return Err(Stopped),
                        Err(_) => return Ok(()),
                    }
                }
            }
        }
    }
}

async fn finish(mut stream: SendStream) {
    if stream.finish().is_ok() {
        // Until all has arrived: a connection that is closed earlier takes its unsent bytes along.
        let _ = stream.stopped().await;
    }
}
