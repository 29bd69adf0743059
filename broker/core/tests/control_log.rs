//! The control log over any number of lost links: the client sees every frame once, in order.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

#[path = "control_log/run.rs"]
mod run;

use proptest::prelude::*;
use run::{Op, frames, numbered};
use zonecast_core::{ControlLog, NeverSaid};
use zonecast_protocol::wire::{self, server_frame};

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Push),
        4 => Just(Op::Write),
        4 => (0..5_usize).prop_map(Op::Arrive),
        2 => Just(Op::Confirm),
        1 => (0..5_u8).prop_map(Op::ConfirmAgain),
        1 => (0..3_usize).prop_map(Op::Cut),
        1 => (0..30_u8).prop_map(Op::CutElsewhere),
    ]
}

proptest! {
    #[test]
    fn every_frame_arrives_once_and_in_order(ops in prop::collection::vec(any_op(), 0..200)) {
        run::play(ops);
    }
}

#[test]
fn nothing_is_kept_for_a_client_that_does_not_want_it() {
    let mut log = ControlLog::new(false);
    log.push(numbered(1));
    assert_eq!(frames(log.take()), [1]);
    assert_eq!(log.held_bytes(), 0);
    assert_eq!(log.confirm(2), Err(NeverSaid));
}

#[test]
fn the_last_frame_is_nobodys_heritage() {
    let mut log = ControlLog::new(true);
    log.push(numbered(1));
    let left = log.bequeath(0).unwrap();
    log.push_last(server_frame::Frame::GoAway(wire::GoAway::default()));
    assert_eq!(frames(log.take()), [1 << 32]);
    let mut heir = ControlLog::new(true);
    heir.inherit(left);
    assert_eq!(frames(heir.take()), [1]);
    assert!(!heir.goes_on_from(2));
}

/// Who claims to have what was never written to it is not resumed: else it would lose that unseen.
#[test]
fn what_was_not_written_cannot_have_been_received() {
    let mut log = ControlLog::new(true);
    log.push(numbered(1));
    assert_eq!(frames(log.take()), [1]);
    log.push(numbered(2));
    assert!(!log.goes_on_from(2));
    assert_eq!(log.bequeath(2), None);
    let mut heir = ControlLog::new(true);
    heir.inherit(log.bequeath(1).unwrap());
    assert_eq!(frames(heir.take()), [2], "nothing was taken out by the false claim");
}
