//! How far a session has come, for the session that takes its place.

use zonecast_protocol::HANDED_OVER_ZONE_ID_MIN;

/// The numbers at which a session stands: of its lanes, its requests, and the zones that were handed over to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Last `lane_seq` taken of each lane, 0 for none.
    lanes: Vec<u64>,
    pub(crate) next_handed_over_id: u32,
    pub(crate) last_request_id: u64,
}

impl Standing {
    pub(crate) fn new(lanes_max: u32) -> Self {
        let next_handed_over_id = HANDED_OVER_ZONE_ID_MIN;
        Self { lanes: vec![0; lanes_max as usize], next_handed_over_id, last_request_id: 0 }
    }

    /// The last number taken on a lane; 0 for none.
    #[must_use]
    pub fn lane_taken_through(&self, lane: u32) -> u64 {
        self.lanes.get(lane as usize).copied().unwrap_or(0)
    }

    /// The number of the last request; 0 for none.
    #[must_use]
    pub fn last_request_id(&self) -> u64 {
        self.last_request_id
    }

    /// Notes a number of a lane; false when it does not rise.
    pub(crate) fn advance(&mut self, lane: u32, lane_seq: u64) -> bool {
        // A lane beyond the limit is refused by the limits.
        let Some(last) = self.lanes.get_mut(lane as usize) else { return true };
        let rises = lane_seq > *last;
        *last = (*last).max(lane_seq);
        rises
    }
}
