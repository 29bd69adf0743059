//! What a player shows to a game server to be let in, checked there without asking anybody.

use serde::{Deserialize, Serialize};

use crate::{
    Keys, Kind, SigningError, SigningKey, TokenError,
    token::{check_time, open},
};

/// A ticket for one player's character to one game server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// Who made it.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// The game server that it is for.
    #[serde(rename = "aud")]
    pub server: String,
    /// The player, by the users service's id.
    #[serde(rename = "sub")]
    pub user: String,
    /// The ticket's own number: a server that lets each in once remembers it until it expires.
    #[serde(rename = "jti")]
    pub id: String,
    /// When it was made, in seconds since 1970.
    #[serde(rename = "iat")]
    pub issued_at: u64,
    /// When it is worth nothing any more, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires_at: u64,
    /// The character that comes.
    pub character: String,
    /// The world.
    pub world: String,
    /// Where it appears.
    pub x: f64,
    /// Where it appears.
    pub y: f64,
}

impl Ticket {
    /// The token that says this.
    ///
    /// # Errors
    /// It cannot be written: a coordinate is not finite.
    pub fn sign(&self, key: &SigningKey) -> Result<String, SigningError> {
        key.sign(Kind::Ticket, self)
    }

    /// The whole check of a ticket by the game server of this name, at this time, in seconds since 1970.
    ///
    /// # Errors
    /// It is not to be taken.
    pub fn admit(token: &str, keys: &Keys, issuer: &str, server: &str, now_s: u64) -> Result<Self, TokenError> {
        let ticket: Self = open(token, Kind::Ticket, keys)?;
        if ticket.issuer != issuer {
            return Err(TokenError::Issuer);
        }
        if ticket.server != server {
            return Err(TokenError::Audience);
        }
        check_time(ticket.issued_at, ticket.expires_at, now_s)?;
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_server_and_a_short_time() {
        let key = SigningKey::generate("k").unwrap();
        let keys = Keys::from_jwks(&Keys::jwks([(key.id(), key.public())])).unwrap();
        let ticket = Ticket {
            issuer: "i".into(),
            server: "zone-7".into(),
            user: "u".into(),
            id: "1".into(),
            issued_at: 100,
            expires_at: 160,
            character: "c".into(),
            world: "earth".into(),
            x: 0.1,
            y: -5e300,
        };
        let token = ticket.sign(&key).unwrap();
        let admit = |issuer, server, now| Ticket::admit(&token, &keys, issuer, server, now);
        assert_eq!(admit("i", "zone-7", 159), Ok(ticket));
        assert_eq!(admit("i", "zone-7", 160), Err(TokenError::Expired));
        assert_eq!(admit("i", "zone-8", 100), Err(TokenError::Audience));
        assert_eq!(admit("x", "zone-7", 100), Err(TokenError::Issuer));
        assert_eq!(Ticket::admit(&token, &Keys::default(), "i", "zone-7", 100), Err(TokenError::UnknownKey));
    }
}
