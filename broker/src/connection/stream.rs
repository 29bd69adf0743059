//! Frames on QUIC streams: cut on the way in, written with a deadline on progress on the way out.

use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream};
use tokio::time::timeout;
use zonecast_protocol::codec::{FrameCutter, FrameError};

use super::Ending;

/// Chunks (about one packet each) taken from a stream per read: with full packets some 45 KB.
const CHUNKS_PER_READ: usize = 32;

/// The frames of one incoming stream.
pub(super) struct FrameStream {
    recv: RecvStream,
    cutter: FrameCutter,
    chunks: [Bytes; CHUNKS_PER_READ],
    /// The chunks of the last read that the cutter has not got yet.
    unread: std::ops::Range<usize>,
}

/// What comes next on a stream.
pub(super) enum Cut {
    /// A frame.
    Frame(Bytes),
    /// The stream's orderly end.
    End,
}

impl FrameStream {
    pub(super) fn new(recv: RecvStream, frame_bytes_max: u32) -> Self {
        let chunks = std::array::from_fn(|_| Bytes::new());
        Self { recv, cutter: FrameCutter::new(frame_bytes_max), chunks, unread: 0..0 }
    }

    /// Waits for bytes; false at the stream's orderly end.
    pub(super) async fn fill(&mut self) -> Result<bool, Ending> {
        match self.recv.read_chunks(&mut self.chunks).await {
            Ok(Some(count)) => {
                self.unread = 0..count;
                Ok(true)
            }
            Ok(None) => {
                self.cutter.finish()?;
                Ok(false)
            }
            Err(ReadError::Reset(_) | ReadError::ConnectionLost(_) | ReadError::ClosedStream) => {
                Err(Ending::StreamAborted)
            }
            Err(ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => Err(Ending::StreamAborted),
        }
    }

    /// The next frame among the bytes that are here.
    pub(super) fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.cutter.next_frame()? {
                return Ok(Some(frame));
            }
            match self.unread.next() {
                Some(at) => self.cutter.push(std::mem::take(&mut self.chunks[at])),
                None => return Ok(None),
            }
        }
    }

    /// Waits for the next frame.
    pub(super) async fn next(&mut self) -> Result<Cut, Ending> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Cut::Frame(frame));
            }
            if !self.fill().await? {
                return Ok(Cut::End);
            }
        }
    }
}

/// Writes all the chunks. Ends when the peer takes none of them for as long as `patience` says, which is asked before
/// each wait.
pub(super) async fn write_all(
    send: &mut SendStream,
    mut chunks: &mut [Bytes],
    patience: impl Fn() -> Duration,
    stream: &'static str,
) -> Result<(), Ending> {
    while !chunks.is_empty() {
        let patience = patience();
        match timeout(patience, send.write_chunks(chunks)).await {
            // What quinn takes of a chunk it takes off its front.
            Ok(Ok(written)) => chunks = &mut chunks[written.chunks..],
            Ok(Err(_)) => return Err(Ending::StreamAborted),
            Err(_) => return Err(Ending::Stalled { stream }),
        }
    }
    Ok(())
}

/// Ends the stream and waits until the peer has all of it, or refuses it.
pub(super) async fn finish(mut send: SendStream) {
    if send.finish().is_ok() {
        let _ = send.stopped().await;
    }
}
