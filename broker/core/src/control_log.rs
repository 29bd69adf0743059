//! What the broker says on a session's control stream, kept until the client has it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use zonecast_protocol::{
    codec::{encode_server_frame, first_frame_bytes},
    wire::server_frame,
};

/// The control frames of a session and of those that it resumed, numbered from 1.
///
/// [`push`](Self::push) numbers a frame, [`take`](Self::take) hands out what was not written yet, and
/// [`confirm`](Self::confirm) frees what the client has received. A session that resumes another one continues its
/// log: [`bequeath`](Self::bequeath), [`inherit`](Self::inherit).
#[derive(Debug, Default)]
pub struct ControlLog {
    /// Whether what was taken is kept until it is confirmed.
    keeps: bool,
    unwritten: BytesMut,
    /// The number of the last frame that was pushed.
    last_number: u64,
    /// The number of the last frame that was taken.
    taken_through: u64,
    kept: VecDeque<Taken>,
    kept_bytes: usize,
    /// The number of the last frame that is not kept any more.
    confirmed_through: u64,
}

/// Frames that were taken together.
#[derive(Debug)]
struct Taken {
    last_number: u64,
    bytes: Bytes,
}

/// The frames that a session leaves to the one that resumes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftFrames {
    /// The number of the last frame before them.
    through: u64,
    count: u64,
    bytes: BytesMut,
}

/// A confirmation of frames that were never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeverSaid;

impl ControlLog {
    /// An empty log. With `keeps`, frames are kept until they are confirmed.
    #[must_use]
    pub fn new(keeps: bool) -> Self {
        Self { keeps, ..Self::default() }
    }

    /// Appends a numbered frame.
    pub fn push(&mut self, frame: server_frame::Frame) {
        encode_server_frame(frame, &mut self.unwritten);
        self.last_number += 1;
    }

    /// Appends the session's last frame, which is its own affair: it has no number, and nobody inherits it.
    pub fn push_last(&mut self, frame: server_frame::Frame) {
        encode_server_frame(frame, &mut self.unwritten);
    }

    /// Bytes that are unwritten or unconfirmed.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.unwritten.len() + self.kept_bytes
    }

    /// Bytes that are unwritten.
    #[must_use]
    pub fn unwritten_bytes(&self) -> usize {
        self.unwritten.len()
    }

    /// Takes what is to be written; empty when there is nothing.
    pub fn take(&mut self) -> Bytes {
        let bytes = self.unwritten.split().freeze();
        self.taken_through = self.last_number;
        if self.keeps && !bytes.is_empty() {
            self.kept_bytes += bytes.len();
            self.kept.push_back(Taken { last_number: self.last_number, bytes: bytes.clone() });
        }
        bytes
    }

    /// The client has received so many frames.
    ///
    /// # Errors
    /// So many were never sent.
    pub fn confirm(&mut self, through: u64) -> Result<(), NeverSaid> {
        if through > self.taken_through {
            return Err(NeverSaid);
        }
        while self.kept.front().is_some_and(|taken| taken.last_number <= through) {
            if let Some(taken) = self.kept.pop_front() {
                self.kept_bytes -= taken.bytes.len();
                self.confirmed_through = taken.last_number;
            }
        }
        Ok(())
    }

    /// Whether the client can have received so many frames, and all behind them are here.
    #[must_use]
    pub fn goes_on_from(&self, through: u64) -> bool {
        (self.confirmed_through..=self.taken_through).contains(&through)
    }

    /// Takes out all frames behind the first `through`, for the session that resumes this one. `None`, and nothing is
    /// taken out, where the log does not [go on from](Self::goes_on_from) there. Must be called before
    /// [`push_last`](Self::push_last).
    pub fn bequeath(&mut self, through: u64) -> Option<LeftFrames> {
        if !self.goes_on_from(through) {
            return None;
        }
        let (skipped, count) = (through - self.confirmed_through, self.last_number - through);
        let mut bytes = BytesMut::new();
        for taken in self.kept.drain(..) {
            bytes.extend_from_slice(&taken.bytes);
        }
        bytes.extend_from_slice(&self.unwritten.split());
        for _ in 0..skipped {
            let first = first_frame_bytes(&bytes)?;
            bytes.advance(first);
        }
        self.kept_bytes = 0;
        Some(LeftFrames { through, count, bytes })
    }

    /// Continues another log: its frames come before those that were pushed here, which are numbered anew. Must be called
    /// before anything was taken.
    pub fn inherit(&mut self, left: LeftFrames) {
        debug_assert_eq!(self.taken_through, 0, "nothing was taken yet");
        let LeftFrames { through, count, mut bytes } = left;
        bytes.extend_from_slice(&self.unwritten);
        self.unwritten = bytes;
        (self.taken_through, self.confirmed_through) = (through, through);
        self.last_number += through + count;
    }
}
