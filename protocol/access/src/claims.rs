//! What an access token says.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zonecast_protocol::{ClientId, Rights};

use crate::{Kind, RightsClaim, SigningError, SigningKey, TokenError};

/// Most bytes of a user's id.
const USER_ID_BYTES_MAX: usize = 64;

/// Who somebody is. Written `user:ID`, `server:NAME` or `service:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A player, by the users service's id.
    User(String),
    /// A game server, or a fleet of them that share a name.
    Server(ClientId),
    /// A backend service.
    Service(ClientId),
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the subject is none of user:ID, server:NAME, service:NAME")]
pub struct SubjectError;

impl Subject {
    /// Whether this one may connect to a broker as this client: a server or service under its name, or as one of its
    /// instances, `NAME.anything`. Players have no business at brokers.
    #[must_use]
    pub fn may_connect_as(&self, client: &ClientId) -> bool {
        match self {
            Self::User(_) => false,
            Self::Server(name) | Self::Service(name) => {
                let rest = client.as_str().strip_prefix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.len() > 1 && rest.starts_with('.'))
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Server(name) => write!(f, "server:{name}"),
            Self::Service(name) => write!(f, "service:{name}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let (kind, name) = text.split_once(':').ok_or(SubjectError)?;
        let client = || ClientId::new(name).map_err(|_| SubjectError);
        match kind {
            "user" => {
                let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                let fits = (1..=USER_ID_BYTES_MAX).contains(&name.len());
                if is_plain && fits { Ok(Self::User(name.to_owned())) } else { Err(SubjectError) }
            }
            "server" => Ok(Self::Server(client()?)),
            "service" => Ok(Self::Service(client()?)),
            _ => Err(SubjectError),
        }
    }
}

/// What an access token says, read and in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Who made the token.
    pub issuer: String,
    /// Whom it is for.
    pub audience: BTreeSet<String>,
    /// Who bears it.
    pub subject: Subject,
    /// Which login it belongs to: what is revoked.
    pub login: String,
    /// When it was made, in seconds since 1970.
    pub issued_at: u64,
    /// When it is worth nothing any more, in seconds since 1970.
    pub expires_at: u64,
    /// What the bearer may do at the services, beside what is its own: `users.read`.
    pub scopes: BTreeSet<String>,
    /// What the bearer may do at brokers, and where.
    pub rights: Rights,
}

/// As it is written. Claims that are not known are permitted and mean nothing.
#[derive(Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) iss: String,
    pub(crate) aud: Audience,
    sub: String,
    sid: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(default, skip_serializing_if = "RightsClaim::is_nothing")]
    zonecast: RightsClaim,
}

/// RFC 7519, 4.1.3: one text or several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Several(BTreeSet<String>),
}

impl Audience {
    pub(crate) fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Several(several) => several.contains(wanted),
        }
    }
}

impl Claims {
    /// The token that says this.
    ///
    /// # Errors
    /// It cannot be written: a number in the rights is not finite.
    pub fn sign(&self, key: &SigningKey) -> Result<String, SigningError> {
        let written = Written {
            iss: self.issuer.clone(),
            aud: Audience::Several(self.audience.clone()),
            sub: self.subject.to_string(),
            sid: self.login.clone(),
            iat: self.issued_at,
            exp: self.expires_at,
            scope: self.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
            zonecast: RightsClaim::of(&self.rights),
        };
        key.sign(Kind::Access, &written)
    }
}

impl TryFrom<Written> for Claims {
    type Error = TokenError;

    fn try_from(written: Written) -> Result<Self, TokenError> {
        let Written { iss, aud, sub, sid, iat, exp, scope, zonecast } = written;
        if sid.is_empty() {
            return Err(TokenError::Malformed("sid is empty"));
        }
        Ok(Self {
            issuer: iss,
            audience: match aud {
                Audience::One(one) => BTreeSet::from([one]),
                Audience::Several(several) => several,
            },
            subject: sub.parse().map_err(|_| TokenError::Malformed("sub names nobody"))?,
            login: sid,
            issued_at: iat,
            expires_at: exp,
            scopes: scope.split_ascii_whitespace().map(str::to_owned).collect(),
            rights: zonecast.rights().map_err(|_| TokenError::Malformed("its rights"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_as_they_are_written() {
        for text in ["user:0192-ab", "server:zone-7", "service:auth"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for bad in ["", "user", "user:", "user:a b", "admin:x", "server:", "server:a b", "USER:1", "user:../x"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_connects_under_its_name_and_as_its_instances() {
        let connects = |subject: &str, client: &str| {
            subject.parse::<Subject>().unwrap().may_connect_as(&ClientId::new(client).unwrap())
        };
        assert!(connects("server:zone", "zone") && connects("server:zone", "zone.7") && connects("service:a", "a.b.c"));
        for other in ["zone7", "zone-7", "zon", "Zone", "other.zone", "zone."] {
            assert!(!connects("server:zone", other), "{other}");
        }
        assert!(!connects("user:zone", "zone"));
    }
}
