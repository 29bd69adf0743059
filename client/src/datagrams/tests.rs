use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Early,
    Missing(u64),
    Settled,
}

#[derive(Debug, Clone)]
enum Step {
    /// A datagram of this number, counted from the end of the stream.
    Arrive(i8),
    /// The stream names so many.
    Name(u8),
    /// The stream goes on by so many in another way.
    Pass(u8),
    /// So many milliseconds go by.
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (-20..20_i8).prop_map(Step::Arrive),
        3 => (1..10_u8).prop_map(Step::Name),
        1 => (1..3_u8).prop_map(Step::Pass),
        2 => any::<u8>().prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Against one state for each number: what is passed on, what is lost and when, and what is early.
    #[test]
    fn every_number_comes_once_or_is_lost(steps in proptest::collection::vec(step(), 0..100)) {
        let start = Instant::now();
        let (mut books, mut model) = (Datagrams::default(), vec![State::Unknown; 1100]);
        let (mut through, mut now_ms) = (0_u64, 0_u64);
        for step in steps {
            let now = start + Duration::from_millis(now_ms);
            match step {
                Step::Arrive(offset) => {
                    let Some(seq) = through.checked_add_signed(offset.into()).filter(|seq| *seq > 0) else { continue };
                    let state = &mut model[seq as usize];
                    let passed_on = matches!(state, State::Unknown | State::Missing(_));
                    *state = match *state {
                        State::Unknown => State::Early,
                        State::Missing(_) => State::Settled,
                        other => other,
                    };
                    prop_assert_eq!(books.arrived(seq, through), passed_on);
                }
                Step::Name(count) => {
                    let (from, to) = (through + 1, through + u64::from(count));
                    books.named(from, to, now);
                    for state in &mut model[from as usize..=to as usize] {
                        *state = if *state == State::Early { State::Settled } else { State::Missing(now_ms + 200) };
                    }
                    through = to;
                }
                Step::Pass(count) => {
                    for state in &mut model[through as usize + 1..=through as usize + usize::from(count)] {
                        *state = State::Settled;
                    }
                    through += u64::from(count);
                    books.passed(through);
                }
                Step::Wait(ms) => {
                    now_ms += u64::from(ms);
                    let mut lost = Vec::new();
                    while let Some((from, to)) = books.overdue(start + Duration::from_millis(now_ms)) {
                        lost.extend(from..=to);
                    }
                    let mut expected = Vec::new();
                    for (seq, state) in model.iter_mut().enumerate() {
                        if matches!(*state, State::Missing(until) if until <= now_ms) {
                            *state = State::Settled;
                            expected.push(seq as u64);
                        }
                    }
                    prop_assert_eq!(lost, expected);
                }
            }
            let early = (0..).zip(&model).filter(|(_, state)| **state == State::Early).map(|(seq, _)| seq);
            prop_assert!(books.early().eq(early));
            let deadline = model.iter().filter_map(|state| match state { State::Missing(at) => Some(*at), _ => None }).min();
            prop_assert_eq!(books.next_deadline(), deadline.map(|at| start + Duration::from_millis(at)));
        }
        let missing = books.end().into_iter().flat_map(|(from, to)| from..=to).collect::<Vec<_>>();
        let expected = (0..).zip(&model).filter(|(_, state)| matches!(state, State::Missing(_))).map(|(seq, _)| seq);
        prop_assert!(missing.into_iter().eq(expected));
        prop_assert_eq!(books.early().count(), 0);
    }
}

#[test]
fn huge_ranges_cost_nothing_and_early_ones_are_bounded() {
    let mut books = Datagrams::default();
    let now = Instant::now();
    for seq in 10..20_000 {
        books.arrived(2 * seq, 0);
    }
    assert_eq!(books.early().count(), EARLY_MAX);
    books.named(1, u64::MAX, now);
    assert!(books.arrived(u64::MAX, u64::MAX) && books.arrived(1, u64::MAX));
    assert_eq!(books.early().count(), 0);
    let ranges = books.end();
    assert_eq!(ranges.first(), Some(&(2, 19)));
    assert_eq!(ranges.len(), EARLY_MAX + 1);
}
