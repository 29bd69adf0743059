//! The client of an outbox, and what is on its way to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message;
use zonecast_core::ResumePoint;
use zonecast_protocol::DeliveryClass;
use zonecast_protocol::codec::decode_server_frame;
use zonecast_protocol::wire::{self, server_frame};

#[derive(Default)]
pub struct Receiver {
    pub under_way: VecDeque<server_frame::Frame>,
    pub datagrams: VecDeque<Bytes>,
    /// Of this session: how far the stream was read, what came as datagrams, and what waits to be processed.
    pub through: u64,
    alone: BTreeSet<u64>,
    pub to_process: BTreeMap<u64, u64>,
    /// Numbers of this session that a frame said were sent as datagrams.
    explained: BTreeSet<u64>,
    /// Over all sessions: which events arrived, and how many were said to be missing.
    pub reliable: BTreeSet<u64>,
    last_new_reliable: u64,
    pub latest: BTreeMap<String, u64>,
    pub transient: BTreeSet<u64>,
    pub missing: u64,
    /// Up to this number, deliveries may come behind later ones that the client got elsewhere.
    pub may_be_late_through: u64,
}

impl Receiver {
    /// So many frames arrive, and every so manyth of as many datagrams.
    pub fn hear(&mut self, frames: usize, every: usize) {
        let frames_come = frames.min(self.under_way.len());
        for frame in self.under_way.drain(..frames_come).collect::<Vec<_>>() {
            self.take(frame);
        }
        let datagrams_come = frames.min(self.datagrams.len());
        for datagram in self.datagrams.drain(..datagrams_come).step_by(every).collect::<Vec<_>>() {
            self.take_datagram(datagram);
        }
    }

    fn take(&mut self, frame: server_frame::Frame) {
        match frame {
            server_frame::Frame::Gap(gap) => {
                assert_eq!(gap.from_seq, self.through + 1, "gaps are in their place");
                self.missing += gap.to_seq + 1 - gap.from_seq;
                self.through = gap.to_seq;
            }
            server_frame::Frame::Datagrams(sent) => {
                assert_eq!(sent.from_seq, self.through + 1, "and so is what explains datagrams");
                self.explained.extend(sent.from_seq..=sent.to_seq);
                self.through = sent.to_seq;
            }
            server_frame::Frame::Deliver(deliver) => {
                assert_eq!(deliver.seq, self.through + 1, "every jump is explained");
                self.through = deliver.seq;
                self.take_event(&deliver);
            }
            other => panic!("{other:?} is not for this stream"),
        }
    }

    fn take_event(&mut self, deliver: &wire::Deliver) {
        let event = wire::Event::decode(deliver.event.clone()).expect("the bytes are the publisher's");
        let number = event.lane_seq;
        if deliver.await_processing {
            self.to_process.insert(deliver.seq, number);
        }
        if event.class() != DeliveryClass::Transient {
            assert!(deliver.resent || number > self.may_be_late_through, "what may come late says so");
        }
        match event.class() {
            DeliveryClass::Transient => assert!(self.transient.insert(number), "at most once"),
            DeliveryClass::State => {
                let former = self.latest.insert(event.key, number).unwrap_or(0);
                assert!(number > former || deliver.resent, "an older value comes only again");
            }
            _ if self.reliable.insert(number) => {
                assert!(number > self.last_new_reliable, "in order");
                self.last_new_reliable = number;
            }
            _ => assert!(deliver.resent, "what comes twice says so"),
        }
    }

    fn take_datagram(&mut self, datagram: Bytes) {
        let frame = decode_server_frame(datagram).expect("a datagram holds a frame");
        let server_frame::Frame::Deliver(deliver) = frame else { panic!("and that is a delivery") };
        self.alone.insert(deliver.seq);
        self.take_event(&deliver);
    }

    /// A new session: what was explained and did not come will not come, as the client itself concludes.
    pub fn begin_session(&mut self) {
        self.missing += self.explained.difference(&self.alone).count() as u64;
        self.under_way.clear();
        self.datagrams.clear();
        self.through = 0;
        self.alone.clear();
        self.explained.clear();
        self.to_process.clear();
    }

    /// What the client says of the session when it resumes it.
    pub fn point(&self) -> ResumePoint {
        let datagrams = self.alone.iter().copied().filter(|seq| *seq > self.through).collect();
        ResumePoint { delivered_through: self.through, datagrams }
    }
}
