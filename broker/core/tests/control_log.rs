//! The control log over any number of lost links: the client sees every frame once, in order.
#![allow(clippy::unwrap_used, reason = "a helper fails the test")]

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;
use zonecast_core::ControlLog;
use zonecast_protocol::codec::{FrameCutter, decode_server_frame};
use zonecast_protocol::wire::{self, server_frame};

#[derive(Debug, Clone)]
enum Op {
    Push,
    Write,
    /// So many frames arrive.
    Arrive(usize),
    Confirm,
    /// The link is lost; meanwhile so many frames are said to the session that takes over.
    Cut(usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Push),
        4 => Just(Op::Write),
        4 => (0..5_usize).prop_map(Op::Arrive),
        2 => Just(Op::Confirm),
        1 => (0..3_usize).prop_map(Op::Cut),
    ]
}

fn numbered(nonce: u64) -> server_frame::Frame {
    server_frame::Frame::Pong(wire::Pong { nonce })
}

fn frames(bytes: Bytes) -> Vec<u64> {
    let mut cutter = FrameCutter::new(64);
    cutter.push(bytes);
    let mut read = Vec::new();
    while let Some(frame) = cutter.next_frame().unwrap() {
        match decode_server_frame(frame).unwrap() {
            server_frame::Frame::Pong(pong) => read.push(pong.nonce),
            other => read.push(u64::from(matches!(other, server_frame::Frame::GoAway(_))) << 32),
        }
    }
    read
}

proptest! {
    #[test]
    fn every_frame_arrives_once_and_in_order(ops in prop::collection::vec(any_op(), 0..200)) {
        let mut log = ControlLog::new(true);
        let mut under_way = VecDeque::new();
        let (mut said, mut received) = (0, Vec::new());
        for op in ops {
            match op {
                Op::Push => {
                    said += 1;
                    log.push(numbered(said));
                }
                Op::Write => under_way.extend(frames(log.take())),
                Op::Arrive(count) => received.extend(under_way.drain(..count.min(under_way.len()))),
                Op::Confirm => {
                    prop_assert_eq!(log.confirm(received.len() as u64), Ok(()));
                    prop_assert!(log.confirm(said + 1).is_err(), "what was never said cannot have been received");
                }
                Op::Cut(count) => {
                    let mut heir = ControlLog::new(true);
                    let through = received.len() as u64;
                    prop_assert!(log.goes_on_from(through));
                    // What the heir is told before it inherits comes behind what it inherits.
                    let left = log.bequeath(through).unwrap();
                    for _ in 0..count {
                        said += 1;
                        heir.push(numbered(said));
                    }
                    heir.inherit(left);
                    log = heir;
                    under_way.clear();
                }
            }
        }
        under_way.extend(frames(log.take()));
        received.extend(under_way);
        prop_assert_eq!(&received, &(1..=said).collect::<Vec<_>>());
        log.confirm(said).unwrap();
        prop_assert_eq!(log.held_bytes(), 0);
    }
}

#[test]
fn nothing_is_kept_for_a_client_that_does_not_want_it() {
    let mut log = ControlLog::new(false);
    log.push(numbered(1));
    assert_eq!(frames(log.take()), [1]);
    assert_eq!(log.held_bytes(), 0);
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
