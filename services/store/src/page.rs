//! Page tokens: where the next page of a list begins.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Bytes of the check that a token carries.
const CHECK_BYTES: usize = 8;
/// Longest token that is looked at, in characters; `users.proto` and its like promise it.
const TOKEN_CHARS_MAX: usize = 512;

/// The position behind the last row of a page: the value of the key by which the list is ordered.
///
/// As text it is bound to the list that it is for, so that a token of another list, or of the same with other filters, is
/// refused and not read as some position. It is no secret, and no right follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken;

/// A text that is no page token of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the page_token is not one that this method gave out for these parameters; begin with an empty one")]
pub struct BadPageToken;

impl PageToken {
    /// The token for the rows behind `key`. `list` names the list and whatever it is filtered by.
    #[must_use]
    pub fn encode(list: &str, key: &[u8]) -> String {
        let mut bytes = check(list, key).to_vec();
        bytes.extend_from_slice(key);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The key that was encoded; `None` for the empty text, which asks for the first page.
    ///
    /// # Errors
    /// The text is no token of this list.
    pub fn decode(list: &str, text: &str) -> Result<Option<Vec<u8>>, BadPageToken> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > TOKEN_CHARS_MAX {
            return Err(BadPageToken);
        }
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| BadPageToken)?;
        if bytes.len() < CHECK_BYTES {
            return Err(BadPageToken);
        }
        let key = bytes.split_off(CHECK_BYTES);
        if bytes == check(list, &key) { Ok(Some(key)) } else { Err(BadPageToken) }
    }
}

fn check(list: &str, key: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update((list.len() as u64).to_be_bytes());
    hasher.update(list.as_bytes());
    hasher.update(key);
    let digest = hasher.finalize();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_key_in_its_own_list_alone() {
        let token = PageToken::encode("users", b"\x01\x02");
        assert_eq!(PageToken::decode("users", &token), Ok(Some(vec![1, 2])));
        assert_eq!(PageToken::decode("users", ""), Ok(None));
        assert_eq!(PageToken::decode("characters", &token), Err(BadPageToken));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = PageToken::encode("users", &[7; 16]);
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(PageToken::decode("users", &changed), Err(BadPageToken), "{changed}");
        }
        for bad in ["x", "====", "ä", &"A".repeat(600), &token[1..]] {
            assert_eq!(PageToken::decode("users", bad), Err(BadPageToken), "{bad}");
        }
    }
}
