//! Operations on their way: sent when the renewal is done, or ended where no broker is needed.

use super::{Effect, Link, Operation, OperationError, Pending, Session, renewal, too_long_for};

impl<T> Session<T> {
    pub(super) fn send_pending(&mut self) {
        if self.link != Link::Up || !self.renewing.is_empty() {
            return;
        }
        let mut place = self.pending.iter().take_while(|pending| pending.request_id.is_some()).count();
        while place < self.pending.len() {
            self.assign_ids(place);
            let pending = &self.pending[place];
            let frame = pending.operation.to_frame(self.last_request_id + 1, &self.ids);
            // What a former broker permitted may be too long for this one. Who awaits no answer asks for little.
            if pending.token.is_some() && renewal::frame_bytes(&frame) > self.frame_bytes_max {
                if let Some(Pending { token, .. }) = self.pending.remove(place) {
                    let refusal = too_long_for(self.frame_bytes_max);
                    self.answer(token, Err(OperationError::Refused(refusal)));
                }
                continue;
            }
            self.pending[place].request_id = Some(self.next_request_id());
            self.effects.push_back(Effect::Send(frame));
            place += 1;
        }
    }

    /// Gives the zones that an operation names ids of their own on the wire.
    fn assign_ids(&mut self, place: usize) {
        let (zones, pending) = (&self.zones, &self.pending);
        let taken = |id: u32| {
            zones.contains_key(&id) || pending.iter().any(|other| other.operation.zone_ids().any(|named| named == id))
        };
        for id in pending[place].operation.zone_ids() {
            self.ids.assign(id, taken);
        }
    }

    /// While there is no connection, giving something up needs no broker: it is done here, and what it overtakes ends.
    pub(super) fn settle(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending.operation {
                Operation::EndZones => {
                    self.zones.clear();
                    self.end_pending(Operation::is_about_zones);
                }
                Operation::Unsubscribe(id) => {
                    self.topics.remove(&id);
                    self.end_pending(|operation| matches!(operation, Operation::Subscribe(topic) if topic.id == id));
                }
                _ => self.pending.push_back(pending),
            }
        }
    }

    fn end_pending(&mut self, is_over: impl Fn(&Operation) -> bool) {
        for pending in std::mem::take(&mut self.pending) {
            if is_over(&pending.operation) {
                self.answer(pending.token, Err(OperationError::Ended));
            } else {
                self.pending.push_back(pending);
            }
        }
    }
}
