//! Which events were received before: an exact window of the latest numbers of each lane of each publisher.
//!
//! A highest-seen number would not do: after a hand-over of zones and a crash, events that were never received come
//! behind greater numbers.
//!
//! Pure: no runtime, no clock.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use zonecast_protocol::DeliveryClass;

use crate::{
    event::{Event, EventId},
    latest::{Age, Latest},
};

/// How many numbers of a lane, down from the greatest that was received, are told apart one by one.
const NUMBERS: u64 = 16_384;
/// Most lanes of publishers in each of the two halves of the memory.
const LANES_PER_HALF_MAX: usize = 8192;
const WORD_BITS: u64 = 64;

/// What is known of an event that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not received before.
    New,
    /// It was not received before, but comes behind a later one that keeps to the order of its lane.
    Late,
    /// It was received before.
    Duplicate,
    /// It may have been delivered before, and lies so far behind the latest event of its lane that this is no longer
    /// known.
    TooLate,
    /// A later value of its key was received before.
    Outdated,
}

/// What was received of every lane of every publisher.
///
/// At least the `LANES_PER_HALF_MAX` lanes that were heard last are remembered, at most twice as many: when the younger
/// half is full, it takes the place of the older one, whose lanes are forgotten if they were not heard since.
pub(crate) struct Seen {
    young: FxHashMap<(u64, u8), Window>,
    old: FxHashMap<(u64, u8), Window>,
    lanes_per_half_max: usize,
    /// What was received of each key, for events of class state.
    latest: Latest,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self::with_lanes_max(LANES_PER_HALF_MAX)
    }

    fn with_lanes_max(lanes_per_half_max: usize) -> Self {
        let (young, old) = (FxHashMap::default(), FxHashMap::default());
        Self { young, old, lanes_per_half_max, latest: Latest::new() }
    }

    /// Takes note of an event, which may say that it was `resent`.
    pub(crate) fn recognise(&mut self, event: &Event, resent: bool) -> Verdict {
        match event.class() {
            // They are never sent twice, so there is nothing to remember.
            DeliveryClass::Transient => Verdict::New,
            DeliveryClass::State => {
                let verdict = self.insert(event.id(), false, resent);
                match (self.latest.insert(event.id(), event.key().unwrap_or_default()), verdict) {
                    (_, Verdict::Duplicate) | (Age::Same, _) => Verdict::Duplicate,
                    (Age::Older, _) => Verdict::Outdated,
                    // Whatever is known of the lane, it was not handed on.
                    (Age::Newer, _) => Verdict::New,
                    (Age::Unknown, verdict) => verdict,
                }
            }
            DeliveryClass::Reliable | DeliveryClass::Unspecified => self.insert(event.id(), true, resent),
        }
    }

    /// Whether a later value of the key of an event of class state was received.
    pub(crate) fn is_outdated(&self, event: &Event) -> bool {
        event.class() == DeliveryClass::State
            && event.key().is_some_and(|key| self.latest.greatest(event.id(), key) > Some(event.lane_seq()))
    }

    /// Takes note of a number. `ordered`: it keeps to the order of its lane. `resent`: it says that it may have been
    /// delivered before.
    fn insert(&mut self, id: EventId, ordered: bool, resent: bool) -> Verdict {
        let lane = (id.source, id.lane);
        if let Some(window) = self.young.get_mut(&lane) {
            return window.insert(id.lane_seq, ordered, resent);
        }
        let mut window = self.old.remove(&lane).unwrap_or_default();
        let verdict = window.insert(id.lane_seq, ordered, resent);
        if self.young.len() >= self.lanes_per_half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(lane, window);
        verdict
    }
}

/// The numbers of one lane that were received.
#[derive(Default)]
struct Window {
    /// One bit for each number, in words that begin at multiples of 64. As many words as the numbers received span, so
    /// that a lane which is hardly heard costs little.
    words: VecDeque<u64>,
    /// The number of the first word's first bit, divided by 64.
    first_word: u64,
    /// The greatest number received.
    greatest: u64,
    /// The greatest number received of those that keep to the order.
    greatest_ordered: u64,
}

impl Window {
    fn insert(&mut self, number: u64, ordered: bool, resent: bool) -> Verdict {
        let verdict = self.remember(number, resent);
        if verdict != Verdict::New || !ordered {
            return verdict;
        }
        if number < self.greatest_ordered {
            return Verdict::Late;
        }
        self.greatest_ordered = number;
        Verdict::New
    }

    fn remember(&mut self, number: u64, resent: bool) -> Verdict {
        if self.words.is_empty() {
            (self.first_word, self.greatest) = (number / WORD_BITS, number);
            self.words.push_back(0);
        }
        if number > self.greatest {
            self.advance(number);
        } else if self.greatest - number >= NUMBERS {
            return if resent { Verdict::TooLate } else { Verdict::New };
        }
        let word = number / WORD_BITS;
        while word < self.first_word {
            self.words.push_front(0);
            self.first_word -= 1;
        }
        let place = usize::try_from(word - self.first_word).unwrap_or(usize::MAX);
        let Some(bits) = self.words.get_mut(place) else { return Verdict::New };
        let bit = 1 << (number % WORD_BITS);
        let is_new = *bits & bit == 0;
        *bits |= bit;
        if is_new { Verdict::New } else { Verdict::Duplicate }
    }

    /// Makes this the greatest number, and forgets what falls out of the window.
    fn advance(&mut self, number: u64) {
        let (word, oldest) = (number / WORD_BITS, number.saturating_sub(NUMBERS - 1) / WORD_BITS);
        if oldest >= self.first_word + self.words.len() as u64 {
            self.words.clear();
            self.first_word = oldest.max(word);
        }
        while self.first_word + (self.words.len() as u64) <= word {
            self.words.push_back(0);
        }
        while self.first_word < oldest {
            self.words.pop_front();
            self.first_word += 1;
        }
        self.greatest = number;
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod model;
#[cfg(test)]
mod tests;
