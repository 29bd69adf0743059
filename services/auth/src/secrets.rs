//! Secrets of 256 random bits: shown once, and kept as SHA-256, which suffices for what cannot be guessed.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::Status;

/// Bytes of a secret.
const BYTES: usize = 32;

/// What is kept of a secret.
pub(crate) type Hash = [u8; 32];

/// 256 random bits.
#[derive(Clone)]
pub(crate) struct Secret([u8; BYTES]);

impl Secret {
    /// A new one.
    pub(crate) fn new() -> Result<Self, Status> {
        random().map(Self)
    }

    /// As it was shown. None for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }

    /// To be shown, 43 characters.
    pub(crate) fn show(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// To be kept: of what is shown, so that whoever sees that can compute it.
    pub(crate) fn hash(&self) -> Hash {
        sha256(self.show().as_bytes())
    }

    /// Whether this is what is kept of it.
    pub(crate) fn is(&self, kept: &[u8]) -> bool {
        verify_slices_are_equal(&self.hash(), kept).is_ok()
    }
}

/// A refresh token: a family, which stays for the whole login, and a turn, which is another after each use. Whoever shows a
/// family with another turn than the present one has an old token.
#[derive(Clone)]
pub(crate) struct RefreshToken {
    family: Secret,
    turn: Secret,
}

impl RefreshToken {
    /// The first one of a login.
    pub(crate) fn new() -> Result<Self, Status> {
        Ok(Self { family: Secret::new()?, turn: Secret::new()? })
    }

    /// The one behind this one.
    pub(crate) fn next(&self) -> Result<Self, Status> {
        Ok(Self { family: self.family.clone(), turn: Secret::new()? })
    }

    /// As it was shown. None for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let both: [u8; 2 * BYTES] = decode(text)?;
        let (family, turn) = both.split_at(BYTES);
        Some(Self { family: Secret(family.try_into().ok()?), turn: Secret(turn.try_into().ok()?) })
    }

    /// To be shown, 86 characters.
    pub(crate) fn show(&self) -> String {
        URL_SAFE_NO_PAD.encode([self.family.0, self.turn.0].concat())
    }

    pub(crate) fn family(&self) -> Hash {
        self.family.hash()
    }

    pub(crate) fn turn(&self) -> Hash {
        self.turn.hash()
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Nothing that long is ours.
    if text.len() > 2 * N {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Status> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| {
        tracing::error!("the system gives no random numbers");
        Status::internal("the system gives no random numbers")
    })?;
    Ok(bytes)
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_and_no_other_is() {
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_eq!(one.show().len(), 43);
        assert!(Secret::parse(&one.show()).unwrap().is(&one.hash()) && !other.is(&one.hash()) && !one.is(&[]));
        for bad in ["", "x", &"A".repeat(44), &"A".repeat(100_000), &one.show()[1..], "ä"] {
            assert!(Secret::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn refresh_tokens_of_a_login_share_the_family_alone() {
        let first = RefreshToken::new().unwrap();
        let next = RefreshToken::parse(&first.show()).unwrap().next().unwrap();
        assert_eq!((first.show().len(), first.family()), (86, next.family()));
        assert_ne!(first.turn(), next.turn());
    }
}
