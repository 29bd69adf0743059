//! Names: which there may be, and when two are the same.

use icu_casemap::CaseMapper;
use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_security::{
    GeneralSecurityProfile, RestrictionLevel, RestrictionLevelDetection, confusable_detection::skeleton,
};

use crate::reserved::is_reserved;

/// Fewest and most characters of a name.
const CHARS_MIN: usize = 3;
const CHARS_MAX: usize = 32;
/// Most bytes that are looked at.
const BYTES_MAX: usize = 256;
/// Most combining marks in a row: what the scripts that have them need, and no towers.
const MARKS_MAX: usize = 3;
/// What may stand between letters and digits, one at a time.
const SEPARATORS: [char; 3] = ['-', '.', '_'];

/// A name that keeps the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    shown: String,
    key: String,
    lookalike: String,
}

/// Which rule a name breaks. Nothing of the name is repeated but code points by their number, so that it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Too few characters, or too many.
    #[error("a name has {CHARS_MIN} to {CHARS_MAX} characters")]
    Length,
    /// A character that names do not have.
    #[error("a name has no character U+{:04X}; letters, digits and - . _ are permitted", u32::from(*.0))]
    Character(char),
    /// A separator at an end, or two together.
    #[error("a name has - . and _ only between letters or digits, one at a time")]
    Separator,
    /// A combining mark at the beginning, or too many.
    #[error("a name has combining marks only behind letters, at most {MARKS_MAX} in a row")]
    Marks,
    /// Scripts that are not written together.
    #[error("a name does not mix letters of different scripts")]
    MixedScripts,
    /// Nobody's name.
    #[error("the name is reserved")]
    Reserved,
}

impl NameError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Character(_) => "character",
            Self::Separator => "separator",
            Self::Marks => "marks",
            Self::MixedScripts => "mixed_scripts",
            Self::Reserved => "reserved",
        }
    }
}

impl Name {
    /// Brings a text to NFKC, and takes it for a name.
    ///
    /// # Errors
    /// It breaks a rule.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.len() > BYTES_MAX {
            return Err(NameError::Length);
        }
        let shown: String = text.nfkc().collect();
        if !(CHARS_MIN..=CHARS_MAX).contains(&shown.chars().count()) {
            return Err(NameError::Length);
        }
        check_characters(&shown)?;
        // UTS 39, 5.2: one script, or Latin with Han and what is written with it in Japanese, Chinese or Korean.
        if !shown.as_str().check_restriction_level(RestrictionLevel::HighlyRestrictive) {
            return Err(NameError::MixedScripts);
        }
        let (key, lookalike) = (name_key(&shown), lookalike(&shown));
        if is_reserved(&key, &lookalike, self::lookalike) {
            return Err(NameError::Reserved);
        }
        Ok(Self { shown, key, lookalike })
    }

    /// As it is shown.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What names that are the same have in common: see [`lookup_key`].
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What names that look alike have in common: the skeleton of UTS 39, case folded.
    #[must_use]
    pub fn lookalike(&self) -> &str {
        &self.lookalike
    }
}

/// What names that differ only in case, width or composition have in common: Unicode's compatibility caseless matching
/// (D146). None for a text that cannot be a name: too long to be worth the work, or with characters that not even a
/// database would take.
#[must_use]
pub fn lookup_key(text: &str) -> Option<String> {
    (text.len() <= BYTES_MAX && !text.contains(char::is_control)).then(|| name_key(text))
}

fn name_key(text: &str) -> String {
    let decomposed: String = text.nfd().collect();
    let once: String = fold(&decomposed).nfkc().collect();
    fold(&once).nfkc().collect()
}

fn fold(text: &str) -> String {
    CaseMapper::new().fold_string(text).into_owned()
}

/// Of the name as it is shown, not of its key: a capital I looks like a small l, which folding would hide.
fn lookalike(shown: &str) -> String {
    let skeleton: String = skeleton(shown).collect();
    fold(&skeleton).nfd().collect()
}

fn check_characters(shown: &str) -> Result<(), NameError> {
    let mut before_is_separator = true;
    let mut marks = MARKS_MAX;
    for character in shown.chars() {
        let is_separator = SEPARATORS.contains(&character);
        let is_mark = is_combining_mark(character);
        // The second rules out what Unicode advises against in identifiers: what is invisible, obsolete, or technical.
        let is_permitted = is_separator
            || ((is_mark || character.is_alphanumeric()) && GeneralSecurityProfile::identifier_allowed(character));
        if !is_permitted {
            return Err(NameError::Character(character));
        }
        if is_separator && before_is_separator {
            return Err(NameError::Separator);
        }
        marks = match is_mark {
            true if before_is_separator || marks == MARKS_MAX => return Err(NameError::Marks),
            true => marks + 1,
            false => 0,
        };
        before_is_separator = is_separator;
    }
    if before_is_separator { Err(NameError::Separator) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
