//! How often somebody may be wrong.
//!
//! Counts are kept in tables of a fixed size, each account and origin in two slots by a keyed hash; it is held back only
//! while both are exhausted. So memory is bounded whatever anybody sends, nobody's count can be pushed out by others', and
//! who shares one slot with somebody else is not held back for that.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use zonecast_doors::Origin;
use zonecast_protocol::network_of;

use crate::ThrottleConfig;

/// Slots of a table, a power of two.
const SLOTS: usize = 1 << 16;
/// Most pairs of an account and an origin that are remembered in each of two generations.
const KNOWN_MAX: usize = 1 << 15;

/// An origin as far as origins are told apart: by [`network_of`] its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Place(Origin);

impl Place {
    pub(crate) fn of(origin: Origin) -> Self {
        Self(match origin {
            Origin::Address(address) => Origin::Address(network_of(address)),
            other => other,
        })
    }

    #[cfg(test)]
    pub(crate) fn of_number(number: u64) -> Self {
        Self(Origin::Client(number))
    }
}

/// Counts of accounts and origins.
pub(crate) struct Throttle {
    hasher: RandomState,
    state: Mutex<State>,
}

struct State {
    accounts: Table,
    origins: Table,
    known: Known,
}

/// How far each slot is from being as if nothing had happened (GCRA).
struct Table {
    slots: Vec<Slot>,
    /// Of the whole burst, in microseconds.
    window: i64,
    /// Of one attempt, in microseconds.
    every: i64,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// When nothing counts any more, in microseconds.
    clear_at: i64,
    /// Whether it was told that it is exhausted.
    told: bool,
}

/// From where accounts were logged in to, as hashes; the older half is forgotten now and then.
#[derive(Default)]
struct Known {
    recent: HashSet<u64>,
    older: HashSet<u64>,
}

/// An attempt that may be made. It counts as a wrong one unless it is told to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Attempt {
    account: Option<u64>,
    pair: u64,
    origin: u64,
}

/// An attempt that may not be made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// How long.
    pub(crate) wait: Duration,
    /// Whether it is the first in a row.
    pub(crate) is_first: bool,
}

impl Throttle {
    pub(crate) fn new(config: &ThrottleConfig) -> Self {
        let state = State {
            accounts: Table::new(config.account_burst, config.account_every),
            origins: Table::new(config.origin_burst, config.origin_every),
            known: Known::default(),
        };
        Self { hasher: RandomState::new(), state: Mutex::new(state) }
    }

    /// An attempt from there at this time, in microseconds, on an account where there is one in play.
    pub(crate) fn attempt(&self, account: Option<&str>, from: Place, now: i64) -> Result<Attempt, HeldBack> {
        let (origin, pair) = (self.hasher.hash_one(from), self.hasher.hash_one((account, from)));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = state.known.contains(pair);
        let account = account.map(|account| if is_known { pair } else { self.hasher.hash_one(account) });
        state.origins.take(origin, now)?;
        if let Some(account) = account
            && let Err(held_back) = state.accounts.take(account, now)
        {
            state.origins.give_back(origin);
            return Err(held_back);
        }
        Ok(Attempt { account, pair, origin })
    }

    /// The attempt went well: from there the account has a count of its own.
    pub(crate) fn went_well(&self, attempt: Attempt) {
        self.does_not_count(attempt);
        if attempt.account.is_some() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).known.remember(attempt.pair);
        }
    }

    /// The attempt was neither right nor wrong.
    pub(crate) fn does_not_count(&self, attempt: Attempt) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.origins.give_back(attempt.origin);
        if let Some(account) = attempt.account {
            state.accounts.give_back(account);
        }
    }
}

impl Table {
    fn new(burst: u32, every: Duration) -> Self {
        let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX).max(1);
        Self { slots: vec![Slot::default(); SLOTS], window: i64::from(burst.max(1)).saturating_mul(every), every }
    }

    /// Two slots, by the lower and the upper half of the hash.
    fn slots_of(hash: u64) -> [usize; 2] {
        let slot = |half: u64| usize::try_from(half).unwrap_or_default() & (SLOTS - 1);
        [slot(hash & 0xffff_ffff), slot(hash >> 32)]
    }

    fn take(&mut self, hash: u64, now: i64) -> Result<(), HeldBack> {
        let slots = Self::slots_of(hash);
        // A clock that was set back must not hold anybody back for longer than a burst takes.
        let latest = now.saturating_add(self.window);
        let full = slots.map(|slot| self.slots[slot].clear_at.clamp(now, latest));
        let wait = full[0].min(full[1]).saturating_add(self.every) - latest;
        let is_first = slots.iter().any(|slot| !self.slots[*slot].told);
        for (slot, full) in slots.into_iter().zip(full) {
            self.slots[slot] = match wait > 0 {
                true => Slot { clear_at: full, told: true },
                false => Slot { clear_at: full.saturating_add(self.every).min(latest), told: false },
            };
        }
        if wait > 0 {
            return Err(HeldBack { wait: Duration::from_micros(wait.unsigned_abs()), is_first });
        }
        Ok(())
    }

    fn give_back(&mut self, hash: u64) {
        for slot in Self::slots_of(hash) {
            self.slots[slot].clear_at -= self.every;
        }
    }
}

impl Known {
    fn contains(&self, pair: u64) -> bool {
        self.recent.contains(&pair) || self.older.contains(&pair)
    }

    fn remember(&mut self, pair: u64) {
        if self.recent.len() >= KNOWN_MAX {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn throttle() -> Throttle {
        Throttle::new(&ThrottleConfig {
            account_burst: 3,
            account_every: Duration::from_secs(10),
            origin_burst: 5,
            origin_every: Duration::from_secs(1),
        })
    }

    #[test]
    fn after_a_burst_one_more_each_time_so_much_has_passed() {
        let throttle = throttle();
        let attempt = |from, now| throttle.attempt(Some("zoe"), Place::of_number(from), now * SECOND);
        for from in 0..3 {
            let _ = attempt(from, 100).unwrap();
        }
        let held_back = attempt(3, 100).unwrap_err();
        assert_eq!(held_back, HeldBack { wait: Duration::from_secs(10), is_first: true });
        assert!(!attempt(4, 100).unwrap_err().is_first);
        assert_eq!(attempt(4, 105).unwrap_err().wait, Duration::from_secs(5));
        let _ = attempt(4, 110).unwrap();
        assert!(attempt(4, 110).unwrap_err().is_first);
        let _ = throttle.attempt(Some("eve"), Place::of_number(4), 110 * SECOND).unwrap();
    }

    #[test]
    fn an_origin_is_held_back_whatever_accounts_it_tries() {
        let throttle = throttle();
        let attempt = |name: usize| throttle.attempt(Some(&name.to_string()), Place::of_number(1), SECOND);
        for name in 0..5 {
            let _ = attempt(name).unwrap();
        }
        assert_eq!(attempt(5).unwrap_err().wait, Duration::from_secs(1));
        let _ = throttle.attempt(Some("5"), Place::of_number(2), SECOND).unwrap();
    }

    #[test]
    fn what_goes_well_does_not_count_and_others_cannot_lock_the_owner_out() {
        let throttle = throttle();
        let attempt = |from| throttle.attempt(Some("zoe"), Place::of_number(from), SECOND);
        for _ in 0..20 {
            throttle.went_well(attempt(1).unwrap());
        }
        while attempt(2).is_ok() {}
        assert!(attempt(3).is_err());
        // From where the owner has logged in before, the account has a count of its own.
        for _ in 0..3 {
            let _ = attempt(1).unwrap();
        }
        assert!(attempt(1).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_back_for_long() {
        let throttle = throttle();
        let attempt = |now| throttle.attempt(Some("zoe"), Place::of_number(1), now * SECOND);
        while attempt(1_000_000).is_ok() {}
        assert!(attempt(10).unwrap_err().wait <= Duration::from_secs(10));
        assert!((20..=60).any(|now| attempt(now).is_ok()));
    }

    #[test]
    fn of_ipv6_a_network_is_one_origin() {
        let of = |address: &str| Place::of(Origin::Address(address.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = Known::default();
        for pair in 0..200_000 {
            known.remember(pair);
        }
        assert!(known.recent.len() + known.older.len() <= 2 * KNOWN_MAX && known.contains(199_999));
    }
}
