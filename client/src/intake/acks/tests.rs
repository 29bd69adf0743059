use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// So many deliveries of so many bytes in all.
    Deliver(u16, u16),
    Control(u16, u16),
    Settle(bool),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..200_u16, any::<u16>()).prop_map(|(count, bytes)| Step::Deliver(count, bytes / 4)),
        2 => (1..300_u16, any::<u16>()).prop_map(|(count, bytes)| Step::Control(count, bytes / 4)),
        1 => any::<bool>().prop_map(Step::Settle),
        3 => (0..8_u8).prop_map(Step::Wait),
    ]
}

proptest! {
    /// After any sequence: what is told is what was received, each settled delivery is told once, and nothing that was
    /// received waits longer, or in greater numbers, than it may.
    #[test]
    fn everything_is_told_in_time(kept: bool, steps in proptest::collection::vec(step(), 0..200)) {
        let start = Instant::now();
        let mut acks = Acks::new();
        acks.begin_session(false, kept);
        let (mut now_ms, mut through, mut control, mut next) = (0, 0, 0, 0_u64);
        let (mut told_through, mut told_control, mut told_at, mut bytes) = (0, 0, 0, 0);
        let (mut settled, mut told) = (Vec::new(), Vec::new());
        for step in steps {
            let now = start + Duration::from_millis(now_ms);
            let had_news = (told_through, told_control) != (through, control);
            match step {
                Step::Deliver(count, size) => {
                    through += u64::from(count);
                    bytes += if through > told_through || control > told_control { usize::from(size) } else { 0 };
                    let wake = acks.received(through, size.into(), now);
                    let has_news = (told_through, told_control) != (through, control);
                    prop_assert!(!kept || wake || had_news || !has_news, "the driver learns of the first");
                }
                Step::Control(count, size) => {
                    control += u64::from(count);
                    bytes += usize::from(size);
                    acks.control_received(count.into(), size.into(), now);
                }
                Step::Settle(processed) => {
                    next += 1;
                    let verdict = if processed { Verdict::Processed } else { Verdict::Rejected };
                    acks.settled(next, verdict);
                    settled.push((next, verdict));
                }
                Step::Wait(ms) => now_ms += u64::from(ms),
            }
            if !had_news && (told_through, told_control) != (through, control) {
                told_at = now_ms;
            }
            let now = start + Duration::from_millis(now_ms);
            let has_news = (told_through, told_control) != (through, control);
            let full = through - told_through >= 256 || control - told_control >= 512 || bytes >= 64 * 1024;
            let must = kept && has_news && (full || now_ms - told_at >= 10) || settled.len() > told.len();
            match acks.due(now) {
                Due::Now(ack) => {
                    prop_assert!(must);
                    prop_assert_eq!((ack.through_seq, ack.control_through), (through, control));
                    told.extend(ack.processed.into_iter().map(|seq| (seq, Verdict::Processed)));
                    told.extend(ack.rejected.into_iter().map(|seq| (seq, Verdict::Rejected)));
                    (told_through, told_control, bytes) = (through, control, 0);
                }
                Due::At(at) => {
                    prop_assert!(!must && kept && has_news);
                    prop_assert_eq!(at, start + Duration::from_millis(told_at + 10));
                }
                Due::Nothing => prop_assert!(!(must || kept && has_news)),
            }
            prop_assert_eq!(acks.position(), Position { delivered_through: through, control_through: control });
        }
        prop_assert_eq!(told, settled);
    }
}

#[test]
fn many_verdicts_are_told_in_several_frames() {
    let mut acks = Acks::new();
    for seq in 1..=10_000 {
        acks.settled(seq, Verdict::Processed);
    }
    let mut told = Vec::new();
    while let Due::Now(ack) = acks.due(Instant::now()) {
        assert!(ack.processed.len() <= NUMBERS_MAX);
        told.extend(ack.processed);
    }
    assert!(told.into_iter().eq(1..=10_000));
}

#[test]
fn a_new_session_counts_anew_and_a_resumed_one_goes_on_with_the_control_stream() {
    let mut acks = Acks::new();
    acks.begin_session(false, true);
    acks.received(5, 10, Instant::now());
    acks.control_received(7, 10, Instant::now());
    acks.settled(5, Verdict::Processed);
    acks.begin_session(true, true);
    assert_eq!(acks.position(), Position { delivered_through: 0, control_through: 7 });
    assert_eq!(acks.outstanding(), None, "what was settled is asked for again by its new number");
    acks.begin_session(false, true);
    assert_eq!(acks.position(), Position { delivered_through: 0, control_through: 0 });
}
