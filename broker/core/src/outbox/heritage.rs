//! What a session leaves to the one that takes its place.

use super::{Outbox, Slot, kept::What};
use crate::{OutboundEvent, Ticket};

/// What the client says of the session that its new one takes the place of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResumePoint {
    /// Everything on the delivery stream up to this number was received.
    pub delivered_through: u64,
    /// Numbers above it that were received as datagrams.
    pub datagrams: Vec<u64>,
}

/// How the session that inherits goes on from the one that leaves something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// The same run of the client goes on where it stood.
    Resumed,
    /// The same run of the client begins anew: it may have been at another broker in between, and have later events from
    /// there.
    Anew,
    /// Another run of the client: the process before may have died of a delivery that was written to it.
    OtherRun,
}

/// One place in the row of deliveries that a session leaves behind.
#[derive(Debug, Clone)]
pub(super) enum Left {
    /// To be delivered, again if it was written.
    Delivery { event: OutboundEvent, written: bool, resent: bool, crashes: u32 },
    /// So many that will never come.
    Missing(u64),
}

/// The deliveries that a session leaves behind, in order.
#[derive(Debug, Clone, Default)]
pub struct LeftDeliveries(Vec<Left>);

impl LeftDeliveries {
    /// How many deliveries there are, gaps apart.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().filter(|left| matches!(left, Left::Delivery { .. })).count()
    }

    /// Whether there is no delivery.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tickets of those that were not processed.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.0.iter().filter_map(|left| match left {
            Left::Delivery { event, .. } => event.arrival().ticket,
            Left::Missing(_) => None,
        })
    }

    fn miss(&mut self, count: u64) {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some(Left::Missing(before)) => *before += count,
            _ => self.0.push(Left::Missing(count)),
        }
    }
}

impl Outbox {
    /// Takes out all that was not acknowledged and all that waits, for the session that takes this one's place.
    ///
    /// Transient events that were written are missing from it unless `point` says that they arrived. Nothing must be
    /// pushed any more.
    pub fn bequeath(&mut self, point: &ResumePoint) -> LeftDeliveries {
        self.kept.received(point.delivered_through);
        self.kept.received_alone(&point.datagrams);
        let mut left = LeftDeliveries::default();
        for written in self.kept.take_all() {
            match written.what {
                What::Delivery(event, crashes) => {
                    left.0.push(Left::Delivery { event, written: true, resent: true, crashes });
                }
                What::Transient => left.miss(1),
                What::Gap(count) => left.miss(count),
            }
        }
        let mut expected = self.written_through + 1;
        for Slot { seq, event, resent, crashes } in std::mem::take(&mut self.slots) {
            let Some(event) = event else { continue };
            left.miss(seq - expected);
            expected = seq + 1;
            left.0.push(Left::Delivery { event, written: false, resent, crashes });
        }
        left.miss(self.next_seq - expected);
        *self = Self { dropped_total: self.dropped_total, ..Self::new(self.limits, self.keeps) };
        left
    }

    /// Puts what another session left behind in front of what waits here, all numbered anew. Must be called before
    /// anything was taken out.
    ///
    /// Unless the session is resumed, all of it says that it may come late. What `redeliveries_max` runs of the client
    /// were lost with is left out, and `poison` is told its ticket.
    pub fn inherit(
        &mut self,
        left: LeftDeliveries,
        succession: Succession,
        redeliveries_max: u32,
        mut poison: impl FnMut(Option<Ticket>),
    ) {
        debug_assert_eq!(self.written_through, 0, "nothing was taken out yet");
        let tail = std::mem::replace(self, Self::new(self.limits, self.keeps));
        for left in left.0 {
            match left {
                Left::Missing(count) => self.next_seq += count,
                Left::Delivery { event, written, resent, crashes } => {
                    let resent = resent || succession != Succession::Resumed;
                    let crashes = crashes + u32::from(succession == Succession::OtherRun && written);
                    if crashes > 0 && crashes >= redeliveries_max {
                        self.next_seq += 1;
                        poison(event.arrival().ticket);
                    } else {
                        self.append(event, resent, crashes);
                    }
                }
            }
        }
        self.inherited_through = self.next_seq - 1;
        self.dropped_total = tail.dropped_total;
        let mut expected = 1;
        for Slot { seq, event, resent, crashes } in tail.slots {
            let Some(event) = event else { continue };
            self.next_seq += seq - expected;
            expected = seq + 1;
            self.append(event, resent, crashes);
        }
        self.next_seq += tail.next_seq - expected;
        self.overflowed = tail.overflowed;
    }
}
