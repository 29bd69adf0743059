//! The machine's steady clock, which all processes of a run share: by it their journals are put in one order.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds on that clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Stamp(u64);

impl Stamp {
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let since_boot = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time from then to this; none when this is the earlier one.
    pub(crate) fn since(self, then: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(then.0))
    }
}
