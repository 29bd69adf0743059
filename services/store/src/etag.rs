//! Etags: which state of a thing a change was thought of.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The number of a row's state, from 1, one more with each change. As text it says so only to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Etag(i64);

/// A text that no etag of ours looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the etag is not one that this service gave out")]
pub struct BadEtag;

impl Etag {
    /// The etag of a state by the number in its row.
    #[must_use]
    pub fn of_revision(revision: i64) -> Self {
        Self(revision)
    }

    /// The number, for the row.
    #[must_use]
    pub fn revision(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{:x}", self.0)
    }
}

impl FromStr for Etag {
    type Err = BadEtag;

    fn from_str(text: &str) -> Result<Self, BadEtag> {
        let digits = text.strip_prefix('r').filter(|digits| !digits.starts_with(['+', '-', '0'])).ok_or(BadEtag)?;
        i64::from_str_radix(digits, 16).map(Self).map_err(|_| BadEtag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_read_back_and_nothing_else_is() {
        for revision in [1, 15, 16, i64::MAX] {
            let etag = Etag::of_revision(revision);
            assert_eq!(etag.to_string().parse(), Ok(etag));
        }
        for bad in ["", "r", "1", "r-1", "r+1", "r01", "rg", "r8000000000000000", "R1", "r1 "] {
            assert_eq!(bad.parse::<Etag>(), Err(BadEtag), "{bad:?}");
        }
    }
}
