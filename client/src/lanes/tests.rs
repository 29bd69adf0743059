use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// How far beyond the first unanswered frame the lane may send, here.
const SPAN: u64 = 6;

/// What befalls a lane.
#[derive(Debug, Clone)]
enum Step {
    /// Queue a frame of so many bytes, with or without somebody who awaits its answer.
    Push(u8, Keep, bool),
    /// Make a chunk of at most so many bytes, or go on with the present one, and write so many of it.
    Write(u8, u8),
    /// The broker answers one of the frames that it has.
    Answer(prop::sample::Index),
    /// Nobody wants one of the frames any more.
    GiveUp(prop::sample::Index),
    Lose,
    /// A new connection; the session goes on, or not.
    Reconnect(bool),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let keep = || prop_oneof![Just(Keep::Written), Just(Keep::Routed), Just(Keep::RoutedOnce), Just(Keep::Processed),];
    prop_oneof![
        5 => (1_u8..60, keep(), any::<bool>()).prop_map(|(bytes, keep, awaited)| Step::Push(bytes, keep, awaited)),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(most, written)| Step::Write(most, written)),
        4 => any::<prop::sample::Index>().prop_map(Step::Answer),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveUp),
        1 => Just(Step::Lose),
        2 => any::<bool>().prop_map(Step::Reconnect),
        2 => Just(Step::Release),
    ]
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
}

impl Model {
    /// Those that may be sent now, in order: either old ones or new ones.
    fn sendable(&self) -> Vec<u64> {
        let again = self.frames.iter().filter(|(_, life)| life.begun && !life.sent).map(|(seq, _)| *seq);
        let again = again.collect::<Vec<_>>();
        if self.held || !again.is_empty() {
            return if self.held { Vec::new() } else { again };
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

    fn lose(&mut self) -> u32 {
        self.connected = false;
        self.frames.values_mut().for_each(|life| life.sent = false);
        self.chunk.drain(..).map(|(_, _, room)| room).sum()
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
                assert_eq!(pushed.unwrap().0, seq);
                let room = bytes.into();
                let life = Life { bytes: frame, room, keep, awaited, begun: false, sent: false, taken: false };
                model.frames.insert(seq, life);
            }
            Step::Write(most, written) if model.connected => self.write(most.into(), written.into()),
            Step::Answer(choice) => {
                let taken = model.frames.iter().filter(|(_, life)| life.taken).map(|(seq, _)| *seq);
                let taken = taken.collect::<Vec<_>>();
                if !taken.is_empty() {
                    let seq = *choice.get(&taken);
                    let life = model.frames.remove(&seq).unwrap();
                    let freed = lane.answered(seq).unwrap();
                    assert_eq!((freed.token, freed.room), (life.awaited.then_some(seq), life.room));
                    assert_eq!(lane.answered(seq), None);
                }
            }
            Step::GiveUp(choice) if model.last_seq > 0 => {
                let seq = choice.index(model.last_seq as usize) as u64 + 1;
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
            Step::Release => {
                lane.release();
                model.held = false;
            }
            Step::Write(..) | Step::GiveUp(_) | Step::Lose | Step::Reconnect(_) => {}
        }
        let unanswered = self.model.frames.iter().find(|(_, life)| life.begun).map(|(seq, _)| *seq);
        assert_eq!(self.lane.first_unanswered(), unanswered);
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

fn lane() -> LaneQueue<u64> {
    let mut lane = LaneQueue::new(|frame| Bytes::from(flagged(frame)));
    lane.span_max = SPAN;
    lane
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// After any sequence of publishes, writes, answers and lost connections: what goes out is every frame whole and in
    /// order, on each connection first what may have been sent before, flagged; nothing goes out too far beyond an
    /// unanswered frame; and all room and every token comes back once.
    #[test]
    fn a_lane_does_what_its_model_does(steps in proptest::collection::vec(step(), 0..300)) {
        let mut pair = Pair { lane: lane(), model: Model { connected: true, ..Model::default() } };
        for step in steps {
            pair.step(step);
        }
        let Pair { mut lane, model } = pair;
        let unsent = model.frames.values().filter(|life| !life.sent).count() + model.chunk.len();
        let tokens = model.frames.iter().filter(|(_, life)| life.awaited).map(|(seq, _)| *seq).collect::<Vec<_>>();
        prop_assert_eq!(lane.end(), (tokens, unsent));
    }
}

fn push(lane: &mut LaneQueue<u64>, bytes: usize) -> Result<(u64, bool), LaneEnded> {
    lane.push(1, Keep::Written, None, |_, out| out.extend_from_slice(&vec![0; bytes]))
}

fn push_kept(lane: &mut LaneQueue<u64>) {
    lane.push(1, Keep::Routed, None, |_, out| out.extend_from_slice(&[7])).unwrap();
}

#[test]
fn the_writer_is_woken_once_and_only_when_idle() {
    let mut lane = lane();
    assert_eq!(push(&mut lane, 1), Ok((1, false)), "it has not asked yet");
    assert!(matches!(lane.next_chunk(100), Next::Chunk(chunk) if chunk.len() == 1));
    lane.wrote(1);
    assert_eq!(lane.next_chunk(100), Next::Idle);
    assert_eq!(push(&mut lane, 1), Ok((2, true)));
    assert_eq!(push(&mut lane, 1), Ok((3, false)));
}

#[test]
fn an_answer_wakes_a_writer_that_had_come_too_far() {
    let mut lane = lane();
    for _ in 0..=SPAN + 1 {
        push_kept(&mut lane);
    }
    assert!(matches!(lane.next_chunk(100), Next::Chunk(chunk) if chunk.len() as u64 == SPAN + 1));
    lane.wrote(SPAN as usize + 1);
    assert_eq!(lane.next_chunk(100), Next::Idle);
    lane.finish();
    assert_eq!(lane.next_chunk(100), Next::Idle, "finishing does not leave the rest behind");
    assert_eq!(lane.answered(1), Some(Freed { token: None, room: 1, wake: true }));
    assert!(matches!(lane.next_chunk(100), Next::Chunk(chunk) if chunk.len() == 1));
}

#[test]
fn chunks_hold_whole_frames_and_at_least_one() {
    let mut lane = lane();
    for bytes in [40, 40, 40, 500, 1] {
        push(&mut lane, bytes).unwrap();
    }
    for expected in [80, 40, 500, 1] {
        assert!(matches!(lane.next_chunk(100), Next::Chunk(chunk) if chunk.len() == expected), "{expected}");
        lane.wrote(expected);
    }
}

#[test]
fn a_paused_lane_keeps_what_it_has_and_a_finishing_one_takes_no_more() {
    let mut lane = lane();
    push(&mut lane, 10).unwrap();
    lane.pause(true);
    assert_eq!(lane.next_chunk(100), Next::Idle);
    assert!(lane.pause(false), "the writer must be woken");
    assert!(matches!(lane.next_chunk(100), Next::Chunk(_)));
    lane.finish();
    assert_eq!(push(&mut lane, 1), Err(LaneEnded));
    lane.wrote(10);
    assert_eq!(lane.next_chunk(100), Next::Finish);
}

#[test]
fn a_held_lane_that_finishes_waits_to_be_released() {
    let mut lane = lane();
    push_kept(&mut lane);
    assert!(matches!(lane.next_chunk(100), Next::Chunk(_)));
    lane.wrote(1);
    lane.connection_lost();
    assert!(lane.reconnected(None).held);
    lane.finish();
    assert_eq!(lane.next_chunk(100), Next::Idle);
    assert!(lane.release(), "the writer must be woken");
    assert!(matches!(lane.next_chunk(100), Next::Chunk(chunk) if chunk[..] == [255, 7]));
    lane.wrote(2);
    assert_eq!(lane.next_chunk(100), Next::Finish, "it is sent; whether it is answered is another matter");
}
