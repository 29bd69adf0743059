//! The queue of one lane: publishes on their way to the stream, and acknowledgements on their way back.
//!
//! Pure: no runtime, no clock, no socket. The caller brings the lock, waits for room, and writes the chunks.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// A queue of encoded frames, numbered from 1, and of the tokens of those whose answer is awaited.
///
/// Calling contract: [`push`](Self::push) at any time; one writer alternates [`next_chunk`](Self::next_chunk) and, until
/// the chunk is used up, [`wrote`](Self::wrote); [`connection_lost`](Self::connection_lost) when no writer is at work.
pub(crate) struct LaneQueue<T> {
    /// Frames that no chunk was made of yet.
    waiting: BytesMut,
    /// The unwritten rest of the current chunk.
    chunk: Bytes,
    /// One mark for each frame of `chunk` and `waiting`, in order.
    marks: VecDeque<Mark>,
    /// Bytes of the first marked frame that are written already.
    first_written_bytes: usize,
    /// The number of the last frame that was queued.
    last_seq: u64,
    /// Who waits for the answer to which number; ascending.
    awaited: VecDeque<(u64, T)>,
    paused: bool,
    finishing: bool,
    ended: bool,
    writer_idle: bool,
}

struct Mark {
    frame_bytes: usize,
    /// What the frame takes of the queue's room, given back when it is written.
    room: u32,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write this.
    Chunk(Bytes),
    /// Wait to be woken.
    Idle,
    /// End the stream: all is written that may be.
    Finish,
}

/// The lane takes no more, because the client has closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LaneEnded;

/// What a lost connection leaves behind.
pub(crate) struct Lost<T> {
    /// Who waits for answers that will not come.
    pub(crate) in_doubt: Vec<T>,
    /// Room that a frame gave back which was cut off in the middle.
    pub(crate) room: u32,
}

impl<T> LaneQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: BytesMut::new(),
            chunk: Bytes::new(),
            marks: VecDeque::new(),
            first_written_bytes: 0,
            last_seq: 0,
            awaited: VecDeque::new(),
            paused: false,
            finishing: false,
            ended: false,
            writer_idle: false,
        }
    }

    /// Queues the frame that `encode` appends for the number it is given.
    ///
    /// Returns the number, and whether the writer must be woken.
    pub(crate) fn push(
        &mut self,
        room: u32,
        token: Option<T>,
        encode: impl FnOnce(u64, &mut BytesMut),
    ) -> Result<(u64, bool), LaneEnded> {
        if self.ended || self.finishing {
            return Err(LaneEnded);
        }
        self.last_seq += 1;
        let before = self.waiting.len();
        encode(self.last_seq, &mut self.waiting);
        self.marks.push_back(Mark { frame_bytes: self.waiting.len() - before, room });
        if let Some(token) = token {
            self.awaited.push_back((self.last_seq, token));
        }
        Ok((self.last_seq, std::mem::take(&mut self.writer_idle)))
    }

    /// Whole frames, as many as fit in `chunk_bytes_max`, at least one.
    pub(crate) fn next_chunk(&mut self, chunk_bytes_max: usize) -> Next {
        if self.chunk.is_empty() {
            if self.finishing && (self.marks.is_empty() || self.paused) {
                return Next::Finish;
            }
            if self.marks.is_empty() || self.paused {
                self.writer_idle = true;
                return Next::Idle;
            }
            self.chunk = self.cut_chunk(chunk_bytes_max);
        }
        Next::Chunk(self.chunk.clone())
    }

    fn cut_chunk(&mut self, chunk_bytes_max: usize) -> Bytes {
        let mut chunk_bytes = 0;
        for mark in &self.marks {
            if chunk_bytes > 0 && chunk_bytes + mark.frame_bytes > chunk_bytes_max {
                break;
            }
            chunk_bytes += mark.frame_bytes;
        }
        self.waiting.split_to(chunk_bytes.min(self.waiting.len())).freeze()
    }

    /// So many bytes of the chunk are in the stream. Returns the room that this gives back.
    pub(crate) fn wrote(&mut self, bytes: usize) -> u32 {
        self.chunk.advance(bytes.min(self.chunk.len()));
        self.first_written_bytes += bytes;
        let mut room = 0;
        while let Some(mark) = self.marks.front()
            && self.first_written_bytes >= mark.frame_bytes
        {
            self.first_written_bytes -= mark.frame_bytes;
            room += mark.room;
            self.marks.pop_front();
        }
        room
    }

    /// Takes the token of an answered publish; `None` when nobody waits for that answer.
    pub(crate) fn answered(&mut self, lane_seq: u64) -> Option<T> {
        let place = self.awaited.binary_search_by_key(&lane_seq, |(seq, _)| *seq).ok()?;
        self.awaited.remove(place).map(|(_, token)| token)
    }

    /// The connection is gone: what was written, wholly or in part, is in doubt; the rest waits for the next one.
    pub(crate) fn connection_lost(&mut self) -> Lost<T> {
        let mut room = 0;
        if self.first_written_bytes > 0
            && let Some(mark) = self.marks.pop_front()
        {
            // Its beginning went into a stream that is gone, so the whole of it counts as sent.
            self.chunk.advance((mark.frame_bytes - self.first_written_bytes).min(self.chunk.len()));
            room = mark.room;
            self.first_written_bytes = 0;
        }
        if !self.chunk.is_empty() {
            let mut waiting = BytesMut::with_capacity(self.chunk.len() + self.waiting.len());
            waiting.extend_from_slice(&self.chunk);
            waiting.extend_from_slice(&self.waiting);
            self.waiting = waiting;
            self.chunk = Bytes::new();
        }
        self.writer_idle = false;
        let first_unsent = self.last_seq + 1 - self.marks.len() as u64;
        let sent = self.awaited.partition_point(|(seq, _)| *seq < first_unsent);
        Lost { in_doubt: self.awaited.drain(..sent).map(|(_, token)| token).collect(), room }
    }

    /// Holds back what is not yet in a chunk, or lets it go on. Returns whether the writer must be woken.
    pub(crate) fn pause(&mut self, paused: bool) -> bool {
        self.paused = paused;
        !paused && std::mem::take(&mut self.writer_idle)
    }

    /// Takes no more; the writer ends the stream when all is written. Returns whether the writer must be woken.
    pub(crate) fn finish(&mut self) -> bool {
        self.finishing = true;
        std::mem::take(&mut self.writer_idle)
    }

    /// Takes no more and gives up the rest: the tokens still waiting and the number of frames never written.
    pub(crate) fn end(&mut self) -> (Vec<T>, usize) {
        self.ended = true;
        let unsent = self.marks.len();
        self.marks.clear();
        self.waiting = BytesMut::new();
        self.chunk = Bytes::new();
        (self.awaited.drain(..).map(|(_, token)| token).collect(), unsent)
    }

    /// Whether an answer is awaited.
    pub(crate) fn has_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }
}

#[cfg(test)]
mod tests;
