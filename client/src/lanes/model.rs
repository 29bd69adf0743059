//! A lane in the simplest form, beside the real one: for the tests, and for fuzzing.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a difference fails the test")]

use std::collections::BTreeMap;

use super::*;

/// How far beyond the first unanswered frame the lane may send, here.
pub(super) const SPAN: u64 = 6;

/// How many bytes of frames that nobody answers wait while there is no connection, here.
const UNCONNECTED_BYTES: usize = 100;

/// What befalls a lane.
#[derive(Debug, Clone)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum Step {
    /// Queue a frame of so many bytes, with or without somebody who awaits its answer.
    Push(#[cfg_attr(fuzzing, arbitrary(with = crate::fuzzing::frame_bytes))] u8, Keep, bool),
    /// Make a chunk of at most so many bytes, or go on with the present one, and write so many of it.
    Write(u8, u8),
    /// The broker answers one of the frames that it has.
    Answer(usize),
    /// Nobody wants one of the frames any more.
    GiveUp(usize),
    Lose,
    /// A new connection; the session goes on, or not.
    Reconnect(bool),
    /// A new connection, which permits frames of so many bytes.
    ReconnectToLess(bool, u8),
    Release,
    /// The broker asks for patience, or no longer.
    Pause(bool),
}

/// A frame in the simplest form that has the same life.
#[derive(Debug)]
struct Life {
    bytes: Vec<u8>,
    room: u32,
    keep: Keep,
    awaited: bool,
    /// It was in a chunk, on this connection or an earlier one.
    begun: bool,
    /// It was in a chunk of this connection.
    sent: bool,
    /// The broker has all of it.
    taken: bool,
}

/// All frames that are neither done nor given up.
#[derive(Default)]
struct Model {
    frames: BTreeMap<u64, Life>,
    /// What is left to write of the chunk: numbers, bytes, and room that the last byte gives back.
    chunk: VecDeque<(u64, usize, u32)>,
    last_seq: u64,
    connected: bool,
    held: bool,
    paused: bool,
}

impl Model {
    /// Those that may be sent now, in order: either old ones or new ones.
    fn sendable(&self) -> Vec<u64> {
        if self.held || self.paused {
            return Vec::new();
        }
        let again = self.frames.iter().filter(|(_, life)| life.begun && !life.sent).map(|(seq, _)| *seq);
        let again = again.collect::<Vec<_>>();
        if !again.is_empty() {
            return again;
        }
        let kept = |life: &&Life| life.keep != Keep::Written;
        let mut first = self.frames.iter().find(|(_, life)| life.begun && kept(life)).map(|(seq, _)| *seq);
        let mut sendable = Vec::new();
        for (seq, life) in self.frames.iter().filter(|(_, life)| !life.begun) {
            if first.is_some_and(|first| *seq > first + SPAN) {
                break;
            }
            first = first.or(kept(&life).then_some(*seq));
            sendable.push(*seq);
        }
        sendable
    }

    /// A chunk was made: it holds the first of these frames, whole, and no more of them than were permitted.
    fn begin(&mut self, chunk: &[u8], most: usize) {
        let sendable = self.sendable();
        let mut rest = chunk;
        let mut frames = 0;
        for seq in sendable {
            if rest.is_empty() {
                break;
            }
            let life = self.frames.get_mut(&seq).unwrap();
            if life.begun {
                life.bytes = flagged(&life.bytes);
            }
            assert!(rest.starts_with(&life.bytes), "frame {seq} is next");
            rest = &rest[life.bytes.len()..];
            frames += 1;
            (life.begun, life.sent) = (true, true);
            let room = if life.keep == Keep::Written { life.room } else { 0 };
            self.chunk.push_back((seq, life.bytes.len(), room));
            if life.keep == Keep::Written {
                self.frames.remove(&seq);
            }
        }
        assert!(rest.is_empty(), "nothing else is in it");
        assert!(frames == 1 || chunk.len() <= most);
    }

    /// Returns the room that is given back.
    fn write(&mut self, mut bytes: usize) -> u32 {
        let mut freed = 0;
        while let Some((seq, left, room)) = self.chunk.front_mut()
            && bytes >= *left
        {
            bytes -= *left;
            freed += *room;
            if let Some(life) = self.frames.get_mut(seq) {
                life.taken = true;
            }
            self.chunk.pop_front();
        }
        if let Some((_, left, _)) = self.chunk.front_mut() {
            *left -= bytes;
        }
        freed
    }

    fn lose(&mut self) -> Dropped {
        self.connected = false;
        self.frames.values_mut().for_each(|life| life.sent = false);
        let room = self.chunk.drain(..).map(|(_, _, room)| room).sum::<u32>();
        let dropped = self.drop_oldest();
        Dropped { room: dropped.room + room, ..dropped }
    }

    /// Without a connection only the newest of what nobody answers waits.
    fn drop_oldest(&mut self) -> Dropped {
        let mut dropped = Dropped::default();
        while !self.connected {
            let unanswerable = || self.frames.iter().filter(|(_, life)| life.keep == Keep::Written);
            let bytes = unanswerable().map(|(_, life)| life.bytes.len()).sum::<usize>();
            let Some((oldest, _)) = unanswerable().next().filter(|_| bytes > UNCONNECTED_BYTES) else { break };
            if unanswerable().count() == 1 {
                break;
            }
            let oldest = *oldest;
            dropped.room += self.frames.remove(&oldest).unwrap().room;
            dropped.frames += 1;
        }
        dropped
    }

    fn forbid(&mut self, taken: u64, most: usize) -> Vec<Forbidden<u64>> {
        let again = |seq: &u64, life: &Life| !life.begun || *seq > taken;
        let longest = |life: &Life| flagged(&life.bytes).len();
        let forbidden = self.frames.extract_if(.., |seq, life| again(seq, life) && longest(life) > most);
        let token = |seq, life: &Life| life.awaited.then_some(seq);
        forbidden.map(|(seq, life)| Forbidden { seq, token: token(seq, &life), room: life.room }).collect()
    }

    /// Returns the room that is given back, and whose answer will not come.
    fn reconnect(&mut self, taken: Option<u64>) -> (u32, Vec<u64>) {
        self.connected = true;
        let (mut room, mut in_doubt) = (0, Vec::new());
        if let Some(taken) = taken {
            self.frames.range_mut(..=taken).for_each(|(_, life)| life.sent = true);
            self.held = false;
        } else {
            self.frames.retain(|seq, life| {
                let once = life.begun && life.keep == Keep::RoutedOnce;
                room += if once { life.room } else { 0 };
                in_doubt.extend((once && life.awaited).then_some(*seq));
                !once
            });
            self.held = self.frames.values().any(|life| life.begun);
        }
        (room, in_doubt)
    }
}

fn flagged(frame: &[u8]) -> Vec<u8> {
    // Twice would show.
    assert!(frame[0] != 255 || frame.len() == 1 || frame[1] != 255);
    if frame[0] == 255 { frame.to_vec() } else { [&[255], frame].concat() }
}

struct Pair {
    lane: LaneQueue<u64>,
    model: Model,
}

impl Pair {
    fn step(&mut self, step: Step) {
        let Self { lane, model } = self;
        match step {
            Step::Push(bytes, keep, awaited) => {
                model.last_seq += 1;
                let (seq, awaited) = (model.last_seq, awaited && keep != Keep::Written);
                let frame = vec![(seq % 251) as u8; bytes.into()];
                let pushed = lane.push(bytes.into(), keep, awaited.then_some(seq), |given, out| {
                    assert_eq!(given, seq);
                    out.extend_from_slice(&frame);
                });
                let room = bytes.into();
                let life = Life { bytes: frame, room, keep, awaited, begun: false, sent: false, taken: false };
                model.frames.insert(seq, life);
                let pushed = pushed.unwrap();
                assert_eq!((pushed.lane_seq, pushed.dropped), (seq, model.drop_oldest()));
            }
            Step::Write(most, written) if model.connected => self.write(most.into(), written.into()),
            Step::Answer(choice) => {
                let taken = model.frames.iter().filter(|(_, life)| life.taken).map(|(seq, _)| *seq);
                let taken = taken.collect::<Vec<_>>();
                if !taken.is_empty() {
                    let seq = taken[choice % taken.len()];
                    let life = model.frames.remove(&seq).unwrap();
                    let freed = lane.answered(seq).unwrap();
                    assert_eq!((freed.token, freed.room), (life.awaited.then_some(seq), life.room));
                    assert_eq!(lane.answered(seq), None);
                }
            }
            Step::GiveUp(choice) if model.last_seq > 0 => {
                let seq = choice as u64 % model.last_seq + 1;
                let freed = lane.give_up(seq).map(|freed| (freed.token, freed.room));
                let life = model.frames.remove(&seq);
                assert_eq!(freed, life.map(|life| (life.awaited.then_some(seq), life.room)));
            }
            Step::Lose if model.connected => assert_eq!(lane.connection_lost(), model.lose()),
            Step::Reconnect(resumed) if !model.connected => {
                let last_taken = model.frames.iter().filter(|(_, life)| life.taken).map(|(seq, _)| *seq).max();
                let taken = resumed.then(|| last_taken.unwrap_or(0));
                let (room, in_doubt) = model.reconnect(taken);
                assert_eq!(lane.reconnected(taken), Reconnected { in_doubt, room, held: model.held });
            }
            Step::ReconnectToLess(resumed, most) if !model.connected => {
                let last_taken = model.frames.iter().filter(|(_, life)| life.taken).map(|(seq, _)| *seq).max();
                let taken = if resumed { last_taken.unwrap_or(0) } else { 0 };
                let forbidden = model.forbid(taken, most.into());
                assert_eq!(lane.forbid(taken, most.into()), forbidden);
                return self.step(Step::Reconnect(resumed));
            }
            Step::Release => {
                lane.release();
                model.held = false;
            }
            Step::Pause(paused) => {
                lane.pause(paused);
                model.paused = paused;
            }
            Step::Write(..) | Step::GiveUp(_) | Step::Lose => {}
            Step::Reconnect(_) | Step::ReconnectToLess(..) => {}
        }
        let unanswered = self.model.frames.iter().find(|(_, life)| life.begun).map(|(seq, _)| *seq);
        assert_eq!(self.lane.first_unanswered(), unanswered);
        let wanted = self.model.frames.values().filter(|life| !life.begun).map(|life| life.bytes.len()).sum::<usize>();
        assert!(self.lane.waiting.len() <= 2 * wanted, "what is given up does not stay, connected or not");
    }

    /// Writes and answers all that is left.
    fn settle(&mut self) {
        for step in [Step::Reconnect(false), Step::Release, Step::Pause(false)] {
            self.step(step);
        }
        while !(self.model.frames.is_empty() && self.model.chunk.is_empty()) {
            let left = (self.model.frames.len(), self.model.chunk.len());
            for step in [Step::Write(u8::MAX, u8::MAX), Step::Answer(0)] {
                self.step(step);
            }
            assert_ne!((self.model.frames.len(), self.model.chunk.len()), left, "it gets on");
        }
    }

    fn write(&mut self, most: usize, written: usize) {
        match self.lane.next_chunk(most) {
            Next::Chunk(chunk) => {
                if self.model.chunk.is_empty() {
                    self.model.begin(&chunk, most);
                }
                let written = chunk.len().min(written);
                assert_eq!(self.lane.wrote(written), self.model.write(written));
            }
            Next::Idle => assert!(self.model.sendable().is_empty() && self.model.chunk.is_empty()),
            Next::Finish => panic!("nobody said so"),
        }
    }
}

pub(super) fn lane() -> LaneQueue<u64> {
    let mut lane = LaneQueue::new(|frame| Bytes::from(flagged(frame)), 1);
    (lane.span_max, lane.unconnected_bytes_max) = (SPAN, UNCONNECTED_BYTES);
    lane
}

/// After any sequence of publishes, writes, answers, changes of mind and lost connections: what goes out is every frame whole and in
/// order, on each connection first what may have been sent before, flagged; nothing goes out too far beyond an
/// unanswered frame; all room and every token comes back once; and less waits in vain than not.
///
/// With `settles`, the last connection holds until all is answered: nothing is left behind then.
pub(crate) fn run(steps: impl IntoIterator<Item = Step>, settles: bool) {
    let mut pair = Pair { lane: lane(), model: Model { connected: true, ..Model::default() } };
    for step in steps {
        pair.step(step);
    }
    if settles {
        pair.settle();
    }
    let Pair { mut lane, model } = pair;
    let unsent = model.frames.values().filter(|life| !life.sent).count() + model.chunk.len();
    let tokens = model.frames.iter().filter(|(_, life)| life.awaited).map(|(seq, _)| *seq).collect::<Vec<_>>();
    assert!(!settles || (tokens.is_empty() && unsent == 0), "everything is written and answered");
    assert_eq!(lane.end(), (tokens, unsent));
}
