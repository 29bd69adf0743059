//! A broker in the simplest form that keeps to the letter of the protocol.

use std::collections::{BTreeMap, VecDeque};

use zonecast_protocol::{
    HANDED_OVER_ZONE_ID_MIN,
    wire::{self, client_frame, server_frame::Frame as ServerFrame},
};

/// What a broker knows of one session, made only of the frames that came.
#[derive(Default)]
pub(super) struct Broker {
    /// Sent by the client, and lost with the connection if not read before.
    pub(super) on_the_way: VecDeque<client_frame::Frame>,
    pub(super) last_request_id: u64,
    /// Sent to the client, and kept until it has heard it.
    pub(super) unheard: VecDeque<ServerFrame>,
    pub(super) zones: BTreeMap<u32, wire::Zone>,
    pub(super) topics: BTreeMap<u32, wire::TopicSubscription>,
    pub(super) unanswered: VecDeque<client_frame::Frame>,
    pub(super) next_handed_over: u32,
}

impl Broker {
    pub(super) fn new() -> Self {
        Self { next_handed_over: HANDED_OVER_ZONE_ID_MIN, ..Self::default() }
    }

    pub(super) fn read(&mut self) {
        if let Some(frame) = self.on_the_way.pop_front() {
            let request_id = request_id(&frame);
            assert!(request_id > self.last_request_id, "numbers rise, and nothing is sent twice");
            self.last_request_id = request_id;
            self.unanswered.push_back(frame);
        }
    }

    /// Carries the oldest request out, by the letter of the protocol, or refuses it.
    pub(super) fn answer(&mut self, refuse: bool) -> Option<(u64, bool)> {
        match self.unanswered.pop_front()? {
            client_frame::Frame::UpdateZones(update) => {
                let refused = refuse || !update.remove.iter().all(|id| self.zones.contains_key(id));
                let known = |id: u32| id < HANDED_OVER_ZONE_ID_MIN || self.zones.contains_key(&id);
                assert!(update.upsert.iter().all(|zone| known(zone.id)), "an id of the broker's range is made up");
                if !refused {
                    if update.replace_all {
                        self.zones.clear();
                    }
                    self.zones.retain(|id, _| !update.remove.contains(id));
                    self.zones.extend(update.upsert.into_iter().map(|zone| (zone.id, zone)));
                }
                Some((update.request_id, !refused))
            }
            client_frame::Frame::HandOverZones(hand_over) => {
                let refused = refuse || !hand_over.zone_ids.iter().all(|id| self.zones.contains_key(id));
                if !refused {
                    self.zones.retain(|id, _| !hand_over.zone_ids.contains(id));
                }
                Some((hand_over.request_id, !refused))
            }
            client_frame::Frame::UpdateTopics(update) => {
                let refused = refuse || !update.remove.iter().all(|id| self.topics.contains_key(id));
                if !refused {
                    self.topics.retain(|id, _| !update.remove.contains(id));
                    for topic in update.add {
                        assert!(self.topics.insert(topic.id, topic).is_none(), "an id is used twice");
                    }
                }
                Some((update.request_id, !refused))
            }
            client_frame::Frame::Renew(renew) => Some((renew.request_id, !refuse)),
            other => panic!("{other:?} is no request"),
        }
    }
}

pub(super) fn request_id(frame: &client_frame::Frame) -> u64 {
    match frame {
        client_frame::Frame::UpdateZones(update) => update.request_id,
        client_frame::Frame::HandOverZones(hand_over) => hand_over.request_id,
        client_frame::Frame::UpdateTopics(update) => update.request_id,
        client_frame::Frame::Renew(renew) => renew.request_id,
        other => panic!("{other:?} is no request"),
    }
}
