//! Whose tokens are believed, as the settings say it.

use std::{path::PathBuf, time::Duration};

use zonecast_access::Keys;

use super::{
    Draft,
    problem::{PemFault, Problem},
    raw::Raw,
};
use crate::trust::{Authority, KeySource, TokenSettings};

const ISSUER: &str = "tokens.issuer";
const KEYS_FILE: &str = "tokens.keys_file";
const AUTHORITY: &str = "tokens.authority";
const CA: &str = "tokens.ca";

/// The settings while they are being checked.
#[derive(Debug, Default)]
pub(super) struct TokensDraft {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) keys_file: Option<PathBuf>,
    pub(super) authority: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) open_to_all: bool,
}

impl TokensDraft {
    /// What tokens must name as their issuer: the authority's URL, unless another name is set.
    pub(super) fn expected_issuer(&self) -> Option<String> {
        self.issuer.clone().or_else(|| Some(self.authority.as_ref()?.trim_end_matches('/').to_owned()))
    }
}

/// Checks them, and reads the files that they name. None where no tokens are looked at, or there are problems.
pub(super) fn load(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) -> Option<TokenSettings> {
    let TokensDraft { issuer, audience, keys_file, authority, ca, .. } = &draft.tokens;
    let audience = audience.clone()?;
    if ca.is_some() && authority.is_none() {
        problems.push(Problem::alone(raw, CA, AUTHORITY));
    }
    match (keys_file, authority) {
        (None, None) => {
            if issuer.is_some() {
                problems.push(Problem::alone(raw, ISSUER, "tokens.keys_file or tokens.authority"));
            }
            None
        }
        (Some(_), Some(_)) => {
            problems.push(Problem::of(raw, KEYS_FILE, "expected no tokens.authority beside it".to_owned()));
            None
        }
        (Some(path), None) => {
            let Some(issuer) = issuer.clone() else {
                problems.push(Problem::alone(raw, KEYS_FILE, ISSUER));
                return None;
            };
            let read = std::fs::read_to_string(path).map_err(PemFault::Read);
            match read.and_then(|text| Ok(Keys::from_jwks(&text)?)) {
                Ok(keys) => {
                    // A pause of 0 would be none at all.
                    let look_every = draft.reload_interval.max(Duration::from_millis(100));
                    let source = KeySource::File { path: path.clone(), keys, look_every };
                    Some(TokenSettings { issuer, audience, source })
                }
                Err(fault) => {
                    problems.push(Problem::in_file(raw, KEYS_FILE, fault));
                    None
                }
            }
        }
        (None, Some(url)) => {
            let ca = match ca.as_ref().map(std::fs::read).transpose() {
                Ok(ca) => ca,
                Err(source) => {
                    problems.push(Problem::unreadable(raw, CA, source));
                    return None;
                }
            };
            match Authority::new(url, ca.as_deref()) {
                Ok(authority) => {
                    let issuer = draft.tokens.expected_issuer()?;
                    Some(TokenSettings { issuer, audience, source: KeySource::Authority(authority) })
                }
                Err(error) => {
                    problems.push(Problem::of(raw, AUTHORITY, error.to_string()));
                    None
                }
            }
        }
    }
}

/// A broker that asks nobody who he is serves this machine alone, unless it is told that all the world may come.
pub(super) fn check_open(raw: &Raw, draft: &Draft, problems: &mut Vec<Problem>) {
    let TokensDraft { keys_file, authority, open_to_all, .. } = &draft.tokens;
    let asks = keys_file.is_some() || authority.is_some() || draft.client_ca.is_some();
    // What is missing may well be in the file that cannot be read.
    if raw.file_was_read && !(asks || *open_to_all || draft.listen.ip().is_loopback()) {
        let rule = "whoever reaches this address could do everything there; set tokens.authority (or tokens.keys_file), \
                    tls.client_ca, an address on loopback, or, if that is what is wanted, open_to_all = true";
        problems.push(Problem::of(raw, "listen", rule.to_owned()));
    }
}

#[cfg(test)]
mod tests;
