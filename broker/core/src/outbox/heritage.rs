//! What a session leaves to the one that takes its place.

use bytes::{Buf, Bytes, BytesMut};

use super::{Entry, Outbox, Slot, kept::What, run::Run};
use crate::{Ticket, outbound::HeldEvent};

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
enum Left {
    /// To be delivered again.
    Written(Run<Bytes>),
    /// To be delivered.
    Waiting(Run<BytesMut>),
    /// To be delivered, again if it was written.
    Delivery { event: HeldEvent, written: bool, resent: bool, crashes: u32 },
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
        let count = |left: &Left| match left {
            Left::Written(run) => run.deliveries,
            Left::Waiting(run) => run.deliveries,
            Left::Delivery { .. } => 1,
            Left::Missing(_) => 0,
        };
        self.0.iter().map(count).sum()
    }

    /// Whether there is no delivery.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tickets of those that were not processed.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.0.iter().filter_map(|left| match left {
            Left::Delivery { event, .. } => event.head().ticket(),
            _ => None,
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

/// How deliveries that are inherited are taken.
struct Heirship<P> {
    succession: Succession,
    redeliveries_max: u32,
    /// Told the ticket of what is left out.
    poison: P,
}

impl<P: FnMut(Option<Ticket>)> Heirship<P> {
    /// Whether they may come late.
    fn resent(&self, resent: bool, written: bool) -> bool {
        resent || written || self.succession != Succession::Resumed
    }

    /// With how many runs of the client they were lost; `None` when that is too many.
    fn crashes(&self, crashes: u32, written: bool) -> Option<u32> {
        let crashes = crashes + u32::from(self.succession == Succession::OtherRun && written);
        (crashes == 0 || crashes < self.redeliveries_max).then_some(crashes)
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
                What::Run(run) => left.0.push(Left::Written(run)),
                What::Delivery(event, crashes) => {
                    left.0.push(Left::Delivery { event, written: true, resent: true, crashes });
                }
                What::Transient => left.miss(1),
                What::Gap(count) => left.miss(count),
            }
        }
        let mut expected = self.written_through + 1;
        for entry in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Run(run) => {
                    left.miss(run.first_seq - expected);
                    expected = run.next_seq();
                    left.0.push(Left::Waiting(run));
                }
                Entry::Slot(Slot { event: None, .. }) => {}
                Entry::Slot(Slot { seq, event: Some(event), resent, crashes }) => {
                    left.miss(seq - expected);
                    expected = seq + 1;
                    left.0.push(Left::Delivery { event, written: false, resent, crashes });
                }
            }
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
        poison: impl FnMut(Option<Ticket>),
    ) {
        debug_assert_eq!(self.written_through, 0, "nothing was taken out yet");
        let mut tail = std::mem::replace(self, Self::new(self.limits, self.keeps));
        let mut heirship = Heirship { succession, redeliveries_max, poison };
        for left in left.0 {
            self.inherit_one(left, &mut heirship);
        }
        self.inherited_through = self.next_seq - 1;
        self.dropped_total = tail.dropped_total;
        self.overflowed = tail.overflowed;
        let mut as_it_is = Heirship { succession: Succession::Resumed, redeliveries_max: u32::MAX, poison: |_| {} };
        for left in tail.bequeath(&ResumePoint::default()).0 {
            self.inherit_one(left, &mut as_it_is);
        }
    }

    fn inherit_one<P: FnMut(Option<Ticket>)>(&mut self, left: Left, heirship: &mut Heirship<P>) {
        match left {
            Left::Missing(count) => self.next_seq += count,
            Left::Written(run) => self.inherit_run(&run, true, heirship),
            Left::Waiting(run) => self.inherit_run(&run, false, heirship),
            Left::Delivery { event, written, resent, crashes } => match heirship.crashes(crashes, written) {
                Some(crashes) => self.append(event, heirship.resent(resent, written), crashes),
                None => {
                    self.next_seq += 1;
                    (heirship.poison)(event.head().ticket());
                }
            },
        }
    }

    fn inherit_run<B: Buf + AsRef<[u8]>, P: FnMut(Option<Ticket>)>(
        &mut self,
        run: &Run<B>,
        written: bool,
        heirship: &mut Heirship<P>,
    ) {
        let Some(crashes) = heirship.crashes(run.crashes, written) else {
            self.next_seq += run.deliveries as u64;
            return (0..run.deliveries).for_each(|_| (heirship.poison)(None));
        };
        for (deliver, at_us) in run.each() {
            self.append_plain(deliver.event, heirship.resent(deliver.flags.resent, written), at_us, crashes);
        }
    }
}
