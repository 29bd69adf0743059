//! Frames of the broker's that are read by hand, because they come by the million, against prost.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use zonecast_protocol::{
    codec::{FrameError, decode_server_frame},
    wire::{self, server_frame::Frame},
};

fn by_prost(frame: &Bytes) -> Result<Frame, FrameError> {
    wire::ServerFrame::decode(frame.clone())?.frame.ok_or(FrameError::Unknown)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn what_prost_writes_is_read(
        (lane, lane_seq, matched) in any::<(u32, u64, u32)>(),
        (seq, resent, await_processing, event) in any::<(u64, bool, bool, Vec<u8>)>(),
    ) {
        let event = Bytes::from(event);
        for frame in [
            Frame::PublishAck(wire::PublishAck { lane, lane_seq, matched }),
            Frame::Deliver(wire::Deliver { seq, resent, await_processing, event }),
        ] {
            let bytes = wire::ServerFrame { frame: Some(frame.clone()) }.encode_to_vec();
            prop_assert_eq!(decode_server_frame(bytes.into()), Ok(frame));
        }
    }

    /// Bytes that are nearly such frames, so that some are.
    #[test]
    fn whatever_comes_is_read_as_prost_reads_it(
        key in prop::sample::select(vec![0x12, 0x22, 0x1a]),
        mut fields in prop::collection::vec(
            prop::sample::select(vec![0x08, 0x10, 0x18, 0x7a, 0x20, 0, 1, 2, 0x80, 0xff]), 0..12,
        ),
        event in prop::option::of(prop::collection::vec(any::<u8>(), 0..3)),
        too_long in -1..2_i8,
        more in prop::collection::vec(any::<u8>(), 0..2),
    ) {
        if let Some(event) = event {
            fields.extend([0x7a, event.len() as u8]);
            fields.extend(event);
        }
        let length = (fields.len() as i8 + too_long).max(0) as u8;
        let frame = Bytes::from([&[key, length][..], &fields, &more].concat());
        prop_assert_eq!(decode_server_frame(frame.clone()).ok(), by_prost(&frame).ok());
    }
}
