//! Passwords: long, not among the frequent, not made of one's own name. No other rules: what a password is made of is its
//! owner's business.

use std::sync::LazyLock;

use thiserror::Error;
use unicode_normalization::UnicodeNormalization;
use zonecast_names::lookup_key;

/// Fewest and most characters, as Unicode code points.
const CHARS_MIN: usize = 15;
const CHARS_MAX: usize = 128;
/// Most bytes that are looked at: four for each character.
const BYTES_MAX: usize = 1_024;
/// Characters that a password must have beside the words of its context.
const OTHER_CHARS_MIN: usize = 8;

/// The 5,000 most frequent passwords of 15 to 40 characters among the million most frequent of ten million that were
/// published from leaks, in lower case, sorted; addresses left out.
static FREQUENT: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("password/frequent.txt").lines().collect());

/// Words that everybody here would think of.
const CONTEXT: [&str; 4] = ["zonecast", "password", "passphrase", "letmein"];

/// A password that somebody has sent, in Unicode's form NFKC, so that it is the same from every keyboard.
pub(crate) struct Password(String);

/// Which rule a password breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PasswordError {
    #[error("a password has {CHARS_MIN} to {CHARS_MAX} characters; several words make a good one")]
    Length,
    #[error("the password is one of those that are tried first; choose another")]
    Frequent,
    #[error("the password is one short piece repeated; choose another")]
    Repeated,
    #[error("the password is little more than a name or a word that is tried first; choose another")]
    Context,
}

impl Password {
    /// As it was sent. None where it is longer than any password.
    pub(crate) fn new(text: &str) -> Option<Self> {
        (text.len() <= BYTES_MAX).then(|| Self(text.nfkc().collect()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A password that is to be the new one of the user with this name.
    pub(crate) fn chosen(text: &str, name: &str) -> Result<Self, PasswordError> {
        let password = Self::new(text).ok_or(PasswordError::Length)?;
        if !(CHARS_MIN..=CHARS_MAX).contains(&password.0.chars().count()) {
            return Err(PasswordError::Length);
        }
        let folded = password.0.to_lowercase();
        if FREQUENT.binary_search(&folded.as_str()).is_ok() {
            return Err(PasswordError::Frequent);
        }
        if is_repeated(&folded) {
            return Err(PasswordError::Repeated);
        }
        if is_of_context(&folded, name) {
            return Err(PasswordError::Context);
        }
        Ok(password)
    }
}

/// Whether a text is a piece of at most half a password's least length, again and again.
fn is_repeated(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    (1..=CHARS_MIN / 2).any(|piece| characters.iter().skip(piece).eq(characters.iter().take(characters.len() - piece)))
}

/// Whether little is left of a text without the user's name and words that anybody would think of, digits and punctuation
/// between them not counted.
fn is_of_context(folded: &str, name: &str) -> bool {
    let name = lookup_key(name).unwrap_or_default();
    let mut rest = folded.to_owned();
    for word in [name.as_str()].into_iter().chain(CONTEXT).filter(|word| !word.is_empty()) {
        rest = rest.replace(word, "");
    }
    rest.len() < folded.len() && rest.chars().filter(|character| character.is_alphabetic()).count() < OTHER_CHARS_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Option<PasswordError> {
        Password::chosen(text, "Zoë-Smith").err()
    }

    #[test]
    fn a_password_is_long_and_of_whatever_its_owner_likes() {
        for good in [
            "correct horse battery staple",
            "onlylowercaseletters",
            "    fifteen spaces and words   ",
            "пароль из нескольких слов",
            "桜の花が咲いて春が来たのですね",
            "🦀🐢🦊🐙🦑🦐🐠🐟🐬🐳🐋🦈🐊🐅🐆",
            &"abcdefghijklmnop".repeat(8),
        ] {
            assert_eq!(outcome(good), None, "{good}");
        }
    }

    #[test]
    fn the_length_is_counted_in_code_points() {
        let alphabet: String = ('a'..='z').chain('0'..='9').cycle().take(128).collect();
        let first = |count: usize| alphabet.chars().take(count).collect::<String>();
        assert_eq!(outcome(&first(14)), Some(PasswordError::Length));
        assert_eq!(outcome(&first(15)), None);
        assert_eq!(outcome(&first(128)), None);
        assert_eq!(outcome(&(first(128) + "x")), Some(PasswordError::Length));
        assert_eq!(outcome(&"äö".repeat(1_000_000)), Some(PasswordError::Length));
        // 128 characters of four bytes each.
        let crabs: String = "🦀🐢🦊🐙🦑🦐🐠🐟🐬🐳🐋🦈🐊🐅🐆🐍".repeat(8);
        assert_eq!((crabs.len(), outcome(&crabs)), (512, None));
    }

    #[test]
    fn what_is_tried_first_is_refused_in_any_case() {
        assert!(FREQUENT.len() >= 3_000 && FREQUENT.is_sorted());
        assert!(FREQUENT.iter().all(|word| word.chars().count() >= CHARS_MIN));
        for (bad, error) in [
            ("1qaz2wsx3edc4rfv", PasswordError::Frequent),
            ("1QAZ2wsx3EDC4rfv", PasswordError::Frequent),
            ("123456789987654321", PasswordError::Frequent),
            ("abcabcabcabcabcabc", PasswordError::Repeated),
            ("yyyyyyyyyyyyyyyyyyyyy", PasswordError::Repeated),
            ("zoë-smith-zoë-smith", PasswordError::Context),
            ("ZOE\u{308}-SMITH 1990-2026!!!", PasswordError::Context),
            ("Zonecast-Password-2026", PasswordError::Context),
        ] {
            assert_eq!(outcome(bad), Some(error), "{bad}");
        }
    }

    #[test]
    fn composed_and_decomposed_are_the_same_password() {
        let one = Password::new("Zoe\u{308} ｗｉｄｅ").unwrap();
        assert_eq!(one.as_str(), "Zoë wide");
        assert!(Password::new(&"x".repeat(1_025)).is_none());
    }
}
