use proptest::prelude::*;

use super::{
    model::{Step, id, run},
    *,
};

/// Steps from the number before: mostly near, sometimes beyond the window or far away.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => -5..10_i64,
        3 => -200..200_i64,
        2 => -17_000..17_000_i64,
        1 => any::<i64>(),
        1 => Just(16_384),
        1 => Just(-16_384),
        1 => Just(-16_383),
    ];
    proptest::collection::vec((step, 0..2_u64, 0..2_u8, any::<bool>(), any::<bool>()), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn it_knows_exactly_what_a_set_knows(start in prop_oneof![1..100_000_u64, any::<u64>()], steps in steps()) {
        run(start, steps);
    }
}

#[test]
fn all_numbers_of_a_full_window_are_known_in_any_order() {
    let mut seen = Seen::new();
    let mut numbers = (1..=NUMBERS).collect::<Vec<_>>();
    fastrand::Rng::with_seed(3).shuffle(&mut numbers);
    for number in &numbers {
        assert_eq!(seen.insert(id(1, 0, *number), false, true), Verdict::New);
    }
    for number in &numbers {
        assert_eq!(seen.insert(id(1, 0, *number), false, false), Verdict::Duplicate);
    }
}

#[test]
fn lanes_that_were_not_heard_for_long_are_forgotten_first() {
    let mut seen = Seen::with_lanes_max(10);
    for source in 0..100 {
        assert_eq!(seen.insert(id(source, 0, 1), false, false), Verdict::New);
        assert_eq!(seen.insert(id(source, 0, 1), false, false), Verdict::Duplicate);
        // One that is heard all the time stays.
        seen.insert(id(5000, 0, 1), false, false);
        assert_eq!(seen.insert(id(5000, 0, 1), false, false), Verdict::Duplicate);
        assert!(seen.young.len() + seen.old.len() <= 20);
    }
    for source in 91..100 {
        assert_eq!(seen.insert(id(source, 0, 1), false, false), Verdict::Duplicate, "{source}");
    }
    assert_eq!(seen.insert(id(0, 0, 1), false, false), Verdict::New, "forgotten");
}

#[test]
fn what_comes_behind_later_ones_is_late_where_there_is_an_order() {
    let mut seen = Seen::new();
    let came = [(5, true), (9, false), (7, true), (6, true), (8, false), (6, true), (10, true)];
    let verdicts = came.map(|(number, ordered)| seen.insert(id(1, 0, number), ordered, false));
    use Verdict::{Duplicate, Late, New};
    assert_eq!(verdicts, [New, New, New, Late, New, Duplicate, New]);
}
