//! The quick look at a publish against prost.
#![allow(clippy::panic, reason = "a test fails so")]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use zonecast_protocol::{
    PublishView,
    codec::decode_client_frame,
    wire::{self, client_frame},
};

proptest! {
    /// Whatever encoders write is read as prost reads it, and nothing else is read as something else.
    #[test]
    fn publishes_are_read_as_prost_reads_them(
        fields in any::<(i32, bool, bool, u32, bool)>(),
        event in any::<Vec<u8>>(),
        (place, byte) in any::<(prop::sample::Index, u8)>(),
    ) {
        let (ack, exclude_self, resent, expires_in_ms, require_match) = fields;
        let event = event.into();
        let publish = wire::Publish { ack, exclude_self, resent, expires_in_ms, require_match, event };
        let mut frame = wire::ClientFrame { frame: Some(client_frame::Frame::Publish(publish.clone())) }.encode_to_vec();
        prop_assert_eq!(PublishView::read(&frame), Some(PublishView::from(&publish)));
        let place = place.index(frame.len());
        frame[place] = byte;
        for frame in [&frame[..], &frame[..place]] {
            if let Some(view) = PublishView::read(frame) {
                let read = decode_client_frame(Bytes::copy_from_slice(frame));
                let Ok(client_frame::Frame::Publish(publish)) = read else { panic!("{view:?}, {read:?}") };
                prop_assert_eq!(view, PublishView::from(&publish));
            }
        }
    }
}
