//! Events and written bytes as tests hold them.

use bytes::BytesMut;
use prost::Message;
use zonecast_core::{Arrival, Chunks, EventHead, OutboundEvent};
use zonecast_protocol::{EventView, wire};

/// An event that was published.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    head: EventHead,
    bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn new(event: &wire::Event, arrival: Arrival) -> Self {
        let bytes = event.encode_to_vec();
        let head = EventHead::new(&EventView::decode(&bytes).expect("an event as it should be"), arrival);
        Self { head, bytes }
    }

    /// As it is given to outboxes.
    pub(crate) fn outbound(&self) -> OutboundEvent<'_> {
        OutboundEvent::new(&self.head, &self.bytes)
    }
}

/// All that was written, in one.
pub(crate) fn written(mut chunks: Chunks) -> BytesMut {
    let (len, taken) = (chunks.len(), chunks.take().concat());
    assert_eq!((taken.len(), chunks.len()), (len, 0), "each byte is taken once");
    BytesMut::from(&taken[..])
}
