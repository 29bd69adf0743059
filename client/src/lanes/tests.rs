use proptest::prelude::*;

use super::*;

/// What befalls a lane.
#[derive(Debug, Clone)]
enum Step {
    /// Queue a frame of so many bytes, with or without an answer awaited.
    Push(u8, bool),
    /// Make a chunk of at most so many bytes, or go on with the present one, and write so many of it.
    Write(u8, u8),
    /// The broker answers the oldest frame that it has wholly received and that awaits an answer.
    Answer,
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u8.., any::<bool>()).prop_map(|(bytes, awaited)| Step::Push(bytes, awaited)),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(most, written)| Step::Write(most, written)),
        2 => Just(Step::Answer),
        1 => Just(Step::Lose),
    ]
}

/// The simplest thing that does the same: frames as lists of bytes.
#[derive(Default)]
struct Model {
    /// Number, bytes, and room of each frame of which nothing is written.
    queued: VecDeque<(u64, Vec<u8>, u32)>,
    /// The frame of which the beginning is written, and what is left of it.
    begun: Option<(u64, Vec<u8>, u32)>,
    awaited: Vec<u64>,
    last_seq: u64,
    room_taken: u32,
    /// Numbers that this connection has carried wholly.
    carried: Vec<u64>,
}

impl Model {
    /// The byte stream's next byte.
    fn write_byte(&mut self) -> u8 {
        let (seq, mut bytes, room) = self.begun.take().or_else(|| self.queued.pop_front()).unwrap();
        let byte = bytes.remove(0);
        if bytes.is_empty() {
            self.carried.push(seq);
            self.room_taken -= room;
        } else {
            self.begun = Some((seq, bytes, room));
        }
        byte
    }

    fn lose(&mut self) -> Vec<u64> {
        if let Some((_, _, room)) = self.begun.take() {
            self.room_taken -= room;
        }
        self.carried.clear();
        let first_unsent = self.queued.front().map_or(u64::MAX, |(seq, _, _)| *seq);
        let (in_doubt, left) = self.awaited.iter().partition(|seq| **seq < first_unsent);
        self.awaited = left;
        in_doubt
    }
}

proptest! {
    /// After any sequence of publishes, writes, answers and lost connections: what goes out is every frame whole and in
    /// order, except that a connection's loss cuts off the rest of the frame that was begun; the answers that will not
    /// come are exactly those of frames that were begun; and all room is given back.
    #[test]
    fn a_lane_does_what_its_model_does(steps in proptest::collection::vec(step(), 0..200)) {
        let (mut lane, mut model) = (LaneQueue::new(), Model::default());
        for step in steps {
            match step {
                Step::Push(bytes, awaited) => {
                    model.last_seq += 1;
                    let seq = model.last_seq;
                    let frame = vec![(seq % 251) as u8; bytes.into()];
                    let token = awaited.then_some(seq);
                    let pushed = lane.push(bytes.into(), token, |given, out| {
                        assert_eq!(given, seq);
                        out.extend_from_slice(&frame);
                    });
                    prop_assert_eq!(pushed.unwrap().0, seq);
                    model.queued.push_back((seq, frame, bytes.into()));
                    model.awaited.extend(token);
                    model.room_taken += u32::from(bytes);
                }
                Step::Write(most, written) => match lane.next_chunk(most.into()) {
                    Next::Chunk(chunk) => {
                        let written = chunk.len().min(written.into());
                        let before = model.room_taken;
                        for byte in &chunk[..written] {
                            prop_assert_eq!(*byte, model.write_byte());
                        }
                        prop_assert_eq!(lane.wrote(written), before - model.room_taken);
                    }
                    Next::Idle => prop_assert!(model.queued.is_empty() && model.begun.is_none()),
                    Next::Finish => prop_assert!(false, "nobody said so"),
                },
                Step::Answer => {
                    let ready = model.awaited.iter().position(|seq| model.carried.contains(seq));
                    if let Some(seq) = ready.map(|place| model.awaited.remove(place)) {
                        prop_assert_eq!(lane.answered(seq), Some(seq));
                        prop_assert_eq!(lane.answered(seq), None);
                    }
                }
                Step::Lose => {
                    let before = model.room_taken;
                    let lost = lane.connection_lost();
                    prop_assert_eq!(lost.in_doubt, model.lose());
                    prop_assert_eq!(lost.room, before - model.room_taken);
                }
            }
            prop_assert_eq!(lane.has_awaited(), !model.awaited.is_empty());
        }
        let unsent = model.queued.len() + usize::from(model.begun.is_some());
        prop_assert_eq!(lane.end(), (model.awaited, unsent));
    }
}

fn push(lane: &mut LaneQueue<()>, bytes: usize) -> Result<(u64, bool), LaneEnded> {
    lane.push(1, None, |_, out| out.extend_from_slice(&vec![0; bytes]))
}

#[test]
fn the_writer_is_woken_once_and_only_when_idle() {
    let mut lane = LaneQueue::new();
    assert_eq!(push(&mut lane, 1), Ok((1, false)), "it has not asked yet");
    assert!(matches!(lane.next_chunk(100), Next::Chunk(chunk) if chunk.len() == 1));
    lane.wrote(1);
    assert_eq!(lane.next_chunk(100), Next::Idle);
    assert_eq!(push(&mut lane, 1), Ok((2, true)));
    assert_eq!(push(&mut lane, 1), Ok((3, false)));
}

#[test]
fn chunks_hold_whole_frames_and_at_least_one() {
    let mut lane = LaneQueue::new();
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
    let mut lane = LaneQueue::new();
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
