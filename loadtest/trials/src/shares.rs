//! Which classes and levels a publisher mixes.

use serde::{Deserialize, Serialize};

/// Shares of the classes and levels, in percent; the rest is reliable and awaits no answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Shares {
    /// Reliable, acknowledged as routed.
    pub routed: u64,
    /// Reliable, acknowledged as processed.
    pub processed: u64,
    /// The latest value of a key.
    pub state: u64,
    /// At most once.
    pub transient: u64,
}

/// What an event of a mixture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reliable, acknowledged as routed.
    Routed,
    /// Reliable, acknowledged as processed.
    Processed,
    /// The latest value of a key.
    State,
    /// At most once.
    Transient,
    /// Reliable, without an answer.
    Unanswered,
}

impl Shares {
    /// Nothing but events acknowledged as routed.
    pub const ROUTED: Self = Self { routed: 100, ..Self::UNANSWERED };
    /// Nothing but events acknowledged as processed.
    pub const PROCESSED: Self = Self { processed: 100, ..Self::UNANSWERED };
    /// Nothing but events without an answer.
    pub const UNANSWERED: Self = Self { routed: 0, processed: 0, state: 0, transient: 0 };

    /// Draws one event of the mixture.
    pub fn draw(&self, random: &mut fastrand::Rng) -> Kind {
        let Self { routed, processed, state, transient } = *self;
        let mut draw = random.u64(..100);
        for (share, kind) in
            [(routed, Kind::Routed), (processed, Kind::Processed), (state, Kind::State), (transient, Kind::Transient)]
        {
            if draw < share {
                return kind;
            }
            draw -= share;
        }
        Kind::Unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Shares};

    #[test]
    fn a_mixture_is_drawn_in_its_shares() {
        let mut random = fastrand::Rng::with_seed(1);
        let shares = Shares { routed: 50, processed: 20, state: 10, transient: 15 };
        let drawn: Vec<Kind> = std::iter::repeat_with(|| shares.draw(&mut random)).take(20_000).collect();
        for (kind, percent) in
            [(Kind::Routed, 50), (Kind::Processed, 20), (Kind::State, 10), (Kind::Transient, 15), (Kind::Unanswered, 5)]
        {
            let count = drawn.iter().filter(|drawn| **drawn == kind).count();
            assert!(count.abs_diff(percent * 200) < 300, "{kind:?}: {count}");
        }
    }
}
