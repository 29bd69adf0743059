//! Who somebody is and what that one may do, as a token says it: what tokens carry, how they are signed, and how they are
//! verified without asking anybody.
//!
//! - [`Claims`] is what an access token says: a [`Subject`], a login, scopes of the services, and [`Rights`] at brokers.
//! - [`Keys`] are the issuer's public keys, from a JWKS; [`SigningKey`] is the issuer's side.
//! - [`Trust`] is all that a verifier knows: issuer, audience, keys, and which logins were revoked. [`Trust::admit`] is the
//!   whole check, and [`Freshness`] tells how up to date that is.
//! - [`certificate_names`] and [`certificate_expires_at`] read what TLS certificates say of their bearers.
//! - [`Ticket`] is what a player shows to a game server to be let in.
//!
//! Tokens are JWTs (RFC 7519) with EdDSA over Ed25519 (RFC 8037) and no other algorithm, whatever a token's header says;
//! what a token is for is in its `typ` (RFC 8725, 3.11), so that none is taken for another kind.
//!
//! Deliberately absent: clocks (the time is an argument), files, sockets, and where keys come from.
//!
//! Start at [`Trust::admit`].
//!
//! [`Rights`]: zonecast_protocol::Rights

mod certificate;
mod claims;
mod freshness;
mod keys;
mod rights;
mod ticket;
mod token;
mod trust;

pub use certificate::{certificate_expires_at, certificate_names};
pub use claims::{Claims, Subject, SubjectError};
pub use freshness::Freshness;
pub use keys::{BadKeys, Keys, SigningError, SigningKey};
pub use rights::{RightsClaim, RightsError};
pub use ticket::Ticket;
pub use token::{Kind, TokenError};
pub use trust::{Revocations, Trust};
