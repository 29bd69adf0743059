use proptest::prelude::*;

use super::{
    model::{SPAN, Step, lane, run},
    *,
};

fn step() -> impl Strategy<Value = Step> {
    let keep = || prop_oneof![Just(Keep::Written), Just(Keep::Routed), Just(Keep::RoutedOnce), Just(Keep::Processed),];
    prop_oneof![
        5 => (1_u8..60, keep(), any::<bool>()).prop_map(|(bytes, keep, awaited)| Step::Push(bytes, keep, awaited)),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(most, written)| Step::Write(most, written)),
        4 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => Just(Step::Lose),
        2 => any::<bool>().prop_map(Step::Reconnect),
        1 => (any::<bool>(), 0..60_u8).prop_map(|(resumed, most)| Step::ReconnectToLess(resumed, most)),
        2 => Just(Step::Release),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_lane_does_what_its_model_does(steps in proptest::collection::vec(step(), 0..300), settles in any::<bool>()) {
        run(steps, settles);
    }
}

fn push(lane: &mut LaneQueue<u64>, bytes: usize) -> Result<(u64, bool), LaneEnded> {
    let queued = lane.push(1, Keep::Written, None, |_, out| out.extend_from_slice(&vec![0; bytes]))?;
    Ok((queued.lane_seq, queued.wake))
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

/// A frame that is about to be sent again, and did not fit behind others, is as long as it will be, not as it was; found by
/// fuzzing.
#[test]
fn what_is_forbidden_is_measured_as_it_is_sent() {
    let push = |bytes| Step::Push(bytes, Keep::Routed, true);
    for most in 0..=4 {
        let begun = [push(20), push(1), push(2), push(3), Step::Write(u8::MAX, u8::MAX), Step::Lose];
        let again = [Step::Reconnect(false), Step::Release, Step::Write(22, 0), Step::Lose];
        let steps = begun.into_iter().chain(again).chain([Step::ReconnectToLess(false, most)]);
        run(steps, true);
    }
}
