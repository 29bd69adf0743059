//! What waits on a lane while there is no connection, and would be out of date when there is one.

use std::collections::VecDeque;

use super::{Keep, LaneQueue};

/// Most bytes of frames that nobody answers and that wait while there is no connection; then the oldest are dropped. What
/// they say is soon out of date, and would stand before what is new.
pub(super) const UNCONNECTED_BYTES_MAX: usize = 64 * 1024;

/// Frames that wait for a connection and for no answer: their numbers and bytes.
#[derive(Default)]
pub(super) struct Unconnected {
    frames: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Unconnected {
    pub(super) fn push(&mut self, seq: u64, bytes: usize) {
        self.frames.push_back((seq, bytes));
        self.bytes += bytes;
    }

    pub(super) fn forget(&mut self, seq: u64) {
        if let Ok(place) = self.frames.binary_search_by_key(&seq, |(seq, _)| *seq)
            && let Some((_, bytes)) = self.frames.remove(place)
        {
            self.bytes -= bytes;
        }
    }
}

/// Frames that were dropped because there is no connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// How many were never sent.
    pub(crate) frames: u64,
    /// The room that they give back, with that of what was on its way.
    pub(crate) room: u32,
}

impl<T> LaneQueue<T> {
    /// From now on, until there is a connection, the oldest give way.
    pub(super) fn disconnect(&mut self) -> Dropped {
        let mut unconnected = Unconnected::default();
        for mark in self.marks.iter().filter(|mark| mark.keep == Keep::Written && !mark.given_up) {
            unconnected.push(mark.seq, mark.frame_bytes);
        }
        self.unconnected = Some(unconnected);
        self.drop_oldest()
    }

    pub(super) fn drop_oldest(&mut self) -> Dropped {
        let mut dropped = Dropped::default();
        while let Some(Unconnected { frames, bytes }) = &self.unconnected
            && *bytes > self.unconnected_bytes_max
            && frames.len() > 1
            && let Some((seq, _)) = frames.front().copied()
        {
            dropped.frames += 1;
            dropped.room += self.give_up(seq).map_or(0, |freed| freed.room);
        }
        dropped
    }
}
