//! The requests that bring what a client holds to a new session.

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

/// What one request renews: zones by the ids under which the application knows them, or topics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Renewal {
    Zones(Vec<wire::Zone>),
    Topics(Vec<wire::TopicSubscription>),
}

impl Renewal {
    pub(super) fn to_frame(&self, request_id: u64, ids: &ZoneIds) -> client_frame::Frame {
        match self {
            Self::Zones(zones) => {
                let upsert = zones.iter().map(|zone| ids.zone_on_wire(zone)).collect();
                client_frame::Frame::UpdateZones(wire::UpdateZones { request_id, upsert, ..Default::default() })
            }
            Self::Topics(topics) => client_frame::Frame::UpdateTopics(wire::UpdateTopics {
                request_id,
                add: topics.clone(),
                remove: Vec::new(),
            }),
        }
    }

    /// Both halves; or the same when there is nothing to halve.
    pub(super) fn split(mut self) -> Result<(Self, Self), Self> {
        let behind = match &mut self {
            Self::Zones(zones) if zones.len() > 1 => Self::Zones(zones.split_off(zones.len() / 2)),
            Self::Topics(topics) if topics.len() > 1 => Self::Topics(topics.split_off(topics.len() / 2)),
            _ => return Err(self),
        };
        Ok((self, behind))
    }
}

/// As few requests as the limits permit, and those that no frame has room for. A new session holds nothing, so adding
/// suffices.
pub(super) fn requests(
    zones: &BTreeMap<u32, wire::Zone>,
    topics: &BTreeMap<u32, wire::TopicSubscription>,
    ids: &ZoneIds,
    frame_bytes_max: usize,
) -> (Vec<Renewal>, Vec<Renewal>) {
    let most = frame_bytes_max.saturating_sub(REQUEST_OVERHEAD_BYTES_MAX);
    let zone_bytes = |zone: &wire::Zone| ids.zone_on_wire(zone).encoded_len() + ITEM_OVERHEAD_BYTES_MAX;
    let topic_bytes = |topic: &wire::TopicSubscription| topic.encoded_len() + ITEM_OVERHEAD_BYTES_MAX;
    let (zones, too_long) = zones.values().cloned().partition::<Vec<_>, _>(|zone| zone_bytes(zone) <= most);
    let (topics, too_long_topics) = topics.values().cloned().partition::<Vec<_>, _>(|topic| topic_bytes(topic) <= most);
    let room = most.min(REQUEST_BYTES_MAX);
    let zones = packed(zones, zone_bytes, room).into_iter().map(Renewal::Zones);
    let requests = zones.chain(packed(topics, topic_bytes, room).into_iter().map(Renewal::Topics)).collect();
    let too_long = too_long.into_iter().map(|zone| Renewal::Zones(vec![zone]));
    let too_long = too_long.chain(too_long_topics.into_iter().map(|topic| Renewal::Topics(vec![topic]))).collect();
    (requests, too_long)
}

/// How many bytes a frame has, without its length.
pub(super) fn frame_bytes(frame: &client_frame::Frame) -> usize {
    wire::ClientFrame { frame: Some(frame.clone()) }.encoded_len()
}

fn packed<I>(items: Vec<I>, length: impl Fn(&I) -> usize, room: usize) -> Vec<Vec<I>> {
    let mut packs: Vec<Vec<I>> = Vec::new();
    let mut used = 0;
    for item in items {
        let bytes = length(&item);
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
