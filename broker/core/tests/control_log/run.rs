//! A control log over any number of lost links, against a list of what was said: the client sees every frame once, in
//! order, and nothing is held that it has.
//!
//! Shared by the tests and by the fuzz target `control_log`.

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use zonecast_core::{ControlLog, NeverSaid};
use zonecast_protocol::codec::{FrameCutter, decode_server_frame};
use zonecast_protocol::wire::{self, server_frame};

#[derive(Debug, Clone, Arbitrary)]
pub(crate) enum Op {
    Push,
    Write,
    /// So many frames arrive.
    Arrive(#[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=4))] usize),
    Confirm,
    /// The client confirms again what it confirmed so many frames ago.
    ConfirmAgain(u8),
    /// The link is lost; meanwhile so many frames are said to the session that takes over.
    Cut(#[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=2))] usize),
    /// Another client asks for what is behind so many frames, which it may have no right to.
    CutElsewhere(u8),
}

/// A frame that tells its number, in more bytes the greater that is.
pub(crate) fn numbered(nonce: u64) -> server_frame::Frame {
    server_frame::Frame::Pong(wire::Pong { nonce })
}

/// The numbers of the frames; that of a last one is out of the row.
pub(crate) fn frames(bytes: Bytes) -> Vec<u64> {
    let mut cutter = FrameCutter::new(64);
    cutter.push(bytes);
    let mut read = Vec::new();
    while let Some(frame) = cutter.next_frame().expect("what is written is framed") {
        match decode_server_frame(frame).expect("and can be read") {
            server_frame::Frame::Pong(pong) => read.push(pong.nonce),
            other => read.push(u64::from(matches!(other, server_frame::Frame::GoAway(_))) << 32),
        }
    }
    assert_eq!(cutter.finish(), Ok(()), "whole frames only");
    read
}

#[derive(Default)]
struct Run {
    log: ControlLog,
    under_way: VecDeque<u64>,
    received: Vec<u64>,
    said: u64,
    /// How many of those the log was asked to write.
    written: u64,
    unwritten_bytes: usize,
    /// What was written together and is not confirmed as a whole: its last number and bytes.
    kept: VecDeque<(u64, usize)>,
    /// The last number that is not kept any more.
    freed: u64,
}

impl Run {
    fn step(&mut self, op: &Op) {
        match op {
            Op::Push => {
                self.said += 1;
                let bytes = self.log.unwritten_bytes();
                self.log.push(numbered(self.said));
                assert!(self.log.unwritten_bytes() > bytes);
                self.unwritten_bytes = self.log.unwritten_bytes();
            }
            Op::Write => self.write(),
            Op::Arrive(count) => {
                let come = self.under_way.drain(..(*count).min(self.under_way.len()));
                self.received.extend(come);
            }
            Op::Confirm => self.confirm(self.received.len() as u64),
            Op::ConfirmAgain(back) => self.confirm((self.received.len() as u64).saturating_sub((*back).into())),
            Op::Cut(count) => self.cut(*count),
            Op::CutElsewhere(through) => self.cut_elsewhere((*through).into()),
        }
        let kept_bytes: usize = self.kept.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(self.log.unwritten_bytes(), self.unwritten_bytes);
        assert_eq!(self.log.held_bytes(), self.unwritten_bytes + kept_bytes);
        for through in self.freed.saturating_sub(1)..=self.said + 1 {
            assert_eq!(self.log.goes_on_from(through), (self.freed..=self.written).contains(&through), "{through}");
        }
    }

    fn write(&mut self) {
        let bytes = self.log.take();
        assert_eq!(bytes.len(), self.unwritten_bytes);
        if !bytes.is_empty() {
            self.kept.push_back((self.said, bytes.len()));
        }
        (self.written, self.unwritten_bytes) = (self.said, 0);
        self.under_way.extend(frames(bytes));
    }

    fn confirm(&mut self, through: u64) {
        assert_eq!(self.log.confirm(self.written + 1), Err(NeverSaid), "it cannot have been received");
        assert_eq!(self.log.confirm(through), Ok(()));
        while let Some((last, _)) = self.kept.pop_front_if(|(last, _)| *last <= through) {
            self.freed = last;
        }
    }

    fn cut(&mut self, meanwhile: usize) {
        let through = self.received.len() as u64;
        let left = self.log.bequeath(through).expect("all that it did not receive is there");
        assert_eq!((self.log.held_bytes(), self.log.unwritten_bytes()), (0, 0), "nothing is held twice");
        // What the heir is told before it inherits comes behind what it inherits.
        self.log = ControlLog::new(true);
        for _ in 0..meanwhile {
            self.said += 1;
            self.log.push(numbered(self.said));
        }
        self.log.inherit(left);
        self.under_way.clear();
        self.kept.clear();
        (self.freed, self.written) = (through, through);
        self.unwritten_bytes = self.log.unwritten_bytes();
    }

    /// What a claim to have received so many frames is answered with, right or wrong, by a log that goes on.
    fn cut_elsewhere(&mut self, through: u64) {
        if !self.log.goes_on_from(through) {
            assert_eq!(self.log.bequeath(through), None);
        }
    }

    /// The network heals: everything is written, arrives and is confirmed.
    fn end(mut self) {
        self.write();
        self.received.extend(self.under_way.drain(..));
        assert_eq!(self.received, (1..=self.said).collect::<Vec<_>>());
        self.confirm(self.said);
        assert_eq!(self.log.held_bytes(), 0);
    }
}

/// Plays the operations; panics where a promise is broken.
pub(crate) fn play(ops: impl IntoIterator<Item = Op>) {
    let mut run = Run { log: ControlLog::new(true), ..Run::default() };
    for op in ops {
        run.step(&op);
    }
    run.end();
}
