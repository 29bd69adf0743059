//! How much is measured.

use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Times that everything is measured.
    pub rounds: usize,
    /// Checks of each token in a round.
    pub checks: u32,
    /// Lookups by each door in a round.
    pub lookups: u32,
    /// Callers at once, of lookups.
    pub callers: u32,
    /// Calls of the users service per second, by schedule.
    pub rate: u32,
    /// How long a round of them takes.
    pub lasts: Duration,
    /// Users of the long list, a hundred on a page.
    pub listed: u32,
    /// Times that each of its two pages is read in a round.
    pub reads: u32,
}

impl Scale {
    /// As the figures in `services/README.md` were made.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            checks: 10_000,
            lookups: 10_000,
            callers: 32,
            rate: 200,
            lasts: Duration::from_secs(5),
            listed: 1_000_000,
            reads: 300,
        }
    }

    /// To see within seconds that everything works; the figures mean nothing.
    #[must_use]
    pub fn short() -> Self {
        Self {
            rounds: 1,
            checks: 10,
            lookups: 64,
            callers: 8,
            rate: 50,
            lasts: Duration::from_secs(1),
            listed: 1_000,
            reads: 5,
        }
    }
}
