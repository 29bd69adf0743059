//! What links between hosts do to packets.

use std::{collections::BTreeMap, time::Duration};

use super::{Packet, PacketCounts};

/// Shortest and longest time that a packet needs to leave a host's site, or to enter it.
const SITE_LATENCY_US: std::ops::Range<u64> = 150..6_000;
/// Some hosts are far away: one in so many.
const FAR_ONE_IN: u64 = 5;
/// The same for those.
const FAR_LATENCY_US: std::ops::Range<u64> = 20_000..60_000;

/// A machine of the trial: a broker's or a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub u16);

/// What can be wrong with links.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// This share of packets is lost.
    Loss(f64),
    /// This share of packets arrives twice.
    Duplication(f64),
    /// This share of packets arrives later by up to this time.
    Reordering(f64, Duration),
    /// This share of packets arrives with one bit flipped.
    BitFlips(f64),
    /// Packets longer than so many bytes are lost.
    Narrow(usize),
    /// Nothing arrives, in either direction.
    Partition,
    /// Nothing arrives, in one direction.
    OneWayPartition,
    /// Everything waits until the fault ends, as when a host stands still.
    Hold,
}

/// Which packets a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The sender; none for all.
    pub from: Option<Host>,
    /// The receiver; none for all.
    pub to: Option<Host>,
    /// Whether the other direction is meant too.
    pub both_ways: bool,
}

impl Scope {
    /// Everything that a host sends or receives.
    #[must_use]
    pub fn all_of(host: Host) -> Self {
        Self { from: Some(host), to: None, both_ways: true }
    }

    /// Everything everywhere.
    #[must_use]
    pub fn everywhere() -> Self {
        Self { from: None, to: None, both_ways: true }
    }

    fn covers(&self, (from, to): (Host, Host)) -> bool {
        let is = |wanted: Option<Host>, host| wanted.is_none_or(|wanted| wanted == host);
        is(self.from, from) && is(self.to, to) || self.both_ways && is(self.from, to) && is(self.to, from)
    }
}

/// A fault that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

/// What becomes of a packet.
pub(super) enum Fate {
    Lost,
    Held(FaultId),
    Arrives { after: Duration, bent: bool },
    ArrivesTwice { after: Duration, again_after: Duration },
}

/// How far hosts are from each other, and what is wrong with the links at the moment.
pub(super) struct Faults {
    places: u64,
    active: BTreeMap<FaultId, Active>,
    last: FaultId,
}

struct Active {
    fault: Fault,
    scope: Scope,
    held: Vec<Packet>,
}

impl Faults {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        Self { places: random.u64(..), active: BTreeMap::new(), last: FaultId(0) }
    }

    pub(super) fn begin(&mut self, fault: Fault, scope: Scope) -> FaultId {
        self.last.0 += 1;
        self.active.insert(self.last, Active { fault, scope, held: Vec::new() });
        self.last
    }

    /// Ends a fault and gives back what it held.
    pub(super) fn end(&mut self, fault: FaultId) -> Vec<Packet> {
        self.active.remove(&fault).map(|ended| ended.held).unwrap_or_default()
    }

    pub(super) fn hold(&mut self, fault: FaultId, packet: Packet) {
        if let Some(active) = self.active.get_mut(&fault) {
            active.held.push(packet);
        }
    }

    /// Decides what becomes of a packet, and counts it.
    pub(super) fn fate(
        &self,
        random: &mut fastrand::Rng,
        counts: &mut PacketCounts,
        link: (Host, Host),
        length: usize,
    ) -> Fate {
        let mut after = self.site_latency(link.0) + self.site_latency(link.1);
        let (mut again_after, mut bent) = (None, false);
        for (id, active) in self.active.iter().filter(|(_, active)| active.scope.covers(link)) {
            match active.fault {
                Fault::Loss(share) => {
                    if random.f64() < share {
                        counts.lost += 1;
                        return Fate::Lost;
                    }
                }
                Fault::Duplication(share) => {
                    if random.f64() < share {
                        again_after = Some(Duration::from_micros(random.u64(..30_000)));
                    }
                }
                Fault::Reordering(share, by) => {
                    if random.f64() < share {
                        counts.reordered += 1;
                        after += by.mul_f64(random.f64());
                    }
                }
                Fault::BitFlips(share) => bent |= random.f64() < share,
                Fault::Narrow(length_max) => {
                    if length > length_max {
                        counts.too_long += 1;
                        return Fate::Lost;
                    }
                }
                Fault::Partition => {
                    counts.partitioned += 1;
                    return Fate::Lost;
                }
                Fault::OneWayPartition => {
                    counts.partitioned_one_way += 1;
                    return Fate::Lost;
                }
                Fault::Hold => {
                    counts.held += 1;
                    return Fate::Held(*id);
                }
            }
        }
        if bent {
            counts.bits_flipped += 1;
            return Fate::Arrives { after, bent };
        }
        match again_after {
            Some(later) => {
                counts.duplicated += 1;
                Fate::ArrivesTwice { after, again_after: after + later }
            }
            None => Fate::Arrives { after, bent },
        }
    }

    fn site_latency(&self, host: Host) -> Duration {
        let mut draw = fastrand::Rng::with_seed(self.places ^ u64::from(host.0) << 32);
        let far = draw.u64(..FAR_ONE_IN) == 0;
        Duration::from_micros(draw.u64(if far { FAR_LATENCY_US } else { SITE_LATENCY_US }))
    }
}
