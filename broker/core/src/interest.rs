//! Who wants what, and how that changes.

use std::{fmt, sync::Arc};

use zonecast_protocol::{Kind, QueueGroup, TopicPattern, WorldName, Zone};

/// A session's number on this broker. It names the worker that owns the session, and sorts by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u64);

impl SessionId {
    const WORKER_SHIFT: u32 = 48;

    /// The `count`th session (below 2^48) of a worker.
    #[must_use]
    pub fn new(worker: u16, count: u64) -> Self {
        Self((u64::from(worker) << Self::WORKER_SHIFT) | (count & ((1 << Self::WORKER_SHIFT) - 1)))
    }

    /// The worker that owns the session.
    #[must_use]
    pub fn worker(self) -> u16 {
        u16::try_from(self.0 >> Self::WORKER_SHIFT).unwrap_or(u16::MAX)
    }

    /// The number as it stands in `Welcome.session_id`.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Which kinds of event a zone wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KindFilter {
    /// All, also events of no stated kind.
    #[default]
    All,
    /// These alone. Few, hence a plain list.
    Only(Arc<[Kind]>),
}

impl KindFilter {
    /// Whether an event of this kind (empty: not stated) passes.
    #[must_use]
    #[inline]
    pub fn passes(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(kinds) => kinds.iter().any(|wanted| wanted.as_str() == kind),
        }
    }
}

/// A zone that a session holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneInterest {
    /// The world it lies in.
    pub world: WorldName,
    /// Its rectangle.
    pub zone: Zone,
    /// The kinds of event it wants.
    pub kinds: KindFilter,
}

/// A topic pattern that a session listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInterest {
    /// The pattern.
    pub pattern: TopicPattern,
    /// One session of each (pattern, group) receives each event; without a group every session does.
    pub queue_group: Option<QueueGroup>,
}

/// One step of a change of interest.
#[derive(Debug, Clone, PartialEq)]
pub enum InterestOp {
    /// The session holds this zone under this id from now on; a zone held under the id before is replaced.
    PutZone(SessionId, u32, ZoneInterest),
    /// The session no longer holds the zone; nothing happens when it does not.
    RemoveZone(SessionId, u32),
    /// The session listens to this pattern under this id from now on; a former one under the id is replaced.
    PutTopic(SessionId, u32, TopicInterest),
    /// The session no longer listens under this id; nothing happens when it does not.
    RemoveTopic(SessionId, u32),
    /// All interest of the session ends.
    EndSession(SessionId),
    /// All interest of the first session is the second one's from now on, under the same ids.
    Rehome(SessionId, SessionId),
}

/// A change of interest that takes effect as a whole: every event is matched before it or after it.
#[derive(Debug, Clone, PartialEq)]
pub struct InterestChange {
    /// Its number in the broker's order of changes.
    pub epoch: u64,
    /// Its steps, in order.
    pub ops: Vec<InterestOp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_names_its_worker_and_sorts_by_it() {
        let last = SessionId::new(2, (1 << 48) - 1);
        assert_eq!((last.worker(), last.get()), (2, 0x0002_ffff_ffff_ffff));
        let first = SessionId::new(3, 7);
        assert_eq!((first.worker(), first.get()), (3, 0x0003_0000_0000_0007));
        assert!(last < first);
        assert_eq!(SessionId::new(u16::MAX, 1 << 48), SessionId::new(u16::MAX, 0), "counts have 48 bits");
    }
}
