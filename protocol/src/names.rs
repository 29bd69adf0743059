//! The grammar of names and topics, and what a topic pattern matches.

use std::{fmt, sync::Arc};

use thiserror::Error;

use crate::{Refusal, wire::ErrorCode};

/// Most bytes of a world, kind, client id or queue group.
const NAME_BYTES_MAX: usize = 64;
/// Most bytes of a topic or topic pattern.
const TOPIC_BYTES_MAX: usize = 255;
/// Most tokens of a topic or topic pattern.
const TOPIC_TOKENS_MAX: usize = 16;
/// Most bytes of a state key.
const STATE_KEY_BYTES_MAX: usize = 128;

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} {value:?} is not valid: {rule}")]
pub struct NameError {
    /// What was to be named.
    pub field: &'static str,
    /// The text, cut to a length that a log line bears.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl NameError {
    fn new(field: &'static str, value: &str, rule: &'static str) -> Self {
        Self { field, value: value.chars().take(80).collect(), rule }
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::InvalidName, error.to_string())
    }
}

const NAME_RULE: &str = "1 to 64 bytes of A-Z a-z 0-9 _ . - are permitted";
const TOPIC_RULE: &str = "1 to 16 tokens of A-Z a-z 0-9 _ - joined by '.', at most 255 bytes in all, are permitted";
const PATTERN_RULE: &str = "a topic whose tokens may be '*', and whose last may be '>', is permitted";
const KEY_RULE: &str = "1 to 128 bytes are permitted";

fn check_name(field: &'static str, value: &str) -> Result<(), NameError> {
    let permitted = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    // Folded rather than searched: names are short, and without a branch at each byte this is several times faster.
    if (1..=NAME_BYTES_MAX).contains(&value.len()) && value.bytes().fold(true, |all, b| all & permitted(b)) {
        Ok(())
    } else {
        Err(NameError::new(field, value, NAME_RULE))
    }
}

/// Checks the key of a state event: 1 to 128 bytes.
///
/// # Errors
/// It is empty or longer.
pub fn check_state_key(value: &str) -> Result<(), NameError> {
    if (1..=STATE_KEY_BYTES_MAX).contains(&value.len()) { Ok(()) } else { Err(NameError::new("key", value, KEY_RULE)) }
}

fn is_plain_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn topic_lengths_hold(value: &str) -> bool {
    value.len() <= TOPIC_BYTES_MAX && value.split('.').count() <= TOPIC_TOKENS_MAX
}

fn check_topic(field: &'static str, value: &str) -> Result<(), NameError> {
    if topic_lengths_hold(value) && value.split('.').all(is_plain_token) {
        Ok(())
    } else {
        Err(NameError::new(field, value, TOPIC_RULE))
    }
}

fn check_pattern(field: &'static str, value: &str) -> Result<(), NameError> {
    let mut tokens = value.split('.').peekable();
    let mut valid = topic_lengths_hold(value);
    while let Some(token) = tokens.next() {
        valid &= is_plain_token(token) || token == "*" || (token == ">" && tokens.peek().is_none());
    }
    if valid { Ok(()) } else { Err(NameError::new(field, value, PATTERN_RULE)) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $field:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// The text breaks the grammar.
            pub fn new(text: &str) -> Result<Self, NameError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }

            /// Checks the text without taking it.
            ///
            /// # Errors
            /// The text breaks the grammar.
            pub fn check(text: &str) -> Result<(), NameError> {
                $check($field, text)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

name_type!(
    /// A world's name: 1 to 64 bytes of `[A-Za-z0-9_.-]`.
    WorldName, "world", check_name
);
name_type!(
    /// A kind of event: 1 to 64 bytes of `[A-Za-z0-9_.-]`.
    Kind, "kind", check_name
);
name_type!(
    /// A client's name: 1 to 64 bytes of `[A-Za-z0-9_.-]`.
    ClientId, "client_id", check_name
);
name_type!(
    /// A queue group's name: 1 to 64 bytes of `[A-Za-z0-9_.-]`.
    QueueGroup, "queue_group", check_name
);
name_type!(
    /// A topic: 1 to 16 tokens of `[A-Za-z0-9_-]` joined by `.`, at most 255 bytes.
    Topic, "topic", check_topic
);
name_type!(
    /// A topic pattern: a topic whose tokens may be `*` (exactly one token), and whose last may be `>` (one or more).
    TopicPattern, "pattern", check_pattern
);

impl TopicPattern {
    /// Whether the topic matches. A wildcard in the first place does not match topics that begin with `_`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let mut topic_tokens = topic.split('.');
        let hidden = topic.starts_with('_');
        for (place, token) in self.0.split('.').enumerate() {
            let Some(actual) = topic_tokens.next() else { return false };
            match token {
                "*" | ">" if place == 0 && hidden => return false,
                ">" => return true,
                "*" => {}
                exact if exact == actual => {}
                _ => return false,
            }
        }
        topic_tokens.next().is_none()
    }

    /// Whether this matches every topic that `other` matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mut other_tokens = other.0.split('.');
        let hidden = other.0.starts_with('_');
        for (place, token) in self.0.split('.').enumerate() {
            let Some(narrower) = other_tokens.next() else { return false };
            match token {
                "*" | ">" if place == 0 && hidden => return false,
                ">" => return true,
                "*" if narrower != ">" => {}
                exact if exact == narrower && exact != "*" => {}
                _ => return false,
            }
        }
        other_tokens.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_bounded_ascii() {
        assert!(WorldName::new("earth-2.north_side").is_ok());
        for bad in ["", " ", "a b", "é", "a/b", "a\n", &"a".repeat(65)] {
            assert!(WorldName::new(bad).is_err(), "{bad:?}");
        }
        let error = Kind::new("a b").unwrap_err().to_string();
        assert!(error.contains("kind") && error.contains("a b"), "{error}");
    }

    #[test]
    fn topics_have_tokens_and_patterns_wildcards() {
        for good in ["users", "users.created", "_inbox.0f.1", &["a"; 16].join(".")] {
            assert!(Topic::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", &["a"; 17].join("."), &"a".repeat(256)] {
            assert!(Topic::new(bad).is_err(), "{bad:?}");
        }
        for good in ["*", ">", "a.*.c", "a.>", "*.*.>"] {
            assert!(TopicPattern::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ">.a", "a.>.b", "a*", "a.b>", "**"] {
            assert!(TopicPattern::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn wildcards_match_tokens() {
        let matches = |pattern: &str, topic: &str| TopicPattern::new(pattern).unwrap().matches(topic);
        assert!(matches("a.b", "a.b") && !matches("a.b", "a.bc") && !matches("a.b", "a") && !matches("a", "a.b"));
        assert!(matches("a.*", "a.b") && !matches("a.*", "a") && !matches("a.*", "a.b.c"));
        assert!(matches("a.>", "a.b.c") && !matches("a.>", "a") && matches(">", "a"));
        assert!(matches("*.b", "a.b") && !matches("*.b", "_a.b") && !matches(">", "_inbox.1"));
        assert!(matches("_inbox.>", "_inbox.1"));
    }

    proptest! {
        /// Of patterns and topics so short that whoever is wrong is found out.
        #[test]
        fn a_pattern_covers_what_it_matches_in_all_cases(
            wide in "(a|b|_c|\\*)(\\.(a|b|\\*)){0,2}(\\.>)?|>",
            narrow in "(a|b|_c|\\*)(\\.(a|b|\\*)){0,2}(\\.>)?|>",
        ) {
            let (wide, narrow) = (TopicPattern::new(&wide).unwrap(), TopicPattern::new(&narrow).unwrap());
            // What stands for all other tokens is one that no pattern names.
            let tokens = ["a", "b", "_c", "other"];
            let mut topics: Vec<String> = tokens.map(str::to_owned).to_vec();
            for _ in 0..3 {
                let longer: Vec<String> =
                    topics.iter().flat_map(|topic| tokens.map(|token| format!("{topic}.{token}"))).collect();
                topics.extend(longer);
                topics.sort();
                topics.dedup();
            }
            let all = topics.iter().filter(|topic| narrow.matches(topic)).all(|topic| wide.matches(topic));
            prop_assert_eq!(wide.covers(&narrow), all, "{} covers {}", wide, narrow);
        }
    }
}
