//! What a publisher of a byte stream has to say, collected and written in large pieces.

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use zonecast_loadtest::load::TransportError;

/// What is taken in is written at the latest when there is this much of it.
const WRITE_BYTES: usize = 64 * 1024;

/// The sending half of a publisher's connection, and what waits to go out on it.
#[derive(Debug)]
pub(crate) struct Writing<W> {
    writer: W,
    /// What is to be written: messages are appended here.
    pub(crate) pending: BytesMut,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, pending: BytesMut::with_capacity(2 * WRITE_BYTES) }
    }

    /// Writes what waits if it is much.
    pub(crate) async fn flush_if_full(&mut self) -> Result<(), TransportError> {
        if self.pending.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), TransportError> {
        let write = async {
            self.writer.write_all_buf(&mut self.pending).await?;
            self.writer.flush().await
        };
        write.await.map_err(|error| TransportError::new("cannot publish", error))
    }

    /// Ends the connection in order, if it still stands; brokers end the session all the same when it just breaks.
    pub(crate) async fn close(&mut self) {
        drop(self.writer.shutdown().await);
    }
}
