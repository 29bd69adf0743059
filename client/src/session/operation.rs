//! What an application can ask for, and how it goes on the wire.

use zonecast_protocol::wire::{self, client_frame};

use super::ZoneIds;

/// A change of what the client holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// Adds, moves and removes zones in one step; `replace_all` makes `upsert` the whole set.
    ChangeZones {
        replace_all: bool,
        upsert: Vec<wire::Zone>,
        remove: Vec<u32>,
    },
    HandOver {
        zone_ids: Vec<u32>,
        to_client_id: String,
    },
    /// Gives up all zones; nobody waits for the answer.
    EndZones,
    Subscribe(wire::TopicSubscription),
    /// Gives up a topic; nobody waits for the answer.
    Unsubscribe(u32),
    /// Shows another access token; nobody waits for the answer.
    ShowToken(String),
}

impl Operation {
    pub(super) fn is_about_zones(&self) -> bool {
        matches!(self, Self::ChangeZones { .. } | Self::HandOver { .. } | Self::EndZones)
    }

    /// The ids of the zones that it names, as the application knows them.
    pub(super) fn zone_ids(&self) -> impl Iterator<Item = u32> {
        let (upsert, named) = match self {
            Self::ChangeZones { upsert, remove, .. } => (&upsert[..], &remove[..]),
            Self::HandOver { zone_ids, .. } => (&[][..], &zone_ids[..]),
            _ => (&[][..], &[][..]),
        };
        upsert.iter().map(|zone| zone.id).chain(named.iter().copied())
    }

    pub(super) fn to_frame(&self, request_id: u64, ids: &ZoneIds) -> client_frame::Frame {
        use client_frame::Frame;
        let on_wire = |list: &[u32]| list.iter().map(|id| ids.on_wire(*id)).collect();
        let update = |replace_all, upsert: &[wire::Zone], remove: &[u32]| {
            let upsert = upsert.iter().map(|zone| ids.zone_on_wire(zone)).collect();
            Frame::UpdateZones(wire::UpdateZones { request_id, replace_all, upsert, remove: on_wire(remove) })
        };
        match self {
            Self::ChangeZones { replace_all, upsert, remove } => update(*replace_all, upsert, remove),
            Self::EndZones => update(true, &[], &[]),
            Self::HandOver { zone_ids, to_client_id } => Frame::HandOverZones(wire::HandOverZones {
                request_id,
                zone_ids: on_wire(zone_ids),
                to_client_id: to_client_id.clone(),
            }),
            Self::Subscribe(topic) => {
                Frame::UpdateTopics(wire::UpdateTopics { request_id, add: vec![topic.clone()], remove: Vec::new() })
            }
            Self::ShowToken(token) => Frame::Renew(wire::Renew { request_id, token: token.clone() }),
            Self::Unsubscribe(id) => {
                Frame::UpdateTopics(wire::UpdateTopics { request_id, add: Vec::new(), remove: vec![*id] })
            }
        }
    }
}
