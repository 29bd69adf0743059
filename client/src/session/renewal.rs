//! The frames that bring what a client holds to a new session.

use std::collections::BTreeMap;

use prost::Message as _;
use zonecast_protocol::wire::{self, client_frame};

use super::ZoneIds;

/// Most bytes of one request, so that the answers show that a long renewal gets on.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request beyond its zones or topics, at most.
const REQUEST_OVERHEAD_BYTES_MAX: usize = 32;
/// Bytes by which a zone or topic is longer within a frame, at most: its key and length.
const ITEM_OVERHEAD_BYTES_MAX: usize = 6;

/// A frame that lacks its number.
pub(super) enum Renewal {
    Zones(Vec<wire::Zone>),
    Topics(Vec<wire::TopicSubscription>),
}

impl Renewal {
    pub(super) fn into_frame(self, request_id: u64) -> client_frame::Frame {
        match self {
            Self::Zones(upsert) => {
                client_frame::Frame::UpdateZones(wire::UpdateZones { request_id, upsert, ..Default::default() })
            }
            Self::Topics(add) => {
                client_frame::Frame::UpdateTopics(wire::UpdateTopics { request_id, add, remove: Vec::new() })
            }
        }
    }
}

/// As few frames as the limits permit. A new session holds nothing, so adding suffices.
pub(super) fn frames(
    zones: &BTreeMap<u32, wire::Zone>,
    topics: &BTreeMap<u32, wire::TopicSubscription>,
    ids: &ZoneIds,
    frame_bytes_max: usize,
) -> Vec<Renewal> {
    let room = frame_bytes_max.min(REQUEST_BYTES_MAX).saturating_sub(REQUEST_OVERHEAD_BYTES_MAX);
    let zones = zones.values().map(|zone| ids.zone_on_wire(zone));
    let zones = packed(zones, wire::Zone::encoded_len, room).into_iter().map(Renewal::Zones);
    let topics = packed(topics.values().cloned(), wire::TopicSubscription::encoded_len, room);
    zones.chain(topics.into_iter().map(Renewal::Topics)).collect()
}

fn packed<I>(items: impl Iterator<Item = I>, length: impl Fn(&I) -> usize, room: usize) -> Vec<Vec<I>> {
    let mut packs: Vec<Vec<I>> = Vec::new();
    let mut used = 0;
    for item in items {
        let bytes = length(&item) + ITEM_OVERHEAD_BYTES_MAX;
        used += bytes;
        match packs.last_mut() {
            Some(pack) if used <= room => pack.push(item),
            _ => {
                packs.push(vec![item]);
                used = bytes;
            }
        }
    }
    packs
}
