//! What is taken out of an outbox, ready to be written.

use bytes::{Bytes, BytesMut};

/// Less than so many bytes are copied behind what was taken before, so that no chunk is tiny.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Bytes to be written one chunk behind the other.
#[derive(Debug, Default)]
pub struct Chunks {
    closed: Vec<Bytes>,
    closed_bytes: usize,
    /// The chunk that frames are still encoded into.
    open: BytesMut,
}

impl Chunks {
    /// Bytes of all chunks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.closed_bytes + self.open.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out what is to be written. What is taken in afterwards goes into memory that is free by then, if any is.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.close();
        self.closed_bytes = 0;
        std::mem::take(&mut self.closed)
    }

    /// Where the next frame is encoded to.
    pub(super) fn open(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Takes frames that are encoded already.
    pub(super) fn push(&mut self, frames: &Bytes) {
        if frames.len() < COPIED_BYTES_MAX {
            self.open.extend_from_slice(frames);
        } else {
            self.close();
            self.closed_bytes += frames.len();
            self.closed.push(frames.clone());
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed_bytes += self.open.len();
            self.closed.push(self.open.split().freeze());
        }
    }
}
