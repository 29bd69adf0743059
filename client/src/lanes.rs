//! The queue of one lane: publishes on their way to the stream, and kept until the broker has answered them.
//!
//! Pure: no runtime, no clock, no socket. The caller brings the lock, waits for room, and writes the chunks.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

mod retained;
mod unconnected;

use retained::{Frame, Retained};
pub(crate) use unconnected::Dropped;
use unconnected::{UNCONNECTED_BYTES_MAX, Unconnected};

/// Most numbers by which a frame that is sent may lie beyond the first unanswered one of its lane.
///
/// Receivers know twice as many numbers apart, so a frame that is sent again is always recognised.
const UNANSWERED_SPAN_MAX: u64 = 8192;

/// Until when a frame is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Keep {
    /// Until it is written: nobody answers it.
    Written,
    /// Until it is answered, which happens in the order of the lane.
    Routed,
    /// As `Routed`, but it may not reach anyone twice: when it is not known whether the broker has taken it, it is given
    /// up.
    RoutedOnce,
    /// Until it is answered, at any time.
    Processed,
}

/// A queue of encoded frames, numbered from 1, with the tokens of those whose answer somebody awaits.
///
/// Calling contract: [`push`](Self::push) at any time; one writer alternates [`next_chunk`](Self::next_chunk) and, until
/// the chunk is used up, [`wrote`](Self::wrote); [`connection_lost`](Self::connection_lost) when no writer is at work,
/// and [`reconnected`](Self::reconnected) before the next one starts.
pub(crate) struct LaneQueue<T> {
    /// Frames that no chunk was made of yet.
    waiting: BytesMut,
    /// One mark for each frame of `waiting`; their numbers rise.
    marks: VecDeque<Mark<T>>,
    /// Bytes of those of `waiting` that nobody wants any more: never more than half.
    given_up_bytes: usize,
    /// Frames that were in a chunk, on this connection or an earlier one, and have no answer.
    retained: Retained<T>,
    /// By how many bytes a frame that is sent again may be longer than it was.
    flag_bytes_max: usize,
    /// The unwritten rest of the current chunk.
    chunk: Bytes,
    /// The frames of `chunk`: their lengths, and the room that each gives back when it is written.
    in_chunk: VecDeque<(usize, u32)>,
    /// Bytes of the first frame of `in_chunk` that are written already.
    first_written_bytes: usize,
    /// The number of the last frame that was queued.
    last_seq: u64,
    /// As `UNANSWERED_SPAN_MAX`; less in tests.
    span_max: u64,
    /// As `UNCONNECTED_BYTES_MAX`; less in tests.
    unconnected_bytes_max: usize,
    /// While there is no connection, the frames that nobody answers.
    unconnected: Option<Unconnected>,
    /// Frames that may have been sent before wait until receivers are back.
    held: bool,
    paused: bool,
    finishing: bool,
    ended: bool,
    writer_idle: bool,
}

struct Mark<T> {
    seq: u64,
    frame_bytes: usize,
    /// What the frame takes of the queue's room.
    room: u32,
    keep: Keep,
    token: Option<T>,
    /// Nobody wants it to be sent any more.
    given_up: bool,
}

/// A frame that was queued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) lane_seq: u64,
    /// Whether the writer must be woken.
    pub(crate) wake: bool,
    pub(crate) dropped: Dropped,
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

/// What the end of a frame sets free.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Freed<T> {
    /// Who waits for the answer.
    pub(crate) token: Option<T>,
    pub(crate) room: u32,
    /// Whether the writer must be woken.
    pub(crate) wake: bool,
}

/// A frame that a new connection's limits forbid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forbidden<T> {
    pub(crate) seq: u64,
    /// Who waits for the answer.
    pub(crate) token: Option<T>,
    pub(crate) room: u32,
}

/// What a new connection finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reconnected<T> {
    /// Who waits for answers that will not come.
    pub(crate) in_doubt: Vec<T>,
    pub(crate) room: u32,
    /// Whether the lane waits for [`LaneQueue::release`].
    pub(crate) held: bool,
}

impl<T> LaneQueue<T> {
    /// `flag_resent` turns a frame into one that says that it may have been sent before, which makes it longer by at most
    /// `flag_bytes_max`.
    pub(crate) fn new(flag_resent: fn(&Bytes) -> Bytes, flag_bytes_max: usize) -> Self {
        Self {
            waiting: BytesMut::new(),
            marks: VecDeque::new(),
            given_up_bytes: 0,
            retained: Retained::new(flag_resent),
            flag_bytes_max,
            chunk: Bytes::new(),
            in_chunk: VecDeque::new(),
            first_written_bytes: 0,
            last_seq: 0,
            span_max: UNANSWERED_SPAN_MAX,
            unconnected_bytes_max: UNCONNECTED_BYTES_MAX,
            unconnected: None,
            held: false,
            paused: false,
            finishing: false,
            ended: false,
            writer_idle: false,
        }
    }

    /// Queues the frame that `encode` appends for the number it is given.
    ///
    /// While there is no connection, frames that nobody answers take the place of older ones.
    pub(crate) fn push(
        &mut self,
        room: u32,
        keep: Keep,
        token: Option<T>,
        encode: impl FnOnce(u64, &mut BytesMut),
    ) -> Result<Queued, LaneEnded> {
        if self.ended || self.finishing {
            return Err(LaneEnded);
        }
        self.last_seq += 1;
        let (seq, before) = (self.last_seq, self.waiting.len());
        encode(seq, &mut self.waiting);
        let frame_bytes = self.waiting.len() - before;
        self.marks.push_back(Mark { seq, frame_bytes, room, keep, token, given_up: false });
        if let Some(unconnected) = &mut self.unconnected
            && keep == Keep::Written
        {
            unconnected.push(seq, frame_bytes);
        }
        Ok(Queued { lane_seq: seq, wake: std::mem::take(&mut self.writer_idle), dropped: self.drop_oldest() })
    }

    /// Whole frames, as many as fit in `chunk_bytes_max`, at least one: first those that are sent again.
    pub(crate) fn next_chunk(&mut self, chunk_bytes_max: usize) -> Next {
        if self.chunk.is_empty() {
            let done = self.marks.is_empty() && self.retained.all_sent();
            if self.finishing && (done || self.paused) {
                return Next::Finish;
            }
            if !self.paused && !self.held {
                self.chunk = match self.retained.resend(chunk_bytes_max, &mut self.in_chunk) {
                    again if !again.is_empty() => again,
                    _ => self.cut_chunk(chunk_bytes_max),
                };
            }
            if self.chunk.is_empty() {
                self.writer_idle = true;
                return Next::Idle;
            }
        }
        Next::Chunk(self.chunk.clone())
    }

    /// Forgets the frames that were given up: those in front at once, the others when they are more than half of all.
    fn forget_given_up(&mut self) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.given_up) {
            self.waiting.advance(mark.frame_bytes);
            self.given_up_bytes -= mark.frame_bytes;
        }
        if self.given_up_bytes * 2 <= self.waiting.len() {
            return;
        }
        let mut wanted = BytesMut::with_capacity(self.waiting.len() - self.given_up_bytes);
        let mut rest = &self.waiting[..];
        self.marks.retain(|mark| {
            let (frame, behind) = rest.split_at(mark.frame_bytes);
            rest = behind;
            if !mark.given_up {
                wanted.extend_from_slice(frame);
            }
            !mark.given_up
        });
        (self.waiting, self.given_up_bytes) = (wanted, 0);
    }

    fn cut_chunk(&mut self, chunk_bytes_max: usize) -> Bytes {
        let mut first_unanswered = self.retained.first_seq();
        let (mut chunk_bytes, mut count) = (0, 0);
        for mark in &self.marks {
            let far = first_unanswered.is_some_and(|first| mark.seq > first + self.span_max);
            if far || mark.given_up || chunk_bytes > 0 && chunk_bytes + mark.frame_bytes > chunk_bytes_max {
                break;
            }
            if mark.keep != Keep::Written {
                first_unanswered = first_unanswered.or(Some(mark.seq));
            }
            chunk_bytes += mark.frame_bytes;
            count += 1;
        }
        let chunk = self.waiting.split_to(chunk_bytes).freeze();
        let mut start = 0;
        for mark in self.marks.drain(..count) {
            let end = start + mark.frame_bytes;
            let Mark { seq, room, keep, token, .. } = mark;
            match keep {
                Keep::Written => self.in_chunk.push_back((mark.frame_bytes, room)),
                _ => {
                    self.in_chunk.push_back((mark.frame_bytes, 0));
                    let bytes = match keep {
                        // Its neighbours may be answered long before, and must not be kept with it.
                        Keep::Processed => Bytes::copy_from_slice(&chunk[start..end]),
                        _ => chunk.slice(start..end),
                    };
                    let once = keep == Keep::RoutedOnce;
                    self.retained.push_sent(seq, Frame { bytes, room, token, once });
                }
            }
            start = end;
        }
        self.forget_given_up();
        chunk
    }

    /// So many bytes of the chunk are in the stream. Returns the room that this gives back.
    pub(crate) fn wrote(&mut self, bytes: usize) -> u32 {
        self.chunk.advance(bytes.min(self.chunk.len()));
        self.first_written_bytes += bytes;
        let mut freed = 0;
        while let Some((frame_bytes, room)) = self.in_chunk.front()
            && self.first_written_bytes >= *frame_bytes
        {
            self.first_written_bytes -= frame_bytes;
            freed += room;
            self.in_chunk.pop_front();
        }
        freed
    }

    /// The broker has answered, and the frame need not be kept any longer; `None` when it is not kept.
    pub(crate) fn answered(&mut self, lane_seq: u64) -> Option<Freed<T>> {
        let (token, room) = self.retained.remove(lane_seq)?;
        Some(Freed { token, room, wake: std::mem::take(&mut self.writer_idle) })
    }

    /// Nobody awaits the answer any longer, and the frame need not be sent (again).
    pub(crate) fn give_up(&mut self, lane_seq: u64) -> Option<Freed<T>> {
        if let Some(freed) = self.answered(lane_seq) {
            return Some(freed);
        }
        let place = self.marks.binary_search_by_key(&lane_seq, |mark| mark.seq).ok()?;
        let mark = self.marks.get_mut(place).filter(|mark| !mark.given_up)?;
        mark.given_up = true;
        let freed = Freed { token: mark.token.take(), room: std::mem::take(&mut mark.room), wake: false };
        self.given_up_bytes += mark.frame_bytes;
        if let Some(unconnected) = &mut self.unconnected {
            unconnected.forget(lane_seq);
        }
        self.forget_given_up();
        Some(freed)
    }

    /// The connection is gone, and with it what nobody answers and was on its way. Of what waits and nobody answers, only
    /// the newest stays.
    pub(crate) fn connection_lost(&mut self) -> Dropped {
        self.chunk = Bytes::new();
        self.first_written_bytes = 0;
        self.writer_idle = false;
        self.retained.rewind(0);
        let room = self.in_chunk.drain(..).map(|(_, room)| room).sum::<u32>();
        let dropped = self.disconnect();
        Dropped { room: dropped.room + room, ..dropped }
    }

    /// The number of the first frame that was sent and has no answer.
    pub(crate) fn first_unanswered(&self) -> Option<u64> {
        self.retained.first_seq()
    }

    /// There is a new connection. `taken` is the last number that the broker has of this lane, when its session goes on:
    /// what lies beyond is sent again at once. Otherwise everything unanswered is, when the lane is released.
    pub(crate) fn reconnected(&mut self, taken: Option<u64>) -> Reconnected<T> {
        (self.held, self.unconnected) = (false, None);
        let (mut in_doubt, mut room) = (Vec::new(), 0);
        if let Some(taken) = taken {
            self.retained.rewind(taken);
        } else {
            for frame in self.retained.remove_once() {
                room += frame.room;
                in_doubt.extend(frame.token);
            }
            self.held = self.retained.first_seq().is_some();
        }
        Reconnected { in_doubt, room, held: self.held }
    }

    /// Gives up what a new connection's limits forbid, before anything is sent on it: frames behind the last number that
    /// the broker has of this lane, that have, or would have when sent again, more than so many bytes.
    pub(crate) fn forbid(&mut self, taken: u64, frame_bytes_max: usize) -> Vec<Forbidden<T>> {
        let retained = self.retained.longer_than(taken, frame_bytes_max, self.flag_bytes_max);
        let longer = |mark: &&Mark<T>| mark.frame_bytes + self.flag_bytes_max > frame_bytes_max;
        let waiting = self.marks.iter().filter(|mark| !mark.given_up).filter(longer);
        let seqs = retained.chain(waiting.map(|mark| mark.seq)).collect::<Vec<_>>();
        let give_up = |seq| self.give_up(seq).map(|Freed { token, room, .. }| Forbidden { seq, token, room });
        seqs.into_iter().filter_map(give_up).collect()
    }

    /// What may have been sent before may be sent now. Returns whether the writer must be woken.
    pub(crate) fn release(&mut self) -> bool {
        self.held = false;
        std::mem::take(&mut self.writer_idle)
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

    /// Takes no more and gives up the rest: the tokens still waiting, and the number of frames that are unanswered or
    /// unanswerable and were not wholly written on the last connection.
    pub(crate) fn end(&mut self) -> (Vec<T>, usize) {
        self.ended = true;
        let waiting = self.marks.iter().filter(|mark| !mark.given_up).count();
        let unsent = waiting + self.in_chunk.len() + self.retained.unsent();
        let retained = self.retained.drain().filter_map(|frame| frame.token);
        let tokens = retained.chain(self.marks.drain(..).filter_map(|mark| mark.token)).collect();
        (self.waiting, self.given_up_bytes) = (BytesMut::new(), 0);
        self.chunk = Bytes::new();
        self.in_chunk.clear();
        (tokens, unsent)
    }

    /// Whether something that was sent has no answer.
    pub(crate) fn has_unanswered(&self) -> bool {
        self.retained.first_seq().is_some()
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;
