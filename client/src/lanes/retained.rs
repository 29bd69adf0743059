//! Frames that are kept until they are answered, and sent again on the next connection until then.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

pub(super) struct Frame<T> {
    /// The whole frame, with its length.
    pub(super) bytes: Bytes,
    /// What the frame takes of the queue's room.
    pub(super) room: u32,
    pub(super) token: Option<T>,
    /// It may not reach anyone twice.
    pub(super) once: bool,
}

struct Slot<T> {
    seq: u64,
    /// Gone when it is answered; its place goes when all before it are.
    frame: Option<Frame<T>>,
    /// Its bytes say that it may have been sent before.
    flagged: bool,
}

/// Sent frames without an answer, in ascending order of their numbers.
///
/// Answers may come in any order. A place is given up from the front only, so that each costs little; how many places
/// lie behind the first unanswered one is bounded by what the lane may send beyond it.
pub(super) struct Retained<T> {
    /// The first has a frame.
    slots: VecDeque<Slot<T>>,
    /// The first place that was not sent on this connection.
    next: usize,
    flag_resent: fn(&Bytes) -> Bytes,
}

impl<T> Retained<T> {
    pub(super) fn new(flag_resent: fn(&Bytes) -> Bytes) -> Self {
        Self { slots: VecDeque::new(), next: 0, flag_resent }
    }

    /// Keeps a frame that is being sent for the first time, behind all others.
    pub(super) fn push_sent(&mut self, seq: u64, frame: Frame<T>) {
        self.slots.push_back(Slot { seq, frame: Some(frame), flagged: false });
        self.next = self.slots.len();
    }

    pub(super) fn first_seq(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.seq)
    }

    /// The token and the room of a frame that need not be kept any longer.
    pub(super) fn remove(&mut self, seq: u64) -> Option<(Option<T>, u32)> {
        let place = self.slots.binary_search_by_key(&seq, |slot| slot.seq).ok()?;
        let frame = self.slots[place].frame.take()?;
        self.trim();
        Some((frame.token, frame.room))
    }

    fn trim(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.frame.is_none()) {
            self.slots.pop_front();
            self.next = self.next.saturating_sub(1);
        }
    }

    /// Removes the frames that may not be sent when it is not known whether they were taken.
    pub(super) fn remove_once(&mut self) -> Vec<Frame<T>> {
        let once = |slot: &mut Slot<T>| slot.frame.take_if(|frame| frame.once);
        let removed = self.slots.iter_mut().filter_map(once).collect();
        self.trim();
        removed
    }

    /// On a new connection, everything beyond this number is to be sent again.
    pub(super) fn rewind(&mut self, taken: u64) {
        self.next = self.slots.partition_point(|slot| slot.seq <= taken);
    }

    /// The numbers of the frames beyond `taken` that would have more than so many bytes when they are sent again, where the
    /// flag takes up to `flag_bytes_max` of them.
    pub(super) fn longer_than(
        &self,
        taken: u64,
        frame_bytes_max: usize,
        flag_bytes_max: usize,
    ) -> impl Iterator<Item = u64> {
        let is_longer = move |slot: &&Slot<T>| {
            let flag_bytes = if slot.flagged { 0 } else { flag_bytes_max };
            let longer = |frame: &Frame<T>| frame.bytes.len() + flag_bytes > frame_bytes_max;
            slot.seq > taken && slot.frame.as_ref().is_some_and(longer)
        };
        self.slots.iter().filter(is_longer).map(|slot| slot.seq)
    }

    pub(super) fn all_sent(&self) -> bool {
        self.slots.range(self.next..).all(|slot| slot.frame.is_none())
    }

    /// The next frames to be sent again, flagged, at least one if there is any, at most so many bytes otherwise.
    pub(super) fn resend(&mut self, chunk_bytes_max: usize, in_chunk: &mut VecDeque<(usize, u32)>) -> Bytes {
        let mut chunk = BytesMut::new();
        while let Some(slot) = self.slots.get_mut(self.next) {
            if let Some(frame) = &mut slot.frame {
                let flagged = if slot.flagged { frame.bytes.clone() } else { (self.flag_resent)(&frame.bytes) };
                if !chunk.is_empty() && chunk.len() + flagged.len() > chunk_bytes_max {
                    break;
                }
                chunk.extend_from_slice(&flagged);
                (frame.bytes, slot.flagged) = (flagged, true);
                in_chunk.push_back((frame.bytes.len(), 0));
            }
            self.next += 1;
        }
        chunk.freeze()
    }

    /// How many wait to be sent again.
    pub(super) fn unsent(&self) -> usize {
        self.slots.range(self.next..).filter(|slot| slot.frame.is_some()).count()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Frame<T>> {
        self.next = 0;
        self.slots.drain(..).filter_map(|slot| slot.frame)
    }
}
